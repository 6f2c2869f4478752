//! Random number generators: seeded, lock-free, SplitMix64.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::stripes::Stripes;

/// Random number generator that many threads use at once (SplitMix64: Steele, Lea, Flood, OOPSLA
/// 2014).
///
/// Each thread has a sequence of its own; the first thread that draws has that of the seed, so a
/// run in which one thread picks can be repeated. Threads that have to share a sequence may draw
/// the same number twice, which does no harm here.
#[derive(Debug)]
pub(crate) struct SharedRng {
    states: Stripes<AtomicU64>,
    seed: u64,
    /// The number of sequences that are in use.
    sequences: AtomicU64,
}

impl SharedRng {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self {
            states: Stripes::new(|| AtomicU64::new(0)),
            seed,
            sequences: AtomicU64::new(0),
        }
    }

    #[inline]
    pub(crate) fn next(&self) -> u64 {
        mix(self.advance(1).wrapping_add(GOLDEN))
    }

    /// A generator for one pick that needs several numbers: the next [`FORK_LEN`] of the sequence,
    /// of which those that are not drawn cost nothing.
    #[inline]
    pub(crate) fn fork(&self) -> Rng {
        Rng(self.advance(FORK_LEN))
    }

    /// Advances the sequence of this thread by so many numbers, and returns the state before.
    #[inline]
    fn advance(&self, numbers: u64) -> u64 {
        let local = self.states.local();
        let mut state = local.load(Ordering::Relaxed);
        if state == 0 {
            state = self.next_sequence();
        }
        local.store(
            state.wrapping_add(GOLDEN.wrapping_mul(numbers)),
            Ordering::Relaxed,
        );
        state
    }

    /// The start of the next thread's sequence.
    #[cold]
    fn next_sequence(&self) -> u64 {
        match self.sequences.fetch_add(1, Ordering::Relaxed) {
            0 => self.seed,
            more => mix(self.seed ^ mix(more)),
        }
    }
}

/// Random number generator with one owner.
#[derive(Debug, Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    #[cfg(any(test, feature = "sim", feature = "contract"))]
    pub(crate) const fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    #[inline]
    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }

    /// A number in `0..bound`.
    #[inline]
    pub(crate) const fn below(&mut self, bound: usize) -> usize {
        below(self.next(), bound)
    }
}

/// A number in `0..bound` from a random one. The bias, of bound / 2^64, is negligible here.
#[inline]
pub(crate) const fn below(random: u64, bound: usize) -> usize {
    ((random as u128 * bound as u128) >> 64) as usize
}

/// A number in `[0, 1)` from a random one.
#[inline]
pub(crate) const fn unit_f32(random: u64) -> f32 {
    (random >> 40) as f32 / (1_u64 << 24) as f32
}

/// Like [`unit_f32`], of 53 bits.
#[inline]
pub(crate) const fn unit_f64(random: u64) -> f64 {
    (random >> 11) as f64 / (1_u64 << 53) as f64
}

/// Mixes the bits: inputs that differ in few bits differ in all.
#[inline]
pub(crate) const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Numbers of a fork: hardly any pick draws more. One that does draws numbers of the next pick too.
const FORK_LEN: u64 = 64;

pub(crate) const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn the_sequence_is_that_of_splitmix64() {
        let rng = SharedRng::seeded(1_234_567);
        let expected = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973];
        assert_eq!([rng.next(), rng.next()], expected);
        let mut rng = Rng::seeded(1_234_567);
        assert_eq!([rng.next(), rng.next()], expected);
    }

    #[test]
    fn a_fork_draws_numbers_that_nothing_else_draws() {
        let (forked, mut plain) = (SharedRng::seeded(42), Rng::seeded(42));
        for _ in 0..3 {
            let mut fork = forked.fork();
            for _ in 0..FORK_LEN {
                assert_eq!(fork.next(), plain.next());
            }
        }
        assert_eq!(forked.next(), plain.next());
    }

    #[test]
    fn the_first_thread_to_draw_has_the_sequence_of_the_seed() {
        let draw = || {
            let rng = SharedRng::seeded(42);
            [rng.next(), rng.next(), rng.next()]
        };
        for _ in 0..3 {
            assert_eq!(thread::spawn(draw).join().unwrap(), draw());
        }
    }

    #[test]
    fn threads_do_not_draw_the_same_numbers() {
        let rng = SharedRng::seeded(42);
        let first = rng.next();
        let second = thread::scope(|scope| scope.spawn(|| rng.next()).join().unwrap());
        assert_ne!(first, second);
    }

    #[test]
    fn a_bound_is_never_reached() {
        assert_eq!(below(u64::MAX, 7), 6);
        assert_eq!(below(0, 7), 0);
        assert_eq!(below(u64::MAX, 1), 0);
        assert!(unit_f32(u64::MAX) < 1.0 && unit_f64(u64::MAX) < 1.0);
    }
}
