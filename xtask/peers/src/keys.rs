//! Keys and certificates, the same for all.

use std::{fs, path::PathBuf};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use xtask_load::{Failure, Setup};

/// The files of one side.
#[derive(Debug)]
pub(crate) struct Keys {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) ca: PathBuf,
}

impl Keys {
    /// Keys of the side called `name`.
    pub(crate) fn of(setup: &Setup, name: &str) -> Self {
        Self {
            certificate: setup.keys.join(format!("{name}.pem")),
            key: setup.keys.join(format!("{name}.key")),
            ca: setup.keys.join("ca.pem"),
        }
    }

    /// Certificate, key and CA as PEM.
    pub(crate) fn pem(&self) -> Result<[Vec<u8>; 3], Failure> {
        Ok([
            fs::read(&self.certificate)?,
            fs::read(&self.key)?,
            fs::read(&self.ca)?,
        ])
    }

    /// Certificates and key, as rustls takes them.
    pub(crate) fn identity(
        &self,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Failure> {
        let certificates =
            CertificateDer::pem_file_iter(&self.certificate)?.collect::<Result<_, _>>()?;
        Ok((certificates, PrivateKeyDer::from_pem_file(&self.key)?))
    }

    /// The CA, as rustls takes it.
    pub(crate) fn roots(&self) -> Result<RootCertStore, Failure> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&self.ca)?)?;
        Ok(roots)
    }
}
