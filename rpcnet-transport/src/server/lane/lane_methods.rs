//! The methods of a lane, by the numbers that its caller gave them.

use std::{str, sync::Arc};

use bytes::Bytes;

use crate::{
    Peer,
    client::LANE_METHODS_MAX,
    endpoint::EndpointShared,
    server::{
        CallContext,
        admission::CallerQuota,
        context::{CallInfo, CallMeta},
        router::{Handler, HandlerFuture},
    },
};

/// What the numbers of a lane stand for.
#[derive(Default)]
pub(super) struct LaneMethods {
    methods: Vec<LaneMethod>,
}

/// One method as a lane knows it.
pub(super) struct LaneMethod {
    pub(super) name: Arc<str>,
    /// `None` as long as there is no method of this name; there may be one later.
    pub(super) handler: Option<Handler>,
    /// Memory for the next call's future.
    pub(super) future_memory: HandlerFuture,
    /// Of a call that is over, for the next.
    pub(super) spare_context: Option<CallContext>,
    /// What the caller holds of the method's places, once it has called it and if those are
    /// limited.
    pub(super) quota: Option<Arc<CallerQuota>>,
}

/// The number or the name makes no sense.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct InvalidMethod;

impl LaneMethods {
    /// Gives a name the next number.
    pub(super) fn define(
        &mut self,
        number: u16,
        name: &Bytes,
        shared: &EndpointShared,
    ) -> Result<(), InvalidMethod> {
        let name = str::from_utf8(name).map_err(|_| InvalidMethod)?;
        if usize::from(number) != self.methods.len() || self.methods.len() >= LANE_METHODS_MAX {
            return Err(InvalidMethod);
        }
        let mut method = LaneMethod {
            name: name.into(),
            handler: None,
            future_memory: HandlerFuture::default(),
            spare_context: None,
            quota: None,
        };
        method.resolve(shared);
        self.methods.push(method);
        Ok(())
    }

    /// The method of a number.
    pub(super) fn find(
        &mut self,
        number: u16,
        shared: &EndpointShared,
    ) -> Result<&mut LaneMethod, InvalidMethod> {
        let method = self
            .methods
            .get_mut(usize::from(number))
            .ok_or(InvalidMethod)?;
        if method.handler.is_none() {
            method.resolve(shared);
        }
        Ok(method)
    }
}

impl LaneMethod {
    /// Of a call of this method.
    #[cold]
    pub(super) fn new_context(&self, peer: &Peer, asked: &CallMeta) -> CallContext {
        let info = CallInfo {
            method: Arc::clone(&self.name),
            meta: *asked,
        };
        CallContext::new(peer.clone(), info)
    }

    /// Finds out what the caller holds of the method's places, if those are limited.
    pub(super) fn resolve_quota(&mut self, peer: &Peer) {
        let rules = self.handler.as_ref().and_then(Handler::config);
        if self.quota.is_none()
            && let Some(gate) = rules.and_then(|rules| rules.gate.as_ref())
        {
            self.quota = Some(gate.quota_of(peer.shared_name()));
        }
    }

    /// Methods are only ever added, so what was found stays right.
    fn resolve(&mut self, shared: &EndpointShared) {
        if let Some((name, handler)) = shared.router().find(&self.name) {
            self.name = Arc::clone(name);
            self.handler = Some(handler.clone());
        }
    }
}
