//! Certificates and cluster key of a run, in a folder that is removed at its end.

use std::{
    error::Error,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use rpcnet_client::{DevCa, Tls, swim::ClusterKey};

/// Development CA of a run, and the folder with the keys of its nodes.
#[derive(Debug)]
pub struct RunKeys {
    ca: DevCa,
    folder: tempfile::TempDir,
}

impl RunKeys {
    /// Makes a CA of this name and a cluster key.
    pub fn create(ca: &str) -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true);
        // Only its owner can read it.
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(folder.path().join(CLUSTER_KEY))?;
        file.write_all(ClusterKey::generate().to_hex().as_bytes())?;
        Ok(Self {
            ca: DevCa::new(ca),
            folder,
        })
    }

    /// Writes certificate and key of a node. The certificate of the CA is written anew.
    pub fn issue(&self, node: &str) -> Result<(), Box<dyn Error>> {
        self.ca.write_pem(self.folder.path(), node)?;
        Ok(())
    }

    /// The folder, for the setup of a child. Other files of the run may lie there too.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// Paths of a node's certificate, of its key and of the CA's certificate in a folder of keys.
pub fn pem_paths(folder: &Path, node: &str) -> [PathBuf; 3] {
    let names = [
        format!("{node}.pem"),
        format!("{node}.key"),
        "ca.pem".to_owned(),
    ];
    names.map(|name| folder.join(name))
}

/// Identity of a node from a folder of keys.
pub fn tls(folder: &Path, node: &str) -> Result<Tls, Box<dyn Error + Send + Sync>> {
    let [cert, key, ca] = pem_paths(folder, node);
    Ok(Tls::from_pem_files(cert, key, ca)?)
}

/// File of the cluster key in a folder of keys.
pub(crate) const CLUSTER_KEY: &str = "cluster.key";
