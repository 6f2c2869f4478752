//! TLS identity of a node and the authorities that it trusts.

mod certificate;
mod client_sessions;
mod der;
#[cfg(feature = "dev-certs")]
mod dev_ca;
mod dns_name;
mod error;
mod expiry;
mod host_identity;
mod identity;
mod key_kind;
mod node_name;
mod own_chain;
mod peer_sessions;
mod pem;
mod pem_files;
mod reset_key;
mod server_sessions;
mod server_verifier;
mod verify_failure;
mod wall_clock;

#[cfg(feature = "dev-certs")]
pub use self::dev_ca::{CertificateOptions, DevCa, NodePem};
pub(crate) use self::{
    certificate::CertificateNameError,
    client_sessions::{ClientSessions, PeerTls},
    der::utc,
    dns_name::{NameError, canonical_name, name_error},
    expiry::ExpiryWarning,
    node_name::node_name,
    pem_files::FilesDigest,
    reset_key::ResetKey,
    server_sessions::ServerSessions,
    verify_failure::VerifyFailure,
};
pub use self::{
    error::{TlsError, TlsPart},
    identity::Identity,
    pem_files::PemPaths,
};

use std::{
    fmt,
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::{
    RootCertStore,
    client::{Resumption, Tls12Resumption, WebPkiServerVerifier},
    crypto::CryptoProvider,
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
    time_provider::{DefaultTimeProvider, TimeProvider},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};

use self::{
    expiry::Expiry,
    key_kind::{SUPPORTED, unsupported_private_key},
    peer_sessions::PeerSessions,
    server_verifier::ServerVerifier,
    wall_clock::IdentityClock,
};

/// TLS identity of a node: its certificate and key, and the CA of the cluster that it trusts.
///
/// Both sides of every connection present a certificate of that CA. A server accepts any node of
/// the cluster and learns its name; a client names the node that it wants and gets that node or an
/// error. TLS 1.3 only. A resumed session stands for the certificates that it began with, which are
/// verified again each time. Cheap to clone.
#[derive(Clone)]
pub struct Tls(Arc<Inner>);

struct Inner {
    node_name: String,
    certificate: Identity,
    roots: Arc<RootCertStore>,
    verifier: Arc<WebPkiServerVerifier>,
    identity: Arc<CertifiedKey>,
    provider: Arc<CryptoProvider>,
    /// Clock by which certificates are verified.
    clock: Arc<dyn TimeProvider>,
    /// Whether the clock was set by [`Tls::with_wall_clock`].
    has_wall_clock: bool,
    client_verifier: Arc<dyn ClientCertVerifier>,
    server: rustls::ServerConfig,
    expiry: Expiry,
    /// Private key, for the keys that are derived from it.
    secret: PrivateKeyDer<'static>,
}

impl Tls {
    /// Reads three PEM files: the node's certificate (followed by intermediates), its private key,
    /// and the certificates of the trusted authorities.
    ///
    /// # Errors
    ///
    /// [`TlsError`], which names the file that is missing, empty or does not fit the others.
    pub fn from_pem_files(
        cert: impl AsRef<Path>,
        key: impl AsRef<Path>,
        ca: impl AsRef<Path>,
    ) -> Result<Self, TlsError> {
        let read = |path: &Path| {
            std::fs::read(path).map_err(|source| TlsError::Io {
                path: path.to_owned(),
                source,
            })
        };
        Self::from_pem(
            &read(cert.as_ref())?,
            &read(key.as_ref())?,
            &read(ca.as_ref())?,
        )
    }

    /// Like [`from_pem_files`](Self::from_pem_files), from memory.
    ///
    /// # Errors
    ///
    /// [`TlsError`], which says which part does not fit the others.
    pub fn from_pem(cert: &[u8], key: &[u8], ca: &[u8]) -> Result<Self, TlsError> {
        Self::from_pem_at(cert, key, ca, Arc::new(DefaultTimeProvider))
    }

    /// Like [`from_pem`](Self::from_pem), with the clock by which certificates are verified.
    fn from_pem_at(
        cert: &[u8],
        key: &[u8],
        ca: &[u8],
        clock: Arc<dyn TimeProvider>,
    ) -> Result<Self, TlsError> {
        let chain = pem::certificates(TlsPart::Certificate, cert)?;
        let private_key = pem::private_key(key)?;
        let roots = own_chain::roots(pem::certificates(TlsPart::Authority, ca)?)?;
        Self::from_parts(chain, private_key, roots, clock).map_err(|e| match e {
            TlsError::KeyMismatch => pem::key_mismatch(key),
            TlsError::UnknownIssuer => pem::unknown_issuer(cert, ca),
            other => other,
        })
    }

    /// Name of this node in canonical form: lower case, without a final dot.
    ///
    /// It is the one DNS name of the certificate (subject alternative name). Of several it is the
    /// one that is also the certificate's common name, so that the issuer chooses it and every node
    /// finds the same. Wildcards do not count.
    #[must_use]
    pub fn node_name(&self) -> &str {
        &self.0.node_name
    }

    /// Identity of this node in its certificate, as its peers see it.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.0.certificate
    }

    /// The same identity with this wall clock, by which certificates of this node and of others are
    /// judged. For tests with a clock of their own, which may be wrong. Default: that of the
    /// system. An endpoint keeps the clock that it was opened with when its identity is
    /// [reloaded](crate::Endpoint::reload_tls).
    #[must_use]
    pub fn with_wall_clock(self, clock: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.with_clock(Arc::new(IdentityClock::new(clock)))
    }

    /// The same identity with the wall clock of another one, if that was set.
    pub(crate) fn with_clock_of(self, other: &Self) -> Self {
        if other.0.has_wall_clock {
            self.with_clock(Arc::clone(&other.0.clock))
        } else {
            self
        }
    }

    fn with_clock(self, clock: Arc<dyn TimeProvider>) -> Self {
        let inner = &*self.0;
        let verifier = Arc::clone(&inner.client_verifier);
        let server = server_config(verifier, &inner.identity, &inner.provider, &clock)
            .expect("the ring provider speaks TLS 1.3: the first config has shown it");
        Self(Arc::new(Inner {
            node_name: inner.node_name.clone(),
            certificate: inner.certificate.clone(),
            roots: Arc::clone(&inner.roots),
            verifier: Arc::clone(&inner.verifier),
            identity: Arc::clone(&inner.identity),
            provider: Arc::clone(&inner.provider),
            clock,
            has_wall_clock: true,
            client_verifier: Arc::clone(&inner.client_verifier),
            server,
            expiry: inner.expiry.renewed(),
            secret: inner.secret.clone_key(),
        }))
    }

    /// End of the validity (`notAfter`, RFC 5280 section 4.1.2.5): the last second in which other
    /// nodes accept the certificate of this one. It is that of an intermediate certificate if the
    /// node's needs one that expires sooner. An endpoint logs a warning before, see
    /// [`Endpoint::certificate_not_after`](crate::Endpoint::certificate_not_after).
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        der::system_time(self.0.expiry.not_after_s())
    }

    fn from_parts(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        roots: RootCertStore,
        clock: Arc<dyn TimeProvider>,
    ) -> Result<Self, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        own_chain::check(&chain, &roots, &provider, now(&*clock))?;
        let expiry = Expiry::new(own_chain::validity(&chain, &roots, &provider)?);
        let certificate = Identity::read(&chain[0]).map_err(CertificateNameError::from)?;
        let node_name = node_name(&certificate)?;
        let secret = key.clone_key();
        let identity = CertifiedKey::from_der(chain, key, &provider).map_err(|e| match e {
            rustls::Error::InconsistentKeys(_) => TlsError::KeyMismatch,
            _ => unusable_key(&secret),
        })?;
        let identity = Arc::new(identity);
        let roots = Arc::new(roots);
        let client_verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider));
        let client_verifier = client_verifier.build().map_err(TlsError::from_setup)?;
        let verifier_of_callers = Arc::clone(&client_verifier);
        let server = server_config(verifier_of_callers, &identity, &provider, &clock)?;
        let builder =
            WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider));
        let verifier = builder.build().map_err(TlsError::from_setup)?;
        Ok(Self(Arc::new(Inner {
            node_name,
            certificate,
            roots,
            verifier,
            identity,
            provider,
            clock,
            has_wall_clock: false,
            client_verifier,
            server,
            expiry,
            secret,
        })))
    }

    /// Checks whether other nodes would accept the certificate at this time; they would when it was
    /// loaded.
    pub(crate) fn check(&self, now: UnixTime) -> Result<(), TlsError> {
        let inner = &*self.0;
        own_chain::check(&inner.identity.cert, &inner.roots, &inner.provider, now)
    }

    /// Time by which certificates are verified.
    pub(crate) fn now(&self) -> UnixTime {
        now(&*self.0.clock)
    }

    /// Takes the expiry warning that is due now; it is given once.
    pub(crate) fn take_expiry_warning(&self) -> Option<ExpiryWarning> {
        self.0.expiry.take_warning(self.now())
    }

    /// Time until the next expiry warning.
    pub(crate) fn until_expiry_warning(&self) -> Duration {
        self.0.expiry.until_warning(self.now())
    }

    /// Whether both have the same certificates and key.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let (ours, theirs) = (&*self.0, &*other.0);
        ours.identity.cert == theirs.identity.cert
            && ours.secret == theirs.secret
            && ours.roots.roots == theirs.roots.roots
    }

    /// Configuration for incoming connections with this session cache; without one, sessions cannot
    /// be resumed. Early data needs sessions.
    pub(crate) fn server_config(
        &self,
        sessions: Option<ServerSessions>,
        early_data: bool,
    ) -> rustls::ServerConfig {
        let mut config = self.0.server.clone();
        if let Some(sessions) = sessions {
            config.session_storage = Arc::new(sessions);
            config.send_tls13_tickets = TICKETS;
            // All or nothing (RFC 9001 section 4.6.1); QUIC has limits of its own.
            config.max_early_data_size = if early_data { u32::MAX } else { 0 };
        }
        config
    }

    /// Whether a caller with these certificates would be accepted at this time. A resumed handshake
    /// does not verify them.
    pub(crate) fn verifies_caller(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> bool {
        chain
            .split_first()
            .is_some_and(|(end_entity, intermediates)| {
                self.0
                    .client_verifier
                    .verify_client_cert(end_entity, intermediates, now)
                    .is_ok()
            })
    }

    /// Stateless reset key that a node on this host and port derives again after a restart; each of
    /// its shards has another.
    pub(crate) fn reset_key(&self, port: SocketAddr, shard: usize) -> ResetKey {
        self.reset_key_on(host_identity::host_identity().as_deref(), port, shard)
    }

    fn reset_key_on(&self, host: Option<&[u8]>, port: SocketAddr, shard: usize) -> ResetKey {
        let (provider, secret) = (&self.0.provider, self.0.secret.secret_der());
        ResetKey::new(provider, secret, host, port, shard)
    }

    /// Configuration for connections to one node, which store what they learn of it.
    fn client_config(&self, sessions: Arc<PeerSessions>) -> rustls::ClientConfig {
        let inner = &*self.0;
        let verifier = ServerVerifier::new(Arc::clone(&sessions));
        let resolver = SingleCertAndKey::from(Arc::clone(&inner.identity));
        let (provider, clock) = (Arc::clone(&inner.provider), Arc::clone(&inner.clock));
        let mut config = rustls::ClientConfig::builder_with_details(provider, clock)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the ring provider speaks TLS 1.3: the server's config has shown it")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = Resumption::store(sessions).tls12_resumption(Tls12Resumption::Disabled);
        config
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("node_name", &self.0.node_name)
            .finish_non_exhaustive()
    }
}

fn now(clock: &dyn TimeProvider) -> UnixTime {
    clock.current_time().unwrap_or_else(UnixTime::now)
}

/// Error for a key that the TLS library rejects. Its own text does not say why.
fn unusable_key(key: &PrivateKeyDer<'_>) -> TlsError {
    let reason = match unsupported_private_key(key) {
        Some(kind) => format!("it is a key of {kind}, which is not supported: use {SUPPORTED}"),
        None => format!("it is damaged, or of a kind that is not supported: use {SUPPORTED}"),
    };
    TlsError::invalid(TlsPart::Key, reason)
}

fn server_config(
    verifier: Arc<dyn ClientCertVerifier>,
    identity: &Arc<CertifiedKey>,
    provider: &Arc<CryptoProvider>,
    clock: &Arc<dyn TimeProvider>,
) -> Result<rustls::ServerConfig, TlsError> {
    let (provider, clock) = (Arc::clone(provider), Arc::clone(clock));
    let mut config = rustls::ServerConfig::builder_with_details(provider, clock)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::from_setup)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(identity))));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// Tickets of one connection: one more than one resumption needs, for an attempt that fails.
const TICKETS: usize = 2;

/// ALPN protocol name; it changes with incompatible versions of the wire format.
const ALPN: &[u8] = b"rpcnet/1";

#[cfg(all(test, feature = "dev-certs"))]
mod tests;
