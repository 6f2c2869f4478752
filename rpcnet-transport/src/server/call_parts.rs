//! Attachments of a call, and its way through layers.

use std::sync::Arc;

use super::{call_attachments::CallAttachments, handler_result::HandlerResult};
use crate::{Code, IncomingCall, Status, layers::LayeredCall, metadata::CallHeaders};

/// Attachments of a call, and its way through layers; most calls have neither.
#[derive(Default)]
pub(super) struct CallParts {
    pub(super) attachments: Option<Arc<CallAttachments>>,
    pub(super) layered: Option<LayeredCall<IncomingCall>>,
}

impl CallParts {
    /// Parts of a call with these headers, if it has any.
    pub(super) fn of_headers(headers: Option<CallHeaders>) -> Self {
        Self {
            attachments: headers.map(|headers| Arc::new(CallAttachments::new(headers))),
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

    /// Layers of a call that gets a task of its own.
    pub(super) fn take_layered(&mut self) -> Option<Box<LayeredCall<IncomingCall>>> {
        self.layered.take().map(Box::new)
    }

    /// Headers of the reply, if any were set.
    pub(super) fn take_reply_headers(&self) -> Option<Box<CallHeaders>> {
        self.attachments.as_ref()?.take_reply_headers()
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
