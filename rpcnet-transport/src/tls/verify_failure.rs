//! Reason for which a server's certificate could not be verified.

use rustls::CertificateError;

use super::node_name;
use crate::printable::Printable;

/// Reason for which a server's certificate could not be verified: the connection is not made.
#[derive(Debug, Clone)]
pub(crate) enum VerifyFailure {
    WrongName { presented: Vec<String> },
    Untrusted { reason: String },
}

impl VerifyFailure {
    fn untrusted(reason: &str) -> Self {
        let reason = Printable(reason).to_string();
        Self::Untrusted { reason }
    }

    pub(super) fn from_error(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidCertificate(CertificateError::NotValidForNameContext {
                presented,
                ..
            }) => Self::WrongName {
                presented: presented
                    .iter()
                    .map(|name| node_name::dns_name(name).unwrap_or(name).to_owned())
                    .collect(),
            },
            rustls::Error::InvalidCertificate(CertificateError::NotValidForName) => {
                Self::WrongName {
                    presented: Vec::new(),
                }
            }
            rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
                Self::untrusted("unknown issuer: signed by no authority that this node trusts")
            }
            rustls::Error::InvalidCertificate(CertificateError::BadSignature) => Self::untrusted(
                "bad signature: the issuer has the name of a trusted authority, and did not sign with its key",
            ),
            rustls::Error::InvalidCertificate(CertificateError::Other(fault)) => {
                Self::untrusted(&format!("the certificate is not usable: {fault}"))
            }
            other => Self::untrusted(&other.to_string()),
        }
    }
}
