//! Node names: canonical form, and the one name that a certificate gives a node.

use std::{
    borrow::Cow,
    net::{IpAddr, SocketAddr},
};

use rustls_pki_types::{CertificateDer, DnsName, ServerName};
use thiserror::Error;
use webpki::EndEntityCert;

use super::{Identity, certificate::CertificateFault};

/// Reason for which a text is not a node name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum NameError {
    #[error("it is empty")]
    Empty,
    #[error("it is an IP address, and nodes have DNS names")]
    Address,
    #[error("a wildcard names no single node")]
    Wildcard,
    #[error("it has {0} bytes, and a DNS name at most {NAME_BYTES_MAX}")]
    TooLong(usize),
    #[error("one of its labels has {0} bytes, and a label of a DNS name at most {LABEL_BYTES_MAX}")]
    LabelTooLong(usize),
    #[error("{0:?} cannot be in a DNS name: letters, digits, '-', '_' and '.' can")]
    Character(char),
    #[error("one of its labels is empty, or begins or ends with '-'")]
    Label,
    #[error("its last label is a number, as in an IP address")]
    Number,
}

/// Reason for which a certificate does not name one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CertificateNameError {
    /// Its names cannot be read.
    Unreadable(CertificateFault),
    NoName,
    Wildcards(Vec<String>),
    /// The subject alternative names are not DNS names.
    Invalid(Vec<String>),
    Several(Vec<String>),
}

/// Canonical form of a name: ASCII lower case, without the final dot.
pub(crate) fn canonical_name(name: &str) -> Result<Cow<'_, str>, NameError> {
    let name = name.strip_suffix('.').unwrap_or(name);
    check(name)?;
    Ok(match name.bytes().any(|b| b.is_ascii_uppercase()) {
        true => Cow::Owned(name.to_ascii_lowercase()),
        false => Cow::Borrowed(name),
    })
}

/// Reason for which a text was rejected as a name, for its error.
pub(crate) fn name_error(name: &str) -> String {
    match canonical_name(name) {
        Err(fault) => fault.to_string(),
        Ok(_) => "the TLS library does not take it for a DNS name".to_owned(),
    }
}

fn check(name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    if bare.parse::<IpAddr>().is_ok() || name.parse::<SocketAddr>().is_ok() {
        return Err(NameError::Address);
    }
    if name.contains('*') {
        return Err(NameError::Wildcard);
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(NameError::TooLong(name.len()));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if let Some(other) = name.chars().find(|c| !allowed(*c)) {
        return Err(NameError::Character(other));
    }
    let longest = name.split('.').map(str::len).max().unwrap_or(0);
    if longest > LABEL_BYTES_MAX {
        return Err(NameError::LabelTooLong(longest));
    }
    let is_label = |l: &str| !l.is_empty() && !l.starts_with('-') && !l.ends_with('-');
    if !name.split('.').all(is_label) {
        return Err(NameError::Label);
    }
    DnsName::try_from(name)
        .map(drop)
        .map_err(|_| NameError::Number)
}

/// Canonical name of the node of a certificate: its one DNS name or, of several, the one that is
/// also a common name. Wildcards do not count. Every node finds the same name, because the issuer
/// has chosen it.
pub(crate) fn node_name(identity: &Identity) -> Result<String, CertificateNameError> {
    let mut names = identity.dns_names();
    match (names.next(), names.next()) {
        (Some(name), None) => Ok(name.to_owned()),
        (None, _) => {
            let others = presented_names(&CertificateDer::from(identity.certificate()));
            Err(if others.is_empty() {
                CertificateNameError::NoName
            } else if others.iter().any(|name| name.starts_with('*')) {
                CertificateNameError::Wildcards(others)
            } else {
                CertificateNameError::Invalid(others)
            })
        }
        _ => {
            let common: Vec<_> = identity
                .common_names()
                .filter_map(|name| canonical_name(name).ok())
                .collect();
            let is_common = |name: &&str| common.iter().any(|common| common == name);
            let mut chosen = identity.dns_names().filter(is_common);
            match (chosen.next(), chosen.next()) {
                (Some(name), None) => Ok(name.to_owned()),
                _ => {
                    let names = identity.dns_names().map(str::to_owned);
                    Err(CertificateNameError::Several(names.collect()))
                }
            }
        }
    }
}

/// Whether a certificate has exactly this canonical name among its DNS names. A wildcard does not
/// count: any node that it covers could stand for any other.
pub(super) fn has_name(identity: &Identity, name: &str) -> bool {
    identity.dns_names().any(|other| other == name)
}

/// DNS names of a certificate as they are, including wildcards and invalid ones.
pub(super) fn presented_names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok(certificate) = EndEntityCert::try_from(certificate) else {
        return Vec::new();
    };
    // The library lists all names in the error for another one.
    let another = ServerName::try_from("name.invalid").expect("a DNS name");
    match certificate.verify_is_valid_for_subject_name(&another) {
        Err(webpki::Error::CertNotValidForName(context)) => context
            .presented
            .iter()
            .filter_map(|name| dns_name(name))
            .map(str::to_owned)
            .collect(),
        _ => Vec::new(),
    }
}

/// `node-1` of `DnsName("node-1")`, as the TLS library spells it; `None` for other kinds of names.
pub(super) fn dns_name(presented: &str) -> Option<&str> {
    presented.strip_prefix("DnsName(\"")?.strip_suffix("\")")
}

impl CertificateNameError {
    /// Text that a peer with such a certificate is told.
    pub(crate) fn reason(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Unreadable(fault) => {
                return Cow::Owned(format!("the certificate is not usable: {fault}"));
            }
            Self::NoName => "the certificate has no DNS name",
            Self::Wildcards(_) => "the certificate has no DNS name but wildcards",
            Self::Invalid(_) => "the DNS names of the certificate are not valid",
            Self::Several(_) => {
                "the certificate has several DNS names, and its common name is none of them"
            }
        })
    }
}

impl From<CertificateFault> for CertificateNameError {
    fn from(fault: CertificateFault) -> Self {
        Self::Unreadable(fault)
    }
}

/// RFC 1035 section 2.3.4: 255 on the wire, with the lengths of the first label and of the root.
const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

#[cfg(all(test, feature = "dev-certs"))]
mod tests;
