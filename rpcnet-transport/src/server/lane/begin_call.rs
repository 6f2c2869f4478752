//! Beginning of a call of a lane that has headers, or whose method has layers.

use std::sync::Arc;

use bytes::Bytes;

use super::{LaneServer, ProtocolViolation};
use crate::{
    Code, IncomingCall, MetadataError, Status,
    layers::LayeredCall,
    metadata::CallHeaders,
    server::{
        call_attachments::CallAttachments, call_parts::CallParts, call_properties::CallProperties,
        handler::Handler,
    },
    wire::{HeaderFlags, LaneRequest},
};

/// Headers of the request that comes next.
pub(super) struct NextHeaders {
    id: u32,
    /// Size of the headers, which counts to that of the request.
    pub(super) bytes: usize,
    headers: Result<CallHeaders, MetadataError>,
}

impl LaneServer {
    /// Keeps the headers of the request that comes next.
    #[cold]
    pub(super) fn take_headers(
        &mut self,
        id: u32,
        flags: HeaderFlags,
        bytes: &[u8],
    ) -> Result<(), ProtocolViolation> {
        if self.next_headers.is_some() {
            return Err(ProtocolViolation);
        }
        // In memory of its own, so that no packet is kept with it.
        let headers = CallHeaders::decode(flags, Bytes::copy_from_slice(bytes));
        self.next_headers = Some(Box::new(NextHeaders {
            id,
            bytes: bytes.len(),
            headers,
        }));
        Ok(())
    }

    /// Prepares a call for its headers and runs its layers up to the first asynchronous one. `None`
    /// if it is rejected.
    #[cold]
    pub(super) fn begin_call(
        &mut self,
        request: &LaneRequest,
        headers: Option<Box<NextHeaders>>,
        request_bytes: usize,
        meta: &mut CallProperties,
    ) -> Result<Option<CallParts>, ProtocolViolation> {
        let mut parts = CallParts::default();
        if let Some(next) = headers {
            if next.id != request.id {
                return Err(ProtocolViolation);
            }
            match next.headers {
                Ok(headers) => parts.attachments = Some(Arc::new(CallAttachments::new(headers))),
                Err(error) => {
                    self.shared.counters.invalid_requests.add_one();
                    let status = Status::new(Code::InvalidRequest, error.to_string());
                    self.write_failure(request.id, status.not_processed());
                    return Ok(None);
                }
            }
        }
        let method = self
            .methods
            .find(request.method, &self.shared)
            .map_err(|_| ProtocolViolation)?;
        let layers = method.handler.as_ref().map(Handler::layers);
        let Some(layers) = layers
            .map(|layers| layers.all())
            .filter(|all| !all.is_empty())
        else {
            return Ok(Some(parts));
        };
        let attachments = parts.attachments.unwrap_or_default();
        let (peer, name) = (&self.caller.peer, &method.name);
        let call = IncomingCall::new(peer, name, meta, Arc::clone(&attachments), request_bytes);
        let mut layered = LayeredCall::new(layers, call);
        if let Err(status) = layered.run_ready() {
            self.shared.record_layer_rejection(layered.call(), &status);
            self.write_reply_headers(request.id, &attachments);
            self.write_failure(request.id, status);
            return Ok(None);
        }
        *meta = layered.call().meta();
        Ok(Some(CallParts {
            attachments: Some(attachments),
            layered: Some(layered),
        }))
    }

    /// Writes the metadata of a reply that comes next, if there is any.
    #[cold]
    pub(super) fn write_reply_headers(&mut self, id: u32, attachments: &CallAttachments) {
        if let Some(headers) = attachments.take_reply_headers() {
            self.replies.write_headers(id, &headers);
        }
    }
}
