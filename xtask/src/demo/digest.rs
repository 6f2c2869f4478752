//! What the workers compute of a file, and what each answer is compared with.

use std::{
    fmt,
    io::{self, Read},
};

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
        let mut digester = Digester::default();
        digester.update(bytes);
        digester.finish()
    }

    /// The digest of all that `reader` gives, in constant memory.
    ///
    /// # Errors
    ///
    /// The reader's, apart from interruptions, which are retried.
    pub(crate) fn of_reader(mut reader: impl Read) -> io::Result<Self> {
        let mut digester = Digester::default();
        let mut buffer = [0; READ_BYTES];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return Ok(digester.finish()),
                Ok(read) => digester.update(&buffer[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
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

/// A [`FileDigest`] in the making: [`update`](Self::update) with the parts in order, then
/// [`finish`](Self::finish).
#[derive(Clone, Debug, Default)]
pub(crate) struct Digester {
    sha256: Sha256,
    lines: u64,
    words: u64,
    bytes: u64,
    /// The last part ended within a word, which the next one may continue.
    in_word: bool,
}

impl Digester {
    /// Takes the next part; parts may be cut anywhere.
    pub(crate) fn update(&mut self, part: &[u8]) {
        self.sha256.update(part);
        self.bytes += part.len() as u64;
        for &byte in part {
            self.lines += u64::from(byte == b'\n');
            let in_word = !is_space(byte);
            self.words += u64::from(in_word && !self.in_word);
            self.in_word = in_word;
        }
    }

    pub(crate) fn finish(self) -> FileDigest {
        FileDigest {
            sha256: self.sha256.finalize().into(),
            lines: self.lines,
            words: self.words,
            bytes: self.bytes,
        }
    }
}

/// C's `isspace`: unlike `u8::is_ascii_whitespace` it has the vertical tab.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// How much a reader is asked for at a time.
const READ_BYTES: usize = 16 * 1024;

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
    fn parts_may_be_cut_anywhere() {
        let text = b" two words\nand\x00more\r\n\n";
        let whole = FileDigest::of(text);
        for at in 0..=text.len() {
            let mut digester = Digester::default();
            digester.update(&text[..at]);
            digester.update(&text[at..]);
            assert_eq!(digester.finish(), whole, "cut at {at}");
        }
    }

    #[test]
    fn a_reader_gives_the_same_digest() {
        let long: Vec<u8> = (0..3 * READ_BYTES + 7)
            .map(|it| (it * 31 % 251) as u8)
            .collect();
        assert_eq!(
            FileDigest::of_reader(&long[..]).unwrap(),
            FileDigest::of(&long)
        );
    }

    #[test]
    fn an_error_of_the_reader_is_told() {
        struct Interrupted(u8);
        impl Read for Interrupted {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                self.0 += 1;
                Err(if self.0 == 1 {
                    io::ErrorKind::Interrupted
                } else {
                    io::ErrorKind::TimedOut
                })?
            }
        }
        let error = FileDigest::of_reader(Interrupted(0)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn a_changed_byte_changes_the_digest() {
        assert_ne!(FileDigest::of(b"abc"), FileDigest::of(b"abd"));
    }
}
