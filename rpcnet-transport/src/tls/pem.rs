//! PEM files: their certificates and keys, and the errors of files without them.

use rustls_pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{Error, PemObject},
};

use super::{
    TlsError, TlsPart,
    der::{INTEGER, element, is_der},
};

pub(super) fn certificates(
    part: TlsPart,
    text: &[u8],
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    check_encoding(part, text)?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(text)
        .collect::<Result<_, _>>()
        .map_err(|e| missing_section(part, text, e))?;
    if found.is_empty() {
        Err(missing_section(part, text, Error::NoItemsFound))
    } else {
        Ok(found)
    }
}

pub(super) fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    check_encoding(TlsPart::Key, text)?;
    PrivateKeyDer::from_pem_slice(text).map_err(|e| missing_section(TlsPart::Key, text, e))
}

/// Rejects files of which the parser would silently skip a section, because it does not see its
/// first line.
fn check_encoding(part: TlsPart, text: &[u8]) -> Result<(), TlsError> {
    let reason = if text.starts_with(b"\xff\xfe") || text.starts_with(b"\xfe\xff") {
        "the file is UTF-16, as some editors and shells write it: save it as plain ASCII"
    } else if text.starts_with(BYTE_ORDER_MARK) {
        "the file begins with a byte order mark: save it as UTF-8 without one"
    } else if lines(text)
        .any(|line| !line.starts_with(BEGIN) && line.trim_ascii_start().starts_with(BEGIN))
    {
        "the PEM is indented: its lines have to begin with \"-----BEGIN\" and \"-----END\", without white space before them"
    } else {
        return Ok(());
    };
    Err(invalid(part, reason))
}

/// Error for a PEM without the required section.
fn missing_section(part: TlsPart, text: &[u8], error: Error) -> TlsError {
    if text.trim_ascii().is_empty() {
        return TlsError::Empty(part);
    }
    if let Some(found) = found_instead(part, text) {
        return invalid(part, found);
    }
    let reason = match error {
        Error::NoItemsFound if lines(text).any(|line| line.starts_with(BEGIN)) => {
            return TlsError::Empty(part);
        }
        Error::NoItemsFound => "it is not PEM: it has no \"-----BEGIN\" line",
        // The parser's text has bytes of the file in it, which may be those of a key.
        _ if text.windows(2).any(|two| two == b"\\n") => {
            "its line ends are written as \\n: they have to be line ends"
        }
        Error::MissingSectionEnd { .. } => {
            "a section has no \"-----END\" line of its own: the file is cut, or its line ends are missing"
        }
        Error::IllegalSectionStart { .. } => "a \"-----BEGIN\" line has no \"-----\" at its end",
        _ => "it is not PEM, or damaged",
    };
    invalid(part, reason)
}

/// Advice for a file with something else in place of the required part.
fn found_instead(part: TlsPart, text: &[u8]) -> Option<&'static str> {
    if is_der(text) {
        return Some(instead_of_der(part, text));
    }
    let has = |label: &str| has_section(text, |found| found == label.as_bytes());
    let has_certificate = has("CERTIFICATE");
    let skipped = skipped_certificate(text);
    let has_key = has_section(text, |found| found.ends_with(b"PRIVATE KEY"));
    let has_request = has("CERTIFICATE REQUEST") || has("NEW CERTIFICATE REQUEST");
    let is_encrypted = has("ENCRYPTED PRIVATE KEY")
        || lines(text).any(|line| line.starts_with(b"Proc-Type: 4,ENCRYPTED"));
    match part {
        TlsPart::Key if is_encrypted => Some(
            "it is encrypted: decrypt it first, as by `openssl pkey -in ENCRYPTED.key -out NODE.key`",
        ),
        TlsPart::Key if has("OPENSSH PRIVATE KEY") => Some(
            "it is a key of OpenSSH: PKCS#8, PKCS#1 or SEC1 is needed, as of `openssl genpkey`",
        ),
        TlsPart::Key if has_key => None,
        TlsPart::Key if has_certificate || skipped.is_some() => Some(
            "there is a certificate in its place: are the files swapped? Their order is \
             certificate, key, CA",
        ),
        TlsPart::Key if has_request => Some(
            "there is a certificate request in its place: use the key that the request was made with",
        ),
        TlsPart::Key if has("PUBLIC KEY") => {
            Some("there is a public key in its place: use the private key that belongs to it")
        }
        TlsPart::Certificate | TlsPart::Authority if has_certificate => None,
        TlsPart::Certificate | TlsPart::Authority if skipped.is_some() => skipped,
        TlsPart::Certificate | TlsPart::Authority if has_key => Some(
            "there is a private key in its place: are the files swapped? Their order is \
             certificate, key, CA",
        ),
        TlsPart::Certificate | TlsPart::Authority if has_request => Some(
            "there is a certificate request in its place: the authority's answer to it is needed",
        ),
        TlsPart::Certificate | TlsPart::Authority if has("PKCS7") => Some(
            "it is PKCS#7: take the certificates out of it, as by `openssl pkcs7 -print_certs`",
        ),
        _ => None,
    }
}

/// Advice for a certificate that the parser skips because of its label.
fn skipped_certificate(text: &[u8]) -> Option<&'static str> {
    if has_section(text, |found| found == b"TRUSTED CERTIFICATE") {
        return Some(
            "it has a certificate with trust settings (\"BEGIN TRUSTED CERTIFICATE\"), as \
             `openssl x509 -trustout` writes it: write it without them, as by \
             `openssl x509 -in TRUSTED.pem -out PLAIN.pem`",
        );
    }
    let has_old = has_section(text, |found| found == b"X509 CERTIFICATE");
    has_old.then_some(
        "it has a certificate with the label of old programs (\"BEGIN X509 CERTIFICATE\"): write \
         it with the label of today, as by `openssl x509 -in OLD.pem -out NEW.pem`",
    )
}

/// Advice for a binary file.
fn instead_of_der(part: TlsPart, file: &[u8]) -> &'static str {
    let contents = element(file).map(|(_, contents, _)| contents);
    // The length may be one of BER only; then the contents start after two bytes.
    let contents = contents.or_else(|| file.get(2..)).unwrap_or_default();
    // PKCS#12 starts with its version, 3 (RFC 7292 section 4); no key and no certificate does.
    let is_pkcs12 = contents.starts_with(&[INTEGER, 1, 3]);
    match (part, is_pkcs12) {
        (TlsPart::Certificate, true) => {
            "it is PKCS#12: take the certificate out of it, as by \
             `openssl pkcs12 -in NODE.p12 -clcerts -nokeys -out NODE.pem`"
        }
        (TlsPart::Key, true) => {
            "it is PKCS#12: take the key out of it, as by \
             `openssl pkcs12 -in NODE.p12 -nocerts -nodes -out NODE.key`"
        }
        (TlsPart::Authority, true) => {
            "it is PKCS#12: take the authorities out of it, as by \
             `openssl pkcs12 -in NODE.p12 -cacerts -nokeys -out CA.pem`"
        }
        (TlsPart::Key, false) => {
            "it is DER: convert it to PEM, as by `openssl pkey -inform der -in KEY.der -out NODE.key`"
        }
        (TlsPart::Certificate | TlsPart::Authority, false) => {
            "it is DER: convert it to PEM, as by `openssl x509 -inform der -in CERT.der -out NODE.pem`"
        }
    }
}

/// Error for a certificate whose issuer is not among the authorities that were read.
pub(super) fn unknown_issuer(cert: &[u8], ca: &[u8]) -> TlsError {
    let parts = [(TlsPart::Certificate, cert), (TlsPart::Authority, ca)];
    let skipped = parts.into_iter().find_map(|(part, text)| {
        let reason = skipped_certificate(text)?;
        Some(invalid(part, reason))
    });
    skipped.unwrap_or(TlsError::UnknownIssuer)
}

/// Error for a key that does not belong to the certificate.
pub(super) fn key_mismatch(text: &[u8]) -> TlsError {
    let keys = PrivateKeyDer::pem_slice_iter(text)
        .filter(Result::is_ok)
        .count();
    if keys < 2 {
        return TlsError::KeyMismatch;
    }
    TlsError::invalid(
        TlsPart::Key,
        format!(
            "there are {keys} keys in its PEM, and the first, which counts, does not belong to the \
             node certificate: leave no other than the node's"
        ),
    )
}

fn invalid(part: TlsPart, reason: &str) -> TlsError {
    TlsError::invalid(part, reason)
}

/// Whether there is a section with such a label.
fn has_section(text: &[u8], is_wanted: impl Fn(&[u8]) -> bool) -> bool {
    lines(text).any(|line| {
        let label = line.strip_prefix(BEGIN).map(<[u8]>::trim_ascii_end);
        let label = label.and_then(|label| label.strip_suffix(b"-----"));
        label.is_some_and(&is_wanted)
    })
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| matches!(byte, b'\n' | b'\r'))
}

const BEGIN: &[u8] = b"-----BEGIN ";

/// U+FEFF in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

#[cfg(all(test, feature = "dev-certs"))]
mod tests;
