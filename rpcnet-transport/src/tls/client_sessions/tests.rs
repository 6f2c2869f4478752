//! Tests of the client session cache.

use rustls::{ClientConnection, ServerConnection, client::ClientSessionStore};
use rustls_pki_types::{ServerName, UnixTime};
use tokio::time::Instant;

use super::*;
use crate::{
    DevCa,
    tls::{ServerSessions, peer_sessions::TICKETS_MAX},
};

const LIFETIME: Duration = Duration::from_secs(600);

fn name() -> ServerName<'static> {
    ServerName::try_from("node-1").unwrap()
}

/// A caller and a server of one authority, and the caller's sessions.
struct Pair {
    client: Arc<rustls::ClientConfig>,
    sessions: Arc<PeerSessions>,
    server: Arc<rustls::ServerConfig>,
}

impl Pair {
    fn new() -> Self {
        let ca = DevCa::new("test");
        let (client, server) = (ca.issue("node-2").unwrap(), ca.issue("node-1").unwrap());
        let sessions = PeerTls::new(&client, LIFETIME).sessions;
        let server_sessions = ServerSessions::new(LIFETIME, Arc::default());
        Self {
            client: Arc::new(client.client_config(Arc::clone(&sessions))),
            sessions,
            server: Arc::new(server.server_config(Some(server_sessions), false)),
        }
    }

    /// Performs a handshake without a network, until all tickets have arrived. Returns whether
    /// a session was resumed.
    fn connect(&self) -> bool {
        let mut client = ClientConnection::new(Arc::clone(&self.client), name()).unwrap();
        let mut server = ServerConnection::new(Arc::clone(&self.server)).unwrap();
        let mut bytes = Vec::new();
        while client.wants_write() || server.wants_write() {
            while client.wants_write() {
                client.write_tls(&mut bytes).unwrap();
            }
            server.read_tls(&mut &bytes[..]).unwrap();
            server.process_new_packets().unwrap();
            bytes.clear();
            while server.wants_write() {
                server.write_tls(&mut bytes).unwrap();
            }
            client.read_tls(&mut &bytes[..]).unwrap();
            client.process_new_packets().unwrap();
            bytes.clear();
        }
        assert!(!client.is_handshaking() && !server.is_handshaking());
        client.handshake_kind() == Some(rustls::HandshakeKind::Resumed)
    }

    fn take(&self, now: UnixTime, instant: Instant) -> bool {
        self.sessions.take_ticket(&name(), now, instant).is_some()
    }

    fn tickets(&self) -> usize {
        self.sessions.state.lock().tickets.len()
    }
}

fn in_a_month() -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(UnixTime::now().as_secs() + 31 * 86_400))
}

#[test]
fn tickets_are_single_use_and_bounded() {
    let pair = Pair::new();
    assert!(!pair.connect());
    for _ in 0..5 {
        assert!(pair.connect());
        assert!(pair.tickets() <= TICKETS_MAX);
    }
    assert_eq!(pair.tickets(), TICKETS_MAX);
    for _ in 0..TICKETS_MAX {
        assert!(pair.sessions.take_tls13_ticket(&name()).is_some());
    }
    assert!(!pair.connect());
}

#[test]
fn a_session_does_not_outlive_the_certificate_that_it_began_with() {
    let pair = Pair::new();
    pair.connect();
    let (now, instant) = (UnixTime::now(), Instant::now());
    assert!(pair.take(now, instant));
    assert_eq!(pair.tickets(), 1);
    assert!(!pair.take(in_a_month(), instant));
    pair.connect();
    assert_eq!(pair.tickets(), 2);
    // Nor does another ticket, even if the clock is set back.
    assert!(!pair.take(in_a_month(), instant));
    assert_eq!(pair.tickets(), 0);
    assert!(!pair.connect());
}

#[test]
fn sessions_end_with_another_certificate() {
    let pair = Pair::new();
    pair.connect();
    pair.connect();
    assert!(pair.tickets() > 0);
    let again = pair
        .sessions
        .state
        .lock()
        .verified
        .as_ref()
        .unwrap()
        .chain
        .clone();
    pair.sessions.on_verified(Ok(again));
    assert!(pair.tickets() > 0, "the same certificate");
    let other = DevCa::new("test").issue("node-1").unwrap();
    pair.sessions.on_verified(Ok(other.0.identity.cert.clone()));
    assert_eq!(pair.tickets(), 0);
}

#[test]
fn a_session_expires_however_often_it_is_resumed() {
    let pair = Pair::new();
    pair.connect();
    assert!(pair.connect());
    let now = UnixTime::now();
    let since = pair.sessions.state.lock().verified.as_ref().unwrap().since;
    let last = since + LIFETIME;
    assert!(pair.take(now, last));
    assert!(!pair.take(now, last + Duration::from_nanos(1)));
    assert!(!pair.connect());
}

#[test]
fn a_caller_is_verified_by_current_authorities_and_time() {
    let ca = DevCa::new("test");
    let (client, server) = (ca.issue("node-2").unwrap(), ca.issue("node-1").unwrap());
    let chain = &client.0.identity.cert;
    let now = UnixTime::now();
    assert!(server.verifies_caller(chain, now));
    assert!(!server.verifies_caller(chain, in_a_month()));
    assert!(!server.verifies_caller(&[], now));
    let other = DevCa::new("other").issue("node-1").unwrap();
    assert!(!other.verifies_caller(chain, now));
}

#[test]
fn sessions_are_per_name_and_address_and_the_oldest_are_evicted() {
    let client = DevCa::new("test").issue("node-2").unwrap();
    let sessions = ClientSessions::new(client, LIFETIME);
    let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    let first = sessions.peer(at(1), "node-1");
    let is_first = |known: &Arc<PeerTls>| Arc::ptr_eq(known, &first);
    assert!(is_first(&sessions.peer(at(1), "node-1")));
    assert!(!is_first(&sessions.peer(at(1), "node-2")));
    for port in 2..PEERS_MAX as u16 {
        sessions.peer(at(port), "node-1");
    }
    assert!(is_first(&sessions.peer(at(1), "node-1")));
    sessions.peer(at(0), "node-1");
    assert!(!is_first(&sessions.peer(at(1), "node-1")));
    let peers = sessions.peers.lock();
    assert_eq!(
        (peers.known.len(), peers.order.len()),
        (PEERS_MAX, PEERS_MAX)
    );
}
