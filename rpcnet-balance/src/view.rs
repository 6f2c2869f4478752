//! The endpoints at one moment.

use std::{ops::Index, sync::Arc};

use crate::Endpoint;

/// The endpoints that can be picked, at one moment. Never changes; a change is a new view.
#[derive(Debug, Clone)]
pub struct View {
    endpoints: Box<[Arc<Endpoint>]>,
    generation: u64,
}

impl View {
    /// A view of these endpoints.
    ///
    /// The generation rises with every new view of the same group.
    pub fn new(endpoints: impl IntoIterator<Item = Arc<Endpoint>>, generation: u64) -> Self {
        Self {
            endpoints: endpoints.into_iter().collect(),
            generation,
        }
    }

    /// All endpoints, in the order that picks refer to.
    #[must_use]
    pub const fn endpoints(&self) -> &[Arc<Endpoint>] {
        &self.endpoints
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.endpoints.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.endpoints.is_empty()
    }

    /// The generation it was made with.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }
}

impl Index<usize> for View {
    type Output = Arc<Endpoint>;

    fn index(&self, index: usize) -> &Arc<Endpoint> {
        &self.endpoints[index]
    }
}
