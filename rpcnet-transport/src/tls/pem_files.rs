//! PEM files of an identity, and the detection of their changes.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    path::PathBuf,
};

use super::{Tls, TlsError};

/// PEM files of one node, as [`Tls::from_pem_files`] reads them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PemPaths {
    /// Certificate of the node, followed by intermediates.
    pub cert: PathBuf,
    /// Private key of the node.
    pub key: PathBuf,
    /// Certificates of the trusted authorities.
    pub ca: PathBuf,
}

/// Digest of the files' contents, to detect changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FilesDigest(u64);

impl PemPaths {
    /// Identity of the files.
    ///
    /// # Errors
    ///
    /// [`TlsError`] as for [`Tls::from_pem_files`].
    pub fn tls(&self) -> Result<Tls, TlsError> {
        Tls::from_pem_files(&self.cert, &self.key, &self.ca)
    }

    /// Reads the files and builds an identity, unless their contents are unchanged. Contents, not
    /// times: a file that is written twice within one tick of the clock changes twice.
    pub(crate) fn read_if_changed(
        &self,
        before: Option<FilesDigest>,
    ) -> Option<(FilesDigest, Result<Tls, TlsError>)> {
        let read = [&self.cert, &self.key, &self.ca].map(|path| (path, fs::read(path)));
        let state = FilesDigest::of(&read);
        if before == Some(state) {
            return None;
        }
        let [cert, key, ca] = read.map(|(path, read)| {
            read.map_err(|source| TlsError::Io {
                path: path.clone(),
                source,
            })
        });
        let made = cert.and_then(|cert| Tls::from_pem(&cert, &key?, &ca?));
        Some((state, made))
    }
}

impl FilesDigest {
    fn of(read: &[(&PathBuf, io::Result<Vec<u8>>)]) -> Self {
        let mut hasher = DefaultHasher::new();
        for (_, read) in read {
            match read {
                Ok(text) => text.hash(&mut hasher),
                Err(e) => e.kind().hash(&mut hasher),
            }
        }
        Self(hasher.finish())
    }
}
