//! Tests of invalid PEM files and their errors.

mod from_openssl;

use crate::{DevCa, Tls, TlsError, tls::TlsPart};

/// Text of a key encrypted as PKCS#8.
fn encrypted(key: &str) -> String {
    key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY")
}

/// The same in OpenSSL's older format.
fn encrypted_in_the_old_way(key: &str) -> String {
    let head =
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00FF\n";
    let body: String = key
        .lines()
        .skip(1)
        .map(|line| format!("\n{line}"))
        .collect();
    head.to_owned() + &body.replace("PRIVATE KEY", "RSA PRIVATE KEY")
}

fn indented(pem: &str) -> String {
    pem.lines().map(|line| format!("  {line}\n")).collect()
}

fn utf_16(pem: &str) -> Vec<u8> {
    let units = [0xfeff].into_iter().chain(pem.encode_utf16());
    units.flat_map(u16::to_le_bytes).collect()
}

#[test]
fn errors_name_the_fault_and_the_remedy() {
    let node = DevCa::new("test").issue_pem("node-1").unwrap();
    let (cert, key, ca) = (&*node.cert, &*node.key, &*node.ca);
    let with_mark = |pem: &str| format!("\u{feff}{pem}").into_bytes();
    let relabelled = |pem: &str, from, to| pem.replace(from, to).into_bytes();
    let request = relabelled(cert, "CERTIFICATE", "CERTIFICATE REQUEST");
    let public = relabelled(key, "PRIVATE", "PUBLIC");
    let of_ssh = relabelled(key, "PRIVATE", "OPENSSH PRIVATE");
    // Only the second of them is not seen by the parser.
    let half_indented = ca.to_owned() + &indented(ca);
    let der = [&[0x30, 0x82, 1, 0][..], &[7; 256]].concat();
    let (certificate, authority) = (TlsPart::Certificate, TlsPart::Authority);
    for (part, text, cause) in [
        (
            TlsPart::Key,
            encrypted(key).into(),
            "encrypted: decrypt it first",
        ),
        (TlsPart::Key, encrypted(key).into(), "openssl pkey -in"),
        (
            TlsPart::Key,
            encrypted_in_the_old_way(key).into(),
            "encrypted: decrypt it first",
        ),
        (TlsPart::Key, cert.into(), "certificate in its place"),
        (TlsPart::Key, cert.into(), "swapped"),
        (TlsPart::Key, public, "a public key in its place"),
        (TlsPart::Key, of_ssh, "a key of OpenSSH"),
        (TlsPart::Key, indented(key).into(), "the PEM is indented"),
        (TlsPart::Key, with_mark(key), "byte order mark"),
        (TlsPart::Key, der.clone(), "it is DER"),
        (certificate, key.into(), "private key in its place"),
        (certificate, request, "certificate request in its place"),
        (certificate, indented(cert).into(), "the PEM is indented"),
        (certificate, with_mark(cert), "byte order mark"),
        (certificate, utf_16(cert), "UTF-16"),
        (certificate, der, "it is DER"),
        (authority, key.into(), "private key in its place"),
        (authority, half_indented.into(), "the PEM is indented"),
        (authority, with_mark(ca), "byte order mark"),
    ] {
        let of = |this, good: &str| match part == this {
            true => text.clone(),
            false => good.into(),
        };
        let (cert, key, ca) = (
            of(certificate, cert),
            of(TlsPart::Key, key),
            of(authority, ca),
        );
        let error = Tls::from_pem(&cert, &key, &ca).unwrap_err();
        assert!(
            matches!(&error, TlsError::Invalid { part: named, .. } if *named == part),
            "{cause}: {error:?}"
        );
        let said = error.to_string();
        assert!(
            said.contains(cause) && said.contains(&part.to_string()),
            "{said}"
        );
    }
}

#[test]
fn other_sections_are_ignored() {
    let node = DevCa::new("test").issue_pem("node-1").unwrap();
    let all = format!("of node-1\r\n{}{}{}", node.cert, node.key, node.ca).replace('\n', "\r\n");
    Tls::from_pem(all.as_bytes(), all.as_bytes(), node.ca.as_bytes()).unwrap();
}

#[test]
fn no_error_reveals_key_bytes() {
    let node = DevCa::new("test").issue_pem("node-1").unwrap();
    let one_line = node.key.replace('\n', " ");
    let escaped = node.key.trim_end().replace('\n', "\\n");
    let cut = &node.key[..node.key.len() - 40];
    let typo = node.key.replace("-----END", "-----END-");
    let damaged = node.key.replacen("MI", "!!", 1);
    for key in [&one_line, &escaped, cut, &typo, &damaged] {
        let error = Tls::from_pem(node.cert.as_bytes(), key.as_bytes(), node.ca.as_bytes());
        let Err(error) = error else {
            panic!("it is no key: {key}");
        };
        let text = format!("{error} {error:?}");
        assert!(!text.contains('['), "no bytes of the file: {text}");
        for line in node.key.lines().filter(|line| !line.starts_with("-----")) {
            assert!(!text.contains(&line[..8]), "{text}");
        }
    }
}
