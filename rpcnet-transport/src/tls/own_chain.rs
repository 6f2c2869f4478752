//! Checks of a node's own certificate chain, by the rules of other nodes.

use std::time::Duration;

use rustls::{RootCertStore, crypto::CryptoProvider};
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, Error, KeyUsage, anchor_from_trusted_cert};

use super::{
    TlsError, TlsPart, certificate,
    der::system_time,
    expiry::Validity,
    key_kind::{SUPPORTED, unsupported_public_key},
};

/// Trust anchors of the authorities.
pub(super) fn roots(authorities: Vec<CertificateDer<'static>>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        let anchor = anchor_from_trusted_cert(&authority);
        let anchor = anchor.map_err(|e| malformed(TlsPart::Authority, &e))?;
        roots.roots.push(anchor.to_owned());
    }
    Ok(roots)
}

/// Verifies a node's own chain as every other node will, before the first of them does.
pub(super) fn check(
    chain: &[CertificateDer<'static>],
    roots: &RootCertStore,
    provider: &CryptoProvider,
    now: UnixTime,
) -> Result<(), TlsError> {
    let certificate = EndEntityCert::try_from(&chain[0]);
    let certificate = certificate.map_err(|e| malformed(TlsPart::Certificate, &e))?;
    for (usage, name) in [
        (KeyUsage::server_auth(), "server"),
        (KeyUsage::client_auth(), "client"),
    ] {
        let algorithms = provider.signature_verification_algorithms.all;
        certificate
            .verify_for_usage(
                algorithms,
                &roots.roots,
                &chain[1..],
                now,
                usage,
                None,
                None,
            )
            .map_err(|e| verify_error(e, chain, roots, name))?;
    }
    Ok(())
}

/// Period in which other nodes accept a certificate that is valid [now](check): its own, limited by
/// the intermediates that it needs.
pub(super) fn validity(
    chain: &[CertificateDer<'static>],
    roots: &RootCertStore,
    provider: &CryptoProvider,
) -> Result<Validity, TlsError> {
    let own = certificate::validity(&chain[0]);
    let [not_before_s, own_end] =
        own.ok_or_else(|| malformed(TlsPart::Certificate, &Error::BadDer))?;
    let is_good_at = |second: &u64| {
        let time = UnixTime::since_unix_epoch(Duration::from_secs(*second));
        check(chain, roots, provider, time).is_ok()
    };
    let ends = chain[1..]
        .iter()
        .filter_map(|intermediate| certificate::validity(intermediate))
        .map(|[_, end]| end);
    // An intermediate that is not needed, or has a longer-lived twin, does not limit it.
    let ends = ends.filter(|end| *end < own_end).chain([own_end]);
    let not_after_s = match chain.len() {
        1 => own_end,
        _ => ends.filter(is_good_at).max().unwrap_or(own_end),
    };
    Ok(Validity {
        not_before_s,
        not_after_s,
    })
}

fn verify_error(
    error: Error,
    chain: &[CertificateDer<'_>],
    roots: &RootCertStore,
    usage: &'static str,
) -> TlsError {
    let own = certificate::validity(&chain[0]);
    match error {
        Error::CertExpired { not_after, .. } => TlsError::Expired {
            certificate: certificate_role(own.map(|[_, own]| own), not_after),
            not_after: system_time(not_after.as_secs()),
        },
        Error::CertNotValidYet { not_before, .. } => TlsError::NotValidYet {
            certificate: certificate_role(own.map(|[own, _]| own), not_before),
            not_before: system_time(not_before.as_secs()),
        },
        Error::RequiredEkuNotFoundContext(_) => TlsError::MissingKeyUsage(usage),
        Error::CaUsedAsEndEntity => TlsError::invalid(TlsPart::Certificate, CA_AS_NODE_CERTIFICATE),
        Error::EndEntityUsedAsCa => TlsError::invalid(
            TlsPart::Certificate,
            "it is issued by a certificate that is not a CA's: issue it with one that is",
        ),
        // A signature that cannot be verified yields the same error as a wrong one.
        other => match (unsupported_issuer(chain, roots), other) {
            (Some((part, owner, kind)), _) => TlsError::invalid(
                part,
                format!("{owner} has a key of {kind}, which is not supported: use {SUPPORTED}"),
            ),
            (None, Error::UnknownIssuer | Error::InvalidSignatureForPublicKey) => {
                TlsError::UnknownIssuer
            }
            (None, other) => malformed(TlsPart::Certificate, &other),
        },
    }
}

/// Issuer in the chain whose signatures cannot be verified: its position, its role, and the kind of
/// its key.
fn unsupported_issuer(
    chain: &[CertificateDer<'_>],
    roots: &RootCertStore,
) -> Option<(TlsPart, &'static str, String)> {
    let intermediates: Vec<_> = chain[1..]
        .iter()
        .filter_map(|certificate| anchor_from_trusted_cert(certificate).ok())
        .collect();
    let authorities = roots
        .roots
        .iter()
        .map(|root| (TlsPart::Authority, "it", root));
    let mut issuers = intermediates
        .iter()
        .map(|intermediate| {
            (
                TlsPart::Certificate,
                "an intermediate certificate",
                intermediate,
            )
        })
        .chain(authorities);
    let named: Vec<_> = chain
        .iter()
        .filter_map(|certificate| EndEntityCert::try_from(certificate).ok())
        .map(|certificate| certificate.issuer().to_vec())
        .collect();
    issuers.find_map(|(part, owner, issuer)| {
        let is_named = named.iter().any(|name| name[..] == issuer.subject[..]);
        let kind = unsupported_public_key(&issuer.subject_public_key_info)?;
        is_named.then_some((part, owner, kind))
    })
}

fn malformed(part: TlsPart, error: &Error) -> TlsError {
    let reason = match error {
        Error::UnsupportedCertVersion => {
            "it is a certificate of version 1, which has no names: issue one of version 3, as by \
             `openssl x509 -req -extfile EXTENSIONS`"
                .to_owned()
        }
        other => format!("it is not a valid X.509 certificate ({other})"),
    };
    TlsError::invalid(part, reason)
}

/// Role of the certificate that starts or ends at this time, given the node certificate's own time.
fn certificate_role(own: Option<u64>, time: UnixTime) -> &'static str {
    match own {
        Some(own) if own != time.as_secs() => "intermediate certificate",
        _ => "node certificate",
    }
}

const CA_AS_NODE_CERTIFICATE: &str = "it is the certificate of a CA: issue one for the node, and let it \
    be the first in its PEM; the order of the files is certificate, key, CA";
