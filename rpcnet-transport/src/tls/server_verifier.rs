//! Server verifier: checks that a server is the node that the caller named.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, OtherError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::{
    Identity, certificate::CertificateFault, node_name, peer_sessions::PeerSessions,
    verify_failure::VerifyFailure,
};

/// Verifier of server certificates: the rules of rustls, without wildcards and
/// certificates whose identity cannot be read. It stores its result:
/// the reason for a failure, which QUIC would reduce to an alert, or the certificates, which a
/// resumed session does not show again.
#[derive(Debug)]
pub(super) struct ServerVerifier(Arc<PeerSessions>);

impl ServerVerifier {
    pub(super) fn new(sessions: Arc<PeerSessions>) -> Self {
        Self(sessions)
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self.0.verifier().verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        let verified = verified.and_then(|verified| {
            let identity = Identity::read(end_entity).map_err(unreadable_error)?;
            match server_name {
                ServerName::DnsName(dns) if !node_name::has_name(&identity, dns.as_ref()) => {
                    Err(wildcard_error(end_entity, server_name))
                }
                _ => Ok(verified),
            }
        });
        self.0.on_verified(match &verified {
            Ok(_) => Ok(std::iter::once(end_entity)
                .chain(intermediates)
                .map(|certificate| certificate.clone().into_owned())
                .collect()),
            Err(error) => Err(VerifyFailure::from_error(error)),
        });
        verified
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verifier().verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verifier().verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.verifier().supported_verify_schemes()
    }
}

fn unreadable_error(fault: CertificateFault) -> rustls::Error {
    let fault = OtherError(Arc::new(fault));
    rustls::Error::InvalidCertificate(CertificateError::Other(fault))
}

fn wildcard_error(end_entity: &CertificateDer<'_>, expected: &ServerName<'_>) -> rustls::Error {
    rustls::Error::InvalidCertificate(CertificateError::NotValidForNameContext {
        expected: expected.to_owned(),
        presented: node_name::presented_names(end_entity),
    })
}
