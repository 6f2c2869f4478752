//! Node names: the one name that a certificate gives a node.

use rustls_pki_types::{CertificateDer, ServerName};
use webpki::EndEntityCert;

use super::{certificate::CertificateNameError, dns_name::canonical_name, identity::Identity};

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

#[cfg(all(test, feature = "dev-certs"))]
mod tests;
