//! Encoding of messages between a parent and its children: JSON, one a line.

use std::io;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Last message of a child that cannot go on.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Failure {
    pub(crate) failed: String,
}

/// A message as a line with its end.
///
/// # Errors
///
/// When it cannot be written as JSON (a path that is no UTF-8) or is longer than
/// 1 MiB.
pub fn encode<T: Serialize>(message: &T) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    if line.len() > LINE_BYTES_MAX {
        let what = format!(
            "a message of {} bytes is longer than a line may be",
            line.len()
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    Ok(line)
}

/// The message of a line, its end apart.
///
/// # Errors
///
/// When it is none.
pub fn decode<T: DeserializeOwned>(line: &[u8]) -> io::Result<T> {
    Ok(serde_json::from_slice(line)?)
}

/// The longest line either side reads.
pub(crate) const LINE_BYTES_MAX: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line() {
        let line = encode(&("one\ntwo", 3)).unwrap();
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        let read: (String, u32) = decode(line.trim_ascii_end()).unwrap();
        assert_eq!(read, ("one\ntwo".to_owned(), 3));
    }

    #[test]
    fn the_longest_line_is_bounded() {
        let text = |bytes: usize| "x".repeat(bytes);
        let around = encode(&text(0)).unwrap().len();
        assert_eq!(
            encode(&text(LINE_BYTES_MAX - around)).unwrap().len(),
            LINE_BYTES_MAX
        );
        assert!(encode(&text(LINE_BYTES_MAX - around + 1)).is_err());
    }
}
