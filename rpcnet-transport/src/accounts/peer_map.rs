//! Map of values by the name of their peer, each kept for as long as it is used.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;

/// Values by the name of their peer. All users of a name share one value, and the entry is removed
/// with its last user.
#[derive(Debug)]
pub(crate) struct PeerMap<V>(Mutex<HashMap<Arc<str>, Weak<V>>>);

impl<V> PeerMap<V> {
    /// The value of the peer with this name. `create` makes one, under the lock of the map, if the
    /// name has no user.
    pub(crate) fn get_or_create(
        &self,
        name: Arc<str>,
        create: impl FnOnce(Arc<str>) -> V,
    ) -> Arc<V> {
        let mut values = self.0.lock();
        if let Some(value) = values.get(&name).and_then(Weak::upgrade) {
            return value;
        }
        let value = Arc::new(create(Arc::clone(&name)));
        values.insert(name, Arc::downgrade(&value));
        value
    }

    /// Removes the entry of a value. The value calls this when it is dropped.
    pub(crate) fn remove_dropped(&self, name: &str) {
        let mut values = self.0.lock();
        // A new value may have been created in between.
        if values
            .get(name)
            .is_some_and(|value| value.strong_count() == 0)
        {
            values.remove(name);
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.lock().len()
    }
}

impl<V> Default for PeerMap<V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}
