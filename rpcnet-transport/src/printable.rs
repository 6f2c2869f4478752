//! Text of peers as errors and logs show it: control and other unprintable characters are escaped.

use std::fmt;

/// Text of a peer whose control characters, invisible characters and bidirectional overrides are
/// escaped as by [`char::escape_debug`]: the peer can then neither forge a log line nor drive
/// a terminal. Quotes and backslashes stay as they are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Printable<'a>(pub(crate) &'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_plain = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
        if self.0.bytes().all(is_plain) {
            return f.write_str(self.0);
        }
        // `escape_debug` alone would escape quotes and backslashes too.
        for piece in self.0.split_inclusive(['\'', '"', '\\']) {
            let escaped = piece.strip_suffix(['\'', '"', '\\']).unwrap_or(piece);
            fmt::Display::fmt(&escaped.escape_debug(), f)?;
            f.write_str(&piece[escaped.len()..])?;
        }
        Ok(())
    }
}

/// Printable text of a peer that may send any bytes.
pub(crate) fn printable(bytes: &[u8]) -> String {
    Printable(&String::from_utf8_lossy(bytes)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unprintable_characters_are_escaped() {
        for (text, shown) in [
            ("", ""),
            ("it's \"C:\\temp\", 50 %", "it's \"C:\\temp\", 50 %"),
            ("Zürich, 東京, e\u{301}", "Zürich, 東京, e\u{301}"),
            ("one\ntwo\r\t", "one\\ntwo\\r\\t"),
            ("\u{1b}[31m'\0\u{7f}\u{9b}", "\\u{1b}[31m'\\0\\u{7f}\\u{9b}"),
            (
                "\u{202e}abc\u{200b}\u{feff}\u{2028}",
                "\\u{202e}abc\\u{200b}\\u{feff}\\u{2028}",
            ),
        ] {
            assert_eq!(Printable(text).to_string(), shown);
            assert_eq!(printable(text.as_bytes()), shown);
        }
        assert_eq!(printable(b"\xff\x01a"), "\u{fffd}\\u{1}a");
    }

    #[test]
    fn escaping_is_idempotent() {
        let once = Printable("a\n\u{1b}\"b\\").to_string();
        assert_eq!(Printable(&once).to_string(), once);
    }
}
