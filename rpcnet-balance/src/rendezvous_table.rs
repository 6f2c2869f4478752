//! Rendezvous hashing: a table of the endpoints that each key prefers.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::{
    Endpoint, View,
    rng::{GOLDEN, mix},
};

/// Table of the endpoints that each bucket of keys prefers, in order, by rendezvous hashing
/// (Thaler, Ravishankar, 1998): an endpoint that is added takes over only keys that prefer it, one
/// that is removed leaves only its own keys to others.
///
/// Keys are hashed into [`BUCKETS`] buckets; the preferences of a bucket are computed when its
/// first key is looked up, and kept.
#[derive(Debug)]
pub(crate) struct RendezvousTable {
    /// Four indices of 16 bits, the first in the lowest bits, [`NO_ENDPOINT`] if there are fewer;
    /// zero until the first look-up.
    buckets: Box<[AtomicU64]>,
    endpoints: Box<[EndpointWeight]>,
    generation: u64,
}

#[derive(Debug, Clone, Copy)]
struct EndpointWeight {
    id: u64,
    weight: f32,
}

impl RendezvousTable {
    /// The table for a view, by its current weights.
    pub(crate) fn new(view: &View) -> Self {
        // Larger views are scanned at every pick.
        let buckets = if view.len() < usize::from(NO_ENDPOINT) {
            BUCKETS
        } else {
            0
        };
        Self {
            buckets: (0..buckets).map(|_| AtomicU64::new(0)).collect(),
            endpoints: view
                .endpoints()
                .iter()
                .map(|one| EndpointWeight {
                    id: one.id(),
                    weight: one.weight(),
                })
                .collect(),
            generation: view.generation(),
        }
    }

    /// Whether the table was made for this view, and keeps what it computes.
    #[inline]
    pub(crate) fn is_for(&self, view: &View) -> bool {
        self.endpoints.len() == view.len()
            && self.generation == view.generation()
            && !self.buckets.is_empty()
    }

    /// The endpoints that `key` prefers, up to four, the best first.
    #[inline]
    pub(crate) fn preferred(&self, key: u64) -> impl Iterator<Item = usize> {
        let bucket = bucket_of(key);
        let word = self.buckets[bucket].load(Ordering::Relaxed);
        let word = if word == 0 {
            self.compute(bucket)
        } else {
            word
        };
        (0..PREFERENCES_MAX)
            .map(move |rank| (word >> (16 * rank)) as u16)
            .take_while(|&index| index != NO_ENDPOINT)
            .map(usize::from)
    }

    #[cold]
    fn compute(&self, bucket: usize) -> u64 {
        let mut best = [(f64::NEG_INFINITY, NO_ENDPOINT); PREFERENCES_MAX];
        for (index, one) in self.endpoints.iter().enumerate() {
            let mut next = (score(bucket, one.id, one.weight), index as u16);
            for kept in &mut best {
                if next.0 > kept.0 {
                    std::mem::swap(kept, &mut next);
                }
            }
        }
        let word = best
            .iter()
            .rev()
            .fold(0, |word, (_, index)| word << 16 | u64::from(*index));
        // Zero would be four times the first endpoint, which cannot be: each occurs once.
        self.buckets[bucket].store(word, Ordering::Relaxed);
        word
    }
}

/// The allowed endpoint that `key` prefers; looks at all.
#[cold]
pub(crate) fn scan_preferred(
    view: &View,
    key: u64,
    allows: impl Fn(&Endpoint) -> bool,
) -> Option<usize> {
    let bucket = bucket_of(key);
    let mut best = (f64::NEG_INFINITY, None);
    for (index, one) in view.endpoints().iter().enumerate() {
        let score = score(bucket, one.id(), one.weight());
        if score > best.0 && allows(one) {
            best = (score, Some(index));
        }
    }
    best.1
}

/// Preference of a bucket for an endpoint: it is the highest of all with a probability in
/// proportion to the weight.
fn score(bucket: usize, id: u64, weight: f32) -> f64 {
    let hash = mix(id ^ mix(bucket as u64 ^ GOLDEN));
    // In (0, 1).
    let unit = ((hash >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    f64::from(weight) / -unit.ln()
}

/// Keys may be plain numbers, so they are mixed.
fn bucket_of(key: u64) -> usize {
    mix(key) as usize % BUCKETS
}

/// Number of buckets: each of 3,000 endpoints is preferred by some 20 of them.
const BUCKETS: usize = 1 << 16;
const PREFERENCES_MAX: usize = 4;
const NO_ENDPOINT: u16 = u16::MAX;
