//! Identities in files, and the noticing of changes.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    path::PathBuf,
};

use super::{Tls, TlsError};

/// The files of one node, as [`Tls::from_pem_files`] takes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PemPaths {
    /// The node's certificate, and intermediates after it.
    pub cert: PathBuf,
    /// The node's private key.
    pub key: PathBuf,
    /// The certificates of the authorities to trust.
    pub ca: PathBuf,
}

/// What the files said when they were last looked at. Tells states apart; says nothing about what is in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FilesDigest(u64);

impl PemPaths {
    /// The identity that the files make.
    ///
    /// # Errors
    ///
    /// [`TlsError`] as of [`Tls::from_pem_files`].
    pub fn tls(&self) -> Result<Tls, TlsError> {
        Tls::from_pem_files(&self.cert, &self.key, &self.ca)
    }

    /// Reads the files and makes an identity of them, unless they say what they said before. By their contents, not by
    /// their times: a file that is written in two goes within one tick of the clock changes twice.
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
