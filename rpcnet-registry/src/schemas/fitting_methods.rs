//! Methods that all workers fit: what is read at each pick.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::mismatches::SchemaVersion;
use crate::rejections::MethodOfTypes;

/// A method that is called, with the filter of its workers.
#[derive(Debug, Clone, Copy)]
pub(super) struct FilteredMethod<'a> {
    pub(super) method: MethodOfTypes<'a>,
    /// Empty for all workers.
    pub(super) filter: &'a str,
}

/// Cache of the methods of which no worker is a mismatch, by fingerprints of 64 bits that include
/// the version. A method that shares its slot with another one takes turns with it, and is looked
/// up in between.
#[derive(Debug)]
pub(super) struct FittingMethods {
    slots: [AtomicU64; SLOTS],
}

impl FittingMethods {
    #[inline]
    pub(super) fn contains(&self, call: FilteredMethod<'_>, version: SchemaVersion) -> bool {
        let fingerprint = fingerprint(call, version);
        self.slot(fingerprint).load(Relaxed) == fingerprint
    }

    pub(super) fn insert(&self, call: FilteredMethod<'_>, version: SchemaVersion) {
        let fingerprint = fingerprint(call, version);
        self.slot(fingerprint).store(fingerprint, Relaxed);
    }

    fn slot(&self, fingerprint: u64) -> &AtomicU64 {
        &self.slots[fingerprint as usize % SLOTS]
    }
}

impl Default for FittingMethods {
    fn default() -> Self {
        Self {
            slots: [const { AtomicU64::new(0) }; SLOTS],
        }
    }
}

/// Fingerprint of a method and a version, never 0, which is what empty slots hold.
fn fingerprint(call: FilteredMethod<'_>, version: SchemaVersion) -> u64 {
    let FilteredMethod { method, filter } = call;
    let filter = xxh3_64(filter.as_bytes());
    let numbers = [method.types, filter, version.tags, version.knowledge];
    let seed = numbers.iter().fold(0_u64, |seed, number| {
        (seed.rotate_left(21) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    });
    xxh3_64_with_seed(method.name.as_bytes(), seed).max(1)
}

const SLOTS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_fits_by_its_name_its_types_its_filter_and_the_version() {
        let methods = FittingMethods::default();
        let filtered = |name, types, filter| FilteredMethod {
            method: MethodOfTypes { name, types },
            filter,
        };
        let of = |name, types| filtered(name, types, "a");
        let version = |tags, knowledge| SchemaVersion { tags, knowledge };
        assert!(!methods.contains(of("", 0), version(0, 0)));
        methods.insert(of("m", 1), version(2, 3));
        assert!(methods.contains(of("m", 1), version(2, 3)));
        for (other, at) in [
            (of("n", 1), version(2, 3)),
            (of("m", 2), version(2, 3)),
            (of("m", 1), version(3, 3)),
            (of("m", 1), version(2, 4)),
            (of("m", 1), version(3, 2)),
            (of("m", 2), version(1, 3)),
            (filtered("m", 1, ""), version(2, 3)),
            (filtered("a", 1, "m"), version(2, 3)),
        ] {
            assert!(!methods.contains(other, at), "{other:?} {at:?}");
        }
    }
}
