//! Round-trip state of one member: the last sample and what it says of slowness, in 8 bytes.

use std::time::Duration;

use crate::time::Time;

/// Last round trip of a member, and findings of slowness: 8 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RttState {
    /// Last round trip in microseconds; above it the flags.
    rtt_and_flags: u32,
    /// Time of that sample, in tenths of a second since the origin and one more; 0 is never.
    sampled_at: u32,
}

impl RttState {
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
        self.rtt_and_flags = micros.min(RTT_MASK) | flags;
        let tenths = now.as_micros() / TENTH_MICROS;
        self.sampled_at = u32::try_from(tenths + 1).unwrap_or(u32::MAX);
    }

    pub(crate) fn is_slow(self) -> bool {
        self.rtt_and_flags & SLOW != 0
    }

    pub(super) fn is_doubted(self) -> bool {
        self.rtt_and_flags & DOUBT != 0
    }

    /// Clears the findings of this node.
    pub(crate) fn clear_findings(&mut self) {
        self.rtt_and_flags &= RTT_MASK;
    }

    /// Time of the last sample, to a tenth of a second, not later than it was.
    pub(super) fn sampled_at(self) -> Time {
        Time::from_micros(u64::from(self.sampled_at.saturating_sub(1)) * TENTH_MICROS)
    }

    pub(super) fn last_sample(self, now: Time) -> Option<(Duration, Duration)> {
        let tenths = u64::from(self.sampled_at.checked_sub(1)?);
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
const RTT_MASK: u32 = DOUBT - 1;
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
        rtt_state.add_sample(Time::ZERO, year, Timeliness::Late, true);
        rtt_state.clear_findings();
        assert!(!rtt_state.is_slow());
    }
}
