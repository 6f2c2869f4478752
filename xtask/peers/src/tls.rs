//! Mutual TLS 1.3 by rustls with ring, the same for all peers that bring no TLS of their own.

use std::sync::Arc;

use rustls::{ClientConfig, ServerConfig, server::WebPkiClientVerifier, version::TLS13};
use xtask_load::{CLIENT, Failure, SERVER, Setup};

use crate::keys::identity;

/// TLS of the server, which demands a certificate of its clients.
pub(crate) fn server(setup: &Setup) -> Result<ServerConfig, Failure> {
    let (certificates, key, roots) = identity(setup, SERVER)?;
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build()?;
    Ok(ServerConfig::builder_with_protocol_versions(&[&TLS13])
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates, key)?)
}

/// TLS of the client.
pub(crate) fn client(setup: &Setup) -> Result<ClientConfig, Failure> {
    let (certificates, key, roots) = identity(setup, CLIENT)?;
    Ok(ClientConfig::builder_with_protocol_versions(&[&TLS13])
        .with_root_certificates(roots)
        .with_client_auth_cert(certificates, key)?)
}
