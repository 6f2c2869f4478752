//! Poll cost of handlers: whether a method is polled inline, where its request was read.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use tokio::time::Instant;

/// Where the handler of a unary method runs when its call shares a lane with others. Calls with
/// streams of their own have tasks of their own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Dispatch {
    /// The default: the handler is polled once inline, where its request was read, and gets a task
    /// of its own if it has to wait. A handler that computes or blocks for more than 100 us before
    /// its first await gets a task from the start, once it has done so twice, unless so many quick
    /// calls lie in between that it took less than some 10 us a call. It is polled inline again
    /// after as many quick calls as make up for the time that it took, or after some minutes.
    #[default]
    Adaptive,
    /// The handler is always polled first inline, however long that takes. Other calls of the lane
    /// wait meanwhile.
    Inline,
    /// The handler always has a task of its own: for handlers that are known to compute.
    Spawned,
}

/// How long the first polls of a handler block the thread.
///
/// A slow poll adds points in proportion to its time, a quick poll takes one point away, and half
/// of the points are forgotten in each half-life. So a handler counts as slow if it blocks for much
/// time in all, however many of its polls are quick.
#[derive(Debug)]
pub(super) struct PollCost {
    began: Instant,
    /// From the lowest bit: points, whether the handler is slow, and the half-lives up to which
    /// points are forgotten. Written by many threads without a lock: a poll that is lost now and
    /// then does not matter.
    state: AtomicU64,
}

/// Decoded state of a handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct CostState {
    points: u32,
    is_slow: bool,
    half_lives: u32,
}

impl PollCost {
    /// The cost of a handler that was not polled before this time.
    pub(super) fn new(began: Instant) -> Self {
        Self {
            began,
            state: AtomicU64::new(0),
        }
    }

    /// Whether the handler needs a task from the start.
    pub(super) fn is_slow(&self) -> bool {
        CostState::decode(self.state.load(Relaxed)).is_slow
    }

    /// Records how long a first poll took. One slow poll may be the fault of the machine; a second
    /// one, while the first is remembered, marks the handler as slow.
    pub(super) fn record(&self, first_poll: Duration, now: Instant) {
        let before = self.state.load(Relaxed);
        let is_quick = first_poll <= QUICK_MAX;
        // Most handlers are quick each time.
        if is_quick && before & POINTS == 0 {
            return;
        }
        let elapsed = now.saturating_duration_since(self.began).as_secs();
        let half_lives = u32::try_from(elapsed / HALF_LIFE_SECS).unwrap_or(u32::MAX);
        let after = CostState::decode(before).after_poll(first_poll, half_lives);
        self.state.store(after.encode(), Relaxed);
    }
}

impl CostState {
    fn after_poll(mut self, first_poll: Duration, half_lives: u32) -> Self {
        let passed = half_lives.saturating_sub(self.half_lives);
        self.points = self.points.checked_shr(passed).unwrap_or(0);
        self.half_lives = half_lives.max(self.half_lives);
        if first_poll > QUICK_MAX {
            self.is_slow |= self.points >= REMEMBERED_POINTS_MIN;
            let points = first_poll.as_micros() * u128::from(POINTS_SLOW) / QUICK_MAX.as_micros();
            let points = u32::try_from(points).unwrap_or(u32::MAX);
            self.points = self.points.saturating_add(points).min(POINTS_MAX);
        } else {
            self.points = self.points.saturating_sub(1);
        }
        self.is_slow &= self.points > 0;
        self
    }

    fn encode(self) -> u64 {
        u64::from(self.points) | u64::from(self.is_slow) << 31 | u64::from(self.half_lives) << 32
    }

    fn decode(state: u64) -> Self {
        Self {
            points: (state & POINTS) as u32,
            is_slow: state & SLOW != 0,
            half_lives: (state >> 32) as u32,
        }
    }
}

/// Longest first poll of a quick handler.
pub(super) const QUICK_MAX: Duration = Duration::from_micros(100);

/// Points of a poll of that time, in proportion for longer ones: so many quick polls make up for
/// it.
const POINTS_SLOW: u32 = 16;

/// Points from which on an earlier slow poll counts.
const REMEMBERED_POINTS_MIN: u32 = POINTS_SLOW / 2;

/// Points of a poll of one second. Longer polls count no more.
const POINTS_MAX: u32 = 10_000 * POINTS_SLOW;

/// A second is forgotten after nine minutes, a millisecond after four.
const HALF_LIFE_SECS: u64 = 30;

/// Set until all points are gone.
const SLOW: u64 = 1 << 31;
const POINTS: u64 = SLOW - 1;

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Duration = Duration::from_micros(5);
    const LONG: Duration = Duration::from_micros(101);

    #[test]
    fn two_slow_polls_mark_the_handler_slow() {
        let now = Instant::now();
        let cost = PollCost::new(now);
        cost.record(LONG, now);
        assert!(!cost.is_slow());
        for _ in 0..16 {
            cost.record(QUICK, now);
        }
        cost.record(LONG, now);
        assert!(!cost.is_slow(), "the first is forgotten");
        cost.record(LONG, now);
        assert!(cost.is_slow());
    }

    /// Polls of which one in every so many blocks for a time, at this rate. Returns how many of
    /// them blocked before the handler got a task.
    fn blocked(every: u32, time: Duration, calls_per_s: f64, calls: u32) -> u32 {
        let began = Instant::now();
        let cost = PollCost::new(began);
        let mut blocked = 0;
        for call in 1..=calls {
            let now = began + Duration::from_secs_f64(f64::from(call) / calls_per_s);
            let is_long = call % every == 0;
            blocked += u32::from(is_long && !cost.is_slow());
            cost.record(if is_long { time } else { QUICK }, now);
        }
        blocked
    }

    #[test]
    fn a_second_slow_poll_marks_the_handler_at_any_call_rate() {
        let ms = Duration::from_millis;
        for rate in [1.0, 50.0, 1_000.0, 100_000.0] {
            assert_eq!(blocked(25, ms(20), rate, 10_000), 2, "{rate} calls/s");
            assert_eq!(blocked(40, ms(300), rate, 10_000), 2, "{rate} calls/s");
            assert_eq!(blocked(1_000, ms(20), rate.max(50.0), 50_000), 2, "{rate}");
        }
    }

    #[test]
    fn preemption_does_not_mark_a_quick_handler_slow() {
        // 4 ms of another process, every 20 ms.
        let accidents = blocked(6_000, Duration::from_millis(4), 300_000.0, 600_000);
        assert_eq!(accidents, 100);
    }

    #[test]
    fn many_quick_polls_clear_the_slow_mark() {
        let now = Instant::now();
        let cost = PollCost::new(now);
        for _ in 0..10 {
            cost.record(LONG, now);
        }
        let quick = (0..1_000).take_while(|_| {
            cost.record(QUICK, now);
            cost.is_slow()
        });
        assert_eq!(quick.count(), 10 * POINTS_SLOW as usize - 1);
    }

    #[test]
    fn minutes_with_few_calls_clear_the_slow_mark() {
        let began = Instant::now();
        let cost = PollCost::new(began);
        for _ in 0..1_000 {
            cost.record(Duration::MAX, began);
        }
        let minute = |minute: u64| began + Duration::from_secs(60 * minute);
        cost.record(QUICK, minute(7));
        assert!(cost.is_slow());
        cost.record(QUICK, minute(9));
        assert!(!cost.is_slow());
        // Clocks that differ between threads do not forget points twice.
        cost.record(LONG, minute(20));
        cost.record(LONG, minute(10));
        assert!(cost.is_slow());
    }
}
