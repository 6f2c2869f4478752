//! Running time: monotonic time without the gaps in which the process was stopped.

use std::time::Duration;

use crate::time::Time;

/// Clock of an engine. All its deadlines are in running time.
#[derive(Debug)]
pub(crate) struct RunningClock {
    /// Sum of the gaps.
    stopped: Duration,
    last: Time,
}

impl RunningClock {
    pub(crate) fn new(now: Time) -> Self {
        Self {
            stopped: Duration::ZERO,
            last: now,
        }
    }

    /// Running time of the last input.
    pub(crate) fn last(&self) -> Time {
        self.last
    }

    /// Running time at `now`, for a question that changes nothing.
    pub(crate) fn at(&self, now: Time) -> Time {
        (now - self.stopped).max(self.last)
    }

    /// Time of the caller at which running time is `at`, if the process is not stopped until then.
    pub(crate) fn caller_time(&self, at: Time) -> Time {
        at + self.stopped
    }

    /// Goes on to `now`. Says whether the process was stopped: the earliest deadline, `due`, was
    /// missed by more than `threshold`. Then running time stands still for the whole gap, so that
    /// no member is judged for what this node could not have heard.
    pub(crate) fn advance(&mut self, now: Time, due: Option<Time>, threshold: Duration) -> bool {
        let mut running = self.at(now);
        let missed = due.filter(|due| running.since(*due) > threshold);
        if let Some(due) = missed {
            // Not further back than it has been: what lies before is due already.
            let gap = running.since(due.max(self.last));
            self.stopped += gap;
            running = running - gap;
        }
        self.last = running.max(self.last);
        missed.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THRESHOLD: Duration = Duration::from_millis(250);

    #[test]
    fn a_missed_deadline_shifts_running_time_by_the_gap() {
        let at = Time::from_millis;
        let mut clock = RunningClock::new(at(0));
        assert!(
            !clock.advance(at(1_250), Some(at(1_000)), THRESHOLD),
            "late, not stopped"
        );
        assert_eq!(clock.last(), at(1_250));
        assert!(clock.advance(at(9_000), Some(at(2_000)), THRESHOLD));
        assert_eq!(clock.last(), at(2_000));
        assert_eq!(clock.at(at(9_500)), at(2_500));
        assert_eq!(clock.caller_time(at(2_500)), at(9_500));
    }

    #[test]
    fn running_time_never_goes_back() {
        let at = Time::from_millis;
        let mut clock = RunningClock::new(at(5_000));
        assert!(!clock.advance(at(4_000), None, THRESHOLD));
        assert_eq!((clock.last(), clock.at(at(0))), (at(5_000), at(5_000)));
        // A deadline of before the last input shifts no further back than that input.
        assert!(clock.advance(at(8_000), Some(at(1_000)), THRESHOLD));
        assert_eq!(clock.last(), at(5_000));
    }
}
