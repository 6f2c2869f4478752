//! Backoff for opening a lane again that the server has reset.

use std::time::Duration;

use tokio::time::Instant;

/// Exponential backoff for opening a lane again that the server has reset: one second, doubled with
/// each reset without a reply in between. The calls on a lane that is reset fail.
#[derive(Debug, Default)]
pub(super) struct ReopenBackoff {
    /// Resets since the last reply.
    resets: u32,
    /// Time from which the lane may be opened; `None` if it was not reset.
    at: Option<Instant>,
}

impl ReopenBackoff {
    /// Records that the server has reset the lane.
    pub(super) fn on_reset(&mut self, now: Instant) {
        let factor = 1_u32.checked_shl(self.resets).unwrap_or(u32::MAX);
        let wait = BACKOFF_MIN.saturating_mul(factor).min(BACKOFF_MAX);
        self.resets = self.resets.saturating_add(1);
        self.at = now.checked_add(wait);
    }

    /// Records that the server has answered a call of the lane.
    pub(super) fn on_reply(&mut self) {
        self.resets = 0;
    }

    /// Whether the lane may be opened now; if so, the backoff is taken.
    pub(super) fn take_due(&mut self, now: Instant) -> bool {
        self.at.take_if(|at| *at <= now).is_some()
    }
}

const BACKOFF_MIN: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_resets_double_the_backoff() {
        let (mut lane, mut now) = (ReopenBackoff::default(), Instant::now());
        assert!(!lane.take_due(now), "it was not reset");
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            lane.on_reset(now);
            let wait = Duration::from_secs(seconds);
            assert!(!lane.take_due(now + wait - Duration::from_millis(1)));
            now += wait;
            assert!(lane.take_due(now) && !lane.take_due(now), "once");
        }
        lane.on_reply();
        lane.on_reset(now);
        assert!(lane.take_due(now + BACKOFF_MIN));
    }
}
