//! The simulated cluster: nodes to start, stop, leave and read.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::net::{Ipv4Addr, SocketAddr};

use fastrand::Rng;
use rpcnet_swim::unstable::{DetectorHooks, Interner, PhiSwim};
use rpcnet_swim::{ClusterConfig, Engine, Event, Member, NodeId, TagError, Time};

use super::check::OwnVersions;
use super::event_queue::ScheduledEvent;
use super::network::Network;
use super::node::SimNode;
use super::process_fault::{PendingQueue, ProcessFault};
use super::report::SimReport;
use super::split_brain::SplitBrainCheck;
use super::traffic::Traffic;
use super::transition::{Transition, TransitionLog};

/// A simulated cluster. Nodes are identified by their number, which keeps its address for ever.
#[derive(Debug)]
pub struct Cluster<D: DetectorHooks = PhiSwim> {
    pub(super) now: Time,
    pub(super) rng: Rng,
    pub(super) network: Network,
    pub(super) nodes: Vec<SimNode<D>>,
    /// Nodes that are at another address than that of their number.
    pub(super) moved: HashMap<SocketAddr, usize>,
    pub(super) queue: BinaryHeap<Reverse<ScheduledEvent>>,
    /// Sequence number of scheduled events, which breaks ties of time.
    pub(super) sequence: u64,
    pub(super) own_versions: OwnVersions,
    /// Infos of members, stored once for all engines.
    pub(super) shared: Interner,
    /// Failure detector of a node that starts.
    pub(super) detector: D,
    pub(super) check_every: u64,
    pub(super) is_false_failure_a_violation: bool,
    pub(super) log_events: bool,
    pub(super) transition_log: TransitionLog,
    pub(super) transitions: Vec<Transition>,
    /// Pairs of an observer and a subject that is failed or left in its view, as far as they are
    /// logged.
    pub(super) gone_pairs: HashSet<(u32, u32)>,
    pub(super) split_brain: SplitBrainCheck,
    pub(super) report: SimReport,
}

impl Cluster {
    /// A cluster without nodes.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::with_detector(seed, PhiSwim)
    }

    /// `count` nodes `n0`, `n1` ... that start together, with the first three as seeds.
    #[must_use]
    pub fn bootstrap(seed: u64, count: usize, config: ClusterConfig) -> Self {
        let mut cluster = Self::new(seed);
        cluster.add_nodes(count, &config);
        cluster
    }
}

impl<D: DetectorHooks> Cluster<D> {
    /// A cluster without nodes, whose nodes will run this failure detector.
    pub fn with_detector(seed: u64, detector: D) -> Self {
        Self {
            detector,
            now: Time::ZERO,
            rng: Rng::with_seed(seed),
            network: Network::new(),
            nodes: Vec::new(),
            moved: HashMap::new(),
            queue: BinaryHeap::new(),
            sequence: 0,
            own_versions: OwnVersions::default(),
            shared: Interner::default(),
            check_every: 1,
            is_false_failure_a_violation: false,
            log_events: true,
            transition_log: TransitionLog::default(),
            transitions: Vec::new(),
            gone_pairs: HashSet::new(),
            split_brain: SplitBrainCheck::default(),
            report: SimReport {
                seed,
                ..SimReport::default()
            },
        }
    }

    /// Adds `count` nodes `n0`, `n1` ... that start together, with the first three as seeds.
    pub fn add_nodes(&mut self, count: usize, config: &ClusterConfig) {
        for n in 0..count {
            self.add(format!("n{n}"), config.clone(), default_seeds(count));
        }
    }

    /// Starts a node and returns its number.
    ///
    /// # Panics
    /// If the configuration or the name is invalid.
    pub fn add(
        &mut self,
        name: impl Into<String>,
        config: ClusterConfig,
        seeds: Vec<SocketAddr>,
    ) -> usize {
        let node = self.add_slot(name.into(), config, seeds);
        let epoch = self.next_epoch();
        self.start(node, epoch);
        node
    }

    /// Starts a process of the same name as the running node `of`, and with its epoch, as if both
    /// had started in the same millisecond.
    ///
    /// # Panics
    /// If `of` does not run.
    pub fn add_twin(&mut self, of: usize, seeds: Vec<SocketAddr>) -> usize {
        let (name, config) = (self.nodes[of].name.clone(), self.nodes[of].config.clone());
        let epoch = self.engine(of).expect("it runs").id().epoch;
        let node = self.add_slot(name, config, seeds);
        self.start(node, epoch);
        node
    }

    /// Adds a slot for one more node and returns its number.
    pub(super) fn add_slot(
        &mut self,
        name: String,
        config: ClusterConfig,
        seeds: Vec<SocketAddr>,
    ) -> usize {
        let node = self.nodes.len();
        self.nodes
            .push(SimNode::new(name, addr_of(node), config, seeds));
        node
    }

    /// Checks the whole view of a node after every `steps`-th of its steps, which takes time for
    /// each of its members; beside that, after each step, what it changed, which is cheap. With 0
    /// nothing is checked. Default 1, and the number of nodes in a cluster that was
    /// [formed](Cluster::formed).
    pub fn check_every(&mut self, steps: u64) {
        self.check_every = steps;
        if steps > 0 {
            let engines = self.nodes.iter_mut().filter_map(|n| n.engine.as_mut());
            engines.for_each(|engine| engine.record_history());
        }
    }

    /// Whether declaring a healthy member failed is a violation. The protocol guarantees that it
    /// does not happen while no direction is cut and little is lost. Default no: false failures are
    /// counted only.
    pub fn forbid_false_failures(&mut self, forbid: bool) {
        self.is_false_failure_a_violation = forbid;
    }

    /// Whether events are kept for [`Cluster::events`]. Default yes.
    pub fn log_events(&mut self, log: bool) {
        self.log_events = log;
    }

    /// The network between the nodes.
    pub fn network(&mut self) -> &mut Network {
        &mut self.network
    }

    /// Stops a node without a leave.
    pub fn crash(&mut self, node: usize) {
        if self.nodes[node].engine.take().is_some() {
            self.report.crashes += 1;
        }
        let node = &mut self.nodes[node];
        node.fault = ProcessFault::None;
        node.pending = PendingQueue::default();
        node.busy_until = None;
        node.next_timeout = None;
    }

    /// Starts a node again: the same name and address, a newer epoch.
    pub fn restart(&mut self, node: usize) {
        self.crash(node);
        self.report.restarts += 1;
        let epoch = self.next_epoch();
        self.start(node, epoch);
    }

    /// Starts a node again with this epoch, which may be older than before: its clock was set.
    pub fn restart_with_epoch(&mut self, node: usize, epoch: u64) {
        self.crash(node);
        self.report.restarts += 1;
        self.start(node, epoch);
    }

    /// Starts a node of another name at the address of a former one.
    pub fn restart_as(&mut self, node: usize, name: impl Into<String>) {
        self.crash(node);
        self.report.renames += 1;
        self.nodes[node].name = name.into();
        let epoch = self.next_epoch();
        self.start(node, epoch);
    }

    /// Tells a node to leave.
    pub fn leave(&mut self, node: usize) {
        self.report.leaves += 1;
        self.input(node, |engine, now| engine.leave(now));
    }

    /// Lets a node declare that another one, which is gone for good, has left. Returns whether it
    /// did.
    pub fn force_leave(&mut self, node: usize, id: &NodeId) -> bool {
        let mut done = false;
        self.input(node, |engine, now| done = engine.force_leave(now, id));
        done
    }

    /// Sets a tag of a node.
    ///
    /// # Errors
    /// As [`Engine::set_tag`].
    pub fn set_tag(&mut self, node: usize, key: &str, value: &str) -> Result<(), TagError> {
        self.report.tag_changes += 1;
        let mut result = Ok(());
        self.input(node, |engine, now| result = engine.set_tag(now, key, value));
        result
    }

    /// Sets whether a node takes new work.
    pub fn set_draining(&mut self, node: usize, draining: bool) {
        self.report.drains += 1;
        self.input(node, |engine, now| engine.set_draining(now, draining));
    }

    /// Lets a node answer every request for an indirect probe with a nack, until it starts again.
    pub fn send_false_nacks(&mut self, node: usize) {
        self.input(node, |engine, _| engine.tampering().always_nack());
    }

    /// Lets each lookup of a node return only so many of its seeds, the next ones each time, as
    /// from a name server that rotates its answers.
    pub fn rotate_seeds(&mut self, node: usize, answers: usize) {
        self.nodes[node].seeds_per_lookup = Some(answers);
    }

    /// Feeds a datagram to a node, as if it came from this address.
    pub fn inject(&mut self, node: usize, from: SocketAddr, mut datagram: Vec<u8>) {
        self.input(node, |engine, now| {
            engine.handle_datagram(now, from, &mut datagram);
        });
    }

    /// Virtual time.
    #[must_use]
    pub fn now(&self) -> Time {
        self.now
    }

    /// Number of slots, of nodes that are down too.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is no slot.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The engine of a node; `None` if it is down.
    pub fn engine(&self, node: usize) -> Option<&Engine<D>> {
        self.nodes[node].engine.as_deref()
    }

    /// The engine of a node, to tamper with. Nothing is polled until its next input.
    #[cfg(test)]
    pub(super) fn engine_mut(&mut self, node: usize) -> Option<&mut Engine<D>> {
        self.nodes[node].engine.as_deref_mut()
    }

    /// Traffic of a node since the start.
    #[must_use]
    pub fn traffic(&self, node: usize) -> Traffic {
        self.nodes[node].traffic
    }

    /// Address of a slot.
    #[must_use]
    pub fn addr(&self, node: usize) -> SocketAddr {
        self.nodes[node].addr
    }

    /// Name of the node in a slot, or of the last one there.
    #[must_use]
    pub fn name(&self, node: usize) -> &str {
        &self.nodes[node].name
    }

    /// Whether a node runs and takes part.
    #[must_use]
    pub fn is_up(&self, node: usize) -> bool {
        self.nodes[node]
            .engine
            .as_ref()
            .is_some_and(|engine| super::convergence::is_participating(engine))
    }

    /// Whether a node runs and is not about to leave.
    pub(super) fn is_active(&self, node: usize) -> bool {
        self.is_up(node)
            && self
                .engine(node)
                .is_some_and(|engine| engine.local_member().state.is_live())
    }

    /// Events of a node, each with its time.
    #[must_use]
    pub fn events(&self, node: usize) -> &[(Time, Event)] {
        &self.nodes[node].events
    }

    /// The member at slot `node` in the view of `observer`.
    #[must_use]
    pub fn view_of(&self, observer: usize, node: usize) -> Option<Member> {
        self.engine(observer)?.member(&self.nodes[node].name)
    }

    /// The report so far.
    #[must_use]
    pub fn report(&self) -> SimReport {
        SimReport {
            nodes: self.report.nodes.max(self.nodes.len()),
            elapsed: self.now.since(Time::ZERO),
            ..self.report.clone()
        }
    }

    /// The slot that has this address.
    pub(super) fn node_at(&self, addr: SocketAddr) -> Option<usize> {
        let SocketAddr::V4(v4) = addr else {
            return None;
        };
        let [_, a, b, c] = v4.ip().octets();
        let node = (u32::from_be_bytes([0, a, b, c]) as usize).checked_sub(1)?;
        (self.nodes.get(node)?.addr == addr).then_some(node)
    }

    /// The next epoch: the time, and never the same twice.
    pub(super) fn next_epoch(&mut self) -> u64 {
        self.sequence += 1;
        EPOCH_ORIGIN + self.now.as_micros() / 1_000 + self.sequence
    }
}

/// The address of the node of this number.
pub(super) fn addr_of(node: usize) -> SocketAddr {
    let [_, a, b, c] = (node as u32 + 1).to_be_bytes();
    SocketAddr::from((Ipv4Addr::new(10, a, b, c), 7_946))
}

/// Addresses of the first three of `count` nodes.
pub(super) fn default_seeds(count: usize) -> Vec<SocketAddr> {
    (0..count.min(3)).map(addr_of).collect()
}

/// The epoch of a node that starts at time zero.
const EPOCH_ORIGIN: u64 = 1_700_000_000_000;
