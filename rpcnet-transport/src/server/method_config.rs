//! Settings of a method beside its handler.

use std::sync::Arc;

use super::admission::AdmissionGate;

/// Settings that most methods do not have.
#[derive(Debug, Clone, Default)]
pub(crate) struct MethodConfig {
    /// The limit of the method.
    pub(super) gate: Option<Arc<AdmissionGate>>,
    /// Calls bypass the limit of the server.
    pub(super) bypasses_server_limit: bool,
    /// Calls with a key run independently of their callers, and hold their permits there.
    pub(super) uses_idempotency_cache: bool,
}
