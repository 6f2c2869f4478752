//! Tags of a node.

use std::{collections::BTreeMap, fmt, sync::Arc};

/// Tags of a node: a map of strings in the order of their keys. Cheap to clone.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Tags {
    map: Arc<BTreeMap<String, String>>,
}

impl Tags {
    /// An empty map.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a tag, in place of one with the same key.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.insert(key, value);
        self
    }

    /// Adds a tag, in place of one with the same key. Copies the map if it is shared.
    pub fn insert(&mut self, key: impl Into<String>, value: impl Into<String>) {
        Arc::make_mut(&mut self.map).insert(key.into(), value.into());
    }

    /// Removes a tag, and returns whether it was present. Copies the map if it is shared.
    pub fn remove(&mut self, key: &str) -> bool {
        self.contains(key) && Arc::make_mut(&mut self.map).remove(key).is_some()
    }

    /// The value of a tag.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&str> {
        self.map.get(key).map(String::as_str)
    }

    /// Whether a tag of this key is present.
    #[must_use]
    pub fn contains(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    /// Key and value of every tag, in the order of the keys.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.map
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// The number of tags.
    #[must_use]
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether there are no tags.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Tags {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(tags: I) -> Self {
        let map = tags
            .into_iter()
            .map(|(key, value)| (key.into(), value.into()))
            .collect();
        Self { map: Arc::new(map) }
    }
}

impl<K: Into<String>, V: Into<String>, const N: usize> From<[(K, V); N]> for Tags {
    fn from(tags: [(K, V); N]) -> Self {
        tags.into_iter().collect()
    }
}

impl fmt::Debug for Tags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.map.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_does_not_see_later_changes() {
        let mut tags = Tags::from([("zone", "eu-1"), ("role", "worker")]);
        let before = tags.clone();
        tags.insert("zone", "eu-2");
        assert!(tags.remove("role") && !tags.remove("role"));
        assert_eq!(tags.iter().collect::<Vec<_>>(), [("zone", "eu-2")]);
        assert_eq!(
            before.iter().collect::<Vec<_>>(),
            [("role", "worker"), ("zone", "eu-1")]
        );
    }
}
