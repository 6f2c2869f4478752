//! Stack of layers: those of a router and of its methods, in their order.

use std::{fmt, sync::Arc};

use super::{
    AnyLayer, AsyncClientLayer, AsyncServerLayer, ClientLayer, IncomingCall, OutgoingCall,
    ServerLayer,
    client_layer::{AsyncClient, SyncClient},
    server_layer::{AsyncServer, SyncServer},
};

/// Layers in the order in which they run. Cheap to clone; most routers and clients have none.
pub(crate) struct LayerStack<C>(Option<Arc<Layers<C>>>);

type Layers<C> = [Arc<dyn AnyLayer<C>>];

impl LayerStack<IncomingCall> {
    pub(crate) fn with(&self, layer: impl ServerLayer) -> Self {
        self.and(Arc::new(SyncServer(layer)))
    }

    pub(crate) fn with_async(&self, layer: impl AsyncServerLayer) -> Self {
        self.and(Arc::new(AsyncServer(layer)))
    }
}

impl LayerStack<OutgoingCall> {
    pub(crate) fn with(&self, layer: impl ClientLayer) -> Self {
        self.and(Arc::new(SyncClient(layer)))
    }

    pub(crate) fn with_async(&self, layer: impl AsyncClientLayer) -> Self {
        self.and(Arc::new(AsyncClient(layer)))
    }
}

impl<C> LayerStack<C> {
    /// These layers and then others.
    pub(crate) fn then(&self, inner: &Self) -> Self {
        match (&self.0, &inner.0) {
            (None, _) => inner.clone(),
            (_, None) => self.clone(),
            (Some(outer), Some(inner)) => {
                Self(Some(outer.iter().chain(&**inner).cloned().collect()))
            }
        }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(super) fn get(&self, index: usize) -> Option<&dyn AnyLayer<C>> {
        self.0.as_ref()?.get(index).map(|layer| &**layer)
    }

    fn and(&self, layer: Arc<dyn AnyLayer<C>>) -> Self {
        let known = self.0.iter().flat_map(|layers| layers.iter().cloned());
        Self(Some(known.chain([layer]).collect()))
    }
}

impl<C> Clone for LayerStack<C> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<C> Default for LayerStack<C> {
    fn default() -> Self {
        Self(None)
    }
}

/// Stacks are equal if they are the same object.
impl<C> PartialEq for LayerStack<C> {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some(ours), Some(theirs)) => Arc::ptr_eq(ours, theirs),
            (ours, theirs) => ours.is_none() && theirs.is_none(),
        }
    }
}

impl<C> fmt::Debug for LayerStack<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.as_ref().map_or(0, |layers| layers.len());
        f.debug_struct("LayerStack").field("count", &count).finish()
    }
}

/// Layers of a method.
#[derive(Debug, Clone, Default)]
pub(crate) struct HandlerLayers {
    /// Those of the router that the method came from.
    own: LayerStack<IncomingCall>,
    all: LayerStack<IncomingCall>,
}

impl HandlerLayers {
    /// All of them, in their order.
    #[inline]
    pub(crate) fn all(&self) -> &LayerStack<IncomingCall> {
        &self.all
    }

    /// Puts the method into a router.
    pub(crate) fn move_into(&mut self, router: &LayerStack<IncomingCall>) {
        self.own = self.all.clone();
        self.all = router.then(&self.own);
    }

    /// The router of the method has other layers now.
    pub(crate) fn update(&mut self, router: &LayerStack<IncomingCall>) {
        self.all = router.then(&self.own);
    }
}
