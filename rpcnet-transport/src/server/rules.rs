//! What holds for one method beside its handler.

use std::sync::Arc;

use super::admission::Gate;

/// What a method has that most have not.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rules {
    /// Of its own limit.
    pub(super) gate: Option<Arc<Gate>>,
    /// It passes the server's limit by.
    pub(super) is_exempt: bool,
    /// Calls with a key run apart from their callers, and hold their places there.
    pub(super) remembers: bool,
}
