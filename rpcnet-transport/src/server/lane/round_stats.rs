//! Statistics of one poll of a lane, so that counters are updated once a poll.

use std::time::Duration;

use tokio::time::Instant;

use crate::{endpoint::EndpointShared, server::poll_cost::QUICK_MAX};

/// Counts from the beginning of a poll of the task to its end.
#[derive(Debug, Default)]
pub(super) struct RoundStats {
    /// Whether the round itself counts as a call being served.
    has_calls: bool,
    started: u64,
    completed: u64,
    queue_delay_max: Duration,
    /// Handlers polled since the clock was last read.
    unmeasured_polls: u32,
}

/// Decides when the clock is read: after each of many quick polls that would be a good part of
/// their cost.
#[derive(Debug, Default)]
pub(super) struct PollTimer {
    /// Number of polls that are measured one by one, since some were slow together.
    single_polls_left: u32,
}

impl RoundStats {
    /// Counts a request. Returns how many calls are being served, including it.
    pub(super) fn count_request(&mut self, shared: &EndpointShared) -> usize {
        if self.has_calls {
            return shared.served.in_flight.count();
        }
        self.has_calls = true;
        shared.served.in_flight.increment()
    }

    /// Records a handler that is started after it has waited for so long.
    pub(super) fn record_start(&mut self, waited: Duration) {
        self.started += 1;
        self.queue_delay_max = self.queue_delay_max.max(waited);
    }

    pub(super) fn record_completion(&mut self) {
        self.completed += 1;
    }

    /// Adds the counts to the counters of the server.
    pub(super) fn flush(&mut self, shared: &EndpointShared) {
        let Self {
            has_calls,
            started,
            completed,
            queue_delay_max: waited,
            ..
        } = std::mem::take(self);
        if started > 0 {
            shared.counters.calls_started.add(started);
            shared.queue_delay.record(waited);
        }
        if completed > 0 {
            shared.counters.calls_completed.add(completed);
        }
        if has_calls {
            shared.served.in_flight.decrement();
        }
    }
}

impl PollTimer {
    /// Records that a handler was polled where its request was read. Returns how long that took, if
    /// it was measured and is known of this handler alone or to have been quick.
    #[inline(always)]
    pub(super) fn lap(&mut self, round: &mut RoundStats, now: &mut Instant) -> Option<Duration> {
        round.unmeasured_polls += 1;
        let is_first = round.started == 1;
        if !is_first && self.single_polls_left == 0 && round.unmeasured_polls < BATCH_POLLS_MAX {
            return None;
        }
        let polls = std::mem::take(&mut round.unmeasured_polls);
        let began = std::mem::replace(now, Instant::now());
        let took = now.duration_since(began);
        self.single_polls_left = self.single_polls_left.saturating_sub(1);
        if polls == 1 || took <= QUICK_MAX {
            return Some(took);
        }
        self.single_polls_left = single_polls_after(took);
        None
    }
}

/// Polls that are measured together.
const BATCH_POLLS_MAX: u32 = 8;

/// How many polls are measured one by one after some took so long together: the longer they took,
/// the rarer the slow ones may be.
fn single_polls_after(took: Duration) -> u32 {
    let times = u32::try_from(took.as_micros() / QUICK_MAX.as_micros()).unwrap_or(u32::MAX);
    times.saturating_mul(SINGLE_POLLS).min(SINGLE_POLLS_MAX)
}

/// Polls measured one by one after a batch took as long as one quick poll may.
const SINGLE_POLLS: u32 = 64;
const SINGLE_POLLS_MAX: u32 = 64 * 1024;

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;
    use crate::server::poll_cost::PollCost;

    /// Serves calls in rounds of twelve; every so many calls one blocks for a time. Returns how
    /// many blocked before the handler got a task.
    async fn blocked(every: u32, time_ms: u64, calls: u32) -> u32 {
        let mut now = Instant::now();
        let cost = PollCost::new(now);
        let mut poll_timer = PollTimer::default();
        let mut round = RoundStats::default();
        let mut blocked = 0;
        for call in 1..=calls {
            if call % 12 == 0 {
                round = RoundStats::default();
                now = Instant::now();
            }
            if cost.is_slow() {
                break;
            }
            round.record_start(Duration::ZERO);
            if call % every == 0 {
                blocked += 1;
                advance(Duration::from_millis(time_ms)).await;
            } else {
                advance(Duration::from_micros(2)).await;
            }
            if let Some(took) = poll_timer.lap(&mut round, &mut now) {
                cost.record(took, now);
            }
        }
        blocked
    }

    #[tokio::test(start_paused = true)]
    async fn handlers_that_block_now_and_then_are_found_in_batches() {
        // At most one more, which was measured together with others.
        for (every, time_ms) in [(25, 20), (40, 300), (997, 20)] {
            let blocked = blocked(every, time_ms, 100_000).await;
            assert!(blocked <= 3, "{blocked} of 1 in {every}, {time_ms} ms");
        }
    }
}
