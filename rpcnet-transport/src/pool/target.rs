//! Pool target: key, generation, address and expected name of a server.

use std::{net::SocketAddr, sync::Arc};

use super::CachedConnection;
use crate::ConnectError;

/// A server that a [`ConnectionPool`](super::ConnectionPool) connects to.
///
/// `C` is the context that the user of the pool keeps with it.
#[derive(Debug, Clone)]
pub struct PoolTarget<C = ()> {
    pub(super) key: Arc<str>,
    pub(super) generation: u64,
    pub(super) addr: SocketAddr,
    pub(super) name: Arc<str>,
    pub(super) cache: Option<Arc<CachedConnection>>,
    pub(super) context: C,
}

/// Identity of the process behind a target: the key that it shares with its former and later
/// processes, and which of these it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TargetId<'a> {
    /// Key in the pool.
    pub key: &'a str,
    /// Number of the process among all that had this key.
    pub generation: u64,
}

impl PoolTarget {
    /// The server at `addr` whose certificate names `name`. The name is its key too.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, addr: SocketAddr) -> Self {
        let name = name.into();
        Self {
            key: Arc::clone(&name),
            generation: 0,
            addr,
            name,
            cache: None,
            context: (),
        }
    }
}

impl<C> PoolTarget<C> {
    /// Sets the context that the [`PoolListener`](super::PoolListener) gets with the target.
    #[must_use]
    pub fn with_context<D>(self, context: D) -> PoolTarget<D> {
        PoolTarget {
            key: self.key,
            generation: self.generation,
            addr: self.addr,
            name: self.name,
            cache: self.cache,
            context,
        }
    }

    /// Key in the pool, for servers that share a name; default the name.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<Arc<str>>) -> Self {
        self.key = key.into();
        self
    }

    /// Number of the process among all that had this key; default 0. Connections to one of them are
    /// not used for another, and closed when another is asked for, unless a
    /// [`PoolListener`](super::PoolListener) says that it is the current one.
    #[must_use]
    pub fn with_generation(mut self, generation: u64) -> Self {
        self.generation = generation;
        self
    }

    /// Cache in which calls find the connection without a lock.
    #[must_use]
    pub fn with_cache(mut self, cache: Option<Arc<CachedConnection>>) -> Self {
        self.cache = cache;
        self
    }

    /// Identity of the process.
    #[must_use]
    pub fn id(&self) -> TargetId<'_> {
        TargetId {
            key: &self.key,
            generation: self.generation,
        }
    }

    /// Address of the server.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Name that the certificate of the server must have.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Context that the user of the pool keeps with the target.
    #[must_use]
    pub fn context(&self) -> &C {
        &self.context
    }
}

/// Error of a connection to a process that has ended or moved.
pub(super) fn target_gone_error(addr: SocketAddr) -> ConnectError {
    ConnectError::Refused {
        addr,
        reason: "the node is gone from this address".to_owned(),
    }
}
