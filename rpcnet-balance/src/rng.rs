//! Numbers that look random, from a seed, without a lock.

use std::sync::atomic::{AtomicU64, Ordering};

/// A random sequence that many threads draw from (SplitMix64: Steele, Lea, Flood, OOPSLA 2014).
///
/// Its state is a plain counter, so a draw is one atomic addition.
#[derive(Debug)]
pub(crate) struct SharedRng(AtomicU64);

impl SharedRng {
    pub(crate) const fn seeded(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    pub(crate) fn next(&self) -> u64 {
        mix(self
            .0
            .fetch_add(GOLDEN, Ordering::Relaxed)
            .wrapping_add(GOLDEN))
    }

    /// A sequence for one pick that needs several numbers.
    pub(crate) fn fork(&self) -> Rng {
        Rng(self.next())
    }
}

/// A random sequence of one owner.
#[derive(Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }
}

/// A number in `0..bound` from a random one. The bias, of bound / 2^64, is of no concern here.
pub(crate) const fn below(random: u64, bound: usize) -> usize {
    ((random as u128 * bound as u128) >> 64) as usize
}

const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_that_of_splitmix64() {
        let rng = SharedRng::seeded(1_234_567);
        let expected = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973];
        assert_eq!([rng.next(), rng.next()], expected);
        let mut rng = Rng(1_234_567);
        assert_eq!([rng.next(), rng.next()], expected);
    }

    #[test]
    fn a_bound_is_never_reached() {
        assert_eq!(below(u64::MAX, 7), 6);
        assert_eq!(below(0, 7), 0);
        assert_eq!(below(u64::MAX, 1), 0);
    }
}
