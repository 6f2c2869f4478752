//! Client session cache: tickets and verified certificates of the nodes that were called.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use quinn::crypto::rustls::QuicClientConfig;

use super::{Tls, peer_sessions::PeerSessions, verify_failure::VerifyFailure};

/// Sessions of all nodes that were called under one identity. A reload starts a new cache, so
/// sessions of the old trust are gone.
pub(crate) struct ClientSessions {
    tls: Tls,
    lifetime: Duration,
    peers: Mutex<Peers>,
}

#[derive(Default)]
struct Peers {
    known: HashMap<PeerKey, Arc<PeerTls>>,
    /// Oldest first, each once.
    order: VecDeque<PeerKey>,
}

/// Address and name: a session is for one node, and only the server where it began knows it.
type PeerKey = (SocketAddr, Box<str>);

/// TLS configuration for one node at one address, with its sessions.
pub(crate) struct PeerTls {
    pub(crate) crypto: Arc<QuicClientConfig>,
    /// The same configuration with early data.
    pub(crate) early_crypto: Arc<QuicClientConfig>,
    sessions: Arc<PeerSessions>,
}

impl ClientSessions {
    /// Cache for this identity, whose sessions can be resumed for `lifetime`.
    pub(crate) fn new(tls: Tls, lifetime: Duration) -> Self {
        Self {
            tls,
            lifetime,
            peers: Mutex::default(),
        }
    }

    pub(crate) fn peer(&self, addr: SocketAddr, name: &str) -> Arc<PeerTls> {
        let key = (addr, name.into());
        let mut peers = self.peers.lock();
        if let Some(known) = peers.known.get(&key) {
            return Arc::clone(known);
        }
        if peers.order.len() == PEERS_MAX {
            let oldest = peers.order.pop_front();
            oldest.and_then(|oldest| peers.known.remove(&oldest));
        }
        let known = Arc::new(PeerTls::new(&self.tls, self.lifetime));
        peers.order.push_back(key.clone());
        peers.known.insert(key, Arc::clone(&known));
        known
    }
}

impl PeerTls {
    fn new(tls: &Tls, lifetime: Duration) -> Self {
        let (verifier, clock) = (Arc::clone(&tls.0.verifier), Arc::clone(&tls.0.clock));
        let sessions = Arc::new(PeerSessions::new(verifier, lifetime, clock));
        let config = tls.client_config(Arc::clone(&sessions));
        let mut early = config.clone();
        early.enable_early_data = true;
        Self {
            crypto: quic(config),
            early_crypto: quic(early),
            sessions,
        }
    }

    /// Stores the largest message that the node accepts, in bytes.
    pub(crate) fn set_message_limit(&self, message_bytes_max: u32) {
        self.sessions.state.lock().message_bytes_max = Some(message_bytes_max);
    }

    /// Largest message that the node accepted last time, in bytes; `None` if it never said.
    pub(crate) fn message_limit(&self) -> Option<u32> {
        self.sessions.state.lock().message_bytes_max
    }

    /// Failure to verify the node's latest certificate; `None` if it was verified.
    pub(crate) fn verify_failure(&self) -> Option<VerifyFailure> {
        self.sessions.state.lock().failure.clone()
    }
}

fn quic(config: rustls::ClientConfig) -> Arc<QuicClientConfig> {
    let config = QuicClientConfig::try_from(config)
        .expect("the ring provider has the cipher suite that QUIC begins with");
    Arc::new(config)
}

/// Most nodes in the cache; each takes some kilobytes.
const PEERS_MAX: usize = 1_024;

#[cfg(all(test, feature = "dev-certs"))]
mod tests;
