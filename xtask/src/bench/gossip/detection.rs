//! Detection of killed members: observers and times.

use std::collections::{BTreeMap, HashSet};

use xtask_report::quantile;

use super::{
    figures::ms,
    placement::Placement,
    protocol::{Observation, ObservedChange},
};

/// Detection of the killed members in the views of the others.
#[derive(Debug, Clone, Default)]
pub(crate) struct DetectionLog {
    /// Killed members by number.
    pub(crate) killed: BTreeMap<usize, KilledMember>,
    /// Times that a member was told to have failed that was not killed.
    pub(crate) false_failures: usize,
    /// Times that a member was suspected that was not killed.
    pub(crate) false_suspicions: usize,
    survivors: usize,
    /// All observations, which may come before the numbers of the killed members.
    observations: Vec<Observation>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct KilledMember {
    at_us: u64,
    /// Its process was killed, else it was dropped from one.
    pub(crate) by_signal: bool,
    pub(crate) first_suspected: Option<Detection>,
    /// Survivors that know of it, in the order of time.
    pub(crate) failed: Vec<Detection>,
}

/// Delay in µs after the kill, and the observer.
pub(crate) type Detection = (u64, usize);

impl DetectionLog {
    pub(crate) fn new(placement: &Placement) -> Self {
        Self {
            survivors: placement.nodes() - placement.killed(),
            ..Self::default()
        }
    }

    pub(crate) fn kill(
        &mut self,
        numbers: impl IntoIterator<Item = usize>,
        at_us: u64,
        by_signal: bool,
    ) {
        let killed = KilledMember {
            at_us,
            by_signal,
            ..KilledMember::default()
        };
        let numbers = numbers.into_iter();
        self.killed
            .extend(numbers.map(|number| (number, killed.clone())));
    }

    pub(crate) fn add(&mut self, observations: &[Observation]) {
        self.observations.extend(observations);
    }

    /// The log with what all observations so far amount to.
    pub(crate) fn evaluate(&self) -> Self {
        let mut log = self.clone();
        let mut known = HashSet::new();
        let mut observations = std::mem::take(&mut log.observations);
        observations.retain(|it| !log.killed.contains_key(&it.observer));
        observations.sort_by_key(|it| it.at_us);
        for it in observations {
            let is_failure = it.what == ObservedChange::Failed;
            let Some(killed) = log.killed.get_mut(&it.subject) else {
                log.false_failures += usize::from(is_failure);
                log.false_suspicions += usize::from(!is_failure);
                continue;
            };
            let detection = (it.at_us.saturating_sub(killed.at_us), it.observer);
            if !is_failure {
                killed.first_suspected.get_or_insert(detection);
            } else if known.insert((it.subject, it.observer)) {
                killed.failed.push(detection);
            }
        }
        log
    }

    /// Pairs of a killed member and a survivor that does not know of it.
    pub(crate) fn missing(&self) -> usize {
        let known: usize = self.killed.values().map(|it| it.failed.len()).sum();
        self.killed.len() * self.survivors - known
    }

    /// Median time until the first survivor knew, in ms.
    pub(crate) fn first_ms(&self) -> Option<f64> {
        let killed = self.killed.values();
        let firsts = killed.filter_map(|killed| Some(ms(killed.failed.first()?.0)));
        quantile(firsts.collect(), 0.5)
    }

    /// Time until this share of the survivors knew of a killed member, in ms.
    pub(crate) fn known_ms(&self, share: f64) -> Option<f64> {
        let known = self.killed.values().flat_map(|killed| &killed.failed);
        quantile(known.map(|(after_us, _)| ms(*after_us)).collect(), share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(at_us: u64, observer: usize, subject: usize, what: ObservedChange) -> Observation {
        Observation {
            at_us,
            observer,
            subject,
            what,
        }
    }

    #[test]
    fn it_is_complete_once_every_survivor_knows_of_every_one_killed() {
        let placement = Placement::new(6, 1, 2).unwrap();
        assert_eq!(placement.dropped[0], [4]);
        let mut noticed = DetectionLog::new(&placement);
        noticed.kill([4], 100, false);
        noticed.kill([5], 50, true);
        noticed.add(&[notice(120, 0, 4, ObservedChange::Suspected)]);
        for observer in 0..4 {
            assert!(noticed.evaluate().missing() > 0);
            // One that is killed counts for nothing; nor does one that says it twice.
            noticed.add(&[
                notice(200, 4, 5, ObservedChange::Failed),
                notice(200 + observer as u64, observer, 5, ObservedChange::Failed),
                notice(300 + observer as u64, observer, 4, ObservedChange::Failed),
                notice(900, 0, 4, ObservedChange::Failed),
            ]);
        }
        assert_eq!(noticed.evaluate().missing(), 0);
        noticed.add(&[notice(1, 2, 3, ObservedChange::Failed)]);
        let noticed = noticed.evaluate();
        assert_eq!((noticed.missing(), noticed.false_failures), (0, 1));
        let killed = &noticed.killed[&4];
        assert_eq!(
            (
                killed.first_suspected,
                killed.failed.first(),
                killed.failed.last()
            ),
            (Some((20, 0)), Some(&(200, 0)), Some(&(203, 3)))
        );
        assert_eq!(noticed.first_ms(), Some(0.15));
    }

    #[test]
    fn survivors_that_never_knew_are_counted() {
        let placement = Placement::new(6, 1, 1).unwrap();
        let mut noticed = DetectionLog::new(&placement);
        noticed.kill([5], 0, true);
        noticed.add(&[
            notice(9, 1, 5, ObservedChange::Failed),
            notice(9, 2, 5, ObservedChange::Suspected),
        ]);
        assert_eq!(noticed.evaluate().missing(), 4);
    }
}
