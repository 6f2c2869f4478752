//! Idempotency keys: a generator of keys that no other call has.

use std::{
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// Generator of unique idempotency keys: a random number of this generator, and a count.
///
/// ```
/// use rpcnet_transport::{CallOptions, IdempotencyKeys};
///
/// let keys = IdempotencyKeys::new();
/// // The same key for all attempts of one call.
/// let options = CallOptions::new().with_idempotency_key(keys.next_key());
/// ```
#[derive(Debug)]
pub struct IdempotencyKeys {
    generator: u64,
    count: AtomicU64,
}

impl IdempotencyKeys {
    /// A generator whose keys differ from those of all others, in this process and elsewhere.
    #[must_use]
    pub fn new() -> Self {
        // The standard library seeds its hashers with random numbers of the operating system.
        let random = || RandomState::new().hash_one(0_u64);
        Self {
            generator: random(),
            count: AtomicU64::new(random()),
        }
    }

    /// A key that was not given before.
    #[must_use]
    pub fn next_key(&self) -> u128 {
        u128::from(self.generator) << 64 | u128::from(self.count.fetch_add(1, Relaxed))
    }
}

impl Default for IdempotencyKeys {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_key_comes_twice() {
        let [one, other] = [IdempotencyKeys::new(), IdempotencyKeys::new()];
        let keys = (0..1_000).flat_map(|_| [one.next_key(), other.next_key()]);
        assert_eq!(keys.collect::<HashSet<_>>().len(), 2_000);
    }
}
