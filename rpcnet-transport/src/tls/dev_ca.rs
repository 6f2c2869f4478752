//! Development certificates: an authority made at run time.

use std::{
    fs, io,
    io::Write,
    path::Path,
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};

use super::{PemPaths, Tls, TlsError, node_name::canonical_name};

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
        self.issue_pem(node_name)?.tls()
    }

    /// Issues an identity as PEM texts.
    ///
    /// # Errors
    ///
    /// [`TlsError::InvalidName`] if the name is not a DNS name.
    pub fn issue_pem(&self, node_name: &str) -> Result<NodePem, TlsError> {
        self.issue_for(node_name, SystemTime::now() - BACKDATED, LIFETIME)
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
        let invalid = || TlsError::InvalidName(node_name.to_owned());
        let name = canonical_name(node_name).map_err(|_| invalid())?;
        // Its certificate and the CA's would be one file.
        if &*name == "ca" {
            return Err(invalid());
        }
        let dir = dir.as_ref();
        let pem = self.issue_pem(&name)?;
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

    pub(super) fn issue_for(
        &self,
        node_name: &str,
        from: SystemTime,
        lifetime: Duration,
    ) -> Result<NodePem, TlsError> {
        let invalid = || TlsError::InvalidName(node_name.to_owned());
        let node_name = canonical_name(node_name).map_err(|_| invalid())?;
        // A common name has no room for a longer one (RFC 5280 appendix A.1, ub-common-name).
        let common_name = (node_name.len() <= 64).then_some(&*node_name);
        self.issue_names(&[&node_name], common_name, from, lifetime)
    }

    /// Issues a certificate for these names without canonicalising them, with this common name.
    pub(super) fn issue_names(
        &self,
        names: &[&str],
        common_name: Option<&str>,
        from: SystemTime,
        lifetime: Duration,
    ) -> Result<NodePem, TlsError> {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let invalid = |_| TlsError::InvalidName(names.join(", "));
        let mut params = CertificateParams::new(names.clone()).map_err(invalid)?;
        params.distinguished_name = DistinguishedName::new();
        if let Some(name) = common_name {
            params.distinguished_name.push(DnType::CommonName, name);
        }
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
