//! The methods of a lane, by the numbers that its caller gave them.

use std::{str, sync::Arc};

use bytes::Bytes;

use crate::{
    Peer,
    client::METHODS_MAX,
    endpoint::Shared,
    server::{
        CallContext,
        admission::CallerShare,
        context::{Asked, CallInfo},
        router::{Handler, Started},
    },
};

/// What the numbers of a lane stand for.
#[derive(Default)]
pub(super) struct Methods {
    methods: Vec<Method>,
}

/// One method as a lane knows it.
pub(super) struct Method {
    pub(super) name: Arc<str>,
    /// `None` as long as there is no method of this name; there may be one later.
    pub(super) handler: Option<Handler>,
    /// Memory for the next call's future.
    pub(super) started: Started,
    /// Of a call that is over, for the next.
    pub(super) spare_context: Option<CallContext>,
    /// What the caller holds of the method's places, once it has called it and if those are
    /// limited.
    pub(super) admission: Option<Arc<CallerShare>>,
}

/// The number or the name makes no sense.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadMethod;

impl Methods {
    /// Gives a name the next number.
    pub(super) fn define(
        &mut self,
        number: u16,
        name: &Bytes,
        shared: &Shared,
    ) -> Result<(), BadMethod> {
        let name = str::from_utf8(name).map_err(|_| BadMethod)?;
        if usize::from(number) != self.methods.len() || self.methods.len() >= METHODS_MAX {
            return Err(BadMethod);
        }
        let mut method = Method {
            name: name.into(),
            handler: None,
            started: Started::default(),
            spare_context: None,
            admission: None,
        };
        method.resolve(shared);
        self.methods.push(method);
        Ok(())
    }

    /// The method of a number.
    pub(super) fn find(&mut self, number: u16, shared: &Shared) -> Result<&mut Method, BadMethod> {
        let method = self.methods.get_mut(usize::from(number)).ok_or(BadMethod)?;
        if method.handler.is_none() {
            method.resolve(shared);
        }
        Ok(method)
    }
}

impl Method {
    /// Of a call of this method.
    #[cold]
    pub(super) fn new_context(&self, peer: &Peer, asked: &Asked) -> CallContext {
        let info = CallInfo {
            method: Arc::clone(&self.name),
            asked: *asked,
        };
        CallContext::new(peer.clone(), info)
    }

    /// Finds out what the caller holds of the method's places, if those are limited.
    pub(super) fn note_call(&mut self, peer: &Peer) {
        let rules = self.handler.as_ref().and_then(Handler::rules);
        if self.admission.is_none()
            && let Some(gate) = rules.and_then(|rules| rules.gate.as_ref())
        {
            self.admission = Some(gate.caller(peer.shared_name()));
        }
    }

    /// Methods are only ever added, so what was found stays right.
    fn resolve(&mut self, shared: &Shared) {
        if let Some((name, handler)) = shared.router().find(&self.name) {
            self.name = Arc::clone(name);
            self.handler = Some(handler.clone());
        }
    }
}
