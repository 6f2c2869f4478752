//! Limits on names and tags, which have to fit one datagram together.

/// Most bytes of tags, encoded, that a node of this name can carry.
pub(crate) fn tags_bytes_max(name: &str) -> usize {
    MAX_TAGS_BYTES.min(MAX_NAME_AND_TAGS_BYTES.saturating_sub(name.len()))
}

/// Longest name of a node or a cluster, in bytes: a DNS name, so it fits a certificate too. A node
/// whose name is longer than 63 bytes, a DNS label, has as many bytes less for its tags than
/// [`MAX_TAGS_BYTES`], since both have to fit one datagram.
pub const MAX_NAME_BYTES: usize = 253;

/// Most bytes that a name and its tags, encoded, take together: a record with them fits the
/// smallest datagram in every message.
const MAX_NAME_AND_TAGS_BYTES: usize = 63 + MAX_TAGS_BYTES;

/// Most bytes that a node's tags may take, encoded: a byte of length before each key and value.
/// Less for a node whose name is longer than 63 bytes (see
/// [`MAX_NAME_BYTES`](crate::MAX_NAME_BYTES)).
pub const MAX_TAGS_BYTES: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_bytes_beyond_a_dns_label_reduce_the_room_for_tags() {
        let left = |len: usize| tags_bytes_max(&"n".repeat(len));
        assert_eq!((left(1), left(63)), (MAX_TAGS_BYTES, MAX_TAGS_BYTES));
        assert_eq!((left(64), left(MAX_NAME_BYTES)), (1_023, 834));
    }
}
