//! Start of a call of a lane that waits for asynchronous layers, in a task of its own.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    LaneServer, ProtocolViolation, late_admission::LateAdmission, spawned_call::SpawnedCall,
};
use crate::{
    server::{
        admission::Permits, call_parts::CallParts, call_properties::CallProperties,
        handler::Handler,
    },
    wire::LaneRequest,
};

impl LaneServer {
    /// Gives a call a task in which its layers run. It needs its permits only afterwards.
    pub(super) fn spawn_layered(
        &mut self,
        request: &LaneRequest,
        meta: &CallProperties,
        body: &Bytes,
        arrived: Instant,
        mut parts: CallParts,
        is_limited: bool,
    ) -> Result<(), ProtocolViolation> {
        let method = self
            .methods
            .find(request.method, &self.shared)
            .map_err(|_| ProtocolViolation)?;
        method.resolve_quota(&self.caller.peer);
        let quota = method.quota.clone();
        let attachments = parts.attachments.take();
        let context = method.take_context(&self.caller.peer, meta, attachments);
        let Some(Handler::Unary(unary)) = &method.handler else {
            return Err(ProtocolViolation);
        };
        let caller = Arc::clone(&self.caller);
        // A copy, so that the packets of the request are freed.
        let body = Bytes::copy_from_slice(body);
        let call = SpawnedCall {
            layered: parts.take_layered(),
            admission: is_limited.then(|| Box::new(LateAdmission { caller, quota })),
            ..SpawnedCall::new(unary.clone(), body, arrived, Permits::default())
        };
        self.spawn_call(request.id, call, context, meta.deadline);
        Ok(())
    }
}
