//! Membership engine: SWIM with phi-accrual evidence, without a clock or a socket.
//!
//! Reading order: `receive` (incoming messages), `probe` and `probe_timeout` (probe rounds),
//! `evidence`, `suspicion` and `failure_decision` (from missed probes to a failure), `merge`
//! (claims of others), `seeds` and `join` (joining), `anti_entropy` (repair of what gossip missed).

pub(crate) mod address;
mod amplification_limit;
mod anti_entropy;
mod bounded_queue;
mod buffer_pool;
mod capacity;
mod clock;
mod cluster_mismatch;
mod cluster_view;
mod compact_addr;
mod counter_resync;
pub(crate) mod engine_seed;
mod entry;
#[cfg_attr(not(feature = "unstable"), allow(unreachable_pub))]
pub(crate) mod evidence;
mod failure_decision;
mod fault_history;
mod flap_damping;
mod gossip;
pub(crate) mod hooks;
mod indirect_probe;
#[cfg(feature = "unstable")]
pub(crate) mod inspect;
#[cfg(feature = "unstable")]
pub(crate) mod internals;
#[cfg(feature = "unstable")]
pub(crate) mod interner;
mod join;
mod join_state;
mod leave;
mod local_member;
mod member_info;
mod merge;
mod name_conflict;
mod network_estimate;
mod partition;
mod path_mtu;
mod prf;
mod probe;
pub(crate) mod probe_round;
mod probe_timeout;
mod reach_check;
mod receive;
mod redial;
mod replay;
mod rtt_state;
mod running_clock;
mod seeds;
mod send;
pub(crate) mod sender;
#[cfg(feature = "unstable")]
pub(crate) mod sent_by_kind;
mod slab;
mod slowness;
mod suspicion;
mod table;
#[cfg(feature = "unstable")]
pub(crate) mod tampering;
mod timers;
mod unreachable_members;
mod unreachable_tracker;
mod work_counter;

#[cfg(test)]
pub(crate) mod test_support;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::SocketAddr;

use fastrand::Rng;

use self::address::{AddressTracker, canonical};
use self::anti_entropy::AntiEntropy;
use self::bounded_queue::PendingEvents;
use self::clock::Clocks;
use self::cluster_mismatch::MismatchNotices;
use self::engine_seed::EngineSeed;
use self::entry::Entry;
use self::gossip::GossipQueue;
use self::hooks::{DetectorHooks, PhiSwim};
use self::join_state::JoinState;
use self::leave::LeaveState;
use self::local_member::LocalMember;
use self::name_conflict::NameClaims;
use self::partition::PartitionDetector;
use self::probe::Probes;
use self::reach_check::ReachTracker;
use self::send::{SendQueue, encoded_len};
use self::sender::Sender;
use self::table::Table;
use self::timers::{NamedTimer, Timer, Timers};
use crate::config::ClusterConfig;
use crate::error::{ConfigError, TagError};
use crate::event::{Event, Member, MemberState, PartitionStatus};
use crate::id::NodeId;
use crate::key::KeyId;
use crate::stats::Stats;
use crate::tags::Tags;
use crate::time::Time;
use crate::wire::{Envelope, GossipMessage, MismatchNotice};

/// Membership engine of one node: SWIM with phi-accrual evidence, without a clock or a socket.
///
/// The engine does nothing by itself. Its driver
/// - feeds each datagram to [`handle_datagram`](Self::handle_datagram), all that have arrived
///   before the next point;
/// - calls [`handle_timeout`](Self::handle_timeout) when [`poll_timeout`](Self::poll_timeout)
///   is due: an early call does nothing, a late one tells the engine that the process was
///   stopped, and its deadlines shift by the gap;
/// - after each input drains [`poll_transmit`](Self::poll_transmit) and
///   [`poll_event`](Self::poll_event), resolves the seeds if
///   [`wants_seeds`](Self::wants_seeds), and asks for the new deadline.
///
/// `now` must not go backwards; what does counts as no time passing. The same inputs with the
/// same seed give the same outputs.
///
/// ```
/// use rpcnet_swim::{ClusterConfig, Engine, Event, NodeId, Time};
///
/// let mut addrs = ["127.0.0.1:1".parse()?, "127.0.0.1:2".parse()?].into_iter();
/// let mut node = |name| {
///     let (config, addr) = (ClusterConfig::lan(), addrs.next().unwrap());
///     (addr, Engine::new(config, NodeId::new(name, 1), addr, Time::ZERO, 7).unwrap())
/// };
/// let ((a_addr, mut a), (b_addr, mut b)) = (node("a"), node("b"));
///
/// b.handle_seeds(Time::ZERO, &[a_addr]);
/// loop {
///     if let Some((_, mut datagram)) = b.poll_transmit() {
///         a.handle_datagram(Time::ZERO, b_addr, &mut datagram);
///     } else if let Some((_, mut datagram)) = a.poll_transmit() {
///         b.handle_datagram(Time::ZERO, a_addr, &mut datagram);
///     } else {
///         break;
///     }
/// }
/// assert!(matches!(a.poll_event(), Some(Event::NodeJoined(m)) if &*m.id.name == "b"));
/// assert!(b.is_joined());
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
pub struct Engine<D: DetectorHooks = PhiSwim> {
    config: ClusterConfig,
    local: LocalMember,
    phase: Phase,
    envelope: Envelope,
    rng: Rng,
    clocks: Clocks,
    timers: Timers,
    table: Table,
    gossip_queue: GossipQueue,
    probes: Probes,
    /// Generation of the last suspicion.
    suspicion_generation: u32,
    join: JoinState,
    mismatch_notices: MismatchNotices,
    name_claims: NameClaims,
    address: AddressTracker,
    leave: Option<LeaveState>,
    capacity: capacity::Capacity,
    anti_entropy: AntiEntropy,
    partition: PartitionDetector,
    reach: ReachTracker,
    /// Failure detector: its state, and where it differs from [`PhiSwim`].
    detector: D,
    send_queue: SendQueue,
    events: PendingEvents,
    stats: Stats,
    /// State of the simulation's checkers and faults.
    #[cfg(feature = "unstable")]
    instruments: inspect::Instruments,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Active,
    /// Tells others that it leaves.
    Leaving,
    /// Another, newer process has its name: it watches whether that one is still there.
    Superseded,
    /// Has left: sends nothing and takes nothing in.
    Left,
}

impl Engine {
    /// Node of the cluster that `config` describes, alone until it joins.
    ///
    /// `addr` is the address that others are told to send to. `seed` determines all random choices
    /// and secrets ([`EngineSeed`]); together with `id` it must differ from any other use of the
    /// same cluster key, as the nonces depend on both.
    ///
    /// # Errors
    /// [`ConfigError`] if the configuration contradicts itself, if `addr` is no address that others
    /// can send to, or if the epoch is no time.
    pub fn new(
        config: ClusterConfig,
        id: NodeId,
        addr: SocketAddr,
        now: Time,
        seed: impl Into<EngineSeed>,
    ) -> Result<Self, ConfigError> {
        let local = LocalMember::new(&config, id, addr)?;
        Ok(Self::build(config, local, now, &seed.into(), PhiSwim))
    }
}

impl<D: DetectorHooks> Engine<D> {
    fn build(
        config: ClusterConfig,
        local: LocalMember,
        now: Time,
        seed: &EngineSeed,
        detector: D,
    ) -> Self {
        let mut rng = Rng::with_seed(seed.choices);
        let envelope = Envelope::new(&config.cluster_name, config.keys.as_ref(), rng.u64(..));
        let mut timers = Timers::default();
        // Nodes started together do not probe together.
        timers.set(
            NamedTimer::Probe,
            now + config.probe_interval.mul_f64(rng.f64()),
        );
        if let Some(at) = detector.first_timer(now) {
            timers.set(NamedTimer::Detector, at);
        }
        let seq = rng.u32(..);
        // One is skipped, so that simulations of a seed go on as those that were measured.
        let _ = rng.u64(..);
        let hash_seed = seed.hash_seed();
        let mut table = Table::new(local.key, hash_seed);
        table.set_own_version(now, local.epoch, local.incarnation);
        Self {
            phase: Phase::Active,
            envelope,
            clocks: Clocks::new(local.epoch, now),
            timers,
            table,
            gossip_queue: GossipQueue::new(hash_seed),
            probes: Probes::new(seq, now),
            suspicion_generation: 0,
            join: JoinState::new(seed.cookie_key()),
            mismatch_notices: MismatchNotices::default(),
            address: AddressTracker::new(&config, local.addr.port(), now),
            local,
            rng,
            name_claims: NameClaims::default(),
            leave: None,
            capacity: capacity::Capacity::default(),
            anti_entropy: AntiEntropy::default(),
            partition: PartitionDetector::new(now),
            reach: ReachTracker::default(),
            detector,
            send_queue: SendQueue::default(),
            events: PendingEvents::default(),
            stats: Stats::default(),
            #[cfg(feature = "unstable")]
            instruments: inspect::Instruments::default(),
            config,
        }
    }

    /// Takes in a datagram, which is opened in place. It never panics, whatever the datagram holds;
    /// one that is not from a node of this cluster has no effect but to be counted.
    pub fn handle_datagram(&mut self, now: Time, from: SocketAddr, datagram: &mut [u8]) {
        let now = self.running_time(now);
        self.stats.received += 1;
        let bytes = datagram.len();
        self.stats.received_bytes += bytes as u64;
        if let Some(notice) = MismatchNotice::decode(datagram) {
            return self.on_notice(now, from, notice);
        }
        let (origin, body, sealed_with) = match self.envelope.open(datagram) {
            Ok(opened) => opened,
            Err(error) => return self.on_unopened_datagram(now, from, datagram, error),
        };
        let known = (&self.local, &self.table);
        match GossipMessage::decode(body, &known, &mut self.send_queue.buffers.records) {
            Ok(GossipMessage { to, payload }) => {
                #[cfg(feature = "unstable")]
                self.table.work.begin(payload.item_count());
                let sender = Sender {
                    addr: canonical(from),
                    key: origin.from,
                    epoch: origin.epoch,
                    counter: origin.counter,
                    sealed_with,
                    bytes,
                };
                self.handle_message(now, sender, to, payload);
            }
            Err(_) => self.stats.dropped.malformed += 1,
        }
    }

    /// Handles the timers that are due. To be called at [`poll_timeout`](Self::poll_timeout), after
    /// all datagrams that have arrived.
    pub fn handle_timeout(&mut self, now: Time) {
        let now = self.running_time(now);
        while let Some(timer) = self.timers.pop_due(now) {
            match timer {
                Timer::Named(NamedTimer::Probe) => self.on_probe_timer(now),
                Timer::Named(NamedTimer::Gossip) => self.on_gossip_timer(now),
                Timer::Named(NamedTimer::Join) => self.on_join_timer(now),
                Timer::Named(NamedTimer::FullStatePull) => self.on_pull_timer(now),
                Timer::Named(NamedTimer::Leave) => self.on_leave_timer(now),
                Timer::Named(NamedTimer::Redial) => self.on_redial_timer(now),
                Timer::Named(NamedTimer::NameConflict) => self.on_conflict_timer(now),
                Timer::Named(NamedTimer::ReachCheck) => self.on_check_timer(now),
                Timer::Named(NamedTimer::Detector) => D::on_timer(self, now),
                Timer::ProbeRound(seq) => self.on_probe_round_timer(now, seq),
                Timer::IndirectProbe(seq) => self.on_indirect_probe_timer(seq),
                Timer::Suspicion(key, generation) => self.on_suspicion_timer(now, key, generation),
            }
        }
        self.prune_timers();
    }

    /// Replaces this node's tags, gossips the change and emits it as an event.
    ///
    /// # Errors
    /// [`TagError::TooLargeWithName`] if they do not fit beside a long name; the tags stay as they
    /// are.
    pub fn set_tags(&mut self, now: Time, tags: Tags) -> Result<(), TagError> {
        tags.check_fits_with_name(&self.local.name)?;
        let now = self.running_time(now);
        if self.local.tags != tags {
            self.local.tags = tags;
            self.raise_incarnation(now);
            self.emit(Event::NodeUpdated(self.local_member()));
        }
        Ok(())
    }

    /// Sets one tag.
    ///
    /// # Errors
    /// [`TagError`] if the tags would be too large; they stay as they are.
    pub fn set_tag(&mut self, now: Time, key: &str, value: &str) -> Result<(), TagError> {
        let tags = self.local.tags.with(key, value)?;
        self.set_tags(now, tags)
    }

    /// Announces whether this node drains: takes no new work.
    pub fn set_draining(&mut self, now: Time, draining: bool) {
        let now = self.running_time(now);
        if self.local.draining != draining {
            self.local.draining = draining;
            self.raise_incarnation(now);
            self.emit(Event::NodeUpdated(self.local_member()));
        }
    }

    /// Leaves: tells others until enough of them acknowledge it or the leave timeout passes. Ends
    /// with [`Event::Left`]; after it the engine is silent.
    pub fn leave(&mut self, now: Time) {
        let now = self.running_time(now);
        self.start_leave(now, self.config.leave_timeout);
    }

    /// Next datagram to send, and its destination.
    pub fn poll_transmit(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        self.send_queue.transmits.pop()
    }

    /// Takes back the buffer of a datagram that was sent, to use it for another. Optional; with it,
    /// answering a ping allocates nothing.
    pub fn recycle(&mut self, datagram: Vec<u8>) {
        self.send_queue.buffers.recycle_datagram(datagram);
    }

    /// Next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop()
    }

    /// Time at which [`handle_timeout`](Self::handle_timeout) is due; none after the node has left.
    pub fn poll_timeout(&self) -> Option<Time> {
        (self.phase != Phase::Left).then(|| {
            self.timers
                .next()
                .map(|at| self.clocks.running.caller_time(at))
        })?
    }

    /// Id of this node; its epoch is raised if another process of its name had a higher one.
    pub fn id(&self) -> NodeId {
        NodeId {
            name: self.local.name.clone(),
            epoch: self.local.epoch,
        }
    }

    /// This node as the other members see it.
    pub fn local_member(&self) -> Member {
        let state = if self.phase == Phase::Active {
            MemberState::Alive
        } else {
            MemberState::Left
        };
        Member {
            id: self.id(),
            addr: self.local.addr,
            incarnation: self.local.incarnation,
            state,
            draining: self.local.draining,
            slow: self.local.slow,
            unreachable: self.local.unreachable,
            tags: self.local.tags.clone(),
        }
    }

    /// All members that are tracked, failed and left ones included, this node excluded.
    pub fn members(&self) -> impl Iterator<Item = Member> {
        self.table.iter().map(|(_, entry)| entry.member())
    }

    /// Member of this name.
    pub fn member(&self, name: &str) -> Option<Member> {
        self.table.get(crate::id::name_key(name)).map(Entry::member)
    }

    /// Number of live members, this node included.
    pub fn live_count(&self) -> usize {
        self.table.live().len() + 1
    }

    /// Whether this node has joined: a seed let it in, or it needs none.
    pub fn is_joined(&self) -> bool {
        self.join.is_joined() && self.phase == Phase::Active
    }

    /// Whether this node has left; then the engine does nothing more.
    pub fn has_left(&self) -> bool {
        self.phase == Phase::Left
    }

    /// Whether this node sees the whole cluster.
    pub fn partition_status(&self) -> PartitionStatus {
        match self.partition.status() {
            PartitionStatus::Healthy if self.reach.is_in_force() => PartitionStatus::Suspected,
            status => status,
        }
    }

    /// Hash of the view, equal on all nodes that know the same live members.
    pub fn view_hash(&self) -> u64 {
        self.table.view()
    }

    /// Counters since the start.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Key that each member seals with, of those heard from: shows whether a key rotation is
    /// complete.
    pub fn keys_in_use(&self) -> Vec<(NodeId, KeyId)> {
        let in_use = |e: &Entry| {
            let id = NodeId::new(e.name.clone(), e.epoch);
            Some((id, self.envelope.key_id(e.sealed_with?)))
        };
        self.table
            .iter()
            .filter_map(|(_, entry)| in_use(entry))
            .collect()
    }

    /// Removes the timers of rounds and indirect probes that were answered, so that the driver is
    /// not woken for them.
    fn prune_timers(&mut self) {
        let (rounds, indirect) = (&self.probes.rounds, &self.probes.indirect);
        self.timers.prune(|timer| match timer {
            Timer::ProbeRound(seq) => rounds.contains(seq),
            Timer::IndirectProbe(seq) => indirect.contains(seq),
            Timer::Named(_) | Timer::Suspicion(..) => true,
        });
    }

    fn emit(&mut self, event: Event) {
        self.record_membership_change(&event);
        self.events.push(event);
    }
}

impl<D: DetectorHooks> fmt::Debug for Engine<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("id", &self.id())
            .field("incarnation", &self.local.incarnation)
            .field("phase", &self.phase)
            .field("live", &self.live_count())
            .field("partition", &self.partition.status())
            .finish_non_exhaustive()
    }
}
