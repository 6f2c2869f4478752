//! What holds for one method beside its handler.

use std::sync::Arc;

use super::admission::AdmissionGate;

/// What a method has that most have not.
#[derive(Debug, Clone, Default)]
pub(crate) struct MethodConfig {
    /// Of its own limit.
    pub(super) gate: Option<Arc<AdmissionGate>>,
    /// It passes the server's limit by.
    pub(super) bypasses_server_limit: bool,
    /// Calls with a key run apart from their callers, and hold their places there.
    pub(super) uses_idempotency_cache: bool,
}
