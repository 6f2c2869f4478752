//! Clusters of child processes for the commands of `cargo xtask`.
//!
//! A parent writes orders to a child's standard input and reads notices from its standard output,
//! JSON, one message a line. The pipe is also the lifeline: when the parent is gone it closes, and
//! the child ends.

mod json_line;
mod keys;
mod node;
mod parent_link;
mod process_group;
mod process_handle;
mod signal;
#[cfg(test)]
mod test_protocol;

use std::{error::Error, process::ExitCode};

pub use json_line::{decode, encode};
pub use keys::{RunKeys, pem_paths, tls};
pub use node::{NodeSetup, node_builder, run_child, run_child_on};
pub use parent_link::{Notices, ORPHANED, ParentLink};
pub use process_group::{ChildEvent, ProcessGroup};
pub use process_handle::{ChildProcess, ProcessError};
pub use signal::{interrupted, run_until_interrupted};

/// End of a command: its exit code, or the reason why it could not be carried through.
pub type Outcome = Result<ExitCode, Box<dyn Error>>;
