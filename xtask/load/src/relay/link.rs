//! Link with a rate and a delay, and a queue in front of it.

use std::{
    io,
    sync::mpsc::{SyncSender, sync_channel},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::Link;

/// Arrival times of packets on a link.
#[derive(Debug)]
pub(super) struct Shaper {
    link: Link,
    /// Time at which all packets so far have been sent.
    idle_at: Instant,
}

impl Shaper {
    pub(super) fn new(link: Link, now: Instant) -> Self {
        Self { link, idle_at: now }
    }

    /// Arrival time of a packet of this size that is sent now, or how long the queue is full.
    pub(super) fn schedule(&mut self, now: Instant, bytes: usize) -> Result<Instant, Duration> {
        let idle_at = self.idle_at.max(now);
        let queue = self.transmission_time(self.link.queue_bytes as usize);
        let sent_at = idle_at + self.transmission_time(bytes);
        // One gets in whatever the bound.
        if idle_at > now && sent_at > now + queue {
            return Err(sent_at - (now + queue));
        }
        self.idle_at = sent_at;
        Ok(sent_at + self.link.one_way)
    }

    fn transmission_time(&self, bytes: usize) -> Duration {
        Duration::from_secs_f64(bytes as f64 / f64::from(self.link.bytes_per_s))
    }
}

/// Passes packets on in order, each when it is due, in a thread of its own, until `send` fails or
/// the channel ends.
pub(super) fn send_when_due(
    mut send: impl FnMut(&[u8]) -> io::Result<()> + Send + 'static,
) -> (SyncSender<(Instant, Vec<u8>)>, JoinHandle<()>) {
    let (packets, waiting) = sync_channel::<(Instant, Vec<u8>)>(PACKETS_MAX);
    let thread = thread::spawn(move || {
        while let Ok((due, packet)) = waiting.recv() {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if send(&packet).is_err() {
                break;
            }
        }
    });
    (packets, thread)
}

/// Passes datagrams on: at once, or over a link.
pub(super) enum RelayPath<F> {
    Direct(F),
    Link {
        shaper: Shaper,
        datagrams: SyncSender<(Instant, Vec<u8>)>,
    },
}

impl<F: FnMut(&[u8]) + Send + 'static> RelayPath<F> {
    pub(super) fn new(link: Option<Link>, mut send: F) -> Self {
        let Some(link) = link else {
            return Self::Direct(send);
        };
        let (datagrams, _) = send_when_due(move |datagram| {
            send(datagram);
            Ok(())
        });
        Self::Link {
            shaper: Shaper::new(link, Instant::now()),
            datagrams,
        }
    }

    /// Sends a datagram, which is lost if the queue is full.
    pub(super) fn push(&mut self, datagram: &[u8]) {
        match self {
            Self::Direct(send) => send(datagram),
            Self::Link { shaper, datagrams } => {
                let arrives = shaper.schedule(Instant::now(), datagram.len() + HEADER_BYTES);
                if let Ok(due) = arrives {
                    let _ = datagrams.try_send((due, datagram.to_vec()));
                }
            }
        }
    }
}

/// Headers of IPv4 (RFC 791 section 3.1) and UDP (RFC 768).
const HEADER_BYTES: usize = 20 + 8;

/// Bound above the number of packets in the queue and on the link.
const PACKETS_MAX: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_arrive_at_the_rate_of_the_link_and_its_queue_is_bounded() {
        let now = Instant::now();
        let ms = Duration::from_millis;
        let link = Link {
            bytes_per_s: 100_000,
            queue_bytes: 300,
            one_way: ms(10),
        };
        let mut shaper = Shaper::new(link, now);
        for arrives in [11, 12, 13] {
            assert_eq!(shaper.schedule(now, 100), Ok(now + ms(arrives)));
        }
        assert_eq!(shaper.schedule(now, 100), Err(ms(1)));
        assert_eq!(shaper.schedule(now + ms(1), 100), Ok(now + ms(14)));
        assert_eq!(shaper.schedule(now + ms(50), 1_000), Ok(now + ms(70)));
    }
}
