//! Link: delay, loss, duplication and reordering of one direction between two nodes.

use std::time::Duration;

use fastrand::Rng;

/// Properties of one direction between two nodes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Link {
    /// Least delay.
    pub delay: Duration,
    /// Mean of the additional delay, exponentially distributed, so that datagrams overtake each
    /// other.
    pub jitter: Duration,
    /// Chance that a datagram is lost.
    pub loss: f64,
    /// Chance that a datagram arrives twice.
    pub duplicate: f64,
    /// Chance that a datagram is held back for up to [`Link::reorder_delay_max`].
    pub reorder: f64,
    /// Longest that a reordered datagram is held back.
    pub reorder_delay_max: Duration,
    /// Path MTU: largest IP packet that passes, in bytes. A larger one is lost without an ICMP
    /// message.
    pub mtu: usize,
}

impl Link {
    /// Preset of a quiet data centre: half a millisecond, nothing lost.
    #[must_use]
    pub const fn lan() -> Self {
        Self {
            delay: Duration::from_micros(200),
            jitter: Duration::from_micros(300),
            loss: 0.0,
            duplicate: 0.0,
            reorder: 0.0,
            reorder_delay_max: Duration::from_millis(50),
            mtu: usize::MAX,
        }
    }

    /// Preset between regions: 30 ms one way, a tenth of it as jitter, nothing lost.
    #[must_use]
    pub const fn wan() -> Self {
        Self::lan().with_delay(Duration::from_millis(30))
    }

    /// The same link with this chance of loss.
    #[must_use]
    pub const fn with_loss(mut self, loss: f64) -> Self {
        self.loss = loss;
        self
    }

    /// The same link with this least delay, and a tenth of it as jitter.
    #[must_use]
    pub const fn with_delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self.jitter = Duration::from_micros(delay.as_micros() as u64 / 10);
        self
    }

    /// The same link with this path MTU, in bytes of an IP packet: a larger packet is dropped, and
    /// no ICMP message tells the sender, as on many tunnels.
    #[must_use]
    pub const fn with_mtu(mut self, bytes: usize) -> Self {
        self.mtu = bytes;
        self
    }

    /// Draws the delay of one datagram.
    pub(super) fn sample_delay(&self, rng: &mut Rng) -> Duration {
        let jitter = self.jitter.mul_f64(-(1.0 - rng.f64()).ln());
        let held = match rng.f64() < self.reorder {
            true => self.reorder_delay_max.mul_f64(rng.f64()),
            false => Duration::ZERO,
        };
        self.delay + jitter + held
    }
}
