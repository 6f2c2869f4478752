//! Call that passes the layers of its method.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use futures::FutureExt;
use tokio::time::Instant;

use super::{CallEnd, LayerCall, LayerStack, LayerStart};
use crate::{
    Code, Processed, RpcError, Status,
    deadline::has_passed,
    metadata::{HeadersScope, WithCallMetadata},
};

/// Call that passes layers. Dropped before its end, it has been cancelled.
///
/// Calls that a layer makes itself are no part of it: they have none of the headers that are set
/// for it, and their replies give it no metadata.
pub(crate) struct LayeredCall<C: LayerCall> {
    layers: LayerStack<C>,
    call: C,
    /// Layers that have let the call pass, and learn of its end.
    passed: usize,
    began: Instant,
    has_ended: bool,
}

impl<C: LayerCall> LayeredCall<C> {
    /// A call that has passed none of the layers.
    pub(crate) fn new(layers: &LayerStack<C>, call: C) -> Self {
        Self {
            layers: layers.clone(),
            call,
            passed: 0,
            began: Instant::now(),
            has_ended: false,
        }
    }

    /// The call, as the layers have left it.
    pub(crate) fn call(&self) -> &C {
        &self.call
    }

    /// Runs the layers up to the first asynchronous one. Returns whether all have run.
    ///
    /// # Errors
    ///
    /// The status of a call that a layer rejects. It has ended.
    pub(crate) fn run_ready(&mut self) -> Result<bool, Status> {
        let _own_calls = HeadersScope::clear();
        while let Some(layer) = self.layers.get(self.passed) {
            if layer.is_async() {
                return Ok(false);
            }
            let call = &mut self.call;
            let before = AssertUnwindSafe(|| match layer.before(call) {
                LayerStart::Done(done) => done,
                LayerStart::Pending(_) => unreachable!("it is not asynchronous"),
            });
            let done = catch_unwind(before).unwrap_or_else(|_| Err(layer_panicked()));
            self.on_layer_done(done)?;
        }
        Ok(true)
    }

    /// Runs the layers that are left.
    ///
    /// # Errors
    ///
    /// Those of [`run_ready`](Self::run_ready).
    pub(crate) async fn run_rest(&mut self) -> Result<(), Status> {
        while !self.run_ready()? {
            let Some(layer) = self.layers.get(self.passed) else {
                break;
            };
            let call = &mut self.call;
            let before = async {
                match layer.before(call) {
                    LayerStart::Done(done) => done,
                    LayerStart::Pending(before) => before.await,
                }
            };
            let before = AssertUnwindSafe(WithCallMetadata::without(before));
            let done = before.catch_unwind().await;
            let done = done.unwrap_or_else(|_| Err(layer_panicked()));
            self.on_layer_done(done)?;
        }
        Ok(())
    }

    /// Whether a layer has rejected the call.
    pub(crate) fn was_rejected(&self) -> bool {
        self.has_ended && self.has_more_layers()
    }

    /// Whether layers are left to run.
    pub(crate) fn has_more_layers(&self) -> bool {
        self.layers.get(self.passed).is_some()
    }

    /// Tells the layers that the call was rejected after they had let it pass.
    pub(crate) fn end_rejected(&mut self, status: &Status) {
        self.end_with(status.code, status.processed, status.details.len());
    }

    /// Tells the layers that the handler has returned, or that the call was rejected.
    pub(crate) fn end(&mut self, outcome: &Result<Bytes, Status>) {
        match outcome {
            Ok(reply) => self.end_with(Code::Ok, Processed::Yes, reply.len()),
            Err(status) => self.end_with(status.code, status.processed, status.details.len()),
        }
    }

    /// Tells the layers of a caller how its call has ended.
    pub(crate) fn end_with_reply(&mut self, outcome: Result<usize, &RpcError>) {
        match outcome {
            Ok(reply_bytes) => self.end_with(Code::Ok, Processed::Yes, reply_bytes),
            Err(error) => self.end_with(error.code(), error.processed(), error.details().len()),
        }
    }

    /// Tells the layers that the call is over without a result of its handler.
    pub(crate) fn end_without_result(&mut self, code: Code) {
        self.end_with(code, Processed::Maybe, 0);
    }

    fn on_layer_done(&mut self, done: Result<(), Status>) -> Result<(), Status> {
        match done {
            Ok(()) => {
                self.passed += 1;
                Ok(())
            }
            Err(status) => {
                // Whatever a layer says: the handler has not seen the request.
                let rejection: Result<Bytes, Status> = Err(status.not_processed().without_schema());
                self.end(&rejection);
                rejection.map(drop)
            }
        }
    }

    fn end_with(&mut self, code: Code, processed: Processed, reply_bytes: usize) {
        if std::mem::replace(&mut self.has_ended, true) {
            return;
        }
        let end = CallEnd {
            code,
            processed,
            reply_bytes,
            duration: self.began.elapsed(),
        };
        let _own_calls = HeadersScope::clear();
        for index in (0..self.passed).rev() {
            if let Some(layer) = self.layers.get(index) {
                // The reply is there: a layer that panics now does not take it away.
                let after = AssertUnwindSafe(|| layer.after(&self.call, &end));
                let _ = catch_unwind(after);
            }
        }
    }
}

impl<C: LayerCall> Drop for LayeredCall<C> {
    fn drop(&mut self) {
        if !self.has_ended {
            let is_late = has_passed(self.call.deadline());
            let code = match is_late {
                true => Code::DeadlineExceeded,
                false => Code::Cancelled,
            };
            // While layers are left, nothing was sent and no handler has run.
            match self.has_more_layers() {
                true => self.end_with(code, Processed::No, 0),
                false => self.end_without_result(code),
            }
        }
    }
}

fn layer_panicked() -> Status {
    Status::internal("a layer panicked").not_processed()
}
