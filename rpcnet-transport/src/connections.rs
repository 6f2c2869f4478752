//! The connections of an endpoint, by the node at the other end.

use std::{
    collections::{BTreeSet, HashMap},
    error::Error,
    sync::{Arc, OnceLock},
};

use parking_lot::Mutex;
use quinn::{ConnectionError, VarInt};
use tokio_util::sync::CancellationToken;

use crate::{RpcError, close::close_at_once};

/// All connections of an endpoint whose peer is known, those that it makes or has made and those
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
    /// Nodes that were disconnected since the oldest of these handshakes began, each with the last
    /// time.
    disconnected: Vec<(Box<str>, u64)>,
    /// Handshakes of any peer that began before are not let in: more nodes were disconnected than
    /// are remembered.
    refused_before: u64,
}

#[derive(Debug)]
struct ConnectionEntry {
    name: Arc<str>,
    disconnected: CancellationToken,
    /// `None` while it is being made.
    connection: Option<quinn::Connection>,
    local_close: LocalCloseReason,
}

/// Why this side closed a connection, for the calls that end with it. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct LocalCloseReason(Arc<OnceLock<Box<str>>>);

/// One connection of the registry, until it is dropped.
#[derive(Debug)]
pub(crate) struct RegisteredConnection {
    connections: Arc<ConnectionRegistry>,
    id: u64,
    disconnected: CancellationToken,
    local_close: LocalCloseReason,
}

/// A handshake that a peer has begun, until it is dropped. Who the peer is may not be known.
#[derive(Debug)]
pub(crate) struct PendingHandshake {
    connections: Arc<ConnectionRegistry>,
    id: u64,
}

impl ConnectionRegistry {
    /// Takes note of a connection to a node that is going to be made, or was made by it.
    pub(crate) fn register(
        self: &Arc<Self>,
        name: Arc<str>,
        connection: Option<quinn::Connection>,
    ) -> RegisteredConnection {
        let (disconnected, local_end) = (CancellationToken::new(), LocalCloseReason::default());
        let entry = ConnectionEntry {
            name,
            disconnected: disconnected.clone(),
            connection,
            local_close: local_end.clone(),
        };
        let mut registry = self.0.lock();
        let id = registry.next_number();
        registry.connections.insert(id, entry);
        drop(registry);
        RegisteredConnection {
            connections: Arc::clone(self),
            id,
            disconnected,
            local_close: local_end,
        }
    }

    /// Takes note of a handshake that a peer has begun.
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

    /// Tells the connections of a node to end; says how many were told. Handshakes that have begun
    /// and turn out to be of that node are not let in.
    pub(crate) fn disconnect(&self, name: &str) -> usize {
        let mut registry = self.0.lock();
        registry.note_disconnect(name);
        let of_node = registry.connections.values().filter(|entry| {
            entry.name.eq_ignore_ascii_case(name) && !entry.disconnected.is_cancelled()
        });
        // Cloned out, so that nothing is woken under the lock.
        let tokens = of_node.map(|entry| {
            entry.local_close.note("this node disconnected the server");
            entry.disconnected.clone()
        });
        let tokens: Vec<_> = tokens.collect();
        drop(registry);
        tokens.iter().for_each(CancellationToken::cancel);
        tokens.len()
    }

    /// Closes all connections that are made, since the endpoint shuts down.
    pub(crate) fn close_all(&self, code: VarInt) {
        let registry = self.0.lock();
        let made = registry.connections.values().filter_map(|entry| {
            entry.local_close.note("this node shut down");
            entry.connection.clone()
        });
        let made: Vec<_> = made.collect();
        drop(registry);
        for connection in made {
            close_at_once(&connection, code, b"");
        }
    }
}

impl RegistryState {
    fn next_number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn note_disconnect(&mut self, name: &str) {
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
    /// The connection is made.
    pub(crate) fn set_established(&self, connection: &quinn::Connection) {
        if let Some(entry) = self.connections.0.lock().connections.get_mut(&self.id) {
            entry.connection = Some(connection.clone());
        }
    }

    pub(crate) fn local_close(&self) -> LocalCloseReason {
        self.local_close.clone()
    }

    /// Ends when the connection is to end.
    pub(crate) async fn disconnected(&self) {
        self.disconnected.cancelled().await;
    }
}

impl LocalCloseReason {
    /// The first reason counts.
    pub(crate) fn note(&self, why: &str) {
        let _ = self.0.set(why.into());
    }

    /// The error of a call, which says why its connection was closed if that was done here.
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
    /// Whether the node, which the peer turned out to be, was disconnected since the handshake
    /// began.
    pub(crate) fn is_refused(&self, name: &str) -> bool {
        self.connections.0.lock().is_refused(self.id, name)
    }
}

impl Drop for RegisteredConnection {
    fn drop(&mut self) {
        let entry = self.connections.0.lock().connections.remove(&self.id);
        // Not under the lock: it may be the last that holds the connection.
        drop(entry);
    }
}

impl Drop for PendingHandshake {
    fn drop(&mut self) {
        self.connections.0.lock().end(self.id);
    }
}

/// Nodes that are remembered as disconnected for the handshakes that have begun.
const DISCONNECTED_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_of_a_node_are_told_once_and_forgotten_when_they_end() {
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
    fn a_handshake_that_began_before_a_disconnect_is_refused_to_that_node_alone() {
        let all = Arc::new(ConnectionRegistry::default());
        let before = all.begin_handshake();
        assert!(!before.is_refused("red"));
        all.disconnect("red");
        let between = all.begin_handshake();
        all.disconnect("blue");
        assert!(before.is_refused("RED") && before.is_refused("blue"));
        assert!(!between.is_refused("red") && between.is_refused("blue"));
        assert!(!before.is_refused("green") && !all.begin_handshake().is_refused("blue"));
        // Again, it holds for what began since.
        all.disconnect("red");
        assert!(between.is_refused("red"));
    }

    #[test]
    fn disconnects_are_forgotten_with_the_handshakes_that_they_are_for() {
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
    fn of_more_disconnects_than_are_remembered_all_handshakes_before_are_refused() {
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
