//! Tests of identities: what the certificates of an authority say, and which are refused.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use rcgen::{CertificateParams, CustomExtension, DistinguishedName, DnType};
use rustls::{client::danger::ServerCertVerifier, time_provider::DefaultTimeProvider};
use rustls_pki_types::{ServerName, UnixTime, pem::PemObject};

use super::*;
use crate::{
    CertificateOptions, DevCa, NodePem, Tls,
    tls::{
        VerifyFailure, node_name::node_name, peer_sessions::PeerSessions,
        server_verifier::ServerVerifier,
    },
};

const HOUR: Duration = Duration::from_secs(3600);

fn identity(pem: &NodePem) -> Result<Identity, CertificateFault> {
    let certificate = CertificateDer::from_pem_slice(pem.cert.as_bytes()).expect("PEM");
    Identity::read(&certificate)
}

#[test]
fn an_identity_has_all_that_its_certificate_says() {
    let ca = DevCa::new("test");
    let options = CertificateOptions::new()
        .with_dns_name("Worker-1.Workers")
        .with_dns_name("localhost")
        .with_uri("spiffe://example.org/render/worker")
        .with_uri("urn:example:1")
        .with_email("ops@example.org")
        .with_lifetime(HOUR);
    let before = SystemTime::now();
    let tls = ca.issue_with("Worker-1", &options).expect("valid names");
    assert_eq!(tls.node_name(), "worker-1");
    let identity = tls.identity();
    let names: Vec<_> = identity.dns_names().collect();
    assert_eq!(names, ["worker-1", "worker-1.workers", "localhost"]);
    let uris: Vec<_> = identity.uris().collect();
    assert_eq!(
        uris,
        ["spiffe://example.org/render/worker", "urn:example:1"]
    );
    assert!(identity.emails().eq(["ops@example.org"]));
    assert_eq!(identity.common_name(), Some("worker-1"));
    assert!((1..=20).contains(&identity.serial().len()));
    let second = Duration::from_secs(1);
    assert!(identity.not_before() <= before && before <= identity.not_after());
    assert!(identity.not_after() > before + HOUR - 2 * second);
    assert!(identity.not_after() <= SystemTime::now() + HOUR);
    assert_eq!(identity.not_after(), tls.not_after());

    let again = Identity::from_unverified(identity.certificate()).expect("the same bytes");
    assert_eq!(&again, identity);
    assert_eq!(again.fingerprint(), identity.fingerprint());
    let other = ca.issue_with("Worker-1", &options).expect("valid names");
    assert_ne!(other.identity(), identity);
    assert_ne!(other.identity().fingerprint(), identity.fingerprint());
    assert_ne!(other.identity().serial(), identity.serial());
    let shown = format!("{identity:?}");
    for part in [
        "worker-1.workers",
        "urn:example:1",
        "ops@example.org",
        "UTC",
    ] {
        assert!(shown.contains(part), "{part} is not in {shown}");
    }
}

#[test]
fn an_identity_without_options_has_a_name_alone() {
    let tls = DevCa::new("test").issue("node-1").expect("a name");
    let identity = tls.identity();
    assert!(identity.dns_names().eq(["node-1"]));
    assert_eq!((identity.uris().len(), identity.emails().len()), (0, 0));
    let month = 30 * 24 * HOUR;
    assert_eq!(identity.not_before() + month, identity.not_after());
}

#[test]
fn a_lifetime_is_at_most_the_default() {
    let ca = DevCa::new("test");
    let issue = |lifetime| {
        let options = CertificateOptions::new().with_lifetime(lifetime);
        ca.issue_with("node-1", &options).expect("a name")
    };
    for long in [31 * 24 * HOUR, Duration::MAX] {
        let end = issue(long).not_after();
        assert!(end <= SystemTime::now() + 30 * 24 * HOUR);
    }
    assert!(issue(2 * HOUR).not_after() <= SystemTime::now() + 2 * HOUR);
}

#[test]
fn names_that_fit_no_certificate_are_rejected() {
    let ca = DevCa::new("test");
    let options = CertificateOptions::new;
    for uri in ["", "urn:a b", "urn:ä", "urn:a\0"] {
        let error = ca.issue_with("node-1", &options().with_uri(uri));
        assert!(
            matches!(&error, Err(TlsError::InvalidAlternativeName(given)) if given == uri),
            "{error:?}"
        );
    }
    let error = ca.issue_with("node-1", &options().with_email("ops"));
    assert!(matches!(error, Err(TlsError::InvalidAlternativeName(_))));
    for name in ["", "a b", "*.workers"] {
        let error = ca.issue_with("node-1", &options().with_dns_name(name));
        assert!(matches!(error, Err(TlsError::InvalidName(given)) if given == name));
    }
    let long = format!("{}.{}", "n".repeat(60), "n".repeat(60));
    let error = ca.issue_with(&long, &options().with_dns_name("localhost"));
    assert!(
        matches!(&error, Err(TlsError::AmbiguousName { names }) if names.len() == 2),
        "{error:?}"
    );
    let with_uri = ca.issue_with(&long, &options().with_uri("urn:a"));
    assert_eq!(with_uri.expect("one name").identity().common_name(), None);
}

#[test]
fn several_common_names_are_none() {
    let ca = DevCa::new("test");
    let mut params =
        CertificateParams::new(["node-1".to_owned(), "node-2".to_owned()]).expect("DNS names");
    params.distinguished_name = DistinguishedName::new();
    // A distinguished name of rcgen has one value of each kind.
    let kinds = [DnType::CommonName, DnType::CustomDnType(vec![2, 5, 4, 3])];
    for (kind, name) in kinds.into_iter().zip(["render", "node-2"]) {
        params.distinguished_name.push(kind, name);
    }
    let pem = ca.issue_params(params, SystemTime::now() - HOUR, 2 * HOUR);
    let identity = identity(&pem.expect("valid parameters")).expect("readable");
    assert_eq!(identity.common_name(), None);
    assert_eq!(node_name(&identity), Ok("node-2".to_owned()));
}

#[test]
fn the_fingerprint_is_sha_256() {
    // FIPS 180-2, appendix B.1.
    let digest = sha256(b"abc");
    assert_eq!(digest[..4], [0xba, 0x78, 0x16, 0xbf]);
    assert_eq!(digest[28..], [0xf2, 0x00, 0x15, 0xad]);
}

/// Certificate of the authority whose names cannot be read.
fn unreadable(ca: &DevCa) -> NodePem {
    let mut params = CertificateParams::default();
    // A DNS name, and half of another one.
    let value = [b"\x30\x0a\x82\x06node-1"[..].to_vec(), vec![0x82, 0x06]].concat();
    let extension = CustomExtension::from_oid_content(&[2, 5, 29, 17], value);
    params.custom_extensions = vec![extension];
    let pem = ca.issue_params(params, SystemTime::now() - HOUR, 2 * HOUR);
    pem.expect("it is signed as it is")
}

#[test]
fn an_identity_with_malformed_names_cannot_be_used() {
    let pem = unreadable(&DevCa::new("test"));
    assert_eq!(identity(&pem), Err(CertificateFault::AlternativeNames));
    let error = pem.tls().expect_err("it has no readable name");
    let cause = "subject alternative names are malformed";
    assert!(
        matches!(&error, TlsError::Invalid { reason, .. } if reason.contains(cause)),
        "{error:?}"
    );
}

#[test]
fn a_server_with_malformed_names_is_not_trusted() {
    let ca = DevCa::new("test");
    let tls: Tls = ca.issue("node-2").expect("a name");
    let (verifier, clock) = (Arc::clone(&tls.0.verifier), Arc::new(DefaultTimeProvider));
    let sessions = Arc::new(PeerSessions::new(verifier, HOUR, clock));
    let verifier = ServerVerifier::new(Arc::clone(&sessions));
    let name = ServerName::try_from("node-1").expect("a DNS name");
    let verify = |pem: &NodePem| {
        let certificate = CertificateDer::from_pem_slice(pem.cert.as_bytes()).expect("PEM");
        let verified = verifier.verify_server_cert(&certificate, &[], &name, &[], UnixTime::now());
        (verified.is_ok(), sessions.state.lock().failure.clone())
    };
    let (is_trusted, failure) = verify(&ca.issue_pem("node-1").expect("a name"));
    assert!(is_trusted && failure.is_none());
    let (is_trusted, failure) = verify(&unreadable(&ca));
    assert!(!is_trusted);
    assert!(failure.is_some());
    let mut params = CertificateParams::new(["node-1".to_owned()]).expect("a DNS name");
    // Readable for the TLS library, which stops at the name that it looks for.
    let many = (0..300).map(|n| rcgen::SanType::IpAddress([10, 0, 1, n as u8].into()));
    params.subject_alt_names.extend(many);
    let pem = ca.issue_params(params, SystemTime::now() - HOUR, 2 * HOUR);
    let (is_trusted, failure) = verify(&pem.expect("valid parameters"));
    assert!(!is_trusted);
    let Some(VerifyFailure::Untrusted { reason }) = failure else {
        panic!("{failure:?}");
    };
    let cause = "the certificate is not usable: it has more than 256";
    assert!(reason.contains(cause), "{reason}");
}
