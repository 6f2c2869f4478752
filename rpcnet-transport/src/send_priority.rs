//! QUIC stream priorities: what is sent first when a path carries less than is to be sent.

use std::time::Duration;

use tokio::time::Instant;

/// Priority of the control stream, on which a server announces its state. Its few bytes are never
/// held up by bulk traffic.
pub(crate) const CONTROL: i32 = 2;

/// Priority of lanes that use little of the path.
pub(crate) const AHEAD: i32 = 1;

/// Priority of all other streams, the default of QUIC. They share the path packet by packet.
pub(crate) const FAIR: i32 = 0;

/// Send rate of one lane, and the priority that follows from it.
///
/// A lane is sent ahead of bulk streams as long as it uses at most an eighth of what the path
/// carries. A lane that uses more is bulk traffic itself and shares the path with the others:
/// strict priority would starve them for as long as small calls fill the path.
#[derive(Debug)]
pub(crate) struct LaneSendRate {
    /// Bytes sent since `since`.
    bytes: u64,
    since: Instant,
    is_ahead: bool,
}

impl LaneSendRate {
    /// A lane that has sent nothing. It is sent ahead.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            bytes: 0,
            since: now,
            is_ahead: true,
        }
    }

    pub(crate) fn priority(&self) -> i32 {
        if self.is_ahead { AHEAD } else { FAIR }
    }

    /// Counts bytes that were given to QUIC. Returns whether it is time for a
    /// [`sample`](Self::sample). That is rare for a lane that is sent ahead, so that most writes do
    /// not read the clock.
    pub(crate) fn record(&mut self, bytes: usize) -> bool {
        self.bytes += bytes as u64;
        self.bytes >= SAMPLE_BYTES || !self.is_ahead
    }

    /// Compares the send rate with the rate of the path, whose congestion window and round-trip
    /// time `path` returns. Returns whether the priority has changed.
    pub(crate) fn sample(&mut self, now: Instant, path: impl FnOnce() -> (u64, Duration)) -> bool {
        let elapsed = now.saturating_duration_since(self.since);
        if self.bytes < SAMPLE_BYTES && elapsed < SAMPLE_TIME {
            return false;
        }
        let (window, round_trip) = path();
        // Bytes per time against window per round trip, without a division.
        let used = u128::from(self.bytes) * round_trip.as_nanos() * u128::from(PATH_SHARE_DIVISOR);
        let is_ahead = used <= u128::from(window) * elapsed.as_nanos();
        (self.bytes, self.since) = (0, now);
        std::mem::replace(&mut self.is_ahead, is_ahead) != is_ahead
    }
}

/// A lane is sent ahead if it uses at most one part in so many of the rate of the path.
const PATH_SHARE_DIVISOR: u64 = 8;

/// Bytes after which the rate is sampled: frames of some hundred small calls.
const SAMPLE_BYTES: u64 = 32 * 1_024;

/// Time after which the rate of a lane that is not sent ahead is sampled, if it sends less.
const SAMPLE_TIME: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    /// 100 Mbit/s.
    const PATH: (u64, Duration) = (250_000, Duration::from_millis(20));

    /// Sends so many bytes each millisecond, in one write. Returns the priorities that were set.
    fn send(rate: &mut LaneSendRate, now: &mut Instant, bytes: usize, time_ms: u64) -> Vec<i32> {
        let mut set = Vec::new();
        for _ in 0..time_ms {
            *now += Duration::from_millis(1);
            if rate.record(bytes) && rate.sample(*now, || PATH) {
                set.push(rate.priority());
            }
        }
        set
    }

    #[test]
    fn a_lane_above_an_eighth_of_the_path_loses_its_priority() {
        let mut now = Instant::now();
        let mut rate = LaneSendRate::new(now);
        assert_eq!(rate.priority(), AHEAD);
        // The path carries 12,500 bytes a millisecond.
        assert_eq!(send(&mut rate, &mut now, 1_500, 1_000), []);
        assert_eq!(send(&mut rate, &mut now, 2_000, 1_000), [FAIR]);
        assert_eq!(send(&mut rate, &mut now, 10, 99), [AHEAD]);
        assert_eq!(send(&mut rate, &mut now, 10, 10_000), []);
    }

    #[test]
    fn a_burst_after_a_pause_is_sent_ahead() {
        let mut now = Instant::now();
        let mut rate = LaneSendRate::new(now);
        for _ in 0..10 {
            now += Duration::from_secs(1);
            assert!(rate.record(1_000_000));
            assert!(!rate.sample(now, || PATH));
            assert_eq!(rate.priority(), AHEAD);
        }
    }

    #[test]
    fn small_writes_of_a_prioritised_lane_read_no_clock() {
        let mut rate = LaneSendRate::new(Instant::now());
        assert!((0..SAMPLE_BYTES - 1).all(|_| !rate.record(1)));
        assert!(rate.record(1));
    }
}
