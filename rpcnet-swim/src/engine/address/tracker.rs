//! State of the advertised address, all of it bounded.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::config::ClusterConfig;
use crate::engine::bounded_queue::BoundedQueue;
use crate::event::AddressStatus;
use crate::time::Time;

/// State of the advertised address.
#[derive(Debug)]
pub(crate) struct AddressTracker {
    /// Whether it was set by hand: what peers see does not change it.
    pub(super) fixed: bool,
    /// Whether it was guessed from the routing table, as the socket is bound to all interfaces.
    pub(super) guessed: bool,
    /// Port that the node listens on, as far as it knows.
    pub(super) port: u16,
    pub(super) status: AddressStatus,
    /// Address that each peer sees, and when it last said so.
    pub(super) observed: BTreeMap<u64, (SocketAddr, Time)>,
    /// Last ping that arrived, or the time from which on one was to be expected.
    pub(super) pinged_at: Time,
    /// Consecutive pings, with no gap between two of them.
    pub(super) pings: u32,
    /// Answers to pings of this node since the last ping that arrived.
    pub(super) answers: Answers,
    /// Last time that a member claimed this node failed: members that believe it ping rarely.
    pub(super) claimed_failed_at: Option<Time>,
    pub(super) changed_at: Option<Time>,
    pub(super) asked_at: Option<Time>,
    /// Recent refutations, and since when they are counted.
    pub(super) refutations: (u32, Time),
    /// Another node that claims the address, and is believed.
    pub(super) claimant: Option<AddressClaimant>,
    /// Members that were told recently where they are seen, or which member has their address.
    pub(super) notified: BoundedQueue<(u64, AddressNotice, Time), NOTIFIED_MAX>,
    pub(super) seen_conflicts: BoundedQueue<SeenConflict, CONFLICTS_MAX>,
}

/// Member that claims the address of another one.
#[derive(Clone, Copy, Debug)]
pub(super) struct SeenConflict {
    key: u64,
    /// First and last time it was seen without a pause between two.
    since: Time,
    last: Time,
    is_reported: bool,
}

/// Notice that a member gets once in a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AddressNotice {
    /// Address at which it is seen.
    Source,
    /// Member that has its address.
    Conflict,
}

/// Answers that arrived in a row, with no pause between two of them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Answers {
    pub(super) count: u32,
    /// Times of the first and of the last one.
    pub(super) since: Time,
    pub(super) last: Time,
}

impl Answers {
    /// Takes in an answer, the first one of a row if the last was longer ago than `gap`.
    pub(super) fn record(&mut self, now: Time, gap: Duration) {
        if now.since(self.last) > gap {
            (self.count, self.since) = (0, now);
        }
        self.count = self.count.saturating_add(1);
        self.last = now;
    }
}

/// Another node that claims the address of this one.
#[derive(Debug)]
pub(super) struct AddressClaimant {
    pub(super) name: String,
    pub(super) epoch: u64,
    pub(super) first: Time,
    pub(super) last: Time,
}

impl AddressTracker {
    pub(crate) fn new(config: &ClusterConfig, port: u16, now: Time) -> Self {
        let by_hand = config.advertise_addr.map(|addr| addr.ip());
        let fixed = by_hand.is_some_and(|ip| !ip.is_unspecified());
        let guessed = config.bind_addr.ip().is_unspecified();
        Self::new_unconfirmed(fixed, guessed, port, now)
    }

    fn new_unconfirmed(fixed: bool, guessed: bool, port: u16, now: Time) -> Self {
        Self {
            fixed,
            guessed,
            port,
            status: AddressStatus::Unconfirmed,
            observed: BTreeMap::new(),
            pinged_at: now,
            pings: 0,
            answers: Answers::default(),
            claimed_failed_at: None,
            changed_at: None,
            asked_at: None,
            refutations: (0, now),
            claimant: None,
            notified: BoundedQueue::default(),
            seen_conflicts: BoundedQueue::default(),
        }
    }

    /// Starts over among other peers; what was set by hand stays.
    pub(crate) fn reset(&mut self, now: Time) {
        *self = Self::new_unconfirmed(self.fixed, self.guessed, self.port, now);
    }

    /// Takes in what a peer sees. If there are too many, the one heard longest ago is forgotten.
    pub(super) fn observe(&mut self, now: Time, peer: u64, addr: SocketAddr) {
        if self.observed.len() >= OBSERVERS_MAX && !self.observed.contains_key(&peer) {
            let oldest = self.observed.iter().min_by_key(|(_, (_, at))| *at);
            if let Some(oldest) = oldest.map(|(key, _)| *key) {
                self.observed.remove(&oldest);
            }
        }
        self.observed.insert(peer, (addr, now));
    }

    /// Address to follow: one that enough distinct peers see, and more than see `own`. If they
    /// agree on the IP address alone, as the port is translated for each of them, the bound port.
    pub(super) fn candidate(&self, own: SocketAddr, live: usize) -> Option<SocketAddr> {
        let needed = live.clamp(1, OBSERVERS_MIN);
        let seen = |is: &dyn Fn(SocketAddr) -> bool| {
            self.observed.values().filter(|(addr, _)| is(*addr)).count()
        };
        let agreeing = seen(&|addr| addr == own);
        let wins = |count: usize| count >= needed && count > agreeing;
        let exact = self.observed.values().map(|(addr, _)| *addr);
        let exact = exact.max_by_key(|addr| (seen(&|other| other == *addr), *addr));
        let exact = exact.filter(|addr| wins(seen(&|other| other == *addr)));
        let host = || {
            let ips = self.observed.values().map(|(addr, _)| addr.ip());
            let count = |ip: IpAddr| seen(&|other| other.ip() == ip);
            let ip = ips.max_by_key(|ip| (count(*ip), *ip))?;
            wins(count(ip)).then(|| SocketAddr::new(ip, self.port))
        };
        exact.or_else(host).filter(|addr| *addr != own)
    }

    /// Whether a member is to get a notice now, which it gets once in a while.
    pub(super) fn should_notify(
        &mut self,
        now: Time,
        key: u64,
        notice: AddressNotice,
        from: Time,
    ) -> bool {
        self.notified.retain(|(.., at)| *at > from);
        if self
            .notified
            .iter()
            .any(|told| (told.0, told.1) == (key, notice))
        {
            return false;
        }
        self.notified.push((key, notice, now));
        true
    }

    /// Whether a conflict has lasted and is reported for the first time. One that is seen again and
    /// was not since `forgotten_from` is a new one.
    pub(super) fn should_report_conflict(
        &mut self,
        now: Time,
        key: u64,
        lasting_from: Time,
        forgotten_from: Time,
    ) -> bool {
        self.seen_conflicts
            .retain(|seen| seen.key != key || seen.last >= forgotten_from);
        if let Some(seen) = self.seen_conflicts.iter_mut().find(|seen| seen.key == key) {
            seen.last = now;
            let lasts = seen.since <= lasting_from;
            return lasts && !std::mem::replace(&mut seen.is_reported, true);
        }
        self.seen_conflicts.push(SeenConflict {
            key,
            since: now,
            last: now,
            is_reported: false,
        });
        false
    }
}

/// Distinct peers that have to agree, if there are so many.
pub(super) const OBSERVERS_MIN: usize = 3;
/// Most peers whose observation is kept.
pub(crate) const OBSERVERS_MAX: usize = 16;
/// Most members remembered as notified.
pub(crate) const NOTIFIED_MAX: usize = 64;
/// Most conflicts remembered.
pub(crate) const CONFLICTS_MAX: usize = 16;
