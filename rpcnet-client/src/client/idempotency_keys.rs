//! Idempotency keys, made for calls whose method asks for them.

use std::{
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// Unique idempotency keys: a random number of this client, and a count of its calls.
#[derive(Debug)]
pub(super) struct IdempotencyKeys {
    client: u64,
    calls: AtomicU64,
}

impl IdempotencyKeys {
    pub(super) fn new() -> Self {
        Self {
            client: random(),
            calls: AtomicU64::new(random()),
        }
    }

    pub(super) fn next(&self) -> u128 {
        u128::from(self.client) << 64 | u128::from(self.calls.fetch_add(1, Relaxed))
    }
}

/// Random, from the system's numbers, of which the standard library makes its keys for hashing.
pub(super) fn random() -> u64 {
    RandomState::new().hash_one(0_u64)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_key_comes_twice() {
        let [one, other] = [IdempotencyKeys::new(), IdempotencyKeys::new()];
        let keys = (0..1_000).flat_map(|_| [one.next(), other.next()]);
        assert_eq!(keys.collect::<HashSet<_>>().len(), 2_000);
    }
}
