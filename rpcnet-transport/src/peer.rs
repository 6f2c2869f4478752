//! Peer: the node at the other end of a connection.

use std::{
    fmt,
    hash::{Hash, Hasher},
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, LazyLock, OnceLock},
};

use crate::tls::Identity;

/// Node at the other end of a connection. Cheap to clone.
///
/// Equal are peers of the same name and address.
#[derive(Clone)]
pub struct Peer(Arc<PeerFields>);

struct PeerFields {
    name: Arc<str>,
    addr: SocketAddr,
    /// Set once the certificate is verified.
    identity: OnceLock<Identity>,
}

impl Peer {
    /// Peer with this name and address, and without an [identity](Self::identity).
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, addr: SocketAddr) -> Self {
        Self(Arc::new(PeerFields {
            name: name.into(),
            addr,
            identity: OnceLock::new(),
        }))
    }

    /// The same peer with this identity. For tests of what decides by identity: that of the peer of
    /// a connection is set by the handshake.
    #[must_use]
    pub fn with_identity(self, identity: Identity) -> Self {
        Self(Arc::new(PeerFields {
            name: Arc::clone(&self.0.name),
            addr: self.0.addr,
            identity: identity.into(),
        }))
    }

    /// Caller of a call in this process, without a network.
    pub(crate) fn local() -> Self {
        static LOCAL: LazyLock<Peer> =
            LazyLock::new(|| Peer::new("local", (Ipv4Addr::UNSPECIFIED, 0).into()));
        LOCAL.clone()
    }

    /// Sets the identity, once.
    pub(crate) fn set_identity(&self, identity: Identity) {
        // The certificate of a connection does not change.
        let _ = self.0.identity.set(identity);
    }

    /// Name of the node, proved by its certificate.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    pub(crate) fn shared_name(&self) -> Arc<str> {
        Arc::clone(&self.0.name)
    }

    /// Address that it had when the connection was established.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.0.addr
    }

    /// Identity of the node, by its verified certificate: its URIs, fingerprint, validity and more.
    /// It stays the same as long as the connection.
    ///
    /// `None` if the peer was made by [`new`](Self::new), as that of a call in this process is, and
    /// for the server of an [early](crate::Endpoint::connect_early) connection until the handshake
    /// is [complete](crate::RpcClient::confirmed).
    #[must_use]
    pub fn identity(&self) -> Option<&Identity> {
        self.0.identity.get()
    }
}

impl PartialEq for Peer {
    fn eq(&self, other: &Self) -> bool {
        let (this, other) = (&*self.0, &*other.0);
        this.addr == other.addr && this.name == other.name
    }
}

impl Eq for Peer {}

impl Hash for Peer {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.name.hash(state);
        self.0.addr.hash(state);
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer")
            .field("name", &self.0.name)
            .field("addr", &self.0.addr)
            .finish()
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.0.name, self.0.addr)
    }
}
