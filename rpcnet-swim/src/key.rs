//! Cluster keys: AEAD keys that seal gossip, and rings of them for rotation.

use std::fmt;

use chacha20poly1305::aead::AeadInPlace;
use chacha20poly1305::{KeyInit, Tag, XChaCha20Poly1305, XNonce};

use crate::error::KeyError;

/// A key of 32 bytes that seals gossip (XChaCha20-Poly1305). Every node of a cluster has it.
///
/// Its `Debug` shows the id alone.
#[derive(Clone, PartialEq, Eq)]
pub struct ClusterKey {
    secret: [u8; 32],
}

impl ClusterKey {
    /// The key of these bytes, which should come from a good source of randomness.
    #[must_use]
    pub const fn from_bytes(secret: [u8; 32]) -> Self {
        Self { secret }
    }

    /// The key written as 64 hexadecimal digits, as [`ClusterKey::to_hex`] writes it.
    ///
    /// # Errors
    /// [`KeyError::NotHex`] for anything else.
    pub fn from_hex(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        let bad = || KeyError::NotHex {
            chars: text.chars().count(),
        };
        let digits: Vec<u8> = text
            .chars()
            .map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok()))
            .collect::<Option<_>>()
            .ok_or_else(bad)?;
        let mut secret = [0; 32];
        if digits.len() != 2 * secret.len() {
            return Err(bad());
        }
        for (byte, pair) in secret.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = pair[0] << 4 | pair[1];
        }
        Ok(Self { secret })
    }

    /// The key in the environment variable `name`, as 64 hexadecimal digits.
    ///
    /// # Errors
    /// [`KeyError::NotSet`] if there is none, [`KeyError::VariableNotHex`] if it is not a key.
    pub fn from_env(name: &str) -> Result<Self, KeyError> {
        let text = std::env::var_os(name).ok_or_else(|| KeyError::NotSet {
            name: name.to_owned(),
        })?;
        Self::from_hex(&text.to_string_lossy()).map_err(|error| match error {
            KeyError::NotHex { chars } => KeyError::VariableNotHex {
                name: name.to_owned(),
                chars,
            },
            other => other,
        })
    }

    /// A new key from the operating system's randomness.
    ///
    /// # Panics
    /// If the operating system has no randomness to give.
    #[cfg(feature = "tokio")]
    #[must_use]
    pub fn generate() -> Self {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).expect("the operating system gives randomness");
        Self { secret }
    }

    /// The key as 64 hexadecimal digits. A process that knows them can speak as any member.
    #[must_use]
    pub fn to_hex(&self) -> String {
        self.secret.iter().map(|b| format!("{b:02x}")).collect()
    }

    /// Public id of the key, which reveals nothing of the secret.
    #[must_use]
    pub fn id(&self) -> KeyId {
        Sealer::new(self).id
    }
}

impl fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterKey")
            .field("id", &self.id())
            .finish_non_exhaustive()
    }
}

/// Public id of a [`ClusterKey`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(pub u32);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// Key ring of a node: it seals with the first key and opens with any.
///
/// The ring of a running node does not change. To replace a key while the cluster goes on, restart
/// the nodes one by one, three times: with the new key added last, then with the new key first,
/// then without the old one. Each pass has to be complete before the next one starts, as
/// [`Engine::keys_in_use`](crate::Engine::keys_in_use) shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRing {
    keys: Vec<ClusterKey>,
}

impl KeyRing {
    /// A ring of these keys; the first one seals.
    ///
    /// # Errors
    /// [`KeyError::RingSize`] if there are none or more than [`MAX_KEYS`].
    pub fn new(keys: impl IntoIterator<Item = ClusterKey>) -> Result<Self, KeyError> {
        let keys: Vec<_> = keys.into_iter().collect();
        match keys.len() {
            1..=MAX_KEYS => Ok(Self { keys }),
            given => Err(KeyError::RingSize {
                given,
                max: MAX_KEYS,
            }),
        }
    }

    /// The keys; the first one seals.
    #[must_use]
    pub fn keys(&self) -> &[ClusterKey] {
        &self.keys
    }
}

impl From<ClusterKey> for KeyRing {
    fn from(key: ClusterKey) -> Self {
        Self { keys: vec![key] }
    }
}

/// A key with its cipher set up.
pub(crate) struct Sealer {
    pub(crate) id: KeyId,
    cipher: XChaCha20Poly1305,
}

impl Sealer {
    pub(crate) fn new(key: &ClusterKey) -> Self {
        let cipher = XChaCha20Poly1305::new(&key.secret.into());
        // The tag of an empty text under a nonce that no datagram ever has.
        let tag = cipher
            .encrypt_in_place_detached(&[0xff; NONCE_BYTES].into(), b"rpcnet key id", &mut [])
            .expect("an empty text is not too long");
        Self {
            id: KeyId(u32::from_le_bytes([tag[0], tag[1], tag[2], tag[3]])),
            cipher,
        }
    }

    pub(crate) fn seal(&self, nonce: &Nonce, aad: &[u8], text: &mut [u8]) -> [u8; SEAL_BYTES] {
        self.cipher
            .encrypt_in_place_detached(XNonce::from_slice(nonce), aad, text)
            .expect("a datagram is not too long")
            .into()
    }

    /// Decrypts `text` in place if it was sealed with this key; else returns `false` and leaves it.
    pub(crate) fn open(&self, nonce: &Nonce, aad: &[u8], text: &mut [u8], tag: &[u8]) -> bool {
        self.cipher
            .decrypt_in_place_detached(XNonce::from_slice(nonce), aad, text, Tag::from_slice(tag))
            .is_ok()
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

pub(crate) type Nonce = [u8; NONCE_BYTES];

pub(crate) const NONCE_BYTES: usize = 24;
pub(crate) const SEAL_BYTES: usize = 16;

/// Most keys in a ring.
pub const MAX_KEYS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_round_trips_and_rubbish_is_refused() {
        let key = ClusterKey::from_bytes([0xa5; 32]);
        assert_eq!(ClusterKey::from_hex(&key.to_hex()), Ok(key.clone()));
        let short = &key.to_hex()[1..];
        for bad in ["", short, &"zz".repeat(32), &"é".repeat(32)] {
            assert!(
                matches!(ClusterKey::from_hex(bad), Err(KeyError::NotHex { .. })),
                "{bad}"
            );
        }
        assert!(!format!("{key:?}").contains("a5a5"));
    }

    #[test]
    fn a_variable_that_holds_no_key_is_named() {
        let error = ClusterKey::from_env("PATH").unwrap_err();
        let text = "environment variable PATH: a cluster key is 64 hexadecimal digits, this is ";
        assert!(error.to_string().starts_with(text), "{error}");
    }

    #[test]
    fn a_text_opens_only_with_its_key_nonce_and_aad() {
        let (a, b) = (
            ClusterKey::from_bytes([1; 32]),
            ClusterKey::from_bytes([2; 32]),
        );
        assert_ne!(a.id(), b.id());
        let (a, b) = (Sealer::new(&a), Sealer::new(&b));
        let nonce = [7; NONCE_BYTES];
        let mut text = *b"who is there";
        let tag = a.seal(&nonce, b"aad", &mut text);
        assert_ne!(&text, b"who is there");
        assert!(!b.open(&nonce, b"aad", &mut text.clone(), &tag));
        assert!(!a.open(&[8; NONCE_BYTES], b"aad", &mut text.clone(), &tag));
        assert!(!a.open(&nonce, b"AAD", &mut text.clone(), &tag));
        assert!(a.open(&nonce, b"aad", &mut text, &tag));
        assert_eq!(&text, b"who is there");
    }
}
