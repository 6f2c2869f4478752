//! Properties of a call that its request states.

use crate::{Inherited, Priority};

/// Properties of a call that its request states, apart from the method.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CallProperties {
    pub(crate) attempt: u8,
    pub(crate) idempotent: bool,
    pub(crate) priority: Priority,
    /// The bytes as received, which take less space than an aligned number.
    pub(crate) idempotency_key: Option<[u8; 16]>,
    pub(crate) deadline: Option<tokio::time::Instant>,
}

impl CallProperties {
    /// Deadline and priority that calls inherit which the handler makes.
    pub(crate) fn inherited(&self) -> Inherited {
        Inherited::new(self.deadline, self.priority)
    }
}
