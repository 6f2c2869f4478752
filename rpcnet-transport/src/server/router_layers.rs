//! Layers of a router.

use super::Router;
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

    fn update_layers(mut self) -> Self {
        for handler in self.handlers.values_mut() {
            handler.layers_mut().update(&self.layers);
        }
        self
    }
}
