//! Permits of one call: of its method and of the server.

use super::permit::Permit;
use crate::server::handler_result::HandlerResult;

/// Permits that a call holds while it runs. Empty where nothing is limited.
#[derive(Debug, Default)]
pub(in crate::server) struct Permits {
    /// Released first: a call that waits for the method needs both.
    pub(super) server: Option<Permit>,
    pub(super) method: Option<Permit>,
}

impl Permits {
    /// Starts the latency measurement. The call does not end at its first poll, so its time says
    /// something about the load of the server.
    pub(in crate::server) fn measure(&mut self) {
        if let Some(permit) = &mut self.server {
            permit.measure();
        }
    }

    pub(super) fn each(&mut self, what: impl Fn(&mut Permit)) {
        self.server.iter_mut().for_each(&what);
        self.method.iter_mut().for_each(&what);
    }

    /// Records the result of the call.
    pub(in crate::server) fn record(&mut self, outcome: &HandlerResult) {
        if let (Some(permit), Ok(_)) = (&mut self.server, outcome) {
            permit.set_succeeded();
        }
    }
}
