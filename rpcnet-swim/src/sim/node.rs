//! A node's place in the cluster, and what it counts.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::check_traffic::TrafficCheck;
use super::process_fault::{PendingQueue, ProcessFault};
use super::traffic::Traffic;
use crate::config::ClusterConfig;
use crate::engine::Engine;
use crate::engine::hooks::DetectorHooks;
use crate::engine::inspect::MemberVersion;
use crate::event::Event;
use crate::time::Time;

/// A place in the cluster and the node that lives there, or lived.
#[derive(Debug)]
pub(super) struct SimNode<D: DetectorHooks> {
    pub(super) name: String,
    pub(super) addr: SocketAddr,
    /// Where its datagrams come from and others reach it.
    pub(super) location: SocketAddr,
    /// What it advertises when it starts, if that is not where it is.
    pub(super) advertised: Option<SocketAddr>,
    /// If answers alone come in: for how long they do, and to whom it last sent, and when.
    pub(super) recent_contacts: Option<(Duration, HashMap<usize, Time>)>,
    pub(super) config: ClusterConfig,
    pub(super) seeds: Vec<SocketAddr>,
    /// How many of its seeds each look-up brings, the next ones each time; none: all of them.
    pub(super) seeds_per_lookup: Option<usize>,
    /// Boxed, as it is taken out for each input.
    pub(super) engine: Option<Box<Engine<D>>>,
    pub(super) epoch: u64,
    /// What it said of itself after its last step.
    pub(super) own_version: Option<MemberVersion>,
    /// When its next wake-up is due, so that there is one at a time.
    pub(super) next_timeout: Option<Time>,
    pub(super) fault: ProcessFault,
    /// What its plight keeps at its door, or on its way out.
    pub(super) pending: PendingQueue,
    /// When a slow process is done with the message it has in hand.
    pub(super) busy_until: Option<Time>,
    /// The last time that it was not well: in a plight or cut off.
    pub(super) impaired_at: Option<Time>,
    pub(super) traffic: Traffic,
    /// What it sent of late.
    pub(super) traffic_check: TrafficCheck,
    /// Failures that it has declared so far.
    pub(super) failures_declared: u64,
    pub(super) steps: u64,
    pub(super) events: Vec<(Time, Event)>,
    pub(super) arrivals: ArrivalOrder,
}

impl<D: DetectorHooks> SimNode<D> {
    pub(super) fn new(
        name: String,
        addr: SocketAddr,
        config: ClusterConfig,
        seeds: Vec<SocketAddr>,
    ) -> Self {
        Self {
            name,
            addr,
            location: addr,
            advertised: None,
            recent_contacts: None,
            config,
            seeds,
            seeds_per_lookup: None,
            engine: None,
            epoch: 0,
            own_version: None,
            next_timeout: None,
            fault: ProcessFault::None,
            pending: PendingQueue::default(),
            busy_until: None,
            impaired_at: None,
            traffic: Traffic::default(),
            traffic_check: TrafficCheck::new(Time::ZERO),
            failures_declared: 0,
            steps: 0,
            events: Vec::new(),
            arrivals: ArrivalOrder::default(),
        }
    }
}

impl<D: DetectorHooks> SimNode<D> {
    /// What its seeds resolve to now.
    pub(super) fn resolve_seeds(&mut self) -> Vec<SocketAddr> {
        let Some(answers) = self.seeds_per_lookup else {
            return self.seeds.clone();
        };
        let some = answers.min(self.seeds.len());
        let found = self.seeds[..some].to_vec();
        self.seeds.rotate_left(some);
        found
    }
}

/// Number of the last datagram that arrived from each node; of those that share a place here, from
/// the last one. Up to [`SENDERS_MAX`] nodes there is a place for each; among more, an overtaking
/// may go unseen, which costs less than a map of all pairs that ever spoke.
#[derive(Debug, Default)]
pub(super) struct ArrivalOrder {
    last: Vec<(u32, u64)>,
}

impl ArrivalOrder {
    /// Whether one that was sent later arrived earlier.
    pub(super) fn is_overtaken(&mut self, from: usize, number: u64) -> bool {
        if self.last.is_empty() {
            self.last = vec![(0, 0); SENDERS_MAX];
        }
        let last = &mut self.last[from % SENDERS_MAX];
        if last.0 != from as u32 {
            *last = (from as u32, 0);
        }
        let is_overtaken = number < last.1;
        last.1 = number.max(last.1);
        is_overtaken
    }
}

/// Senders whose last datagram a node remembers.
const SENDERS_MAX: usize = 64;
