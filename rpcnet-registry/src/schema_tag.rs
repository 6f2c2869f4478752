//! Schema tags: by which a worker announces the types of the services that it serves.

use crate::NodeInfo;

/// Prefix of the keys of the tags by which a worker announces the schema hashes of its services:
/// the name of the service follows, and the value is [`schema_tag_value`] of the hash.
///
/// A node made by the builder of rpcnet-client sets these tags by itself. A worker without the tag
/// of a service says nothing about its types.
pub const SCHEMA_TAG_PREFIX: &str = "rpcnet.schema.";

/// Key of the tag with the schema hash of this service.
#[must_use]
pub fn schema_tag_key(service: &str) -> String {
    format!("{SCHEMA_TAG_PREFIX}{service}")
}

/// Value of the tag for this hash: 11 digits of base64url, the most significant one first.
#[must_use]
pub fn schema_tag_value(hash: u64) -> String {
    let digits = (0..DIGITS).rev();
    let digits = digits.map(|digit| ALPHABET[(hash >> (6 * digit) & 63) as usize]);
    digits.map(char::from).collect()
}

/// The hash in the value of a schema tag; `None` if it is not one.
pub(crate) fn parse_schema_tag_value(value: &str) -> Option<u64> {
    if value.len() != DIGITS {
        return None;
    }
    value.bytes().try_fold(0_u64, |hash, byte| {
        let digit = ALPHABET.iter().position(|known| *known == byte)?;
        Some(hash.checked_mul(64)? | digit as u64)
    })
}

/// Whether a change of a node, from `before` to `after`, is one of schema tags of workers.
pub(crate) fn changes_schemas(before: Option<&NodeInfo>, after: Option<&NodeInfo>) -> bool {
    let announces = |node: &NodeInfo| {
        let mut tags = node.tags.iter();
        tags.any(|(key, _)| key.starts_with(SCHEMA_TAG_PREFIX))
    };
    match (before, after) {
        (Some(before), Some(after)) => {
            let is_same = before.id == after.id
                && before.tags == after.tags
                && before.state.is_gone() == after.state.is_gone();
            !is_same && (announces(before) || announces(after))
        }
        (one, other) => one.or(other).is_some_and(announces),
    }
}

/// Digits of a hash.
const DIGITS: usize = 11;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{NodeId, NodeState};

    #[test]
    fn values_are_the_same_in_every_release() {
        assert_eq!(schema_tag_value(1), "AAAAAAAAAAB");
        assert_eq!(schema_tag_value(u64::MAX), "P__________");
        for text in [
            "",
            "AAAAAAAAAA",
            "AAAAAAAAAAAA",
            "AAAAAAAAAA=",
            "Q__________",
        ] {
            assert_eq!(parse_schema_tag_value(text), None, "{text}");
        }
    }

    #[test]
    fn only_changes_of_workers_that_announce_schemas_count() {
        let node = |epoch| NodeInfo::new(NodeId::new("w", epoch), ([127, 0, 0, 1], 7000).into());
        let (plain, tagged) = (node(1), node(1).with_tag(schema_tag_key("s"), "x"));
        let suspect = tagged.clone().with_state(NodeState::Suspect);
        let failed = tagged.clone().with_state(NodeState::Failed);
        let restarted = node(2).with_tag(schema_tag_key("s"), "x");
        for (before, after, changes) in [
            (None, Some(&plain), false),
            (Some(&plain), None, false),
            (Some(&plain), Some(&restarted), true),
            (None, Some(&tagged), true),
            (Some(&tagged), None, true),
            (Some(&tagged), Some(&tagged), false),
            (Some(&tagged), Some(&suspect), false),
            (Some(&tagged), Some(&failed), true),
            (Some(&tagged), Some(&plain), true),
            (Some(&tagged), Some(&restarted), true),
        ] {
            assert_eq!(
                changes_schemas(before, after),
                changes,
                "{before:?} {after:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_value_is_read_as_the_hash_that_it_was_made_of(hash: u64) {
            prop_assert_eq!(parse_schema_tag_value(&schema_tag_value(hash)), Some(hash));
        }

        #[test]
        fn a_text_is_the_value_of_one_hash_or_of_none(text in "[A-Za-z0-9_=-]{10,12}") {
            if let Some(hash) = parse_schema_tag_value(&text) {
                prop_assert_eq!(schema_tag_value(hash), text);
            }
        }
    }
}
