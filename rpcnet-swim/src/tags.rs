//! Tags: a small sorted map of strings that a node announces.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::error::TagError;
use crate::limits::{MAX_TAGS_BYTES, tags_bytes_max};
use crate::wire::{Malformed, Reader};

/// The tags of a node, kept in their wire form: sorted, without repeats, cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Tags {
    /// `None` if there are no tags.
    encoded: Option<Arc<[u8]>>,
}

impl Tags {
    /// No tags.
    #[must_use]
    pub fn new() -> Self {
        Self { encoded: None }
    }

    /// Tags of these pairs; a later pair replaces an earlier one of the same key.
    ///
    /// # Errors
    /// [`TagError`] if a key is empty, a key or a value is longer than 255 bytes, or all together
    /// take more than [`MAX_TAGS_BYTES`] encoded.
    pub fn from_pairs<K, V>(pairs: impl IntoIterator<Item = (K, V)>) -> Result<Self, TagError>
    where
        K: Into<String>,
        V: Into<String>,
    {
        let map: BTreeMap<String, String> = pairs
            .into_iter()
            .map(|(k, v)| (k.into(), v.into()))
            .collect();
        let mut encoded = Vec::new();
        for (key, value) in &map {
            let (Ok(key_len), Ok(value_len)) = (u8::try_from(key.len()), u8::try_from(value.len()))
            else {
                return Err(TagError::EntryTooLong { key: key.clone() });
            };
            if key_len == 0 {
                return Err(TagError::EmptyKey);
            }
            encoded.push(key_len);
            encoded.extend_from_slice(key.as_bytes());
            encoded.push(value_len);
            encoded.extend_from_slice(value.as_bytes());
        }
        if encoded.len() > MAX_TAGS_BYTES {
            return Err(TagError::TooLarge {
                bytes: encoded.len(),
                limit: MAX_TAGS_BYTES,
            });
        }
        Ok(Self::from_valid_encoded(&encoded))
    }

    /// These tags with `key` set to `value`.
    ///
    /// # Errors
    /// As [`Tags::from_pairs`]; `self` is unchanged.
    pub fn with(&self, key: &str, value: &str) -> Result<Self, TagError> {
        Self::from_pairs(self.iter().chain([(key, value)]))
    }

    /// These tags without `key`.
    #[must_use]
    pub fn without(&self, key: &str) -> Self {
        Self::from_pairs(self.iter().filter(|(k, _)| *k != key))
            .expect("fewer of tags that were valid")
    }

    /// The value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter().find_map(|(k, v)| (k == key).then_some(v))
    }

    /// The pairs, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut reader = Reader::new(self.encoded());
        std::iter::from_fn(move || {
            (!reader.is_empty())
                .then(|| pair(&mut reader).ok())
                .flatten()
        })
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.encoded.is_none()
    }

    /// Checks that a node of this name can carry the tags.
    ///
    /// # Errors
    /// [`TagError::TooLargeWithName`] if there is no room for them beside the name.
    pub fn check_fits_with_name(&self, name: &str) -> Result<(), TagError> {
        let (bytes, limit) = (self.encoded().len(), tags_bytes_max(name));
        if bytes <= limit {
            return Ok(());
        }
        Err(TagError::TooLargeWithName {
            bytes,
            limit,
            name_bytes: name.len(),
        })
    }

    /// The wire form; its length is what [`MAX_TAGS_BYTES`] bounds.
    pub(crate) fn encoded(&self) -> &[u8] {
        self.encoded.as_deref().unwrap_or_default()
    }

    fn from_valid_encoded(encoded: &[u8]) -> Self {
        Self {
            encoded: (!encoded.is_empty()).then(|| encoded.into()),
        }
    }

    /// Decodes tags of another node: checks every length, UTF-8, the order, and that no key
    /// repeats.
    pub(crate) fn decode(encoded: &[u8]) -> Result<Self, Malformed> {
        if encoded.len() > MAX_TAGS_BYTES {
            return Err(Malformed);
        }
        let mut reader = Reader::new(encoded);
        let mut last = "";
        while !reader.is_empty() {
            let (key, _) = pair(&mut reader)?;
            // The empty key sorts first, so this refuses it too.
            if key <= last {
                return Err(Malformed);
            }
            last = key;
        }
        Ok(Self::from_valid_encoded(encoded))
    }
}

impl Default for Tags {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Tags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

fn pair<'a>(reader: &mut Reader<'a>) -> Result<(&'a str, &'a str), Malformed> {
    Ok((reader.short_str()?, reader.short_str()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_pairs_win_and_keys_are_sorted() {
        let tags = Tags::from_pairs([("zone", "a"), ("role", "worker"), ("zone", "b")]).unwrap();
        assert_eq!(
            tags.iter().collect::<Vec<_>>(),
            [("role", "worker"), ("zone", "b")]
        );
        assert_eq!(tags.get("zone"), Some("b"));
        assert_eq!(tags.without("zone").get("zone"), None);
    }

    #[test]
    fn the_limit_is_exact() {
        let value = "v".repeat(253);
        let pairs = |last: usize| {
            (0..4)
                .map(|i| (i.to_string(), value.clone()))
                .chain([("4".into(), "v".repeat(last))])
        };
        // Four entries of 1 + 1 + 1 + 253 bytes are the whole of it.
        assert_eq!(
            Tags::from_pairs(pairs(0).take(4)).unwrap().encoded().len(),
            MAX_TAGS_BYTES
        );
        assert_eq!(
            Tags::from_pairs(pairs(0)),
            Err(TagError::TooLarge {
                bytes: MAX_TAGS_BYTES + 3,
                limit: MAX_TAGS_BYTES
            })
        );
        let long = "k".repeat(256);
        assert_eq!(
            Tags::from_pairs([(long.as_str(), "")]),
            Err(TagError::EntryTooLong { key: long.clone() })
        );
        assert_eq!(Tags::from_pairs([("", "x")]), Err(TagError::EmptyKey));
    }

    #[test]
    fn foreign_bytes_must_be_sorted_unique_and_whole() {
        let good = Tags::from_pairs([("a", "1"), ("b", "2")]).unwrap();
        assert_eq!(Tags::decode(good.encoded()).unwrap(), good);
        for bad in [
            &b"\x01b\x011\x01a\x012"[..],
            b"\x01a\x011\x01a\x012",
            b"\x00\x011",
            b"\x02a",
            b"\x01\xff\x00",
        ] {
            assert!(Tags::decode(bad).is_err(), "{bad:?}");
        }
    }
}
