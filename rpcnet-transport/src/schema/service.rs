//! Schema hash of a service: one number for the types of all its methods.

use super::stable_hash::hash_bytes;

/// Service that a method belongs to, by its name on the wire: the part before the last `/`. A
/// method whose name has none is a service of its own.
///
/// ```
/// use rpcnet_transport::schema::service_of;
///
/// assert_eq!(service_of("Render/probe"), "Render");
/// assert_eq!(service_of("square"), "square");
/// ```
#[must_use]
pub fn service_of(method: &str) -> &str {
    match method.rsplit_once('/') {
        Some((service, _)) if !service.is_empty() => service,
        _ => method,
    }
}

/// Hash of a service: of the names of its methods and the [hashes](super::MethodSchema::hash) of
/// their schemas, in any order. The same on every platform and in every release, and never 0.
///
/// Services of equal hashes have the same methods with the same types. A method that has no schema
/// is not part of it.
#[must_use]
pub fn service_hash<'a>(methods: impl IntoIterator<Item = (&'a str, u64)>) -> u64 {
    let mut methods: Vec<_> = methods.into_iter().collect();
    methods.sort_unstable();
    methods.dedup();
    let mut bytes = Vec::new();
    for (name, hash) in methods {
        // With its length, so that no two lists have the same bytes.
        bytes.extend_from_slice(&(name.len() as u64).to_le_bytes());
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(&hash.to_le_bytes());
    }
    hash_bytes(&bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Peers of other releases compare these hashes: they never change.
    #[test]
    fn hashes_of_services_are_the_same_in_every_release() {
        let methods = [("Render/probe", 1), ("Render/frames", u64::MAX)];
        assert_eq!(service_hash([]), 0xefd0_1f60_ba99_2926);
        assert_eq!(service_hash([("square", 7)]), 0x93da_fa51_f4b2_119c);
        assert_eq!(service_hash(methods), 0xce14_54a7_b478_8bf5);
    }

    #[test]
    fn a_method_belongs_to_the_service_before_the_last_slash() {
        for (method, service) in [
            ("Render/probe", "Render"),
            ("media.Render/v2/probe", "media.Render/v2"),
            ("square", "square"),
            ("/square", "/square"),
            ("Render/", "Render"),
        ] {
            assert_eq!(service_of(method), service, "{method}");
        }
    }

    fn methods() -> impl Strategy<Value = BTreeSet<(String, u64)>> {
        proptest::collection::btree_set(("[a-c]{0,3}", 0_u64..4), 0..5)
    }

    proptest! {
        #[test]
        fn hashes_are_equal_exactly_for_the_same_methods(
            first in methods(),
            second in methods(),
            turns in 0_usize..5,
        ) {
            let hash = |methods: &[(String, u64)]| {
                service_hash(methods.iter().map(|(name, hash)| (name.as_str(), *hash)))
            };
            let mut shuffled: Vec<_> = first.iter().cloned().collect();
            let all: Vec<_> = shuffled.clone();
            shuffled.reverse();
            let turns = turns % shuffled.len().max(1);
            shuffled.rotate_left(turns);
            prop_assert_eq!(hash(&all), hash(&shuffled));
            let other: Vec<_> = second.iter().cloned().collect();
            prop_assert_eq!(hash(&all) == hash(&other), first == second);
            prop_assert_ne!(hash(&all), 0);
        }
    }
}
