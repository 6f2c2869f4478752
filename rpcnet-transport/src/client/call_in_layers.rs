//! Calls that pass the layers of their client.

use bytes::Bytes;
use tokio::time::Instant;

use super::{CallOptions, RpcClient, call_error::deadline_exceeded};
use crate::{
    OutgoingCall, Processed, RpcError, Status,
    deadline::within,
    error::NotSent,
    layers::{LayerStack, LayeredCall},
    metadata::{WithCallMetadata, outgoing_headers},
    method::CalledMethod,
};

impl RpcClient {
    /// Layers that a call has yet to pass.
    #[inline]
    pub(super) fn layers_for(&self, options: &CallOptions) -> Option<&LayerStack<OutgoingCall>> {
        let layers = &self.0.layers;
        (!layers.is_empty() && !options.has_passed_layers).then_some(layers)
    }

    /// Unary call that passes layers.
    pub(super) async fn call_in_layers(
        &self,
        layers: &LayerStack<OutgoingCall>,
        method: CalledMethod<'_>,
        body: Bytes,
        mut options: CallOptions,
    ) -> Result<Bytes, RpcError> {
        let deadline = options.resolve(Instant::now(), Some(self.0.limits.call_timeout));
        let passed = self.pass_layers(layers, method.name, body.len(), &mut options, deadline);
        let mut layered = passed.await?;
        let headers = layered.call().headers().clone();
        let call = self.call_bytes(method, body, options);
        let reply = WithCallMetadata::replaced(call, headers).await;
        layered.end_with_reply(reply.as_ref().map(Bytes::len));
        reply
    }

    /// Lets a call with resolved options pass all layers, by `passed_by`: its deadline or, for a
    /// stream without one, the time limit of its opening.
    pub(super) async fn pass_layers(
        &self,
        layers: &LayerStack<OutgoingCall>,
        method: &str,
        request_bytes: usize,
        options: &mut CallOptions,
        passed_by: Option<Instant>,
    ) -> Result<LayeredCall<OutgoingCall>, RpcError> {
        let headers = outgoing_headers().map(|outgoing| outgoing.headers.clone());
        let headers = headers.unwrap_or_default();
        let call = OutgoingCall::new(&self.0.peer, method, *options, headers, request_bytes);
        let mut layered = LayeredCall::new(layers, call);
        let passed = match layered.run_ready() {
            Ok(true) => Ok(()),
            Ok(false) => match self.wait_for_layers(&mut layered, passed_by).await {
                Ok(passed) => passed,
                Err(error) => {
                    layered.end_with_reply(Err(&error));
                    return Err(self.with_peer_context(error));
                }
            },
            Err(status) => Err(status),
        };
        options.has_passed_layers = true;
        passed.map_err(|status: Status| {
            // By its source it is known as an error of this process, which no other node mends.
            let error = RpcError::of_status(status).with_source(NotSent::RejectedByLayer);
            self.with_peer_context(error)
        })?;
        Ok(layered)
    }

    /// Waits for the layers that are left, from the first asynchronous one.
    ///
    /// # Errors
    ///
    /// If they do not end in time, or their runtime has ended. They have not ended the call.
    async fn wait_for_layers(
        &self,
        layered: &mut LayeredCall<OutgoingCall>,
        passed_by: Option<Instant>,
    ) -> Result<Result<(), Status>, RpcError> {
        let rest = within(passed_by, Box::pin(layered.run_rest()));
        match self.0.shared.runtime.in_runtime(rest).await {
            Ok(passed) => passed.map_err(|_| deadline_exceeded(false)),
            Err(ended) => Err(ended.into_error(Processed::No)),
        }
    }
}
