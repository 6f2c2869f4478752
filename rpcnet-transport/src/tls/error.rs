//! Errors of certificates, keys and authorities: the cause and the remedy.

use std::{fmt, io, path::PathBuf, time::SystemTime};

use thiserror::Error;

use super::{CertificateNameError, canonical_name, der::utc, name_error};

/// Part of a [`Tls`](super::Tls) that an error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsPart {
    /// Certificate of the node, with its intermediates.
    Certificate,
    /// Private key of the node.
    Key,
    /// Certificates of the trusted authorities.
    Authority,
}

impl fmt::Display for TlsPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Certificate => "node certificate",
            Self::Key => "private key",
            Self::Authority => "CA certificate",
        })
    }
}

/// Reason for which certificate, key and CA form no identity. The files are at fault; a retry does
/// not help.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read or written.
    #[error("cannot access {}", path.display())]
    Io {
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The PEM is empty, or has no section of the required kind.
    #[error("there is no {0} in the PEM: it is empty, or has sections of other kinds alone")]
    Empty(TlsPart),
    /// The PEM, or its contents, is damaged or of an unsupported kind.
    #[error("the {part} is not usable: {reason}")]
    Invalid {
        /// Part that is not usable.
        part: TlsPart,
        /// Fault of the part, and how to correct it.
        reason: String,
    },
    /// The private key does not belong to the certificate.
    #[error(
        "the private key does not belong to the node certificate: use the key with which the \
         certificate was requested"
    )]
    KeyMismatch,
    /// The certificate has no DNS name, so the node has none.
    #[error(
        "the node certificate has no DNS name: issue one with the node's name as subject \
         alternative name, as `subjectAltName=DNS:node-1`; the common name alone does not count"
    )]
    NoName,
    /// The certificate has only wildcards as DNS names, which name no single node.
    #[error(
        "the node certificate is for {names:?}, and a wildcard names no single node: issue one for \
         each node, with its name as subject alternative name"
    )]
    WildcardName {
        /// Names in the certificate.
        names: Vec<String>,
    },
    /// The certificate has several DNS names, and none of them is its common name.
    #[error(
        "the node certificate has several names, {names:?}, and its common name is none of them: \
         issue one with the node's name as common name too, or with that name alone"
    )]
    AmbiguousName {
        /// Names in the certificate, without wildcards.
        names: Vec<String>,
    },
    /// The certificate was not issued by the CA, so no other node would accept it.
    #[error(
        "the node certificate is not issued by the CA: the CA's PEM needs the certificate of the \
         authority that signed it, and intermediate certificates follow the node's in its own PEM"
    )]
    UnknownIssuer,
    /// The certificate, or an intermediate, has expired.
    #[error(
        "the {certificate} expired at {}: issue a new one, or correct this machine's clock",
        utc(*.not_after)
    )]
    Expired {
        /// Which certificate: `node certificate` or `intermediate certificate`.
        certificate: &'static str,
        /// Last second of its validity.
        not_after: SystemTime,
    },
    /// The certificate, or an intermediate, is not valid yet; the clock may be wrong.
    #[error(
        "the {certificate} is not valid before {}: wait until then, or correct this machine's clock",
        utc(*.not_before)
    )]
    NotValidYet {
        /// Which certificate: `node certificate` or `intermediate certificate`.
        certificate: &'static str,
        /// First second of its validity.
        not_before: SystemTime,
    },
    /// The certificate lacks the extended key usage of a server or of a client; a node needs both.
    #[error(
        "the node certificate does not allow use as {0}: issue one with \
         `extendedKeyUsage=serverAuth,clientAuth`, since a node is both"
    )]
    MissingKeyUsage(&'static str),
    /// The name cannot be put into a certificate.
    #[error("invalid node name {0:?}: {fault}", fault = name_error(.0))]
    InvalidName(String),
    /// The URI or e-mail address cannot be put into a certificate.
    #[error(
        "invalid subject alternative name {0:?}: a URI has printable ASCII characters and no \
         space, an e-mail address an '@' too"
    )]
    InvalidAlternativeName(String),
    /// The TLS library rejected the settings; not the fault of the files.
    #[error("TLS cannot be set up: {0}")]
    Setup(String),
}

impl TlsError {
    pub(super) fn from_setup(error: impl fmt::Display) -> Self {
        Self::Setup(error.to_string())
    }

    pub(super) fn invalid(part: TlsPart, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self::Invalid { part, reason }
    }
}

impl From<CertificateNameError> for TlsError {
    fn from(fault: CertificateNameError) -> Self {
        match fault {
            CertificateNameError::Unreadable(fault) => {
                Self::invalid(TlsPart::Certificate, fault.to_string())
            }
            CertificateNameError::NoName => Self::NoName,
            CertificateNameError::Wildcards(names) => Self::WildcardName { names },
            CertificateNameError::Invalid(names) => Self::Invalid {
                part: TlsPart::Certificate,
                reason: format!(
                    "its DNS names {names:?} are not valid; the first: {}",
                    invalid_name(&names[0])
                ),
            },
            CertificateNameError::Several(names) => Self::AmbiguousName { names },
        }
    }
}

/// Reason for which a name in a certificate was rejected.
fn invalid_name(name: &str) -> String {
    match canonical_name(name) {
        Err(fault) => fault.to_string(),
        Ok(_) => "in a certificate it has no dot at the end".to_owned(),
    }
}
