//! What a reach check found, and what there is to know for the next one.

use crate::policy::Filter;
use crate::time::Time;

/// What a node knows of its own reach.
#[derive(Debug, Default)]
pub(crate) struct ReachWatch {
    /// Cumulated log-likelihood ratio of a cut, from the outcomes of probe rounds; never negative.
    pub(super) score: f64,
    /// Targets of the rounds that are in it, each of which counts once: a ring successor is asked
    /// far more often than others.
    pub(super) missed: Recent,
    pub(super) answered: Recent,
    /// The same of the end of a cut, while an estimate is in force.
    pub(super) recovery: f64,
    pub(super) check: Option<Check>,
    /// In force: too many are out of reach.
    pub(super) estimate: Option<Estimate>,
    /// Checks in a row that confirmed the estimate.
    pub(super) confirmed: u32,
    /// Tag filters of the policies that were asked for, the latest last.
    pub(super) filters: Vec<Filter>,
    /// Suspicions that began, and since when they are counted.
    pub(super) suspicions: (Time, usize),
    /// Whether they were a reason for a check.
    pub(super) suspicions_checked: bool,
}

/// The last few of different members.
#[derive(Debug, Default)]
pub(super) struct Recent(pub(super) Vec<u64>);

impl Recent {
    /// Adds one, and says whether it is new.
    pub(super) fn add(&mut self, key: u64) -> bool {
        let is_new = !self.0.contains(&key);
        if is_new {
            if self.0.len() == RECENT_MAX {
                self.0.remove(0);
            }
            self.0.push(key);
        }
        is_new
    }
}

/// A reach check under way.
#[derive(Debug)]
pub(super) struct Check {
    /// Sequence number of all its pings.
    pub(super) seq: u32,
    pub(super) asked: Vec<Asked>,
    /// Timer turns since its start.
    pub(super) turn: u32,
    /// The turn at which the whole sample was taken, if it has been.
    pub(super) wide_at: Option<u32>,
}

/// What a reach check found: stands in for the state of live members while it is in force.
#[derive(Debug)]
pub(super) struct Estimate {
    pub(super) asked: Vec<Asked>,
    /// Upper bound of the share of reachable members among those that were not asked.
    pub(super) share: f64,
    /// The same as a number of members: it stands while others of them are declared failed.
    pub(super) others_reached: f64,
    /// Nobody was heard, and no check has been made since.
    pub(super) unchecked: bool,
}

/// A member of the sample.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) key: u64,
    pub(super) epoch: u64,
    pub(super) answered: bool,
    /// Drawn at random, so it speaks for those that were not asked.
    pub(super) is_random: bool,
}

impl Check {
    pub(super) fn answered(&self) -> usize {
        self.asked.iter().filter(|asked| asked.answered).count()
    }

    pub(super) fn is_complete(&self) -> bool {
        self.asked.iter().all(|asked| asked.answered)
    }
}

impl ReachWatch {
    /// Whether a live member counts as reachable. Of those that were not asked, as large a share
    /// as the sample shows does, chosen by key.
    pub(in crate::engine) fn reaches(&self, key: u64) -> bool {
        let Some(estimate) = &self.estimate else {
            return true;
        };
        match estimate.asked.iter().find(|asked| asked.key == key) {
            Some(asked) => asked.answered,
            None => (key.wrapping_mul(MIX) >> 32) as f64 <= estimate.share * f64::from(u32::MAX),
        }
    }

    /// Whether an estimate stands in for the state of the members.
    pub(in crate::engine) fn is_in_force(&self) -> bool {
        self.estimate.is_some()
    }

    /// Members that were asked in all that is kept, for the bound.
    #[cfg(feature = "sim")]
    pub(in crate::engine) fn asked(&self) -> usize {
        let check = self.check.as_ref().map_or(0, |check| check.asked.len());
        let kept = self.estimate.as_ref().map_or(0, |kept| kept.asked.len());
        check.max(kept)
    }

    /// Remembers whom a policy counts.
    pub(in crate::engine) fn watch(&mut self, filter: &Filter) {
        if self.filters.last() == Some(filter) {
            return;
        }
        self.filters.retain(|known| known != filter);
        if self.filters.len() == FILTERS_MAX {
            self.filters.remove(0);
        }
        self.filters.push(filter.clone());
    }

    /// Nobody is heard: nobody is reachable until a check says otherwise.
    pub(in crate::engine) fn isolate(&mut self) {
        self.check = None;
        self.estimate = Some(Estimate {
            asked: Vec::new(),
            share: 0.0,
            others_reached: 0.0,
            unchecked: true,
        });
    }

    /// Forgets all but the policies that are asked for.
    pub(in crate::engine) fn start_over(&mut self) {
        *self = Self {
            filters: std::mem::take(&mut self.filters),
            ..Self::default()
        };
    }

    /// Begins the test anew.
    pub(super) fn start_score(&mut self) {
        self.score = 0.0;
        self.missed.0.clear();
        self.answered.0.clear();
    }

    /// `key` answered a ping of this node.
    pub(super) fn note_answer(&mut self, key: u64) {
        let checked = self.check.iter_mut().flat_map(|check| &mut check.asked);
        let kept = self.estimate.iter_mut().flat_map(|kept| &mut kept.asked);
        for asked in checked.chain(kept).filter(|asked| asked.key == key) {
            asked.answered = true;
        }
    }
}

/// Upper bound of a share of which a sample of `asked` saw `answered`: one deviation above the
/// middle of the Wilson interval.
pub(super) fn upper_share(answered: usize, asked: usize) -> f64 {
    if asked == 0 {
        return 0.0;
    }
    let n = asked as f64;
    let p = answered as f64 / n;
    let middle = p + 1.0 / (2.0 * n);
    let deviation = (p * (1.0 - p) / n + 1.0 / (4.0 * n * n)).sqrt();
    ((middle + deviation) / (1.0 + 1.0 / n)).min(1.0)
}

/// Most members whose rounds are told apart.
const RECENT_MAX: usize = 16;
/// Tag filters that are remembered.
const FILTERS_MAX: usize = 8;
/// Spreads keys (Knuth's multiplicative hash), as a sample by key must not follow their order.
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;
