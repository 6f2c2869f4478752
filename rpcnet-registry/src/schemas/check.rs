//! Checks of schemas beside the calls: one at a time for a method and a hash, with backoff. Also
//! repeated ones, of hashes that one worker has shown not to fit.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use rpcnet_balance::Time;

use crate::NodeInfo;

/// When the next check of a method and a hash may start. Shared by all that look at the pair.
#[derive(Debug)]
pub(super) struct CheckSchedule {
    /// In nanoseconds; [`IN_FLIGHT`] while a check is under way.
    due_at: AtomicU64,
    /// Checks that were started.
    started: AtomicU32,
    /// Wait after the first check; doubled with each further one.
    wait_min: Duration,
    wait_max: Duration,
}

/// The schedule of a pair of which nothing is known: the first check is due at once.
impl Default for CheckSchedule {
    fn default() -> Self {
        Self {
            due_at: AtomicU64::new(0),
            started: AtomicU32::new(0),
            wait_min: CHECK_AGAIN_MIN,
            wait_max: CHECK_AGAIN_MAX,
        }
    }
}

impl CheckSchedule {
    /// The schedule of a pair that a worker has shown not to fit.
    pub(super) fn of_rechecks(now: Time) -> Self {
        Self {
            due_at: AtomicU64::new((now + RECHECK_AFTER).as_nanos()),
            started: AtomicU32::new(0),
            wait_min: RECHECK_AFTER * 2,
            wait_max: RECHECK_AFTER_MAX,
        }
    }

    pub(super) fn is_in_flight(&self) -> bool {
        self.due_at.load(Relaxed) == IN_FLIGHT
    }

    /// Claims the check, if it is due and fewer than [`CHECKS_MAX`] are under way: its number.
    fn claim(&self, now: Time, in_flight: &AtomicUsize) -> Option<u32> {
        let due_at = self.due_at.load(Relaxed);
        if due_at > now.as_nanos() {
            return None;
        }
        let has_room = |count: usize| (count < CHECKS_MAX).then_some(count + 1);
        in_flight.fetch_update(Relaxed, Relaxed, has_room).ok()?;
        let claimed = (self.due_at).compare_exchange(due_at, IN_FLIGHT, Relaxed, Relaxed);
        if claimed.is_err() {
            in_flight.fetch_sub(1, Relaxed);
            return None;
        }
        Some(self.started.fetch_add(1, Relaxed))
    }

    /// The check has ended, and the next one follows.
    fn reschedule(&self, now: Time) {
        let doubled = 2_u32.saturating_pow(self.started.load(Relaxed).saturating_sub(1));
        let wait = self.wait_min.saturating_mul(doubled).min(self.wait_max);
        self.due_at.store((now + wait).as_nanos(), Relaxed);
    }
}

/// A check that its holder is to make: whether the types of a method fit those of a worker. No
/// other one for the same method and hash starts before it is dropped. Dropped without an
/// [outcome](super::ServiceSchemas::record), the next one is due 1 s later, and after twice as long
/// each time, up to 1 min; if a worker has shown that the types do not fit, 1 min after that, and
/// after twice as long each time, up to 10 min.
#[derive(Debug)]
pub struct SchemaCheck {
    node: Arc<NodeInfo>,
    schedule: Arc<CheckSchedule>,
    in_flight: Arc<AtomicUsize>,
    ended_at: Time,
}

impl SchemaCheck {
    /// Claims the check of one of these workers, which have the same hash, if it is due.
    pub(super) fn claim(
        workers: &[Arc<NodeInfo>],
        schedule: &Arc<CheckSchedule>,
        in_flight: &Arc<AtomicUsize>,
        now: Time,
    ) -> Option<Self> {
        let number = schedule.claim(now, in_flight)?;
        Some(Self {
            // Each time another one: the one before may not be reachable.
            node: Arc::clone(&workers[number as usize % workers.len()]),
            schedule: Arc::clone(schedule),
            in_flight: Arc::clone(in_flight),
            ended_at: now,
        })
    }

    /// The worker to ask.
    #[must_use]
    pub fn node(&self) -> &Arc<NodeInfo> {
        &self.node
    }

    /// Ends the check without an outcome: the wait for the next one begins now.
    pub fn end_without_outcome(mut self, now: Time) {
        self.ended_at = now;
    }
}

impl Drop for SchemaCheck {
    fn drop(&mut self) {
        self.schedule.reschedule(self.ended_at);
        self.in_flight.fetch_sub(1, Relaxed);
    }
}

/// Time of a check that is under way: later than all others.
const IN_FLIGHT: u64 = u64::MAX;

/// Limit of the checks that are under way at the same time.
pub(super) const CHECKS_MAX: usize = 8;

/// Wait between two checks of a method and a hash at first; doubled with each check.
const CHECK_AGAIN_MIN: Duration = Duration::from_secs(1);

/// Longest wait between two checks.
const CHECK_AGAIN_MAX: Duration = Duration::from_secs(60);

/// Wait from a rejection, which shows that the types of a hash do not fit, to the first check of
/// whether another worker agrees; doubled with each further check.
const RECHECK_AFTER: Duration = Duration::from_secs(60);

/// Longest wait between two such checks.
const RECHECK_AFTER_MAX: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NodeId;

    fn at(millis: u64) -> Time {
        Time::ZERO + Duration::from_millis(millis)
    }

    fn workers(count: u64) -> Vec<Arc<NodeInfo>> {
        let node = |id| {
            let id = NodeId::new(format!("w{id}"), 1);
            Arc::new(NodeInfo::new(id, ([127, 0, 0, 1], 7000).into()))
        };
        (0..count).map(node).collect()
    }

    #[test]
    fn one_check_of_a_pair_is_under_way_and_the_next_asks_another_worker_later() {
        let (workers, in_flight) = (workers(2), Arc::default());
        let schedule = Arc::default();
        let claim = |millis| SchemaCheck::claim(&workers, &schedule, &in_flight, at(millis));
        let first = claim(0).expect("none is under way");
        assert!(claim(0).is_none() && claim(100_000).is_none());
        assert_eq!(&*first.node().id.name, "w0");
        first.end_without_outcome(at(500));
        assert!(claim(1_499).is_none());
        let second = claim(1_500).expect("a second later");
        assert_eq!(&*second.node().id.name, "w1");
        drop(second);
        assert!(claim(3_499).is_none());
        let third = claim(3_500).expect("two seconds after its start");
        assert_eq!(&*third.node().id.name, "w0");
        drop(third);
        for _ in 0..40 {
            claim(u64::from(u32::MAX))
                .expect("it is due")
                .end_without_outcome(at(0));
        }
        assert!(claim(59_999).is_none() && claim(60_000).is_some());
    }

    #[test]
    fn rechecks_become_rarer() {
        let (workers, in_flight) = (workers(1), Arc::default());
        let schedule = Arc::new(CheckSchedule::of_rechecks(at(0)));
        let is_due = |second: &u64| {
            let now = at(second * 1_000);
            SchemaCheck::claim(&workers, &schedule, &in_flight, now).is_some()
        };
        let checked: Vec<_> = (0..2_200).filter(is_due).collect();
        assert_eq!(checked, [60, 180, 420, 900, 1_500, 2_100]);
    }

    #[test]
    fn a_limit_bounds_the_checks_of_all_pairs() {
        let (workers, in_flight) = (workers(1), Arc::default());
        let claim = || SchemaCheck::claim(&workers, &Arc::default(), &in_flight, at(0));
        let mut claimed: Vec<_> = (0..CHECKS_MAX).map(|_| claim().expect("room")).collect();
        assert!(claim().is_none());
        claimed.pop();
        assert!(claim().is_some());
    }
}
