//! The connections of an endpoint, by the node at the other end.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use quinn::VarInt;
use tokio_util::sync::CancellationToken;

use crate::closing::close_at_once;

/// All connections of an endpoint whose peer is known, those that it made and those that it accepted.
#[derive(Debug, Default)]
pub(crate) struct Connections(Mutex<Registry>);

#[derive(Debug, Default)]
struct Registry {
    next: u64,
    all: HashMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    name: Arc<str>,
    disconnected: CancellationToken,
    /// `None` in tests of the registry alone.
    connection: Option<quinn::Connection>,
}

/// One connection of the registry, until it is dropped.
#[derive(Debug)]
pub(crate) struct Registered {
    connections: Arc<Connections>,
    id: u64,
    disconnected: CancellationToken,
}

impl Connections {
    pub(crate) fn register(
        self: &Arc<Self>,
        name: Arc<str>,
        connection: Option<quinn::Connection>,
    ) -> Registered {
        let disconnected = CancellationToken::new();
        let entry = Entry {
            name,
            disconnected: disconnected.clone(),
            connection,
        };
        let mut registry = self.0.lock();
        let id = registry.next;
        registry.next += 1;
        registry.all.insert(id, entry);
        drop(registry);
        Registered {
            connections: Arc::clone(self),
            id,
            disconnected,
        }
    }

    /// Tells the connections of a node to end; says how many were told.
    pub(crate) fn disconnect(&self, name: &str) -> usize {
        let registry = self.0.lock();
        let of_node = registry.all.values().filter(|entry| {
            entry.name.eq_ignore_ascii_case(name) && !entry.disconnected.is_cancelled()
        });
        // Cloned out, so that nothing is woken under the lock.
        let tokens: Vec<_> = of_node.map(|entry| entry.disconnected.clone()).collect();
        drop(registry);
        tokens.iter().for_each(CancellationToken::cancel);
        tokens.len()
    }

    /// Closes all connections.
    pub(crate) fn close_all(&self, code: VarInt, reason: &[u8]) {
        let registry = self.0.lock();
        let made = registry.all.values().filter_map(|e| e.connection.clone());
        let made: Vec<_> = made.collect();
        drop(registry);
        for connection in made {
            close_at_once(&connection, code, reason);
        }
    }
}

impl Registered {
    /// Ends when the connection is to end.
    pub(crate) async fn disconnected(&self) {
        self.disconnected.cancelled().await;
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let entry = self.connections.0.lock().all.remove(&self.id);
        // Not under the lock: it may be the last that holds the connection.
        drop(entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_of_a_node_are_told_once_and_forgotten_when_they_end() {
        let all = Arc::new(Connections::default());
        let [a, b, other] = ["red", "RED", "blue"].map(|name| all.register(name.into(), None));
        assert_eq!(all.disconnect("red"), 2);
        assert!(a.disconnected.is_cancelled() && b.disconnected.is_cancelled());
        assert!(!other.disconnected.is_cancelled());
        assert_eq!(all.disconnect("red"), 0);
        drop((a, b, other));
        assert_eq!(all.disconnect("blue"), 0);
        assert!(all.0.lock().all.is_empty());
    }
}
