//! State of reach checks: the test score, the check in progress, and the estimate in force.

use crate::engine::bounded_queue::BoundedQueue;
use crate::split_brain::TagFilter;
use crate::time::Time;

/// A node's knowledge of which members it reaches.
#[derive(Debug, Default)]
pub(crate) struct ReachTracker {
    /// Cumulated log-likelihood ratio of a partition, from the outcomes of probe rounds; never
    /// negative.
    pub(super) score: f64,
    /// Targets of those rounds, each of which counts once: a ring successor is probed far more
    /// often than others.
    pub(super) missed: RecentMembers,
    pub(super) answered: RecentMembers,
    /// The same ratio for the end of a partition, while an estimate is in force.
    pub(super) recovery: f64,
    pub(super) check: Option<ReachCheck>,
    /// Estimate in force: too many members are unreachable.
    pub(super) estimate: Option<ReachEstimate>,
    /// Consecutive checks that confirmed the estimate.
    pub(super) confirmed: u32,
    /// Tag filters of the policies that were asked for, the latest last.
    pub(super) filters: BoundedQueue<TagFilter, FILTERS_MAX>,
    /// Start of the window in which suspicions are counted, and their number.
    pub(super) suspicions: (Time, usize),
    /// Whether they started a check.
    pub(super) suspicions_checked: bool,
}

/// Last few different members.
#[derive(Debug, Default)]
pub(super) struct RecentMembers(BoundedQueue<u64, RECENT_MAX>);

impl RecentMembers {
    /// Adds a member, and says whether it is new.
    pub(super) fn add(&mut self, key: u64) -> bool {
        let is_new = !self.0.contains(&key);
        if is_new {
            self.0.push(key);
        }
        is_new
    }
}

/// Reach check in progress.
#[derive(Debug)]
pub(super) struct ReachCheck {
    /// Sequence number of all its pings.
    pub(super) seq: u32,
    pub(super) sample: Vec<SampledMember>,
    /// Timer turns since its start.
    pub(super) turn: u32,
    /// Turn at which the sample was extended to its full size, if it was.
    pub(super) widened_at: Option<u32>,
}

/// Estimate of a reach check: stands in for the state of live members while it is in force.
#[derive(Debug)]
pub(super) struct ReachEstimate {
    pub(super) sample: Vec<SampledMember>,
    /// Upper bound of the share of reachable members among those that were not asked.
    pub(super) share: f64,
    /// The same as a number of members, which stays while others of them are declared failed.
    pub(super) others_reached: f64,
    /// Whether no member was heard, and no check has been made since.
    pub(super) unchecked: bool,
}

/// Member of the sample.
#[derive(Clone, Copy, Debug)]
pub(super) struct SampledMember {
    pub(super) key: u64,
    pub(super) epoch: u64,
    pub(super) answered: bool,
    /// Whether it was drawn at random, so that it stands for members that were not asked.
    pub(super) is_random: bool,
}

impl ReachCheck {
    pub(super) fn answered(&self) -> usize {
        self.sample.iter().filter(|asked| asked.answered).count()
    }

    pub(super) fn is_complete(&self) -> bool {
        self.sample.iter().all(|asked| asked.answered)
    }
}

impl ReachTracker {
    /// Whether a live member counts as reachable. Of those that were not asked, the share that the
    /// sample shows does, chosen by key.
    pub(in crate::engine) fn reaches(&self, key: u64) -> bool {
        let Some(estimate) = &self.estimate else {
            return true;
        };
        match estimate.sample.iter().find(|asked| asked.key == key) {
            Some(asked) => asked.answered,
            None => {
                (key.wrapping_mul(HASH_MULTIPLIER) >> 32) as f64
                    <= estimate.share * f64::from(u32::MAX)
            }
        }
    }

    /// Whether an estimate stands in for the state of the members.
    pub(in crate::engine) fn is_in_force(&self) -> bool {
        self.estimate.is_some()
    }

    /// Members asked in the check or the estimate, for the check of the bound.
    #[cfg(feature = "unstable")]
    pub(in crate::engine) fn sample_len(&self) -> usize {
        let check = self.check.as_ref().map_or(0, |check| check.sample.len());
        let kept = self.estimate.as_ref().map_or(0, |kept| kept.sample.len());
        check.max(kept)
    }

    /// Remembers the members that a policy counts.
    pub(in crate::engine) fn remember_filter(&mut self, filter: &TagFilter) {
        if self.filters.back() != Some(filter) {
            self.filters.retain(|known| known != filter);
            self.filters.push(filter.clone());
        }
    }

    /// Marks all members unreachable until a check says otherwise: none is heard.
    pub(in crate::engine) fn isolate(&mut self) {
        self.check = None;
        self.estimate = Some(ReachEstimate {
            sample: Vec::new(),
            share: 0.0,
            others_reached: 0.0,
            unchecked: true,
        });
    }

    /// Forgets all but the policies that were asked for.
    pub(in crate::engine) fn reset(&mut self) {
        *self = Self {
            filters: std::mem::take(&mut self.filters),
            ..Self::default()
        };
    }

    /// Restarts the test.
    pub(super) fn reset_score(&mut self) {
        self.score = 0.0;
        self.missed.0.clear();
        self.answered.0.clear();
    }

    /// Records that `key` answered a ping of this node.
    pub(super) fn record_answer(&mut self, key: u64) {
        let checked = self.check.iter_mut().flat_map(|check| &mut check.sample);
        let kept = self.estimate.iter_mut().flat_map(|kept| &mut kept.sample);
        for asked in checked.chain(kept).filter(|asked| asked.key == key) {
            asked.answered = true;
        }
    }
}

/// Upper bound of the share of which a sample of `asked` saw `answered`: one deviation above the
/// centre of the Wilson interval.
pub(super) fn wilson_upper_bound(answered: usize, asked: usize) -> f64 {
    if asked == 0 {
        return 0.0;
    }
    let n = asked as f64;
    let p = answered as f64 / n;
    let middle = p + 1.0 / (2.0 * n);
    let deviation = (p * (1.0 - p) / n + 1.0 / (4.0 * n * n)).sqrt();
    ((middle + deviation) / (1.0 + 1.0 / n)).min(1.0)
}

/// Most different members whose rounds are counted.
const RECENT_MAX: usize = 16;
/// Most tag filters remembered.
const FILTERS_MAX: usize = 8;
/// Multiplier that spreads keys (Knuth's multiplicative hash), as a sample by key must not follow
/// their order.
const HASH_MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
