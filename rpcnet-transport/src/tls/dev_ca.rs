//! Development certificates: an authority made at run time.

use std::{
    fs, io,
    io::Write,
    path::Path,
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType, string::Ia5String,
};

use super::{PemPaths, Tls, TlsError, dns_name::canonical_name};

/// Certificate authority made at run time, for development, tests and demos.
///
/// Its key lives in memory only and everything that it issues expires after 30 days, so it cannot
/// silently become a production authority. To give separate processes their identities, write them
/// to files with [`write_pem`](Self::write_pem).
#[derive(Debug)]
pub struct DevCa {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// PEM texts of one node.
#[derive(Clone)]
#[non_exhaustive]
pub struct NodePem {
    /// Certificate of the node.
    pub cert: String,
    /// Private key of the node. Keep it out of logs.
    pub key: String,
    /// Certificate of the CA.
    pub ca: String,
}

/// Contents of a certificate of a [`DevCa`] beside the name of the node.
///
/// ```
/// use rpcnet_transport::{CertificateOptions, DevCa};
///
/// let ca = DevCa::new("example");
/// let options = CertificateOptions::new().with_uri("spiffe://example.org/render/worker");
/// let tls = ca.issue_with("worker-1", &options)?;
/// assert_eq!(tls.node_name(), "worker-1");
/// assert!(tls.identity().uris().eq(["spiffe://example.org/render/worker"]));
/// # Ok::<(), rpcnet_transport::TlsError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CertificateOptions {
    dns_names: Vec<String>,
    uris: Vec<String>,
    emails: Vec<String>,
    lifetime: Option<Duration>,
}

impl CertificateOptions {
    /// Nothing beside the name, and a lifetime of 30 days.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a DNS name. The name of the node stays the one that it is issued for, which must not
    /// have more than 64 bytes then.
    #[must_use]
    pub fn with_dns_name(mut self, name: impl Into<String>) -> Self {
        self.dns_names.push(name.into());
        self
    }

    /// Adds a URI, such as a SPIFFE id.
    #[must_use]
    pub fn with_uri(mut self, uri: impl Into<String>) -> Self {
        self.uris.push(uri.into());
        self
    }

    /// Adds an e-mail address.
    #[must_use]
    pub fn with_email(mut self, email: impl Into<String>) -> Self {
        self.emails.push(email.into());
        self
    }

    /// Sets the time until the certificate expires. Default, and most, 30 days.
    #[must_use]
    pub fn with_lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = Some(lifetime);
        self
    }

    /// Subject alternative names of a node with this canonical name.
    fn alternative_names(&self, node_name: &str) -> Result<Vec<SanType>, TlsError> {
        let mut names = vec![dns_name(node_name)?];
        for name in &self.dns_names {
            let invalid = |_| TlsError::InvalidName(name.clone());
            names.push(dns_name(&canonical_name(name).map_err(invalid)?)?);
        }
        let is_printable =
            |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
        for (texts, make, mark) in [
            (&self.uris, SanType::URI as fn(Ia5String) -> SanType, None),
            (&self.emails, SanType::Rfc822Name, Some('@')),
        ] {
            for text in texts {
                let is_valid = is_printable(text) && mark.is_none_or(|mark| text.contains(mark));
                let valid = is_valid.then(|| Ia5String::try_from(text.as_str()).ok());
                let invalid = || TlsError::InvalidAlternativeName(text.clone());
                names.push(make(valid.flatten().ok_or_else(invalid)?));
            }
        }
        Ok(names)
    }
}

fn dns_name(name: &str) -> Result<SanType, TlsError> {
    let name = Ia5String::try_from(name).map_err(|_| TlsError::InvalidName(name.to_owned()));
    name.map(SanType::DnsName)
}

impl DevCa {
    /// New authority. The name in its certificate is for people.
    ///
    /// # Panics
    ///
    /// If the operating system has no randomness to give.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, format!("{name} development CA"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_validity(&mut params, SystemTime::now() - BACKDATED, LIFETIME);
        let key = KeyPair::generate().expect("randomness for a key");
        let certificate = params
            .self_signed(&key)
            .expect("a certificate of fixed shape is signed");
        Self {
            pem: certificate.pem(),
            issuer: Issuer::new(params, key),
        }
    }

    /// Issues the identity of a node with this name, in its canonical form (see
    /// [`Tls::node_name`]).
    ///
    /// # Errors
    ///
    /// [`TlsError::InvalidName`] if the name is not a DNS name.
    pub fn issue(&self, node_name: &str) -> Result<Tls, TlsError> {
        self.issue_with(node_name, &CertificateOptions::new())
    }

    /// Issues an identity with more than a name: with URIs, e-mail addresses and other DNS names,
    /// or with a shorter lifetime.
    ///
    /// # Errors
    ///
    /// [`TlsError::InvalidName`] and [`TlsError::InvalidAlternativeName`] for what cannot be put
    /// into a certificate, [`TlsError::AmbiguousName`] if a node with other DNS names has a name of
    /// more than 64 bytes.
    pub fn issue_with(
        &self,
        node_name: &str,
        options: &CertificateOptions,
    ) -> Result<Tls, TlsError> {
        self.issue_pem_with(node_name, options)?.tls()
    }

    /// Issues an identity as PEM texts.
    ///
    /// # Errors
    ///
    /// [`TlsError::InvalidName`] if the name is not a DNS name.
    pub fn issue_pem(&self, node_name: &str) -> Result<NodePem, TlsError> {
        self.issue_pem_with(node_name, &CertificateOptions::new())
    }

    /// Issues an identity as PEM texts, as [`issue_with`](Self::issue_with) does.
    ///
    /// # Errors
    ///
    /// Those of [`issue_with`](Self::issue_with).
    pub fn issue_pem_with(
        &self,
        node_name: &str,
        options: &CertificateOptions,
    ) -> Result<NodePem, TlsError> {
        let lifetime = match options.lifetime {
            Some(lifetime) => lifetime.saturating_add(BACKDATED).min(LIFETIME),
            None => LIFETIME,
        };
        self.issue_at(node_name, options, SystemTime::now() - BACKDATED, lifetime)
    }

    /// Writes certificate, key and CA of a node into a directory (created if missing) as
    /// `NAME.pem`, `NAME.key` and `ca.pem`, where `NAME` is the canonical name of the node (see
    /// [`Tls::node_name`]), in lower case and without a final dot. On Unix only the owner may read
    /// the key.
    ///
    /// # Errors
    ///
    /// [`TlsError::InvalidName`] if the name is not a DNS name or is `ca`, [`TlsError::Io`] if a
    /// file cannot be written.
    pub fn write_pem(&self, dir: impl AsRef<Path>, node_name: &str) -> Result<PemPaths, TlsError> {
        self.write_pem_with(dir, node_name, &CertificateOptions::new())
    }

    /// Like [`write_pem`](Self::write_pem), with more than a name in the certificate.
    ///
    /// # Errors
    ///
    /// Those of [`write_pem`](Self::write_pem) and [`issue_with`](Self::issue_with).
    pub fn write_pem_with(
        &self,
        dir: impl AsRef<Path>,
        node_name: &str,
        options: &CertificateOptions,
    ) -> Result<PemPaths, TlsError> {
        let invalid = || TlsError::InvalidName(node_name.to_owned());
        let name = canonical_name(node_name).map_err(|_| invalid())?;
        // Its certificate and the CA's would be one file.
        if &*name == "ca" {
            return Err(invalid());
        }
        let dir = dir.as_ref();
        let pem = self.issue_pem_with(&name, options)?;
        let paths = PemPaths {
            cert: dir.join(format!("{name}.pem")),
            key: dir.join(format!("{name}.key")),
            ca: dir.join("ca.pem"),
        };
        let failed = |path: &Path, source| TlsError::Io {
            path: path.to_owned(),
            source,
        };
        fs::create_dir_all(dir).map_err(|e| failed(dir, e))?;
        fs::write(&paths.cert, &pem.cert).map_err(|e| failed(&paths.cert, e))?;
        fs::write(&paths.ca, &pem.ca).map_err(|e| failed(&paths.ca, e))?;
        write_private(&paths.key, &pem.key).map_err(|e| failed(&paths.key, e))?;
        Ok(paths)
    }

    /// Certificate of the authority.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.pem
    }

    #[cfg(test)]
    pub(super) fn issue_for(
        &self,
        node_name: &str,
        from: SystemTime,
        lifetime: Duration,
    ) -> Result<NodePem, TlsError> {
        self.issue_at(node_name, &CertificateOptions::new(), from, lifetime)
    }

    fn issue_at(
        &self,
        node_name: &str,
        options: &CertificateOptions,
        from: SystemTime,
        lifetime: Duration,
    ) -> Result<NodePem, TlsError> {
        let invalid = || TlsError::InvalidName(node_name.to_owned());
        let node_name = canonical_name(node_name).map_err(|_| invalid())?;
        let names = options.alternative_names(&node_name)?;
        // A common name has no room for a longer one (RFC 5280 appendix A.1, ub-common-name).
        let common_name = (node_name.len() <= 64).then_some(&*node_name);
        if common_name.is_none() && !options.dns_names.is_empty() {
            let others = options.dns_names.iter().cloned();
            let names = std::iter::once(node_name.into_owned()).chain(others);
            return Err(TlsError::AmbiguousName {
                names: names.collect(),
            });
        }
        self.issue_names(names, common_name, from, lifetime)
    }

    /// Issues a certificate for these names as they are, with this common name.
    pub(super) fn issue_names(
        &self,
        names: Vec<SanType>,
        common_name: Option<&str>,
        from: SystemTime,
        lifetime: Duration,
    ) -> Result<NodePem, TlsError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = names;
        if let Some(name) = common_name {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        self.issue_params(params, from, lifetime)
    }

    /// Issues a certificate for the names and extensions of these parameters.
    pub(super) fn issue_params(
        &self,
        mut params: CertificateParams,
        from: SystemTime,
        lifetime: Duration,
    ) -> Result<NodePem, TlsError> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, from, lifetime);
        let key = KeyPair::generate().map_err(TlsError::from_setup)?;
        let certificate = params
            .signed_by(&key, &self.issuer)
            .map_err(TlsError::from_setup)?;
        Ok(NodePem {
            cert: certificate.pem(),
            key: key.serialize_pem(),
            ca: self.pem.clone(),
        })
    }
}

impl NodePem {
    /// Identity of the PEM texts.
    ///
    /// # Errors
    ///
    /// [`TlsError`] as for [`Tls::from_pem`].
    pub fn tls(&self) -> Result<Tls, TlsError> {
        Tls::from_pem(
            self.cert.as_bytes(),
            self.key.as_bytes(),
            self.ca.as_bytes(),
        )
    }
}

impl std::fmt::Debug for NodePem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodePem").finish_non_exhaustive()
    }
}

fn set_validity(params: &mut CertificateParams, from: SystemTime, lifetime: Duration) {
    let since_epoch = from
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    params.not_before = rcgen::date_time_ymd(1970, 1, 1) + since_epoch;
    params.not_after = params.not_before + lifetime;
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    // Permissions are set when a file is created, not when it is opened: an old file is removed
    // first.
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)?.write_all(text.as_bytes())
}

/// Long enough for a demo left running, short enough not to be relied on.
const LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);

/// Clocks of machines in one cluster differ by less.
const BACKDATED: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_the_canonical_name_of_the_node() {
        let dir = std::env::temp_dir().join(format!("rpcnet-write-pem-{}", std::process::id()));
        let ca = DevCa::new("files");
        let paths = ca.write_pem(&dir, "Node-1.Example.").expect("written");
        let tls = Tls::from_pem_files(&paths.cert, &paths.key, &paths.ca).expect("read again");
        assert_eq!(tls.node_name(), "node-1.example");
        assert_eq!(paths.cert, dir.join("node-1.example.pem"));
        assert_eq!(paths.key, dir.join("node-1.example.key"));
        for name in ["ca", "CA", "Ca."] {
            let error = ca.write_pem(&dir, name).expect_err("the file of the CA");
            assert!(matches!(error, TlsError::InvalidName(given) if given == name));
        }
        fs::remove_dir_all(&dir).expect("it is there");
    }
}
