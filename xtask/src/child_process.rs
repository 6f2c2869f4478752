//! Processes that a command starts, and the lines between them and it.
//!
//! A parent writes orders to a child's standard input and reads notices from its standard output. The pipe is also the
//! lifeline: when the parent is gone it closes, and the child ends.

pub(crate) mod json_line;
pub(crate) mod parent_link;
pub(crate) mod process_handle;
