//! Identity of a node: what its certificate says about it.

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
    time::SystemTime,
};

use rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls_pki_types::CertificateDer;
use webpki::EndEntityCert;

use super::{
    TlsError, TlsPart,
    certificate::{CertificateFault, CertificateFields},
    der::{system_time, utc},
};

/// Identity of a node: what its certificate says about it. Cheap to clone.
///
/// That of a [`Peer`](crate::Peer) was verified: the certificate was issued by the authority of the
/// cluster, and the peer has its private key. It stays as long as the connection; that of a resumed
/// session is of the certificate that the session began with.
///
/// A certificate whose subject or subject alternative names are malformed, that has more than 256
/// of these names, or more than 16 KiB of them, is refused as a whole. A name with characters that
/// its kind does not allow (a URI or an e-mail address with a space, a control character such as
/// NUL, or a character that is not ASCII) is left out.
///
/// Equal are identities of the same certificate.
#[derive(Clone)]
pub struct Identity(Arc<IdentityFields>);

struct IdentityFields {
    certificate: Box<[u8]>,
    fingerprint: [u8; 32],
    serial: Box<[u8]>,
    validity: [u64; 2],
    common_names: Box<[Box<str>]>,
    dns_names: Box<[Box<str>]>,
    uris: Box<[Box<str>]>,
    emails: Box<[Box<str>]>,
}

impl Identity {
    /// Reads the identity in a certificate in DER, which is not verified: any program may have made
    /// it. For tests of what decides by identity, and for tools.
    ///
    /// # Errors
    ///
    /// [`TlsError::Invalid`] if the certificate is malformed.
    pub fn from_unverified(certificate: &[u8]) -> Result<Self, TlsError> {
        let read = Self::read(&CertificateDer::from(certificate));
        read.map_err(|fault| TlsError::invalid(TlsPart::Certificate, fault.to_string()))
    }

    /// Reads the identity in a certificate.
    pub(crate) fn read(certificate: &CertificateDer<'_>) -> Result<Self, CertificateFault> {
        // The TLS library rejects more than is read here, such as extensions that it does not know
        // and that are critical.
        EndEntityCert::try_from(certificate).map_err(|_| CertificateFault::Malformed)?;
        let fields = CertificateFields::read(certificate)?;
        let owned = |names: Vec<&str>| names.into_iter().map(Box::from).collect();
        let dns_names = fields.names.dns_names.into_iter();
        Ok(Self(Arc::new(IdentityFields {
            fingerprint: sha256(certificate),
            serial: fields.serial.into(),
            validity: fields.validity,
            common_names: owned(fields.common_names),
            dns_names: dns_names.map(String::into_boxed_str).collect(),
            uris: owned(fields.names.uris),
            emails: owned(fields.names.emails),
            certificate: certificate.as_ref().into(),
        })))
    }

    /// DNS names among the subject alternative names, in canonical form (lower case) and in the
    /// order of the certificate. Wildcards are left out, since they name no node.
    pub fn dns_names(&self) -> impl ExactSizeIterator<Item = &str> + Clone {
        self.0.dns_names.iter().map(|name| &**name)
    }

    /// URIs among the subject alternative names, as they are and in the order of the certificate:
    /// a SPIFFE id, such as `spiffe://example.org/render/worker`, is one. They are compared byte by
    /// byte.
    pub fn uris(&self) -> impl ExactSizeIterator<Item = &str> + Clone {
        self.0.uris.iter().map(|name| &**name)
    }

    /// E-mail addresses among the subject alternative names, as they are and in the order of the
    /// certificate.
    pub fn emails(&self) -> impl ExactSizeIterator<Item = &str> + Clone {
        self.0.emails.iter().map(|name| &**name)
    }

    /// Common name of the subject, as it is; `None` if there is none, or several.
    #[must_use]
    pub fn common_name(&self) -> Option<&str> {
        match &*self.0.common_names {
            [name] => Some(name),
            _ => None,
        }
    }

    pub(super) fn common_names(&self) -> impl Iterator<Item = &str> {
        self.0.common_names.iter().map(|name| &**name)
    }

    /// SHA-256 fingerprint of the certificate, as `openssl x509 -fingerprint -sha256` shows it.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        self.0.fingerprint
    }

    /// Serial number that the authority gave the certificate, in big-endian order.
    #[must_use]
    pub fn serial(&self) -> &[u8] {
        &self.0.serial
    }

    /// First second of the validity of the certificate itself; intermediates may limit it further.
    #[must_use]
    pub fn not_before(&self) -> SystemTime {
        system_time(self.0.validity[0])
    }

    /// Last second of the validity of the certificate itself; intermediates may limit it further.
    /// Open connections go on after it; new ones and resumed sessions are refused.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        system_time(self.0.validity[1])
    }

    /// Certificate in DER.
    #[must_use]
    pub fn certificate(&self) -> &[u8] {
        &self.0.certificate
    }
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.certificate == other.0.certificate
    }
}

impl Eq for Identity {}

impl Hash for Identity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.fingerprint.hash(state);
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("common_name", &self.common_name())
            .field("dns_names", &self.0.dns_names)
            .field("uris", &self.0.uris)
            .field("emails", &self.0.emails)
            .field("not_after", &utc(self.not_after()))
            .finish_non_exhaustive()
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let suite = TLS13_AES_128_GCM_SHA256
        .tls13()
        .expect("it is one of TLS 1.3");
    let hash = suite.common.hash_provider.hash(bytes);
    hash.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

#[cfg(all(test, feature = "dev-certs"))]
mod tests;
