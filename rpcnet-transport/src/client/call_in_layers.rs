//! Calls that pass the layers of their client.

use bytes::Bytes;
use tokio::time::Instant;

use super::{CallOptions, RpcClient, call_error::deadline_exceeded};
use crate::{
    OutgoingCall, RpcError, Status,
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
        options.resolve(Instant::now(), Some(self.0.limits.call_timeout));
        let passed = self.pass_layers(layers, method.name, body.len(), &mut options);
        let mut layered = passed.await?;
        let headers = layered.call().headers().clone();
        let call = self.call_bytes(method, body, options);
        let reply = WithCallMetadata::replaced(call, headers).await;
        layered.end_with_reply(reply.as_ref().map(Bytes::len));
        reply
    }

    /// Lets a call with resolved options pass all layers, within its deadline.
    pub(super) async fn pass_layers(
        &self,
        layers: &LayerStack<OutgoingCall>,
        method: &str,
        request_bytes: usize,
        options: &mut CallOptions,
    ) -> Result<LayeredCall<OutgoingCall>, RpcError> {
        let headers = outgoing_headers().map(|outgoing| outgoing.headers.clone());
        let headers = headers.unwrap_or_default();
        let call = OutgoingCall::new(&self.0.peer, method, *options, headers, request_bytes);
        let mut layered = LayeredCall::new(layers, call);
        let passed = match layered.run_ready() {
            Ok(true) => Ok(()),
            Ok(false) => {
                let deadline = options.resolved_deadline();
                let rest = Box::pin(layered.run_rest());
                match within(deadline, rest).await {
                    Ok(passed) => passed,
                    // Its end tells the layers.
                    Err(_) => return Err(self.with_peer_context(deadline_exceeded(false))),
                }
            }
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
}
