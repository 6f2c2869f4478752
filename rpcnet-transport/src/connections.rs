//! Registry of the connections of an endpoint, by the name of the peer.

use std::{
    collections::{BTreeSet, HashMap},
    error::Error,
    sync::{Arc, OnceLock},
};

use parking_lot::Mutex;
use quinn::{ConnectionError, VarInt};
use tokio_util::sync::CancellationToken;

use crate::{RpcError, close::close_at_once};

/// All connections of an endpoint whose peer is known: those that it makes or has made, and those
/// that it accepted.
#[derive(Debug, Default)]
pub(crate) struct ConnectionRegistry(Mutex<RegistryState>);

#[derive(Debug, Default)]
struct RegistryState {
    /// Number of the next connection, handshake or disconnect.
    next: u64,
    connections: HashMap<u64, ConnectionEntry>,
    /// Handshakes that peers have begun.
    handshakes: BTreeSet<u64>,
    /// Nodes that were disconnected since the oldest of these handshakes began, each with its last
    /// disconnect.
    disconnected: Vec<(Box<str>, u64)>,
    /// Handshakes that began before this number are refused for every peer: more nodes were
    /// disconnected than are remembered.
    refused_before: u64,
}

#[derive(Debug)]
struct ConnectionEntry {
    name: Arc<str>,
    disconnected: CancellationToken,
    /// `None` while the connection is being made.
    connection: Option<quinn::Connection>,
    local_close: LocalCloseReason,
}

/// Reason for which this side closed a connection, reported by the calls that end with it. Cheap to
/// clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct LocalCloseReason(Arc<OnceLock<Box<str>>>);

/// A connection in the registry, until it is dropped.
#[derive(Debug)]
pub(crate) struct RegisteredConnection {
    connections: Arc<ConnectionRegistry>,
    id: u64,
    disconnected: CancellationToken,
    local_close: LocalCloseReason,
}

/// A handshake that a peer has begun, until it is dropped. The peer may not be known yet.
#[derive(Debug)]
pub(crate) struct PendingHandshake {
    connections: Arc<ConnectionRegistry>,
    id: u64,
}

impl ConnectionRegistry {
    /// Adds a connection to a node that is about to be made, or one that the node made.
    pub(crate) fn register(
        self: &Arc<Self>,
        name: Arc<str>,
        connection: Option<quinn::Connection>,
    ) -> RegisteredConnection {
        let (disconnected, local_close) = (CancellationToken::new(), LocalCloseReason::default());
        let entry = ConnectionEntry {
            name,
            disconnected: disconnected.clone(),
            connection,
            local_close: local_close.clone(),
        };
        let mut registry = self.0.lock();
        let id = registry.next_number();
        registry.connections.insert(id, entry);
        drop(registry);
        RegisteredConnection {
            connections: Arc::clone(self),
            id,
            disconnected,
            local_close,
        }
    }

    /// Adds a handshake that a peer has begun.
    pub(crate) fn begin_handshake(self: &Arc<Self>) -> PendingHandshake {
        let mut registry = self.0.lock();
        let id = registry.next_number();
        registry.handshakes.insert(id);
        drop(registry);
        PendingHandshake {
            connections: Arc::clone(self),
            id,
        }
    }

    /// Asks the tasks of all connections of a node to close them, and returns their number.
    /// Handshakes that have begun are refused if their peer is that node.
    pub(crate) fn disconnect(&self, name: &str) -> usize {
        let mut registry = self.0.lock();
        registry.record_disconnect(name);
        let of_node = registry.connections.values().filter(|entry| {
            entry.name.eq_ignore_ascii_case(name) && !entry.disconnected.is_cancelled()
        });
        // Cloned out, so that no task is woken under the lock.
        let tokens = of_node.map(|entry| {
            entry
                .local_close
                .record("this node disconnected the server");
            entry.disconnected.clone()
        });
        let tokens: Vec<_> = tokens.collect();
        drop(registry);
        tokens.iter().for_each(CancellationToken::cancel);
        tokens.len()
    }

    /// Closes all established connections, because the endpoint shuts down.
    pub(crate) fn close_all(&self, code: VarInt) {
        let registry = self.0.lock();
        let established = registry.connections.values().filter_map(|entry| {
            entry.local_close.record("this node shut down");
            entry.connection.clone()
        });
        let established: Vec<_> = established.collect();
        drop(registry);
        for connection in established {
            close_at_once(&connection, code, b"");
        }
    }
}

impl RegistryState {
    fn next_number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn record_disconnect(&mut self, name: &str) {
        if self.handshakes.is_empty() {
            return;
        }
        let now = self.next_number();
        let mut remembered = self.disconnected.iter_mut();
        if let Some((_, at)) = remembered.find(|(known, _)| known.eq_ignore_ascii_case(name)) {
            *at = now;
        } else if self.disconnected.len() < DISCONNECTED_MAX {
            self.disconnected.push((name.into(), now));
        } else {
            self.refused_before = now;
            self.disconnected.clear();
        }
    }

    fn is_refused(&self, handshake: u64, name: &str) -> bool {
        let mut since = self.disconnected.iter().filter(|(_, at)| handshake < *at);
        handshake < self.refused_before || since.any(|(known, _)| known.eq_ignore_ascii_case(name))
    }

    fn end(&mut self, handshake: u64) {
        self.handshakes.remove(&handshake);
        if !self.disconnected.is_empty() {
            let oldest = self.handshakes.first().copied().unwrap_or(u64::MAX);
            self.disconnected.retain(|(_, at)| oldest < *at);
        }
    }
}

impl RegisteredConnection {
    /// Records the connection once it is established.
    pub(crate) fn set_established(&self, connection: &quinn::Connection) {
        if let Some(entry) = self.connections.0.lock().connections.get_mut(&self.id) {
            entry.connection = Some(connection.clone());
        }
    }

    pub(crate) fn local_close(&self) -> LocalCloseReason {
        self.local_close.clone()
    }

    /// Completes when the connection is to be closed.
    pub(crate) async fn disconnected(&self) {
        self.disconnected.cancelled().await;
    }
}

impl LocalCloseReason {
    /// Records the reason. The first one counts.
    pub(crate) fn record(&self, why: &str) {
        let _ = self.0.set(why.into());
    }

    /// Replaces the message of a call's error by the reason, if this side closed the connection.
    pub(crate) fn explain(&self, error: RpcError) -> RpcError {
        let cause = error.source().and_then(|source| source.downcast_ref());
        let is_closed_here = matches!(cause, Some(ConnectionError::LocallyClosed));
        match self.0.get() {
            Some(why) if is_closed_here => error.with_message(&**why),
            _ => error,
        }
    }
}

impl PendingHandshake {
    /// Whether the node, which the handshake has shown, was disconnected since the handshake
    /// began.
    pub(crate) fn is_refused(&self, name: &str) -> bool {
        self.connections.0.lock().is_refused(self.id, name)
    }
}

impl Drop for RegisteredConnection {
    fn drop(&mut self) {
        let entry = self.connections.0.lock().connections.remove(&self.id);
        // Not under the lock: the entry may hold the last handle of the connection.
        drop(entry);
    }
}

impl Drop for PendingHandshake {
    fn drop(&mut self) {
        self.connections.0.lock().end(self.id);
    }
}

/// Most nodes that are remembered as disconnected for handshakes in progress.
const DISCONNECTED_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disconnect_tells_each_connection_of_the_node_once() {
        let all = Arc::new(ConnectionRegistry::default());
        let [a, b, other] = ["red", "RED", "blue"].map(|name| all.register(name.into(), None));
        assert_eq!(all.disconnect("red"), 2);
        assert!(a.disconnected.is_cancelled() && b.disconnected.is_cancelled());
        assert!(!other.disconnected.is_cancelled());
        assert_eq!(all.disconnect("red"), 0);
        drop((a, b, other));
        assert_eq!(all.disconnect("blue"), 0);
        assert!(all.0.lock().connections.is_empty());
    }

    #[test]
    fn a_handshake_from_before_a_disconnect_is_refused_for_that_node_only() {
        let all = Arc::new(ConnectionRegistry::default());
        let before = all.begin_handshake();
        assert!(!before.is_refused("red"));
        all.disconnect("red");
        let between = all.begin_handshake();
        all.disconnect("blue");
        assert!(before.is_refused("RED") && before.is_refused("blue"));
        assert!(!between.is_refused("red") && between.is_refused("blue"));
        assert!(!before.is_refused("green") && !all.begin_handshake().is_refused("blue"));
        // A second disconnect holds for handshakes that began since the first.
        all.disconnect("red");
        assert!(between.is_refused("red"));
    }

    #[test]
    fn disconnects_are_forgotten_with_their_last_handshake() {
        let all = Arc::new(ConnectionRegistry::default());
        all.disconnect("red");
        assert!(all.0.lock().disconnected.is_empty(), "no handshake");
        let (first, second) = (all.begin_handshake(), all.begin_handshake());
        all.disconnect("red");
        let third = all.begin_handshake();
        drop((first, second));
        assert!(all.0.lock().disconnected.is_empty());
        all.disconnect("red");
        drop(third);
        let registry = all.0.lock();
        assert!(registry.disconnected.is_empty() && registry.handshakes.is_empty());
    }

    #[test]
    fn too_many_disconnects_refuse_all_earlier_handshakes() {
        let all = Arc::new(ConnectionRegistry::default());
        let before = all.begin_handshake();
        for n in 0..DISCONNECTED_MAX {
            all.disconnect(&format!("node-{n}"));
        }
        assert!(!before.is_refused("green"));
        all.disconnect("one-more");
        let after = all.begin_handshake();
        assert!(before.is_refused("green") && !after.is_refused("green"));
        assert!(all.0.lock().disconnected.len() <= DISCONNECTED_MAX);
    }
}
