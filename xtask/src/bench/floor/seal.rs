//! Encryption of datagrams, each on its own, or none.

use ring::aead::{AES_128_GCM, Aad, LessSafeKey, MAX_TAG_LEN, NONCE_LEN, Nonce, UnboundKey};
use xtask_load::Failure;

/// Encryption of the datagrams of one side.
///
/// A sealed datagram is a counter of 8 bytes, which is the nonce and is authenticated, the body,
/// and the tag. Without encryption it is the body.
#[derive(Debug)]
pub(crate) struct Sealing {
    keys: Option<Keys>,
    sent: u64,
}

#[derive(Debug)]
struct Keys {
    own: LessSafeKey,
    peer: LessSafeKey,
}

/// Side of the exchange: each has a key of its own, so that no nonce is used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

impl Sealing {
    pub(crate) fn none() -> Self {
        Self {
            keys: None,
            sent: 0,
        }
    }

    /// AES-128-GCM with keys that are known: the time that it takes is all that matters here.
    pub(crate) fn aes_128_gcm(side: Side) -> Self {
        let key = |byte| {
            let key = UnboundKey::new(&AES_128_GCM, &[byte; 16]).expect("a key of 16 bytes");
            LessSafeKey::new(key)
        };
        let (own, peer) = match side {
            Side::Client => (key(1), key(2)),
            Side::Server => (key(2), key(1)),
        };
        Self {
            keys: Some(Keys { own, peer }),
            sent: 0,
        }
    }

    /// Bytes of a datagram before its body.
    pub(crate) fn header_bytes(&self) -> usize {
        self.keys.as_ref().map_or(0, |_| HEADER_BYTES)
    }

    /// Bytes of a datagram beside its body.
    pub(crate) fn overhead_bytes(&self) -> usize {
        self.keys.as_ref().map_or(0, |_| HEADER_BYTES + MAX_TAG_LEN)
    }

    /// Encrypts the body of a datagram in place, and writes header and tag around it.
    pub(crate) fn seal(&mut self, datagram: &mut [u8]) -> Result<(), Failure> {
        let Some(keys) = &self.keys else {
            return Ok(());
        };
        self.sent += 1;
        let (header, body, tag) = parts(datagram).ok_or(TOO_SHORT)?;
        header.copy_from_slice(&self.sent.to_le_bytes());
        let nonce = nonce(header);
        let sealed = keys
            .own
            .seal_in_place_separate_tag(nonce, Aad::from(header), body);
        tag.copy_from_slice(sealed.map_err(|_| "a datagram cannot be sealed")?.as_ref());
        Ok(())
    }

    /// Authenticates a datagram and decrypts its body in place.
    pub(crate) fn open(&self, datagram: &mut [u8]) -> Result<(), Failure> {
        let Some(keys) = &self.keys else {
            return Ok(());
        };
        let (header, rest) = datagram
            .split_at_mut_checked(HEADER_BYTES)
            .ok_or(TOO_SHORT)?;
        let nonce = nonce(header);
        let opened = keys.peer.open_in_place(nonce, Aad::from(header), rest);
        opened
            .map(drop)
            .map_err(|_| "a datagram is not authentic".into())
    }

    /// The body of a datagram.
    pub(crate) fn body<'a>(&self, datagram: &'a [u8]) -> Option<&'a [u8]> {
        let end = datagram.len().checked_sub(self.overhead_bytes())? + self.header_bytes();
        datagram.get(self.header_bytes()..end)
    }
}

/// Header, body and tag.
fn parts(datagram: &mut [u8]) -> Option<(&mut [u8], &mut [u8], &mut [u8])> {
    let (header, rest) = datagram.split_at_mut_checked(HEADER_BYTES)?;
    let (body, tag) = rest.split_at_mut_checked(rest.len().checked_sub(MAX_TAG_LEN)?)?;
    Some((header, body, tag))
}

fn nonce(header: &[u8]) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce[NONCE_LEN - HEADER_BYTES..].copy_from_slice(header);
    Nonce::assume_unique_for_key(nonce)
}

/// The counter.
const HEADER_BYTES: usize = 8;

const TOO_SHORT: &str = "a datagram is too short";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_datagram_is_opened_by_the_other_side_alone() {
        let mut client = Sealing::aes_128_gcm(Side::Client);
        let server = Sealing::aes_128_gcm(Side::Server);
        let mut datagram = vec![7; 32 + client.overhead_bytes()];
        client.seal(&mut datagram).unwrap();
        assert_ne!(client.body(&datagram).unwrap(), [7; 32]);
        assert!(client.open(&mut datagram.clone()).is_err());
        server.open(&mut datagram).unwrap();
        assert_eq!(server.body(&datagram).unwrap(), [7; 32]);
    }

    #[test]
    fn a_changed_or_short_datagram_is_an_error() {
        let mut client = Sealing::aes_128_gcm(Side::Client);
        let server = Sealing::aes_128_gcm(Side::Server);
        for place in [0, 10, 50] {
            let mut datagram = vec![7; 32 + client.overhead_bytes()];
            client.seal(&mut datagram).unwrap();
            datagram[place] ^= 1;
            assert!(server.open(&mut datagram).is_err(), "{place}");
        }
        for bytes in [0, 7, 23] {
            assert!(server.open(&mut vec![0; bytes]).is_err());
            assert!(client.seal(&mut vec![0; bytes]).is_err());
            assert_eq!(server.body(&vec![0; bytes]), None);
        }
    }

    #[test]
    fn without_encryption_a_datagram_is_its_body() {
        let mut none = Sealing::none();
        let mut datagram = [1, 2, 3];
        none.seal(&mut datagram).unwrap();
        none.open(&mut datagram).unwrap();
        assert_eq!(none.body(&datagram).unwrap(), [1, 2, 3]);
    }
}
