//! Methods of a lane, by the numbers that the caller gave them.

use std::{str, sync::Arc};

use bytes::Bytes;

use crate::{
    Peer, Status,
    client::LANE_METHODS_MAX,
    codec::Encoding,
    endpoint::EndpointShared,
    server::{
        CallAttachments, CallContext,
        admission::CallerQuota,
        call_checks::{check_schema, incompatible_status, unknown_method_status},
        call_properties::CallProperties,
        context::CallInfo,
        handler::Handler,
        handler_future::HandlerFuture,
    },
    wire::CallSchema,
};

/// Methods that the numbers of a lane stand for.
#[derive(Default)]
pub(super) struct LaneMethods {
    methods: Vec<LaneMethod>,
}

/// A method, as one lane knows it.
pub(super) struct LaneMethod {
    pub(super) name: Arc<str>,
    /// `None` as long as the server has no method of this name; it may be added later.
    pub(super) handler: Option<Handler>,
    /// Schema of its calls, if they are typed.
    schema: Option<CallSchema>,
    /// Encoding of its calls.
    encoding: Encoding,
    /// Why its calls are rejected, if their types do not fit those of the handler.
    mismatch: Option<Box<Status>>,
    /// Memory for the future of the next call.
    pub(super) future_memory: HandlerFuture,
    /// Context of a finished call, for the next one.
    pub(super) spare_context: Option<CallContext>,
    /// Quota of the caller at the gate of the method, once it has called the method and if its
    /// calls are limited.
    pub(super) quota: Option<Arc<CallerQuota>>,
}

/// The number or the name of a method is invalid.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct InvalidMethod;

impl LaneMethods {
    /// Gives a name the next number.
    pub(super) fn define(
        &mut self,
        number: u16,
        name: &Bytes,
        schema: Option<CallSchema>,
        shared: &EndpointShared,
    ) -> Result<(), InvalidMethod> {
        let name = str::from_utf8(name).map_err(|_| InvalidMethod)?;
        if usize::from(number) != self.methods.len() || self.methods.len() >= LANE_METHODS_MAX {
            return Err(InvalidMethod);
        }
        let mut method = LaneMethod {
            name: name.into(),
            handler: None,
            schema,
            encoding: Encoding::Postcard,
            mismatch: None,
            future_memory: HandlerFuture::default(),
            spare_context: None,
            quota: None,
        };
        method.resolve(shared);
        self.methods.push(method);
        Ok(())
    }

    /// The method with this number.
    pub(super) fn find(
        &mut self,
        number: u16,
        shared: &EndpointShared,
    ) -> Result<&mut LaneMethod, InvalidMethod> {
        let method = self
            .methods
            .get_mut(usize::from(number))
            .ok_or(InvalidMethod)?;
        if method.handler.is_none() && method.mismatch.is_none() {
            method.resolve(shared);
        }
        Ok(method)
    }
}

impl LaneMethod {
    /// The context of a call: that of a finished call if no task holds it any more, or a new one.
    #[inline(always)]
    pub(super) fn take_context(
        &mut self,
        peer: &Peer,
        meta: &CallProperties,
        attachments: Option<Arc<CallAttachments>>,
    ) -> CallContext {
        let mut spare = self.spare_context.take();
        let is_reused = spare.as_mut().is_some_and(|context| context.reuse(meta));
        let context = match spare {
            Some(context) if is_reused => context,
            _ => self.new_context(peer, meta),
        };
        match attachments {
            None => context,
            Some(attachments) => context.with_attachments(attachments),
        }
    }

    /// Creates the context of a call of this method.
    #[cold]
    pub(super) fn new_context(&self, peer: &Peer, meta: &CallProperties) -> CallContext {
        let info = CallInfo {
            method: Arc::clone(&self.name),
            encoding: self.encoding,
            meta: *meta,
            attachments: None,
        };
        CallContext::new(peer.clone(), info)
    }

    /// Looks up the quota of the caller at the gate of the method, if calls of it are limited.
    pub(super) fn resolve_quota(&mut self, peer: &Peer) {
        let config = self.handler.as_ref().and_then(Handler::config);
        if self.quota.is_none()
            && let Some(gate) = config.and_then(|config| config.gate.as_ref())
        {
            self.quota = Some(gate.quota_of(peer.shared_name()));
        }
    }

    /// Whether its calls have a schema.
    pub(super) fn is_typed(&self) -> bool {
        self.schema.is_some()
    }

    /// Status of a call that has no handler.
    #[cold]
    pub(super) fn missing_handler_status(&self, shared: &EndpointShared) -> Status {
        match &self.mismatch {
            Some(status) => incompatible_status(shared, status),
            None => unknown_method_status(shared, &self.name),
        }
    }

    /// Looks up the handler. Methods are only ever added, so a handler that was found stays valid.
    fn resolve(&mut self, shared: &EndpointShared) {
        if let Some((name, handler)) = shared.router().find(&self.name) {
            self.name = Arc::clone(name);
            match check_schema(handler, self.schema) {
                Ok(encoding) => {
                    self.encoding = encoding;
                    self.handler = Some(handler.clone());
                }
                Err(status) => self.mismatch = Some(Box::new(status)),
            }
        }
    }
}
