//! Limit of handshakes in progress, shared by address; newer ones replace older ones. Pure.

use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use crate::accounts::{FairShare, SHARE_FLOOR};

/// Handshakes in progress, by the address of the caller.
///
/// A handshake proves nothing about its caller before it is complete, so it is counted by address:
/// one address has at most half of what the others leave. A caller that begins handshakes and never
/// completes them keeps its places only until newer ones need them. Then the oldest handshake of
/// the address that has most is dropped, if it has lasted for [`DROP_AGE_MIN`]. A handshake that is
/// about to complete has taken a few round trips.
///
/// `now` is the time since any fixed moment, the same in all calls.
#[derive(Debug)]
pub(super) struct HandshakeLimiter<T> {
    share: FairShare,
    total: usize,
    next_number: u64,
    /// The oldest first.
    by_address: HashMap<IpAddr, VecDeque<InProgress<T>>>,
}

#[derive(Debug)]
struct InProgress<T> {
    number: u64,
    began_at: Duration,
    handle: T,
}

/// Identifier of a handshake in progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HandshakeId {
    address: IpAddr,
    number: u64,
}

impl<T> HandshakeLimiter<T> {
    pub(super) fn new(max: usize) -> Self {
        Self {
            share: FairShare::new(max, SHARE_FLOOR),
            total: 0,
            next_number: 0,
            by_address: HashMap::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.total
    }

    /// Begins a handshake, if the limit allows it. May drop another one for it, whose handle is
    /// returned.
    pub(super) fn begin(
        &mut self,
        now: Duration,
        from: IpAddr,
        handle: T,
    ) -> (Option<HandshakeId>, Option<T>) {
        let address = network_of(from);
        let mut dropped = None;
        if !self.allows(address) {
            let own = self.count(address);
            let longest = self.by_address.iter().max_by_key(|(_, all)| all.len());
            // Capacity for this address comes from one of its own handshakes, or from an address
            // that has more.
            let victim = match longest {
                Some((heaviest, all)) if all.len() > own => *heaviest,
                _ => address,
            };
            if !self.would_allow_without(address, victim) {
                return (None, None);
            }
            dropped = self.drop_oldest(now, victim);
            if dropped.is_none() {
                return (None, None);
            }
        }
        let number = self.next_number;
        self.next_number += 1;
        self.total += 1;
        let handshake = InProgress {
            number,
            began_at: now,
            handle,
        };
        self.by_address
            .entry(address)
            .or_default()
            .push_back(handshake);
        (Some(HandshakeId { address, number }), dropped)
    }

    fn count(&self, address: IpAddr) -> usize {
        self.by_address.get(&address).map_or(0, VecDeque::len)
    }

    /// Whether a handshake would be allowed without one of the handshakes of `victim`.
    fn would_allow_without(&self, address: IpAddr, victim: IpAddr) -> bool {
        let is_own = address == victim && self.count(address) > 0;
        let own = self.count(address) - usize::from(is_own);
        self.share.allows(own, self.total.saturating_sub(1), 1)
    }

    fn allows(&self, address: IpAddr) -> bool {
        self.share.allows(self.count(address), self.total, 1)
    }

    /// Ends a handshake. Ending one that was dropped has no effect.
    pub(super) fn end(&mut self, HandshakeId { address, number }: HandshakeId) {
        let Some(all) = self.by_address.get_mut(&address) else {
            return;
        };
        let Ok(at) = all.binary_search_by_key(&number, |handshake| handshake.number) else {
            return;
        };
        all.remove(at);
        self.total -= 1;
        if all.is_empty() {
            self.by_address.remove(&address);
        }
    }

    fn drop_oldest(&mut self, now: Duration, address: IpAddr) -> Option<T> {
        let all = self.by_address.get_mut(&address)?;
        let oldest = all.front()?;
        if now.saturating_sub(oldest.began_at) < DROP_AGE_MIN {
            return None;
        }
        let oldest = all.pop_front()?;
        self.total -= 1;
        if all.is_empty() {
            self.by_address.remove(&address);
        }
        Some(oldest.handle)
    }
}

/// The network of an address: one host may have all addresses of a network of 64 bits of IPv6 (RFC
/// 4291 section 2.5.1).
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// Least age at which a handshake is dropped for a newer one. A shorter age would end handshakes of
/// honest callers that are served slowly because there are so many.
const DROP_AGE_MIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    fn address(last: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, last).into()
    }

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn one_address_has_at_most_half() {
        let mut handshakes = HandshakeLimiter::new(100);
        let started = (0..200)
            .filter(|number| {
                handshakes
                    .begin(seconds(0.0), address(1), *number)
                    .0
                    .is_some()
            })
            .count();
        assert_eq!(started, 50);
        for number in 0..25 {
            assert!(
                handshakes
                    .begin(seconds(0.0), address(2), number)
                    .0
                    .is_some()
            );
        }
    }

    #[test]
    fn old_handshakes_are_dropped_for_newer_ones_and_young_ones_are_not() {
        let mut handshakes = HandshakeLimiter::new(100);
        let mut refused = 0;
        let mut dropped = Vec::new();
        for tick in 0..1000 {
            let now = seconds(f64::from(tick) / 100.0);
            // A hundred junk handshakes a second from an address, and one honest one a second that
            // ends in 10 ms.
            let (started, victim) = handshakes.begin(now, address(1), (tick, true));
            dropped.extend(victim.map(|victim| (tick, victim)));
            refused += u32::from(started.is_none());
            if tick % 100 == 99 {
                let honest = handshakes.begin(now, address(1), (tick, false));
                dropped.extend(honest.1.map(|victim| (tick, victim)));
                if let (Some(number), _) = honest {
                    handshakes.end(number);
                }
            }
        }
        assert!(refused < 600, "{refused}");
        for (tick, (began, is_junk)) in dropped {
            assert!(is_junk && tick - began >= 100);
        }
        // Another address is not affected.
        assert!(
            handshakes
                .begin(seconds(10.0), address(2), (0, false))
                .0
                .is_some()
        );
    }

    #[test]
    fn the_address_with_most_handshakes_loses_one() {
        let mut handshakes = HandshakeLimiter::new(20);
        for (last, count) in [(1, 10), (2, 6), (3, 4)] {
            for number in 0..count {
                let started =
                    handshakes.begin(seconds(f64::from(last)), address(last), (last, number));
                assert!(started.0.is_some());
            }
        }
        let (started, dropped) = handshakes.begin(seconds(9.0), address(4), (4, 0));
        assert!(started.is_some());
        assert_eq!(dropped, Some((1, 0)));
    }

    #[test]
    fn addresses_of_one_network_count_as_one() {
        let network = |text: &str| network_of(text.parse().unwrap());
        assert_eq!(network("2001:db8:0:1::1"), network("2001:db8:0:1:ffff::2"));
        assert_ne!(network("2001:db8:0:1::1"), network("2001:db8:0:2::1"));
        assert_eq!(network("::ffff:10.0.0.1"), network("10.0.0.1"));
        assert_ne!(network("10.0.0.1"), network("10.0.0.2"));
    }

    proptest! {
        #[test]
        fn counts_match_a_naive_model(
            events in prop::collection::vec(
                (0u8..5, 0u64..400, any::<prop::sample::Index>(), any::<bool>()),
                0..300,
            ),
        ) {
            let mut handshakes = HandshakeLimiter::new(24);
            let mut open: Vec<(HandshakeId, u64)> = Vec::new();
            let (mut now, mut next) = (Duration::ZERO, 0u64);
            for (last, passed, index, ends) in events {
                now += Duration::from_millis(passed);
                if ends && !open.is_empty() {
                    let (number, _) = open.swap_remove(index.index(open.len()));
                    handshakes.end(number);
                    handshakes.end(number);
                } else {
                    let (started, dropped) = handshakes.begin(now, address(last), next);
                    open.retain(|(_, handle)| Some(*handle) != dropped);
                    open.extend(started.map(|number| (number, next)));
                    next += 1;
                }
                prop_assert_eq!(handshakes.len(), open.len());
                prop_assert!(open.len() <= 24);
                let listed: usize = handshakes.by_address.values().map(VecDeque::len).sum();
                prop_assert_eq!(listed, open.len());
            }
        }
    }
}
