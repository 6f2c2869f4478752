//! Start of a unary method: its handler, and what is wrapped around it.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    CallContext,
    handler_future::{HandlerFuture, StartHandler},
};

/// Wrapper around the handlers of a router.
pub(crate) trait HandlerWrapper: Send + Sync {
    /// A handler that calls `next`.
    fn wrap(&self, next: Arc<StartHandler>) -> Arc<StartHandler>;
}

/// Start of a unary method: its handler, in the wrappers of its router and of those routers that
/// have merged that one.
#[derive(Clone)]
pub(super) struct MethodStart {
    handler: Arc<StartHandler>,
    /// Those of the router that the method came from, the outermost first.
    own: Vec<Arc<dyn HandlerWrapper>>,
    all: Vec<Arc<dyn HandlerWrapper>>,
    wrapped: Arc<StartHandler>,
}

impl MethodStart {
    /// A handler without wrappers.
    pub(super) fn new(handler: Arc<StartHandler>) -> Self {
        Self {
            wrapped: Arc::clone(&handler),
            handler,
            own: Vec::new(),
            all: Vec::new(),
        }
    }

    /// Starts a call, in the memory of an earlier future if there is one.
    pub(super) fn start(&self, cx: CallContext, body: Bytes, started: &mut HandlerFuture) {
        (self.wrapped)(cx, body, started);
    }

    /// Changes the handler, inside of all wrappers.
    pub(super) fn change_handler(
        &mut self,
        change: impl FnOnce(Arc<StartHandler>) -> Arc<StartHandler>,
    ) {
        self.handler = change(Arc::clone(&self.handler));
        self.wrap();
    }

    /// Puts the method into a router.
    pub(super) fn move_into(&mut self, router: &[Arc<dyn HandlerWrapper>]) {
        self.own = std::mem::take(&mut self.all);
        self.update(router);
    }

    /// The router of the method has other wrappers now.
    pub(super) fn update(&mut self, router: &[Arc<dyn HandlerWrapper>]) {
        self.all = router.iter().chain(&self.own).cloned().collect();
        self.wrap();
    }

    fn wrap(&mut self) {
        let handler = Arc::clone(&self.handler);
        let inner_first = self.all.iter().rev();
        self.wrapped = inner_first.fold(handler, |next, wrapper| wrapper.wrap(next));
    }
}
