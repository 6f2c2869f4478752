//! Link: one direction between two addresses of the network.

use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroU64,
    ops::RangeInclusive,
    time::Duration,
};

use tokio::time::Instant;

/// Settings of one link, in place of those of the network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct LinkFault {
    pub(super) is_partitioned: bool,
    pub(super) loss_per_mille: Option<u16>,
    pub(super) delay: Option<DelayRange>,
}

/// State of one link.
#[derive(Debug)]
pub(super) struct Link {
    rng: SplitMix,
    /// Time until which a link with a limited rate sends what is in its queue.
    pub(super) busy_until: Option<Instant>,
    /// Latest arrival.
    last_due: Option<Instant>,
}

impl Link {
    pub(super) fn new(seed: u64, from: SocketAddr, to: SocketAddr) -> Self {
        Self {
            rng: SplitMix::of_addrs(seed, &[from, to]),
            busy_until: None,
            last_due: None,
        }
    }

    /// Whether the next datagram is lost.
    pub(super) fn draw_loss(&mut self, per_mille: u16) -> bool {
        per_mille > 0 && self.rng.next() % 1_000 < u64::from(per_mille)
    }

    /// Arrival of a datagram that is sent at this time: not before those that were sent before it.
    pub(super) fn draw_due(&mut self, sent_at: Instant, delay: &DelayRange) -> Instant {
        let due = sent_at + delay.draw(&mut self.rng);
        let due = self.last_due.map_or(due, |last| due.max(last));
        self.last_due = Some(due);
        due
    }
}

/// Range of delays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct DelayRange {
    min: Duration,
    max: Duration,
}

impl DelayRange {
    fn draw(&self, rng: &mut SplitMix) -> Duration {
        let width = u64::try_from(self.max.saturating_sub(self.min).as_nanos()).unwrap_or(u64::MAX);
        match width.checked_add(1) {
            // Nothing to draw: a network without random delays draws only losses.
            Some(1) => self.min,
            Some(choices) => self.min + Duration::from_nanos(rng.next() % choices),
            None => self.min + Duration::from_nanos(rng.next()),
        }
    }
}

impl From<RangeInclusive<Duration>> for DelayRange {
    fn from(range: RangeInclusive<Duration>) -> Self {
        let (min, max) = range.into_inner();
        Self { min, max }
    }
}

/// Rate limit of a link; see [`MemoryNetwork::set_rate`](super::MemoryNetwork::set_rate).
#[derive(Debug, Clone, Copy)]
pub(super) struct LinkRate {
    pub(super) rate: NonZeroU64,
    pub(super) queue_bytes: usize,
}

impl LinkRate {
    /// Time at which a link that is busy until `idle_at` has sent a datagram of this size; `None`
    /// if its queue is full.
    pub(super) fn sent_at(
        &self,
        now: Instant,
        idle_at: Option<Instant>,
        bytes: usize,
    ) -> Option<Instant> {
        let idle_at = idle_at.map_or(now, |at| at.max(now));
        let rate = self.rate.get() as f64;
        let waiting = (idle_at - now).as_secs_f64() * rate;
        // As with a socket, one datagram fits whatever the bound.
        if waiting > 0.0 && waiting + bytes as f64 > self.queue_bytes as f64 {
            return None;
        }
        idle_at.checked_add(Duration::from_secs_f64(bytes as f64 / rate))
    }
}

/// SplitMix64 (Steele, Lea, Flood, 2014, figure 10).
#[derive(Debug, Clone)]
pub(super) struct SplitMix(u64);

impl SplitMix {
    /// Generator whose sequence belongs to this seed and these addresses.
    pub(super) fn of_addrs(seed: u64, addrs: &[SocketAddr]) -> Self {
        let mut rng = Self(seed);
        for addr in addrs {
            let ip = match addr.ip() {
                IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                IpAddr::V6(ip) => ip,
            };
            let ip = u128::from(ip);
            for part in [ip as u64, (ip >> 64) as u64, u64::from(addr.port())] {
                rng = Self(rng.next() ^ part);
            }
        }
        rng
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
