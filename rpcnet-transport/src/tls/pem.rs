//! PEM files: their certificates and keys, and what is wrong with a file that has none.

use rustls_pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{Error, PemObject},
};

use super::{Part, TlsError};

pub(super) fn certificates(
    part: Part,
    text: &[u8],
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    check_form(part, text)?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(text)
        .collect::<Result<_, _>>()
        .map_err(|e| failed(part, text, e))?;
    if found.is_empty() {
        Err(failed(part, text, Error::NoItemsFound))
    } else {
        Ok(found)
    }
}

pub(super) fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    check_form(Part::Key, text)?;
    PrivateKeyDer::from_pem_slice(text).map_err(|e| failed(Part::Key, text, e))
}

/// Refuses what the parser would skip without a word: a section whose first line it does not see, of a file that may have
/// others.
fn check_form(part: Part, text: &[u8]) -> Result<(), TlsError> {
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

/// The error for a PEM without what is looked for.
fn failed(part: Part, text: &[u8], error: Error) -> TlsError {
    let has = |marker: &str| lines(text).any(|line| line.starts_with(marker.as_bytes()));
    let has_certificate = has("-----BEGIN CERTIFICATE-----");
    let has_key = lines(text).any(|line| {
        let label = line.strip_prefix(BEGIN).map(<[u8]>::trim_ascii);
        label.is_some_and(|label| label.ends_with(b"PRIVATE KEY-----"))
    });
    let is_encrypted =
        has("-----BEGIN ENCRYPTED PRIVATE KEY-----") || has("Proc-Type: 4,ENCRYPTED");
    let reason = match part {
        Part::Key if is_encrypted => {
            "it is encrypted: decrypt it first, as by `openssl pkey -in ENCRYPTED.key -out NODE.key`"
        }
        Part::Key if has("-----BEGIN OPENSSH PRIVATE KEY-----") => {
            "it is a key of OpenSSH: PKCS#8, PKCS#1 or SEC1 is needed, as of `openssl genpkey`"
        }
        Part::Key if has_certificate && !has_key => {
            "there is a certificate in its place: are the files of certificate and key swapped?"
        }
        Part::Key if has("-----BEGIN PUBLIC KEY-----") && !has_key => {
            "there is a public key in its place"
        }
        Part::Certificate | Part::Authority if has_key && !has_certificate => {
            "there is a private key in its place: are the files of certificate and key swapped?"
        }
        Part::Certificate | Part::Authority
            if !has_certificate
                && (has("-----BEGIN CERTIFICATE REQUEST-----")
                    || has("-----BEGIN NEW CERTIFICATE REQUEST-----")) =>
        {
            "there is a certificate request in its place: the authority's answer to it is needed"
        }
        // DER begins with a sequence that is longer than 255 bytes, or than 127.
        _ if text.starts_with(&[0x30, 0x82]) || text.starts_with(&[0x30, 0x81]) => {
            "it is DER: convert it to PEM, as by `openssl x509 -inform der` or `openssl pkey -inform der`"
        }
        _ if matches!(error, Error::NoItemsFound) => return TlsError::Empty(part),
        // What the parser says has the bytes of the file in it, which may be those of a key.
        _ if text.windows(2).any(|two| two == b"\\n") => {
            "its line ends are written as \\n: they have to be line ends"
        }
        _ if matches!(error, Error::MissingSectionEnd { .. }) => {
            "a section has no \"-----END\" line of its own: the file is cut, or its line ends are missing"
        }
        _ if matches!(error, Error::IllegalSectionStart { .. }) => {
            "a \"-----BEGIN\" line has no \"-----\" at its end"
        }
        _ => "it is no PEM",
    };
    invalid(part, reason)
}

fn invalid(part: Part, reason: &str) -> TlsError {
    TlsError::Invalid {
        part,
        reason: reason.to_owned(),
    }
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| matches!(byte, b'\n' | b'\r'))
}

const BEGIN: &[u8] = b"-----BEGIN ";

/// U+FEFF in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

#[cfg(all(test, feature = "dev-certs"))]
mod tests;
