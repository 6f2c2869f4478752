//! Immutable view of the endpoints at one time.

use std::{collections::HashMap, fmt, ops::Index, sync::Arc};

use crate::Endpoint;

/// Immutable list of the endpoints that can be picked at one time. A change makes a new view.
#[derive(Debug, Clone)]
pub struct View {
    endpoints: Box<[Arc<Endpoint>]>,
    /// The tags of each endpoint, or none at all.
    tags: Box<[Arc<dyn TagLookup>]>,
    generation: u64,
}

/// Tags of an endpoint, for balancers that prefer some over others. Read by
/// [`Balancer::rebuild`](crate::Balancer::rebuild), not by picks.
pub trait TagLookup: fmt::Debug + Send + Sync {
    /// The value of a tag.
    fn tag(&self, key: &str) -> Option<&str>;
}

impl TagLookup for HashMap<String, String> {
    fn tag(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }
}

impl View {
    /// A view of these endpoints.
    ///
    /// The generation rises with every new view of the same group.
    pub fn new(endpoints: impl IntoIterator<Item = Arc<Endpoint>>, generation: u64) -> Self {
        Self {
            endpoints: endpoints.into_iter().collect(),
            tags: Box::default(),
            generation,
        }
    }

    /// Sets the tags of the endpoints, in their order. Default none.
    ///
    /// # Panics
    ///
    /// If there are not as many tags as endpoints.
    #[must_use]
    pub fn with_tags(mut self, tags: impl IntoIterator<Item = Arc<dyn TagLookup>>) -> Self {
        self.tags = tags.into_iter().collect();
        assert_eq!(self.tags.len(), self.len(), "each endpoint has its tags");
        self
    }

    /// The value of a tag of an endpoint.
    #[must_use]
    pub fn tag(&self, index: usize, key: &str) -> Option<&str> {
        self.tags.get(index)?.tag(key)
    }

    /// A view of some of the endpoints, with their tags, in the order of `indices`. For balancers
    /// that choose among subsets.
    ///
    /// # Panics
    ///
    /// If an index is out of range.
    #[must_use]
    pub fn subset(&self, indices: &[usize]) -> Self {
        let tags = if self.tags.is_empty() {
            Box::default()
        } else {
            indices
                .iter()
                .map(|&index| Arc::clone(&self.tags[index]))
                .collect()
        };
        Self {
            endpoints: indices
                .iter()
                .map(|&index| Arc::clone(&self.endpoints[index]))
                .collect(),
            tags,
            generation: self.generation,
        }
    }

    /// All endpoints, in the order of the indices of picks.
    #[must_use]
    pub const fn endpoints(&self) -> &[Arc<Endpoint>] {
        &self.endpoints
    }

    /// The number of endpoints.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.endpoints.len()
    }

    /// Whether there are no endpoints.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.endpoints.is_empty()
    }

    /// The generation that the view was made with.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subset_keeps_the_tags() {
        let zones = ["a", "b", "a"].map(|zone| {
            let tags = HashMap::from([("zone".to_owned(), zone.to_owned())]);
            Arc::new(tags) as Arc<dyn TagLookup>
        });
        let view = View::new((0..3).map(|id| Arc::new(Endpoint::new(id))), 7).with_tags(zones);
        let part = view.subset(&[2, 1]);
        assert_eq!((part[0].id(), part[1].id(), part.generation()), (2, 1, 7));
        assert_eq!(
            (part.tag(0, "zone"), part.tag(1, "zone")),
            (Some("a"), Some("b"))
        );
        assert_eq!(
            (part.tag(1, "rack"), View::new([], 1).tag(0, "zone")),
            (None, None)
        );
    }
}
