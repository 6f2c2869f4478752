//! Layers of a router.

#[cfg(feature = "tower")]
use std::sync::Arc;

use super::Router;
#[cfg(feature = "tower")]
use super::{handler::Handler, method_start::HandlerWrapper};
use crate::{AsyncServerLayer, ServerLayer};

/// Layers: see [`ServerLayer`].
impl Router {
    /// Adds a layer around all methods of the router, those that are added later too. It runs after
    /// the layers that were added before it.
    ///
    /// The methods of a [merged](Self::merge) router pass the layers of this one first and then
    /// their own: a layer for one service is added to the router of that service.
    #[must_use]
    pub fn layer(mut self, layer: impl ServerLayer) -> Self {
        self.layers = self.layers.with(layer);
        self.update_layers()
    }

    /// Adds an asynchronous layer, like [`layer`](Self::layer).
    #[must_use]
    pub fn async_layer(mut self, layer: impl AsyncServerLayer) -> Self {
        self.layers = self.layers.with_async(layer);
        self.update_layers()
    }

    /// Adds a wrapper around the handlers of all unary methods, those that are added later too.
    #[cfg(feature = "tower")]
    pub(crate) fn wrap_handlers(mut self, wrapper: Arc<dyn HandlerWrapper>) -> Self {
        self.wrappers.push(wrapper);
        for handler in self.handlers.values_mut() {
            if let Handler::Unary(unary) = handler {
                unary.start.update(&self.wrappers);
            }
        }
        self
    }

    fn update_layers(mut self) -> Self {
        for handler in self.handlers.values_mut() {
            handler.layers_mut().update(&self.layers);
        }
        self
    }
}
