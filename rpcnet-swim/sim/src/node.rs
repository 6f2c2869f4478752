//! Simulated node: a slot with its address, its engine and its counters.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use rpcnet_swim::unstable::{DetectorHooks, MemberVersion};
use rpcnet_swim::{ClusterConfig, Engine, Event, Time};

use super::check_traffic::TrafficCheck;
use super::process_fault::{PendingQueue, ProcessFault};
use super::traffic::Traffic;

/// A slot in the cluster and the node that runs there, or ran.
#[derive(Debug)]
pub(super) struct SimNode<D: DetectorHooks> {
    pub(super) name: String,
    pub(super) addr: SocketAddr,
    /// Source address of its datagrams, at which others reach it.
    pub(super) location: SocketAddr,
    /// Address that it advertises when it starts, if it differs from its location.
    pub(super) advertised: Option<SocketAddr>,
    /// With a filter that lets answers in alone: for how long, and the last time that it sent to
    /// each node.
    pub(super) recent_contacts: Option<(Duration, HashMap<usize, Time>)>,
    pub(super) config: ClusterConfig,
    pub(super) seeds: Vec<SocketAddr>,
    /// Number of its seeds that each lookup returns, the next ones each time; `None` for all of
    /// them.
    pub(super) seeds_per_lookup: Option<usize>,
    /// Boxed, as it is taken out for each input.
    pub(super) engine: Option<Box<Engine<D>>>,
    pub(super) epoch: u64,
    /// Version that it announced after its last step.
    pub(super) own_version: Option<MemberVersion>,
    /// Time of its next timeout, so that one is scheduled at a time.
    pub(super) next_timeout: Option<Time>,
    pub(super) fault: ProcessFault,
    /// Datagrams that its fault holds back.
    pub(super) pending: PendingQueue,
    /// Time at which a slow process finishes the datagram in hand.
    pub(super) busy_until: Option<Time>,
    /// The last time that it had a fault or was cut off.
    pub(super) impaired_at: Option<Time>,
    pub(super) traffic: Traffic,
    /// Check of its recent traffic.
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
    /// The addresses that its seeds resolve to now.
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

/// Number of the last datagram that arrived from each node. Up to [`SENDERS_MAX`] senders have an
/// entry each; more of them share entries, so that a reordering may go unseen, which costs less
/// than a map of all pairs.
#[derive(Debug, Default)]
pub(super) struct ArrivalOrder {
    last: Vec<(u32, u64)>,
}

impl ArrivalOrder {
    /// Whether a datagram that was sent later arrived earlier.
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

/// Senders of which a node remembers the last datagram.
const SENDERS_MAX: usize = 64;
