//! Schema tags of a node: the hashes of its services, as far as they fit.

use rpcnet_registry::{SCHEMA_TAG_PREFIX, schema_tag_key, schema_tag_value};
use rpcnet_swim::{ClusterMembership, MAX_TAGS_BYTES, Tags};

/// The tags with the hashes of these services, in place of those that they have. Those that do not
/// fit are left out, with a warning: no hash means that nothing is known.
pub(super) fn with_hashes<S: AsRef<str>>(
    tags: &Tags,
    node_name: &str,
    services: &[(S, u64)],
) -> Tags {
    let mut tags = (announced(tags).collect::<Vec<_>>())
        .into_iter()
        .fold(tags.clone(), |tags, key| tags.without(key));
    let (mut left_out, mut bytes) = (Vec::new(), 0);
    for (service, hash) in services {
        let (key, value) = (schema_tag_key(service.as_ref()), schema_tag_value(*hash));
        // Each text has its length before it.
        let entry_bytes = key.len() + value.len() + 2;
        let with_hash = tags.with(&key, &value).ok();
        let fitting = with_hash.filter(|tags| {
            let is_within_share = bytes + entry_bytes <= SCHEMA_TAGS_BYTES_MAX;
            is_within_share && tags.check_fits_with_name(node_name).is_ok()
        });
        match fitting {
            Some(with_hash) => (tags, bytes) = (with_hash, bytes + entry_bytes),
            None => left_out.push(service.as_ref()),
        }
    }
    if !left_out.is_empty() {
        tracing::warn!(
            services = ?left_out,
            "no room in the tags of the node for the schema hashes of these services: callers find \
             out by calls whether the types fit"
        );
    }
    tags
}

/// Announces the hashes of these services from now on.
pub(super) fn update<S: AsRef<str>>(membership: &ClusterMembership, services: &[(S, u64)]) {
    let me = membership.local_member();
    let tags = with_hashes(&me.tags, &me.id.name, services);
    for key in announced(&me.tags).filter(|key| tags.get(key).is_none()) {
        membership.remove_tag(key);
    }
    let hashes = announced(&tags).map(|key| (key, tags.get(key).unwrap_or_default()));
    let changed: Vec<_> = hashes
        .filter(|(key, value)| me.tags.get(key) != Some(*value))
        .collect();
    if changed.is_empty() {
        return;
    }
    let keys: Vec<_> = changed.iter().map(|(key, _)| *key).collect();
    if let Err(error) = membership.update_tags(changed.iter().copied()) {
        // Other tags have been set meanwhile. What was announced is not true any more.
        keys.iter().for_each(|key| membership.remove_tag(key));
        tracing::warn!(%error, ?keys, "the schema hashes of services cannot be announced");
    }
}

/// Keys of the tags that announce hashes.
fn announced(tags: &Tags) -> impl Iterator<Item = &str> {
    let keys = tags.iter().map(|(key, _)| key);
    keys.filter(|key| key.starts_with(SCHEMA_TAG_PREFIX))
}

/// Limit of the encoded size of all schema tags of a node: half of that of all tags, so that there
/// is room for tags that the program sets later.
const SCHEMA_TAGS_BYTES_MAX: usize = MAX_TAGS_BYTES / 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn services(count: u64) -> Vec<(String, u64)> {
        (0..count)
            .map(|number| (format!("Service{number:02}"), number))
            .collect()
    }

    fn hashes(tags: &Tags) -> usize {
        announced(tags).count()
    }

    #[test]
    fn hashes_are_in_the_tags_as_far_as_they_fit() {
        let role = Tags::from_pairs([("role", "worker")]).expect("a small tag");
        let tags = with_hashes(&role, "n", &services(2));
        assert_eq!(tags.get("role"), Some("worker"));
        assert_eq!(tags.get("rpcnet.schema.Service01"), Some("AAAAAAAAAAB"));
        assert_eq!(hashes(&tags), 2);
        // 36 bytes each, 512 together.
        let tags = with_hashes(&tags, "n", &services(30));
        assert_eq!(hashes(&tags), 14);
        let tags = with_hashes(&tags, "n", &services(1));
        assert_eq!(tags, with_hashes(&role, "n", &services(1)));
        assert_eq!(with_hashes(&tags, "n", &services(0)), role);
    }

    #[test]
    fn other_tags_and_a_long_name_go_before() {
        let value = "v".repeat(250);
        let large = Tags::from_pairs(["a", "b", "c"].map(|key| (key, value.as_str())));
        let large = large.expect("three quarters");
        assert_eq!(hashes(&with_hashes(&large, "n", &services(30))), 7);
        let name = "n".repeat(250);
        let tags = with_hashes(&large, &name, &services(30));
        assert_eq!(hashes(&tags), 2);
        assert!(tags.check_fits_with_name(&name).is_ok());
        let service = ("s".repeat(250), 1);
        assert_eq!(
            with_hashes(&large, "n", &[service]),
            large,
            "the key is too long"
        );
    }
}
