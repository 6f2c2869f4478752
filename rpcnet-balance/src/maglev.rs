//! Maglev hashing: a table of the endpoint for each key.

use std::sync::Arc;

use crate::{
    Balancer, Outcome, PickContext, SuccessBatch, View, rendezvous_table,
    rng::{GOLDEN, SharedRng, mix},
    score::{self, Scorer},
};

/// Maglev hashing (Eisenbud et al., NSDI 2016): a table has the endpoint for each key.
///
/// For keys that are all about equally frequent, and many endpoints: it is the fastest strategy by
/// key, and shares keys more evenly than any other, to one in 65,537 for equal weights. When
/// endpoints come or go, their keys move, and a few of the others with them. All clients with the
/// same endpoints in the same order agree. It ignores load.
///
/// If the endpoint is excluded or in backoff, the key goes on to the next one in the table. Calls
/// without a key use [`PowerOfTwo`](crate::PowerOfTwo).
///
/// A pick takes constant time: one look-up in a table of 65,537 entries and 256 KiB, which
/// `rebuild` fills. That size serves up to some hundreds of endpoints well; it is the same for few,
/// because another size would move all keys. Needs [`PickContext::with_key`] and `rebuild`; without
/// `rebuild` a pick looks at all endpoints, as rendezvous hashing does.
#[derive(Debug)]
pub struct Maglev {
    /// Empty until it is rebuilt for a view.
    table: Box<[u32]>,
    len: usize,
    generation: u64,
    rng: SharedRng,
    scorer: Scorer,
}

impl Maglev {
    /// A balancer without a table until it is rebuilt for a view.
    #[must_use]
    pub fn new() -> Self {
        Self::seeded(0)
    }

    /// Like [`new`](Self::new); `seed` is for calls without a key.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self {
            table: Box::default(),
            len: 0,
            generation: 0,
            rng: SharedRng::seeded(seed),
            scorer: Scorer::new(),
        }
    }

    fn lookup(&self, view: &View, cx: &PickContext<'_>, key: u64) -> Option<usize> {
        let usable = |index: usize| cx.allows(&view[index]) && !view[index].in_backoff(cx.now());
        if !self.table.is_empty() && self.len == view.len() && self.generation == view.generation()
        {
            // Keys may be plain numbers.
            let first = (mix(key) % TABLE_SIZE as u64) as usize;
            let slots = self.table[first..].iter().chain(&self.table[..first]);
            let mut walk = slots.take(WALK_MAX).map(|&index| index as usize);
            if let Some(index) = walk.find(|&index| usable(index)) {
                return Some(index);
            }
        }
        rendezvous_table::scan_preferred(view, key, |endpoint| cx.allows(endpoint))
    }
}

impl Default for Maglev {
    fn default() -> Self {
        Self::new()
    }
}

impl Balancer for Maglev {
    fn pick(&self, view: &View, cx: &PickContext<'_>) -> Option<usize> {
        match cx.key() {
            Some(key) => self.lookup(view, cx, key),
            None => score::less_loaded(view, cx, &mut self.rng.fork()),
        }
    }

    fn on_outcome(&self, view: &View, index: usize, outcome: &Outcome) {
        self.scorer.on_outcome(&view[index], outcome);
    }

    fn on_successes(&self, view: &View, index: usize, batch: &SuccessBatch) {
        self.scorer.on_successes(&view[index], batch);
    }

    fn rebuild(&self, view: &View) -> Option<Arc<dyn Balancer>> {
        Some(Arc::new(Self {
            table: build_table(view),
            len: view.len(),
            generation: view.generation(),
            scorer: self.scorer,
            ..Self::seeded(self.rng.next())
        }))
    }
}

/// Fills the table: endpoints take turns, more turns with more weight; each takes the free slot
/// that it prefers.
fn build_table(view: &View) -> Box<[u32]> {
    let heaviest = view
        .endpoints()
        .iter()
        .map(|one| one.weight())
        .fold(0.0, f32::max);
    let mut permutations: Vec<Permutation> = view
        .endpoints()
        .iter()
        .map(|one| Permutation::new(one.id(), one.weight() / heaviest))
        .collect();
    let mut table = vec![
        EMPTY_SLOT;
        if permutations.is_empty() {
            0
        } else {
            TABLE_SIZE
        }
    ];
    let mut free = table.len();
    while free > 0 {
        for (index, permutation) in permutations.iter_mut().enumerate() {
            permutation.credit += permutation.share;
            if permutation.credit < 1.0 || free == 0 {
                continue;
            }
            permutation.credit -= 1.0;
            while table[permutation.next] != EMPTY_SLOT {
                permutation.advance();
            }
            table[permutation.next] = index as u32;
            free -= 1;
        }
    }
    table.into()
}

/// Permutation of the table's slots for one endpoint, while the table is filled: its preferences,
/// in an order that depends on its id.
struct Permutation {
    next: usize,
    skip: usize,
    share: f32,
    credit: f32,
}

impl Permutation {
    const fn new(id: u64, share: f32) -> Self {
        Self {
            next: (mix(id) % TABLE_SIZE as u64) as usize,
            skip: (mix(id ^ GOLDEN) % (TABLE_SIZE as u64 - 1)) as usize + 1,
            share,
            credit: 0.0,
        }
    }

    const fn advance(&mut self) {
        self.next = (self.next + self.skip) % TABLE_SIZE;
    }
}

/// A prime, so that every step size visits all slots: the smaller size of the paper, more than a
/// hundred times the usual number of endpoints.
const TABLE_SIZE: usize = 65_537;
const EMPTY_SLOT: u32 = u32::MAX;
const WALK_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Endpoint, ExclusionFlags};

    fn view(ids: impl Iterator<Item = u64>) -> View {
        View::new(ids.map(|id| Arc::new(Endpoint::new(id))), 1)
    }

    #[test]
    fn slots_are_shared_to_within_one() {
        for len in [1, 2, 3, 30, 300, 3000] {
            let mut counts = vec![0; len];
            for &index in &*build_table(&view(0..len as u64)) {
                counts[index as usize] += 1;
            }
            let (least, most) = (counts.iter().min(), counts.iter().max());
            assert!(most.unwrap() - least.unwrap() <= 1, "{len} endpoints");
        }
        assert!(build_table(&view(0..0)).is_empty());
    }

    #[test]
    fn removing_an_endpoint_moves_few_other_slots() {
        // Ids stay the same while indices shift.
        let ids = |view: &View| -> Vec<u64> {
            let table = build_table(view);
            table
                .iter()
                .map(|&index| view[index as usize].id())
                .collect()
        };
        for (len, most) in [(10, 0.02), (100, 0.02), (1000, 0.02)] {
            let (before, after) = (
                ids(&view(0..len)),
                ids(&view((0..len).filter(|&id| id != 7))),
            );
            let pairs = before.iter().zip(&after);
            let moved = pairs
                .filter(|(before, after)| **before != 7 && before != after)
                .count();
            assert!(
                (moved as f64) < most * TABLE_SIZE as f64,
                "{moved} slots of {len} endpoints"
            );
        }
    }

    #[test]
    fn a_key_goes_to_its_slot_or_to_the_next_allowed_one() {
        let view = view(0..5);
        let (balancer, table) = (Maglev::new().rebuild(&view).unwrap(), build_table(&view));
        view[3].set_flags(ExclusionFlags::EJECTED);
        for key in 0..1000 {
            let first = (mix(key) % TABLE_SIZE as u64) as usize;
            let mut walk = (first..).map(|slot| table[slot % TABLE_SIZE] as usize);
            let picked = balancer.pick(&view, &PickContext::new().with_key(key));
            assert_eq!(picked, walk.find(|&index| index != 3));
        }
    }
}
