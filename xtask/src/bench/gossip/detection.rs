//! Detection of killed members: observers and times.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use xtask_report::quantile;

use super::{
    figures::ms,
    placement::Placement,
    protocol::{Observation, ObservedChange},
};

/// Detection of the killed members in the views of the others.
#[derive(Debug, Default)]
pub(crate) struct DetectionLog {
    /// Killed members by number.
    pub(crate) killed: BTreeMap<usize, KilledMember>,
    /// Time from the kill until a survivor knew of it, for all pairs.
    pub(crate) known_after_us: Vec<u64>,
    /// Pairs of which the survivor never knew.
    pub(crate) missing: usize,
    /// Times that a member was told to have failed that was not killed.
    pub(crate) false_failures: usize,
    /// Times that a member was suspected that was not killed.
    pub(crate) false_suspicions: usize,
    survivors: usize,
    /// All observations, which may come before the numbers of the killed members.
    notices: Vec<Observation>,
}

/// Killed member.
#[derive(Debug, Default)]
pub(crate) struct KilledMember {
    at_us: u64,
    /// Its process was killed, else it was dropped from one.
    pub(crate) by_signal: bool,
    /// Delay and observer of the first suspicion.
    pub(crate) first_suspected: Option<(u64, usize)>,
    pub(crate) first_failed: Option<(u64, usize)>,
    pub(crate) last_failed: Option<(u64, usize)>,
    pub(crate) failed_after_us: Vec<u64>,
}

impl DetectionLog {
    /// Empty log.
    pub(crate) fn new(placement: &Placement) -> Self {
        Self {
            survivors: placement.nodes() - placement.killed(),
            ..Self::default()
        }
    }

    /// These were killed.
    pub(crate) fn kill(
        &mut self,
        numbers: impl IntoIterator<Item = usize>,
        at_us: u64,
        by_signal: bool,
    ) {
        for number in numbers {
            let killed = KilledMember {
                at_us,
                by_signal,
                ..KilledMember::default()
            };
            self.killed.insert(number, killed);
        }
    }

    /// Takes in what was noticed.
    pub(crate) fn add(&mut self, notices: &[Observation]) {
        self.notices.extend(notices);
    }

    /// Whether every survivor knows of all killed members.
    pub(crate) fn is_complete(&self) -> bool {
        let known = self.notices.iter().filter(|it| {
            it.what == ObservedChange::Failed && self.is_expected(it.subject, it.observer)
        });
        let pairs: HashSet<_> = known.map(|it| (it.subject, it.observer)).collect();
        pairs.len() == self.killed.len() * self.survivors
    }

    /// Makes figures of it all.
    pub(crate) fn evaluate(&mut self) {
        let mut first = BTreeSet::new();
        let mut notices = std::mem::take(&mut self.notices);
        notices.sort_by_key(|notice| notice.at_us);
        for Observation {
            at_us,
            observer,
            subject,
            what,
        } in notices
        {
            if self.killed.contains_key(&observer) {
                continue;
            }
            let Some(killed) = self.killed.get_mut(&subject) else {
                self.false_failures += usize::from(what == ObservedChange::Failed);
                self.false_suspicions += usize::from(what == ObservedChange::Suspected);
                continue;
            };
            let after = at_us.saturating_sub(killed.at_us);
            match what {
                ObservedChange::Suspected => {
                    killed.first_suspected.get_or_insert((after, observer));
                }
                ObservedChange::Failed if first.insert((subject, observer)) => {
                    killed.first_failed.get_or_insert((after, observer));
                    killed.last_failed = Some((after, observer));
                    killed.failed_after_us.push(after);
                    self.known_after_us.push(after);
                }
                ObservedChange::Failed | ObservedChange::Recovered | ObservedChange::Lagged => {}
            }
        }
        self.missing = self.killed.len() * self.survivors - self.known_after_us.len();
    }

    /// Median time until the first survivor knew, in ms.
    pub(crate) fn first_ms(&self) -> Option<f64> {
        let killed = self.killed.values();
        let firsts = killed.filter_map(|killed| Some(ms(killed.first_failed?.0)));
        quantile(firsts.collect(), 0.5)
    }

    /// Time until this share of the survivors knew of a killed member, in ms.
    pub(crate) fn known_ms(&self, share: f64) -> Option<f64> {
        quantile(self.known_after_us.iter().copied().map(ms).collect(), share)
    }

    fn is_expected(&self, subject: usize, observer: usize) -> bool {
        self.killed.contains_key(&subject) && !self.killed.contains_key(&observer)
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
            assert!(!noticed.is_complete());
            // One that is killed counts for nothing; nor does one that says it twice.
            noticed.add(&[
                notice(200, 4, 5, ObservedChange::Failed),
                notice(200 + observer as u64, observer, 5, ObservedChange::Failed),
                notice(300 + observer as u64, observer, 4, ObservedChange::Failed),
                notice(900, 0, 4, ObservedChange::Failed),
            ]);
        }
        assert!(noticed.is_complete());
        noticed.add(&[notice(1, 2, 3, ObservedChange::Failed)]);
        noticed.evaluate();
        assert_eq!(
            (
                noticed.missing,
                noticed.false_failures,
                noticed.known_after_us.len()
            ),
            (0, 1, 8)
        );
        let killed = &noticed.killed[&4];
        assert_eq!(
            (
                killed.first_suspected,
                killed.first_failed,
                killed.last_failed
            ),
            (Some((20, 0)), Some((200, 0)), Some((203, 3)))
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
        noticed.evaluate();
        assert_eq!(noticed.missing, 4);
    }
}
