//! Peer: the node at the other end of a connection.

use std::{fmt, net::SocketAddr, sync::Arc};

/// Node at the other end of a connection. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Peer {
    name: Arc<str>,
    addr: SocketAddr,
}

impl Peer {
    /// Peer with this name and address.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, addr: SocketAddr) -> Self {
        Self {
            name: name.into(),
            addr,
        }
    }

    /// Name of the node, proved by its certificate.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn shared_name(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }

    /// Address that it had when the connection was established.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.name, self.addr)
    }
}
