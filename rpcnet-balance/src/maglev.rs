//! The same key, the same endpoint, by a table.

use std::sync::Arc;

use crate::{
    Balancer, Outcome, PickContext, View,
    appraisal::Rules,
    homes,
    rng::{GOLDEN, SharedRng, mix},
};

/// The endpoint that a table has for the key (Maglev: Eisenbud et al., NSDI 2016).
#[derive(Debug)]
pub struct Maglev {
    /// Empty until it is rebuilt for a view.
    table: Box<[u32]>,
    len: usize,
    generation: u64,
    rng: SharedRng,
    rules: Rules,
}

impl Maglev {
    /// Without a table, until it is rebuilt for a view.
    #[must_use]
    pub fn new() -> Self {
        Self::seeded(0)
    }

    /// As [`new`](Self::new); `seed` is for calls without a key.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self {
            table: Box::default(),
            len: 0,
            generation: 0,
            rng: SharedRng::seeded(seed),
            rules: Rules::by_load(),
        }
    }

    fn home(&self, view: &View, cx: &PickContext<'_>, key: u64) -> Option<usize> {
        let usable = |index: usize| cx.allows(&view[index]) && !view[index].is_held(cx.now());
        if !self.table.is_empty() && self.len == view.len() && self.generation == view.generation()
        {
            // Keys may be bare numbers.
            let first = (mix(key) % SLOTS as u64) as usize;
            let slots = self.table[first..].iter().chain(&self.table[..first]);
            let mut walk = slots.take(WALK).map(|&index| index as usize);
            if let Some(index) = walk.find(|&index| usable(index)) {
                return Some(index);
            }
        }
        homes::scan(view, key, |endpoint| cx.allows(endpoint))
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
            Some(key) => self.home(view, cx, key),
            None => self.rules.better_of_two(view, cx, &mut self.rng.fork()),
        }
    }

    fn on_outcome(&self, view: &View, index: usize, outcome: &Outcome) {
        self.rules.note(&view[index], outcome);
    }

    fn rebuild(&self, view: &View) -> Option<Arc<dyn Balancer>> {
        Some(Arc::new(Self {
            table: table(view),
            len: view.len(),
            generation: view.generation(),
            rules: self.rules,
            ..Self::seeded(self.rng.next())
        }))
    }
}

/// Endpoints take turns, more of them with more weight; each takes the slot that it likes best of those left.
fn table(view: &View) -> Box<[u32]> {
    let heaviest = view
        .endpoints()
        .iter()
        .map(|one| one.weight())
        .fold(0.0, f32::max);
    let mut takers: Vec<Taker> = view
        .endpoints()
        .iter()
        .map(|one| Taker::new(one.id(), one.weight() / heaviest))
        .collect();
    let mut table = vec![FREE; if takers.is_empty() { 0 } else { SLOTS }];
    let mut left = table.len();
    while left > 0 {
        for (index, taker) in takers.iter_mut().enumerate() {
            taker.credit += taker.share;
            if taker.credit < 1.0 || left == 0 {
                continue;
            }
            taker.credit -= 1.0;
            while table[taker.next] != FREE {
                taker.step();
            }
            table[taker.next] = index as u32;
            left -= 1;
        }
    }
    table.into()
}

/// An endpoint while the table is filled: its preferences are all slots, in an order that depends on its id.
struct Taker {
    next: usize,
    skip: usize,
    share: f32,
    credit: f32,
}

impl Taker {
    const fn new(id: u64, share: f32) -> Self {
        Self {
            next: (mix(id) % SLOTS as u64) as usize,
            skip: (mix(id ^ GOLDEN) % (SLOTS as u64 - 1)) as usize + 1,
            share,
            credit: 0.0,
        }
    }

    const fn step(&mut self) {
        self.next = (self.next + self.skip) % SLOTS;
    }
}

/// A prime, so that every step goes through all slots: the paper's smaller one, a hundred times as many as endpoints or more.
const SLOTS: usize = 65_537;
const FREE: u32 = u32::MAX;
const WALK: usize = 64;
