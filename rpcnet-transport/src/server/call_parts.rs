//! Parts of a call that most calls do not have.

use std::sync::Arc;

use super::{call_extras::CallExtras, handler_result::HandlerResult};
use crate::{Code, IncomingCall, Status, layers::LayeredCall, metadata::CallHeaders};

/// Parts of a call that most calls do not have: its extras, and its way through layers.
#[derive(Default)]
pub(super) struct CallParts {
    pub(super) extras: Option<Arc<CallExtras>>,
    pub(super) layered: Option<LayeredCall<IncomingCall>>,
}

impl CallParts {
    /// Parts of a call with these headers, if it has any.
    pub(super) fn of_headers(headers: Option<CallHeaders>) -> Self {
        Self {
            extras: headers.map(|headers| Arc::new(CallExtras::new(headers))),
            layered: None,
        }
    }

    /// Whether layers are left that have to be awaited.
    #[inline]
    pub(super) fn awaits_layers(&self) -> bool {
        self.layered
            .as_ref()
            .is_some_and(LayeredCall::has_more_layers)
    }

    /// Headers of the reply, if any were set.
    pub(super) fn take_reply_headers(&self) -> Option<CallHeaders> {
        self.extras.as_ref()?.take_reply_headers()
    }

    /// Tells the layers that the handler has returned.
    #[inline]
    pub(super) fn end(&mut self, outcome: &HandlerResult) {
        if let Some(layered) = &mut self.layered {
            layered.end(outcome);
        }
    }

    /// Tells the layers that the call was rejected after they had let it pass.
    pub(super) fn end_rejected(&mut self, status: &Status) {
        if let Some(layered) = &mut self.layered {
            layered.end_rejected(status);
        }
    }

    /// Tells the layers that the call is over without a result of its handler.
    pub(super) fn end_without_result(&mut self, code: Code) {
        if let Some(layered) = &mut self.layered {
            layered.end_without_result(code);
        }
    }
}
