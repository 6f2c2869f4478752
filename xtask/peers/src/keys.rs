//! Keys and certificates, the same for all.

use std::{fs, path::PathBuf};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use xtask_load::{Failure, Setup};

/// Paths of the certificate and the key of the side called `name`, and of the CA.
pub(crate) fn pem_paths(setup: &Setup, name: &str) -> [PathBuf; 3] {
    let names = [&format!("{name}.pem"), &format!("{name}.key"), "ca.pem"];
    names.map(|name| setup.keys.join(name))
}

/// Certificate, key and CA as PEM.
pub(crate) fn pem(setup: &Setup, name: &str) -> Result<[Vec<u8>; 3], Failure> {
    let [certificate, key, ca] = pem_paths(setup, name).map(fs::read);
    Ok([certificate?, key?, ca?])
}

/// Certificates, key and CA as rustls takes them.
pub(crate) type Identity = (
    Vec<CertificateDer<'static>>,
    PrivateKeyDer<'static>,
    RootCertStore,
);

/// The identity of the side called `name`.
pub(crate) fn identity(setup: &Setup, name: &str) -> Result<Identity, Failure> {
    let [certificate, key, ca] = pem_paths(setup, name);
    let certificates = CertificateDer::pem_file_iter(certificate)?.collect::<Result<_, _>>()?;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca)?)?;
    Ok((certificates, PrivateKeyDer::from_pem_file(key)?, roots))
}
