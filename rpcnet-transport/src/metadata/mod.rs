//! Metadata of calls: what travels beside the body of a request or a reply.

mod call_headers;
mod error;
mod scope;
mod trace_context;

use std::{fmt, str};

use bytes::{BufMut, Bytes, BytesMut};

pub(crate) use self::{
    call_headers::CallHeaders,
    scope::{HeadersScope, OutgoingHeaders, deliver_reply_metadata, outgoing_headers},
    trace_context::TRACE_CONTEXT_BYTES,
};
pub use self::{
    error::MetadataError,
    scope::{CallMetadataExt, WithCallMetadata, WithReplyMetadata},
    trace_context::{TraceContext, TraceContextError},
};

/// Metadata of a request or a reply: values by key, text or bytes, that travel beside the body.
/// Cheap to clone; empty metadata takes no memory and no byte on the wire.
///
/// A key has 1 to 64 of the characters `a` to `z`, `0` to `9`, `.`, `_` and `-`, and one value of
/// any bytes. All keys and values together, with three bytes for each key, have at most
/// [`METADATA_BYTES_MAX`].
///
/// ```
/// use rpcnet_transport::Metadata;
///
/// # fn main() -> Result<(), rpcnet_transport::MetadataError> {
/// let metadata = Metadata::new()
///     .with("tenant", "acme")?
///     .with("token", [0x17, 0xff])?;
/// assert_eq!(metadata.text("tenant"), Some("acme"));
/// assert_eq!(metadata.get("token"), Some(&[0x17, 0xff][..]));
/// assert_eq!(metadata.text("token"), None, "it is no UTF-8");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Metadata(Bytes);

/// Most bytes of the metadata of one request or reply: those of all keys and values, and three for
/// each key.
pub const METADATA_BYTES_MAX: usize = 4 * 1024;

/// Longest key of metadata, in bytes.
pub const METADATA_KEY_BYTES_MAX: usize = 64;

/// Bytes of an entry beside its key and its value: their lengths.
const ENTRY_HEADER_BYTES: usize = 3;

impl Metadata {
    /// Metadata without any key.
    #[must_use]
    pub const fn new() -> Self {
        Self(Bytes::new())
    }

    /// This metadata with the value of a key, instead of the one that the key had.
    ///
    /// # Errors
    ///
    /// [`MetadataError`] if the key has other characters or another length than it may have, or if
    /// the metadata would be too large.
    pub fn with(self, key: &str, value: impl AsRef<[u8]>) -> Result<Self, MetadataError> {
        let value = value.as_ref();
        check_key(key.as_bytes())?;
        let others: usize = self
            .iter()
            .filter(|(known, _)| *known != key)
            .map(|(known, value)| entry_bytes(known, value))
            .sum();
        let bytes = others + entry_bytes(key, value);
        if bytes > METADATA_BYTES_MAX {
            return Err(MetadataError::TooLarge { bytes });
        }
        let mut encoded = BytesMut::with_capacity(bytes);
        for (known, value) in self.iter().filter(|(known, _)| *known != key) {
            put_entry(&mut encoded, known, value);
        }
        put_entry(&mut encoded, key, value);
        Ok(Self(encoded.freeze()))
    }

    /// This metadata without a key.
    #[must_use]
    pub fn without(&self, key: &str) -> Self {
        self.filtered(|known| known != key)
    }

    /// This metadata with these keys alone, as for calls that a handler makes.
    #[must_use]
    pub fn only<'a>(&self, keys: impl IntoIterator<Item = &'a str>) -> Self {
        let keys: Vec<&str> = keys.into_iter().collect();
        self.filtered(|known| keys.contains(&known))
    }

    /// Value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&[u8]> {
        let mut entries = self.iter();
        entries.find_map(|(known, value)| (known == key).then_some(value))
    }

    /// Value of a key, if it is valid UTF-8.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        str::from_utf8(self.get(key)?).ok()
    }

    /// Keys and values, in the order in which they were set.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let mut rest = &self.0[..];
        std::iter::from_fn(move || {
            let (key, value, left) = split_entry(rest)?;
            rest = left;
            // It was checked when the metadata was made.
            Some((str::from_utf8(key).ok()?, value))
        })
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes on the wire, of which there are at most [`METADATA_BYTES_MAX`].
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Decodes what another node has sent, all of it.
    pub(crate) fn decode(bytes: Bytes) -> Result<Self, MetadataError> {
        if bytes.len() > METADATA_BYTES_MAX {
            return Err(MetadataError::TooLarge { bytes: bytes.len() });
        }
        let mut keys = Vec::new();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (key, _, left) = split_entry(rest).ok_or(MetadataError::Truncated)?;
            check_key(key)?;
            keys.push(key);
            rest = left;
        }
        keys.sort_unstable();
        if let Some(twice) = keys.windows(2).find(|pair| pair[0] == pair[1]) {
            let key = String::from_utf8_lossy(twice[0]).into_owned();
            return Err(MetadataError::RepeatedKey { key });
        }
        Ok(Self(bytes))
    }

    /// This metadata and another, whose values go before those of the same keys. It may be larger
    /// than is permitted.
    pub(crate) fn merged(&self, other: &Self) -> Self {
        let mut encoded = BytesMut::new();
        let kept = self.iter().filter(|(key, _)| other.get(key).is_none());
        for (key, value) in kept.chain(other.iter()) {
            put_entry(&mut encoded, key, value);
        }
        Self(encoded.freeze())
    }

    fn filtered(&self, keeps: impl Fn(&str) -> bool) -> Self {
        let mut encoded = BytesMut::new();
        for (key, value) in self.iter().filter(|(key, _)| keeps(key)) {
            put_entry(&mut encoded, key, value);
        }
        Self(encoded.freeze())
    }
}

impl fmt::Debug for Metadata {
    /// Shows the keys alone: values may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.iter().map(|(key, _)| key);
        f.debug_list().entries(keys).finish()
    }
}

/// Rejects a key that is too long or has other characters than it may have.
fn check_key(key: &[u8]) -> Result<(), MetadataError> {
    let is_permitted = |c: &u8| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
    let has_length = (1..=METADATA_KEY_BYTES_MAX).contains(&key.len());
    if has_length && key.iter().all(is_permitted) {
        return Ok(());
    }
    let shown = &key[..key.len().min(METADATA_KEY_BYTES_MAX)];
    let key = String::from_utf8_lossy(shown).into_owned();
    Err(MetadataError::InvalidKey { key })
}

fn entry_bytes(key: &str, value: &[u8]) -> usize {
    ENTRY_HEADER_BYTES + key.len() + value.len()
}

/// Appends an entry, whose lengths were checked.
fn put_entry(out: &mut BytesMut, key: &str, value: &[u8]) {
    out.reserve(entry_bytes(key, value));
    out.put_u8(key.len() as u8);
    out.put_u16_le(value.len() as u16);
    out.put_slice(key.as_bytes());
    out.put_slice(value);
}

/// Key and value of the first entry, and the bytes after it; `None` if there is no whole entry.
fn split_entry(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (header, rest) = bytes.split_first_chunk::<ENTRY_HEADER_BYTES>()?;
    let [key_bytes, low, high] = *header;
    let (key, rest) = rest.split_at_checked(key_bytes.into())?;
    let (value, rest) = rest.split_at_checked(u16::from_le_bytes([low, high]).into())?;
    Some((key, value, rest))
}

#[cfg(test)]
mod tests;
