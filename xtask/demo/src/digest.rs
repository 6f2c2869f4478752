//! Digest of a file: what the workers compute and each answer is compared with.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// SHA-256 and the counts of `LC_ALL=C wc`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct FileDigest {
    pub(crate) sha256: [u8; 32],
    /// Newline bytes, so that a last line without one does not count.
    pub(crate) lines: u64,
    /// Runs of bytes that are no ASCII white space.
    pub(crate) words: u64,
    pub(crate) bytes: u64,
}

impl FileDigest {
    /// The digest of `bytes`.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let (mut lines, mut words, mut in_word) = (0, 0, false);
        for &byte in bytes {
            lines += u64::from(byte == b'\n');
            let in_word_now = !is_space(byte);
            words += u64::from(in_word_now && !in_word);
            in_word = in_word_now;
        }
        Self {
            sha256: Sha256::digest(bytes).into(),
            lines,
            words,
            bytes: bytes.len() as u64,
        }
    }
}

impl fmt::Display for FileDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.sha256 {
            write!(formatter, "{byte:02x}")?;
        }
        write!(formatter, " {} {} {}", self.lines, self.words, self.bytes)
    }
}

/// C's `isspace`: unlike `u8::is_ascii_whitespace` it has the vertical tab.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_sha256sum_and_wc() {
        for (text, expected) in [
            (
                "",
                "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 0 0 0",
            ),
            (
                "abc",
                "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad 0 1 3",
            ),
            (
                "hello  world\n\x0bby\u{a0}te \n",
                "a0952463bb6a2637d8ef52dca7b1b7e6bd4ff0ece27421ecc41b48929974f4be 2 3 22",
            ),
        ] {
            let digest = FileDigest::of(text.as_bytes()).to_string();
            assert_eq!(digest, expected, "{text:?}");
        }
    }

    #[test]
    fn a_changed_byte_changes_the_digest() {
        assert_ne!(FileDigest::of(b"abc"), FileDigest::of(b"abd"));
    }
}
