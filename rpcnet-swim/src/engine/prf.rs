//! Pseudorandom function: keyed values that reveal neither the key nor each other.

use std::fmt;

use chacha20poly1305::aead::AeadInPlace;
use chacha20poly1305::{KeyInit, XChaCha20Poly1305};

/// Key of a pseudorandom function: the keystream of XChaCha20, whose nonce is the input.
///
/// A hash such as XXH3 is none: its seed follows from a few of its values.
#[derive(Clone)]
pub(super) struct PrfKey([u8; 32]);

impl PrfKey {
    pub(super) const fn new(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// Value of an input, as a key of its own.
    pub(super) fn derive(&self, input: &[u8; INPUT_BYTES]) -> Self {
        let mut keystream = [0; 32];
        // The tag is of no use: under one nonce it would be forgeable.
        XChaCha20Poly1305::new(&self.0.into())
            .encrypt_in_place_detached(input.into(), &[], &mut keystream)
            .expect("32 bytes are not too long");
        Self(keystream)
    }

    /// Value of an input.
    pub(super) fn value(&self, input: &[u8; INPUT_BYTES]) -> u64 {
        let Self([a, b, c, d, e, f, g, h, ..]) = self.derive(input);
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }
}

impl fmt::Debug for PrfKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrfKey").finish_non_exhaustive()
    }
}

/// Length of an input: that of a nonce.
pub(super) const INPUT_BYTES: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_depend_on_the_whole_key_and_the_whole_input() {
        let value = |key: [u8; 32], input: [u8; INPUT_BYTES]| PrfKey::new(key).value(&input);
        let (key, input) = ([1; 32], [2; INPUT_BYTES]);
        let mut values = vec![value(key, input)];
        assert_eq!(values[0], value(key, input));
        for at in 0..32 {
            let mut other = key;
            other[at] ^= 0x80;
            values.push(value(other, input));
        }
        for at in 0..INPUT_BYTES {
            let mut other = input;
            other[at] ^= 0x80;
            values.push(value(key, other));
        }
        values.sort_unstable();
        values.dedup();
        assert_eq!(values.len(), 1 + 32 + INPUT_BYTES);
    }
}
