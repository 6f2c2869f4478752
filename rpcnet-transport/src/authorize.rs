//! Authorization: which nodes with a valid certificate may connect.

use std::{fmt, sync::Arc};

use crate::{Peer, tls::Identity};

/// Identity of a node whose certificate was verified; see
/// [`TransportConfig::with_authorizer`](crate::TransportConfig::with_authorizer).
#[derive(Debug, Clone, Copy)]
pub struct PeerIdentity<'a> {
    pub(crate) peer: &'a Peer,
    pub(crate) identity: &'a Identity,
}

impl PeerIdentity<'_> {
    /// Name of the node in its certificate, and its address.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        self.peer
    }

    /// Identity of the node, which [`peer`](Self::peer) has too.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        self.identity
    }

    /// Certificate of the node, in DER.
    #[must_use]
    pub fn certificate(&self) -> &[u8] {
        self.identity.certificate()
    }

    /// SHA-256 fingerprint of the certificate, as `openssl x509 -fingerprint -sha256` shows it.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        self.identity.fingerprint()
    }
}

/// Function that decides which nodes may connect.
#[derive(Clone)]
pub(crate) struct Authorizer(Arc<AuthorizeFn>);

type AuthorizeFn = dyn Fn(&PeerIdentity<'_>) -> Result<(), String> + Send + Sync;

impl Authorizer {
    pub(crate) fn new(
        decide: impl Fn(&PeerIdentity<'_>) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(decide))
    }

    pub(crate) fn check(&self, identity: &PeerIdentity<'_>) -> Result<(), String> {
        (self.0)(identity)
    }
}

/// Authorizers are equal if they are the same function object.
impl PartialEq for Authorizer {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for Authorizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorizer").finish_non_exhaustive()
    }
}
