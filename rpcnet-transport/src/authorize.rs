//! Which nodes with a good certificate are let in.

use std::{fmt, sync::Arc};

use rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;

use crate::{Peer, TransportConfig};

/// A node whose certificate was verified, and that wants to be let in; see [`TransportConfig::with_authorizer`].
#[derive(Debug, Clone, Copy)]
pub struct PeerIdentity<'a> {
    pub(crate) peer: &'a Peer,
    pub(crate) certificate: &'a [u8],
}

impl PeerIdentity<'_> {
    /// Its name, as its certificate has it, and its address.
    pub fn peer(&self) -> &Peer {
        self.peer
    }

    /// Its own certificate, in DER.
    pub fn certificate(&self) -> &[u8] {
        self.certificate
    }

    /// SHA-256 of its certificate, as `openssl x509 -fingerprint -sha256` shows it.
    pub fn fingerprint(&self) -> [u8; 32] {
        let suite = TLS13_AES_128_GCM_SHA256
            .tls13()
            .expect("it is one of TLS 1.3");
        let hash = suite.common.hash_provider.hash(self.certificate);
        hash.as_ref().try_into().expect("SHA-256 has 32 bytes")
    }
}

/// Decides who is let in.
#[derive(Clone)]
pub(crate) struct Authorizer(Arc<AuthorizeFn>);

type AuthorizeFn = dyn Fn(&PeerIdentity<'_>) -> Result<(), String> + Send + Sync;

impl Authorizer {
    pub(crate) fn check(&self, identity: &PeerIdentity<'_>) -> Result<(), String> {
        (self.0)(identity)
    }
}

impl TransportConfig {
    /// Asks this function whether a node may connect to this endpoint: after its certificate was verified, at every connection,
    /// those that resume a session included, and before anything of it runs, early calls too. It is to be quick and not to wait.
    /// By default every node with a certificate of the cluster's authority may.
    ///
    /// For a node that may not the function returns the reason, which that node is told: it gets
    /// [`ConnectError::Denied`](crate::ConnectError::Denied), its calls [`Code::PermissionDenied`](crate::Code::PermissionDenied). It
    /// counts in [`connections_denied`](crate::TransportStats::connections_denied). Connections that stand when the answer changes go
    /// on; [`Endpoint::disconnect`](crate::Endpoint::disconnect) ends them.
    ///
    /// ```
    /// use rpcnet_transport::{PeerIdentity, TransportConfig};
    ///
    /// let config = TransportConfig::lan().with_authorizer(|node: &PeerIdentity<'_>| {
    ///     match node.peer().name().starts_with("retired-") {
    ///         true => Err("this node is retired".to_owned()),
    ///         false => Ok(()),
    ///     }
    /// });
    /// # drop(config);
    /// ```
    #[must_use]
    pub fn with_authorizer(
        mut self,
        authorizer: impl Fn(&PeerIdentity<'_>) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.authorizer = Some(Authorizer(Arc::new(authorizer)));
        self
    }
}

/// Functions are equal if they are the same one.
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
