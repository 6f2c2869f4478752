//! Certificates and cluster key of a run, in a folder that is removed at its end.

use std::{
    error::Error,
    fs, io,
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
    ///
    /// # Errors
    ///
    /// When the files cannot be written.
    pub fn create(ca: &str) -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = cluster_key_path(folder.path());
        private_file(&path)?;
        fs::write(path, ClusterKey::generate().to_hex())?;
        Ok(Self {
            ca: DevCa::new(ca),
            folder,
        })
    }

    /// Writes certificate and key of a node. The certificate of the CA is written anew.
    ///
    /// # Errors
    ///
    /// When the files cannot be written.
    pub fn issue(&self, node: &str) -> Result<(), Box<dyn Error>> {
        self.ca.write_pem(self.folder.path(), node)?;
        Ok(())
    }

    /// The folder, for the setup of a child. Other files of the run may lie there too.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// Paths of certificate, key and CA of a node in a folder of keys.
pub fn pem_paths(folder: &Path, node: &str) -> [PathBuf; 3] {
    let names = [
        format!("{node}.pem"),
        format!("{node}.key"),
        "ca.pem".to_owned(),
    ];
    names.map(|name| folder.join(name))
}

/// Identity of a node from a folder of keys.
///
/// # Errors
///
/// When a file cannot be read or holds no key.
pub fn tls(folder: &Path, node: &str) -> Result<Tls, Box<dyn Error + Send + Sync>> {
    let [cert, key, ca] = pem_paths(folder, node);
    Ok(Tls::from_pem_files(cert, key, ca)?)
}

/// Key that seals the gossip, from a folder of keys.
///
/// # Errors
///
/// When the file cannot be read or holds no key.
pub fn cluster_key(folder: &Path) -> Result<ClusterKey, Box<dyn Error + Send + Sync>> {
    let text = fs::read_to_string(cluster_key_path(folder))?;
    Ok(ClusterKey::from_hex(&text)?)
}

fn cluster_key_path(folder: &Path) -> PathBuf {
    folder.join("cluster.key")
}

/// Makes an empty file that only its owner can read.
fn private_file(path: &Path) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}
