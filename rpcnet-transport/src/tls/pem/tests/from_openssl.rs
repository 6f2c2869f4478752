//! Tests of files that `openssl` writes, mixed up as operators do it, and of their errors.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use crate::{DevCa, Tls};

/// The key of `node.pem`, and of all certificates of nodes here. They are valid from 2020 to 2120.
const KEY: &[u8] = include_bytes!("fixtures/node.key");
const CERT: &[u8] = include_bytes!("fixtures/node.pem");
const CA: &[u8] = include_bytes!("fixtures/p-256-ca.pem");
const REQUEST: &[u8] = include_bytes!("fixtures/node.csr");
const PKCS12: &[u8] = include_bytes!("fixtures/node.p12");
const VERSION_1: &[u8] = include_bytes!("fixtures/v1.pem");
/// `node.pem` and `p-256-ca.pem`, by `openssl x509 -trustout -addtrust serverAuth`.
const TRUSTED: &[u8] = include_bytes!("fixtures/node-trusted.pem");
const TRUSTED_CA: &[u8] = include_bytes!("fixtures/p-256-ca-trusted.pem");

const HOUR: Duration = Duration::from_secs(3600);

fn der_of_cert(pem: &[u8]) -> Vec<u8> {
    CertificateDer::from_pem_slice(pem).unwrap().to_vec()
}

fn der_of_key(pem: &[u8]) -> Vec<u8> {
    let key = PrivateKeyDer::from_pem_slice(pem).unwrap();
    key.secret_der().to_vec()
}

/// Checks that files make no identity, that the error has these parts in it, and nothing of a key.
#[track_caller]
fn check(cert: &[u8], key: &[u8], ca: &[u8], expected: &[&str]) {
    let error = Tls::from_pem(cert, key, ca).unwrap_err();
    let said = error.to_string();
    for part in expected {
        assert!(said.contains(part), "{part:?} is not in: {said}");
    }
    let debug = format!("{error:?}");
    // Neither bytes in a list nor base64.
    let is_long = |word: &str| word.len() > 40 && word.bytes().all(|b| b.is_ascii_alphanumeric());
    for text in [&said, &debug] {
        assert!(!text.contains('['), "{text}");
        assert!(!text.split_whitespace().any(is_long), "{text}");
    }
    for raw in ["UsedAs", "Unsupported", "Der", "parse"] {
        assert!(!said.contains(raw), "raw text of a library: {said}");
    }
}

#[test]
fn files_that_fit_make_an_identity() {
    Tls::from_pem(CERT, KEY, CA).unwrap();
}

#[test]
fn files_in_a_wrong_order_say_so() {
    let order = "certificate, key, CA";
    check(
        CERT,
        CA,
        KEY,
        &[
            "private key is not usable",
            "certificate in its place",
            order,
        ],
    );
    let key_for_certificate = [
        "node certificate is not usable",
        "private key in its place",
        order,
    ];
    check(KEY, CERT, CA, &key_for_certificate);
    check(KEY, CA, CERT, &key_for_certificate);
    check(
        CA,
        KEY,
        CERT,
        &[
            "node certificate is not usable",
            "certificate of a CA",
            order,
        ],
    );
    // An authority before the node's own.
    let chain = [CA, CERT].concat();
    check(
        &chain,
        KEY,
        CA,
        &["certificate of a CA", "the first in its PEM"],
    );
    // The node's own in place of the authority's.
    check(
        CERT,
        KEY,
        CERT,
        &["not issued by the CA", "the certificate of the authority"],
    );
}

#[test]
fn requests_in_place_of_what_is_needed_say_so() {
    let request = "certificate request in its place";
    check(
        REQUEST,
        KEY,
        CA,
        &["node certificate", request, "the authority's answer"],
    );
    check(
        CERT,
        REQUEST,
        CA,
        &[
            "private key",
            request,
            "the key that the request was made with",
        ],
    );
    check(CERT, KEY, REQUEST, &["CA certificate", request]);
}

#[test]
fn certificates_with_trust_settings_or_an_old_label_say_how_to_write_them_plainly() {
    let remedy = ["TRUSTED CERTIFICATE", "openssl x509 -in TRUSTED.pem"];
    let of = |part| [&[part][..], &remedy].concat();
    check(TRUSTED, KEY, CA, &of("node certificate"));
    check(CERT, KEY, TRUSTED_CA, &of("CA certificate"));
    // Among others, of which none is the issuer.
    let other = DevCa::new("other").ca_pem().as_bytes().to_vec();
    let authorities = [&other[..], TRUSTED_CA].concat();
    check(CERT, KEY, &authorities, &of("CA certificate"));
    // A key after it in the same file is no other mistake.
    check(&[TRUSTED, KEY].concat(), KEY, CA, &of("node certificate"));
    let swapped = ["private key", "certificate in its place", "files swapped"];
    check(CERT, TRUSTED, CA, &swapped);
    let old = |pem: &[u8]| {
        let text = String::from_utf8(pem.to_vec()).unwrap();
        text.replace(" CERTIFICATE", " X509 CERTIFICATE")
            .into_bytes()
    };
    let remedy = ["BEGIN X509 CERTIFICATE", "openssl x509 -in OLD.pem"];
    check(&old(CERT), KEY, CA, &remedy);
    check(CERT, KEY, &old(CA), &remedy);
    check(CERT, &old(CERT), CA, &swapped);
}

#[test]
fn binary_files_say_how_to_convert_them() {
    let (cert, ca) = (der_of_cert(CERT), der_of_cert(CA));
    check(
        &cert,
        KEY,
        CA,
        &["node certificate", "it is DER", "openssl x509 -inform der"],
    );
    check(
        CERT,
        KEY,
        &ca,
        &["CA certificate", "it is DER", "openssl x509 -inform der"],
    );
    let rsa = include_bytes!("fixtures/rsa-1024.key");
    let ed448 = include_bytes!("fixtures/ed448.key");
    let p_521 = include_bytes!("fixtures/p-521.key");
    // Lengths of one byte, of two, and of three.
    for key in [KEY, ed448, p_521, rsa] {
        let key = der_of_key(key);
        check(
            CERT,
            &key,
            CA,
            &["private key", "it is DER", "openssl pkey -inform der"],
        );
    }
    check(
        PKCS12,
        KEY,
        CA,
        &["node certificate", "PKCS#12", "-clcerts -nokeys"],
    );
    check(CERT, PKCS12, CA, &["private key", "PKCS#12", "-nocerts"]);
    check(
        CERT,
        KEY,
        PKCS12,
        &["CA certificate", "PKCS#12", "-cacerts"],
    );
    // BER, as some exports are.
    let ber = [&[0x30, 0x80, 2, 1, 3, 0x30, 0x80][..], &[0; 40]].concat();
    check(CERT, &ber, CA, &["private key", "PKCS#12"]);
}

#[test]
fn kinds_of_keys_that_are_not_supported_are_named() {
    let supported = "ECDSA on P-256 or P-384, Ed25519, or RSA of 2048 to 4096 bits";
    for (key, kind) in [
        (
            &include_bytes!("fixtures/rsa-1024.key")[..],
            "RSA of 1024 bits",
        ),
        (
            include_bytes!("fixtures/rsa-1024-pkcs1.key"),
            "RSA of 1024 bits",
        ),
        (include_bytes!("fixtures/p-521.key"), "ECDSA on P-521"),
        (include_bytes!("fixtures/p-521-sec1.key"), "ECDSA on P-521"),
        (include_bytes!("fixtures/ed448.key"), "Ed448"),
    ] {
        check(
            CERT,
            key,
            CA,
            &["private key is not usable", kind, supported],
        );
    }
    for (cert, ca, kind) in [
        (
            &include_bytes!("fixtures/node-of-rsa-1024.pem")[..],
            &include_bytes!("fixtures/rsa-1024-ca.pem")[..],
            "RSA of 1024 bits",
        ),
        (
            include_bytes!("fixtures/node-of-p-521.pem"),
            include_bytes!("fixtures/p-521-ca.pem"),
            "ECDSA on P-521",
        ),
    ] {
        check(
            cert,
            KEY,
            ca,
            &["CA certificate is not usable", kind, supported],
        );
        // One that has issued nothing is not to blame.
        let both = [ca, CA].concat();
        Tls::from_pem(CERT, KEY, &both).unwrap();
        let other = DevCa::new("other");
        let both = [ca, other.ca_pem().as_bytes()].concat();
        check(CERT, KEY, &both, &["not issued by the CA"]);
    }
}

#[test]
fn keys_of_other_certificates_say_how_many_there_are() {
    let node = DevCa::new("test").issue_pem("node-1").unwrap();
    let other = node.key.as_bytes();
    check(
        CERT,
        other,
        CA,
        &["does not belong", "the certificate was requested"],
    );
    let both = [other, KEY].concat();
    check(
        CERT,
        &both,
        CA,
        &["there are 2 keys", "the first", "leave no other"],
    );
    let both = [KEY, other].concat();
    Tls::from_pem(CERT, &both, CA).unwrap();
}

#[test]
fn empty_files_and_other_text_say_so() {
    for blank in ["", "\n", " \r\n"] {
        let blank = blank.as_bytes();
        check(blank, KEY, CA, &["no node certificate in the PEM", "empty"]);
        check(CERT, blank, CA, &["no private key in the PEM", "empty"]);
        check(CERT, KEY, blank, &["no CA certificate in the PEM", "empty"]);
    }
    let parameters =
        b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
    check(
        CERT,
        parameters,
        CA,
        &["no private key in the PEM", "other kinds"],
    );
    check(
        CERT,
        b"0123",
        CA,
        &["private key", "no \"-----BEGIN\" line"],
    );
}

#[test]
fn certificates_without_what_a_node_needs_say_so() {
    let version_1 = ["version 1", "-extfile"];
    check(
        VERSION_1,
        KEY,
        CA,
        &[&["node certificate"][..], &version_1].concat(),
    );
}

#[test]
fn validity_errors_give_the_times_and_a_remedy() {
    let ca = DevCa::new("test");
    let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let old = ca.issue_for("node-1", at(951_782_400), HOUR).unwrap();
    let error = old.tls().unwrap_err().to_string();
    for part in [
        "the node certificate expired at 2000-02-29 01:00:00 UTC",
        "issue a new one",
        "clock",
    ] {
        assert!(error.contains(part), "{error}");
    }
    let early = ca.issue_for("node-1", at(4_107_542_400), HOUR).unwrap();
    let error = early.tls().unwrap_err().to_string();
    for part in [
        "the node certificate is not valid before 2100-03-01 00:00:00 UTC",
        "clock",
    ] {
        assert!(error.contains(part), "{error}");
    }
}

/// A root, and a node's certificate with an intermediate that ended in 2001.
fn with_old_intermediate() -> [String; 3] {
    let authority = |name: &str| {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    };
    let (root_key, key, node_key) = (generate(), generate(), generate());
    let root = authority("root");
    let root_pem = root.self_signed(&root_key).unwrap().pem();
    let mut intermediate = authority("intermediate");
    intermediate.not_before = rcgen::date_time_ymd(2000, 1, 1);
    intermediate.not_after = rcgen::date_time_ymd(2001, 1, 1);
    let root = Issuer::new(root, root_key);
    let intermediate_pem = intermediate.signed_by(&key, &root).unwrap().pem();
    let intermediate = Issuer::new(intermediate, key);
    let mut node = CertificateParams::new(["node-1".to_owned()]).unwrap();
    node.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let cert = node.signed_by(&node_key, &intermediate).unwrap().pem();
    [cert + &intermediate_pem, node_key.serialize_pem(), root_pem]
}

fn generate() -> KeyPair {
    KeyPair::generate().unwrap()
}

#[test]
fn an_intermediate_that_has_ended_is_not_taken_for_the_certificate_of_the_node() {
    let [cert, key, ca] = with_old_intermediate();
    let expired = "the intermediate certificate expired at 2001-01-01 00:00:00 UTC";
    check(cert.as_bytes(), key.as_bytes(), ca.as_bytes(), &[expired]);
}
