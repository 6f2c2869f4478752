//! Round-trip state of one member: the last sample and what it says of slowness, in 8 bytes.

use std::time::Duration;

use crate::time::Time;

/// Last round trip of a member, findings of slowness, and its own report: 8 bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RttState {
    /// Last round trip in microseconds; above it the flags.
    rtt_and_flags: u32,
    /// Time of that sample, in tenths of a second since the origin and one more; 0 is never. Above
    /// it whether the member reports itself unreachable.
    sampled_at_and_flag: u32,
}

impl RttState {
    pub(crate) fn new(says_slow: bool, says_unreachable: bool) -> Self {
        let mut rtt_state = Self::default();
        rtt_state.set_self_reports_slow(says_slow);
        rtt_state.set_self_reports_unreachable(says_unreachable);
        rtt_state
    }

    /// Whether the member reports that no peer reaches it.
    pub(crate) fn self_reports_unreachable(self) -> bool {
        self.sampled_at_and_flag & SELF_REPORTED_UNREACHABLE != 0
    }

    pub(crate) fn set_self_reports_unreachable(&mut self, unreachable: bool) {
        self.sampled_at_and_flag = self.sampled_at_and_flag & SAMPLED_AT_MASK
            | (u32::from(unreachable) * SELF_REPORTED_UNREACHABLE);
    }

    /// Whether the member reports itself slow.
    pub(crate) fn self_reports_slow(self) -> bool {
        self.rtt_and_flags & SELF_REPORTED_SLOW != 0
    }

    pub(crate) fn set_self_reports_slow(&mut self, slow: bool) {
        self.rtt_and_flags =
            self.rtt_and_flags & !SELF_REPORTED_SLOW | (u32::from(slow) * SELF_REPORTED_SLOW);
    }

    /// Adds a sample. Two consecutive samples decide: the first that differs raises a doubt, the
    /// next settles it. To find a member slow takes a witness that this node is not the slow one.
    pub(super) fn add_sample(
        &mut self,
        now: Time,
        rtt: Duration,
        timeliness: Timeliness,
        witnessed: bool,
    ) {
        let (slow, is_in_doubt) = (self.is_slow(), self.is_doubted());
        let contradicts = match slow {
            true => timeliness == Timeliness::OnTime,
            false => timeliness == Timeliness::Late,
        };
        let is_confirmed = contradicts && is_in_doubt && (slow || witnessed);
        let slow = slow != is_confirmed;
        let is_in_doubt = contradicts && !is_confirmed;
        let micros = u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX);
        let flags = (u32::from(slow) * SLOW) | (u32::from(is_in_doubt) * DOUBT);
        self.rtt_and_flags =
            micros.min(RTT_MASK) | flags | (self.rtt_and_flags & SELF_REPORTED_SLOW);
        let tenths = now.as_micros() / TENTH_MICROS;
        let at = u32::try_from(tenths + 1)
            .unwrap_or(SAMPLED_AT_MASK)
            .min(SAMPLED_AT_MASK);
        self.sampled_at_and_flag = at | (self.sampled_at_and_flag & SELF_REPORTED_UNREACHABLE);
    }

    pub(crate) fn is_slow(self) -> bool {
        self.rtt_and_flags & SLOW != 0
    }

    pub(super) fn is_doubted(self) -> bool {
        self.rtt_and_flags & DOUBT != 0
    }

    /// Clears the findings of this node.
    pub(crate) fn clear_findings(&mut self) {
        self.rtt_and_flags &= RTT_MASK | SELF_REPORTED_SLOW;
    }

    /// Time of the last sample, to a tenth of a second, not later than it was.
    pub(super) fn sampled_at(self) -> Time {
        let at = self.sampled_at_and_flag & SAMPLED_AT_MASK;
        Time::from_micros(u64::from(at.saturating_sub(1)) * TENTH_MICROS)
    }

    pub(super) fn last_sample(self, now: Time) -> Option<(Duration, Duration)> {
        let tenths = u64::from((self.sampled_at_and_flag & SAMPLED_AT_MASK).checked_sub(1)?);
        let age = now.since(Time::from_micros(tenths * TENTH_MICROS));
        let rtt = Duration::from_micros(u64::from(self.rtt_and_flags & RTT_MASK));
        Some((rtt, age))
    }
}

/// Timeliness of a round trip, relative to the probe timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timeliness {
    OnTime,
    Borderline,
    Late,
}

const SLOW: u32 = 1 << 31;
const DOUBT: u32 = 1 << 30;
const SELF_REPORTED_SLOW: u32 = 1 << 29;
const RTT_MASK: u32 = SELF_REPORTED_SLOW - 1;
const SELF_REPORTED_UNREACHABLE: u32 = 1 << 31;
const SAMPLED_AT_MASK: u32 = SELF_REPORTED_UNREACHABLE - 1;
const TENTH_MICROS: u64 = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_samples_in_a_row_decide() {
        let mut rtt_state = RttState::default();
        assert_eq!(rtt_state.last_sample(Time::ZERO), None);
        rtt_state.add_sample(Time::ZERO, Duration::ZERO, Timeliness::Late, true);
        rtt_state.add_sample(Time::ZERO, Duration::ZERO, Timeliness::Late, false);
        assert!(
            !rtt_state.is_slow() && rtt_state.is_doubted(),
            "without a witness"
        );
        for (timeliness, slow, is_in_doubt) in [
            (Timeliness::OnTime, false, false),
            (Timeliness::Late, false, true),
            (Timeliness::OnTime, false, false),
            (Timeliness::Late, false, true),
            (Timeliness::Borderline, false, false),
            (Timeliness::Late, false, true),
            (Timeliness::Late, true, false),
            (Timeliness::Late, true, false),
            (Timeliness::Borderline, true, false),
            (Timeliness::OnTime, true, true),
            (Timeliness::Late, true, false),
            (Timeliness::OnTime, true, true),
            (Timeliness::OnTime, false, false),
            (Timeliness::OnTime, false, false),
        ] {
            rtt_state.add_sample(Time::ZERO, Duration::from_millis(3), timeliness, true);
            assert_eq!(
                (rtt_state.is_slow(), rtt_state.is_doubted()),
                (slow, is_in_doubt)
            );
        }
    }

    #[test]
    fn eight_bytes_remember_the_last_round_trip_for_years() {
        assert_eq!(size_of::<RttState>(), 8);
        let year = Duration::from_secs(365 * 24 * 3_600);
        for (rtt, at) in [(1, 0), (250_000, 99_999), (500_000_000, 5)] {
            let (rtt, at) = (Duration::from_micros(rtt), Time::from_micros(at) + 5 * year);
            let mut rtt_state = RttState::default();
            rtt_state.add_sample(at, rtt, Timeliness::Late, true);
            let (kept, age) = rtt_state.last_sample(at + year).unwrap();
            assert_eq!(kept, rtt);
            assert!(age >= year && age < year + Duration::from_millis(100));
        }
        // A value that does not fit counts as the largest that fits.
        let mut rtt_state = RttState::default();
        rtt_state.add_sample(Time::ZERO, year, Timeliness::OnTime, true);
        assert!(!rtt_state.is_slow() && !rtt_state.is_doubted());
        assert!(rtt_state.last_sample(Time::ZERO).unwrap().0 > Duration::from_secs(500));
        // The member's own report is apart from the findings.
        rtt_state.set_self_reports_slow(true);
        rtt_state.add_sample(Time::ZERO, year, Timeliness::Late, true);
        rtt_state.clear_findings();
        assert!(rtt_state.self_reports_slow() && !rtt_state.is_slow());
        rtt_state.set_self_reports_slow(false);
        assert!(!rtt_state.self_reports_slow());
        let last = rtt_state.last_sample(Time::ZERO + year);
        rtt_state.set_self_reports_unreachable(true);
        rtt_state.clear_findings();
        assert!(
            rtt_state.self_reports_unreachable()
                && rtt_state.last_sample(Time::ZERO + year) == last
        );
        rtt_state.add_sample(Time::ZERO, year, Timeliness::OnTime, true);
        assert!(rtt_state.self_reports_unreachable() && !rtt_state.self_reports_slow());
        rtt_state.set_self_reports_unreachable(false);
        assert!(!rtt_state.self_reports_unreachable());
    }
}
