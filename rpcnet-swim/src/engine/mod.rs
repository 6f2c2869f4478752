//! The membership engine: SWIM with phi-accrual evidence, without a clock or a socket.
//!
//! Read on with `receive` (what comes in), `probe` (is it there?), `suspicion` and `judge` (is it
//! gone?), `merge` (what others say), `seeds` and `join` (getting in), `sync` (repairing what gossip missed).

mod addr;
pub(crate) mod address;
mod answer;
mod capacity;
mod case;
mod clock;
mod conflict;
mod counter;
#[cfg(feature = "sim")]
pub(crate) mod detector;
mod entry;
mod gossip;
mod health;
#[cfg(feature = "sim")]
pub(crate) mod inspect;
mod join;
mod judge;
mod leave;
mod me;
mod merge;
mod one_way;
#[cfg(feature = "sim")]
pub(crate) mod pace;
mod partition;
mod path;
mod probe;
mod reach;
mod receive;
mod redial;
mod refusal;
mod replay;
#[cfg(feature = "sim")]
mod rival;
pub(crate) mod rules;
mod seeds;
mod send;
mod serve;
#[cfg(feature = "sim")]
mod shared;
mod slab;
mod spare;
mod suspicion;
mod sync;
mod table;
mod timers;
mod work;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use fastrand::Rng;
use rpcnet_phi::Estimator;

use self::address::{AddressWatch, as_told, canonical};
use self::clock::{EPOCH_MAX, Skew, WallClock};
use self::conflict::NameClaims;
use self::entry::Entry;
use self::gossip::GossipQueue;
use self::health::Trips;
use self::join::Join;
use self::leave::Leave;
use self::me::Me;
use self::partition::PartitionWatch;
use self::path::SmallPaths;
use self::probe::{Relay, Round};
use self::reach::ReachWatch;
use self::receive::Sender;
use self::refusal::Refusals;
#[cfg(feature = "sim")]
use self::rival::RivalState;
use self::rules::Rules;
use self::send::encoded_len;
use self::spare::Spare;
use self::sync::{Pull, Sync};
use self::table::Table;
use self::timers::{Single, Timer, Timers};
use crate::config::ClusterConfig;
use crate::error::{ConfigError, TagError};
use crate::event::{Event, Member, MemberState, PartitionStatus};
use crate::id::{NodeId, canonical_name, check_name};
use crate::key::KeyId;
use crate::stats::Stats;
use crate::tags::Tags;
use crate::time::Time;
use crate::usable::is_usable;
use crate::wire::{Envelope, Message, Notice};

/// One node's view of its cluster.
///
/// The engine does nothing by itself. Whoever drives it
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
pub struct Engine {
    config: ClusterConfig,
    me: Me,
    phase: Phase,
    envelope: Envelope,
    /// Of the last datagram sent.
    counter: u64,
    rng: Rng,
    /// Time that the process was stopped, all together: inside, it did not pass.
    stalled: Duration,
    last_now: Time,
    clock: WallClock,
    skew: Skew,
    timers: Timers,
    table: Table,
    queue: GossipQueue,
    rounds: Vec<Round>,
    relays: Vec<Relay>,
    /// Of the last round or relay.
    seq: u32,
    /// Of the last suspicion.
    generation: u32,
    /// Turns of the probe timer: which of round robin and ring successors is next.
    turn: usize,
    /// Chance that a round to a live member goes unanswered.
    loss: f64,
    /// Round trips of answered pings, in seconds.
    rtt: Estimator,
    trips: Trips,
    /// Of the last datagram from any member.
    heard_at: Time,
    /// Of the first one after a time of isolation.
    back_at: Time,
    /// Of the last dial of a failed member.
    redialled_at: Time,
    join: Join,
    refusals: Refusals,
    claims: NameClaims,
    address: AddressWatch,
    leave: Option<Leave>,
    pull: Option<Pull>,
    capacity: capacity::Capacity,
    sync: Sync,
    small_paths: SmallPaths,
    partition: PartitionWatch,
    reach: ReachWatch,
    /// When a member last joined, left, failed or came back.
    settled_at: Time,
    #[cfg(feature = "sim")]
    rival: RivalState,
    /// As a helper it nacks whatever it is asked about.
    #[cfg(feature = "sim")]
    lies: bool,
    transmits: VecDeque<(SocketAddr, Vec<u8>)>,
    spare: Spare,
    events: VecDeque<Event>,
    lagged: u64,
    stats: Stats,
    /// Datagrams by kind, for the simulation's checkers.
    #[cfg(feature = "sim")]
    sent: pace::Sent,
    /// What each failure that was declared rested on, for the simulation's checkers.
    #[cfg(feature = "sim")]
    verdicts: Option<Vec<inspect::Verdict>>,
    #[cfg(feature = "sim")]
    shared: Option<shared::Shared>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Active,
    /// Tells others that it goes.
    Leaving,
    /// A newer node has its name: looks whether that one is still there, and nothing else.
    Superseded,
    /// Left: says nothing and hears nothing.
    Gone,
}

impl Engine {
    /// A node of the cluster that `config` describes, alone until it joins.
    ///
    /// `addr` is what others are told to send to. `seed` makes all its choices; together with
    /// `id` it must be unlike any other use of the same cluster key, as the nonces depend on both.
    ///
    /// # Errors
    /// [`ConfigError`] if the configuration contradicts itself, if nobody could send to `addr`, or
    /// if the epoch is no time.
    pub fn new(
        config: ClusterConfig,
        id: NodeId,
        addr: SocketAddr,
        now: Time,
        seed: u64,
    ) -> Result<Self, ConfigError> {
        config.validate()?;
        let id = NodeId::new(canonical_name(&id.name), id.epoch);
        check_name(&id.name)?;
        config
            .tags
            .check_beside(&id.name)
            .map_err(ConfigError::TagsBesideName)?;
        let addr = as_told(addr);
        if !is_usable(addr) {
            return Err(ConfigError::UnusableAdvertiseAddr { addr });
        }
        if id.epoch > EPOCH_MAX {
            return Err(ConfigError::UnusableEpoch { epoch: id.epoch });
        }
        let clock = WallClock::new(id.epoch, now);
        let mut rng = Rng::with_seed(seed);
        let key = id.key();
        let envelope = Envelope::new(&config.cluster_name, config.keys.as_ref(), rng.u64(..));
        let me = Me {
            name: id.name,
            key,
            epoch: id.epoch,
            incarnation: 0,
            addr,
            draining: false,
            slow: false,
            unreachable: false,
            tags: config.tags.clone(),
        };
        let mut timers = Timers::default();
        // Nodes started together do not probe together.
        timers.set(
            Single::Probe,
            now + config.probe_interval.mul_f64(rng.f64()),
        );
        #[cfg(feature = "sim")]
        if config.rules().is_rival() {
            timers.set(Single::Rival, now);
        }
        let seq = rng.u32(..);
        let join = Join::new(rng.u64(..));
        let mut table = Table::new(key, join.addr_seed());
        table.set_own_version(now, me.epoch, me.incarnation);
        Ok(Self {
            me,
            phase: Phase::Active,
            envelope,
            counter: 0,
            stalled: Duration::ZERO,
            last_now: now,
            clock,
            skew: Skew::default(),
            timers,
            table,
            queue: GossipQueue::default(),
            rounds: Vec::new(),
            relays: Vec::new(),
            seq,
            generation: 0,
            turn: 0,
            loss: LOSS_PRIOR,
            rtt: Estimator::new(RTT_PRIOR, RTT_PRIOR, RTT_DEVIATION_MIN).expect("positive"),
            trips: Trips::default(),
            heard_at: now,
            back_at: now,
            redialled_at: now,
            join,
            refusals: Refusals::default(),
            address: AddressWatch::new(&config, addr.port(), now),
            rng,
            claims: NameClaims::default(),
            leave: None,
            pull: None,
            capacity: capacity::Capacity::default(),
            sync: Sync::default(),
            small_paths: SmallPaths::default(),
            partition: PartitionWatch::new(),
            reach: ReachWatch::default(),
            settled_at: now,
            #[cfg(feature = "sim")]
            rival: RivalState::default(),
            #[cfg(feature = "sim")]
            lies: false,
            transmits: VecDeque::new(),
            spare: Spare::default(),
            events: VecDeque::new(),
            lagged: 0,
            stats: Stats::default(),
            #[cfg(feature = "sim")]
            sent: pace::Sent::default(),
            #[cfg(feature = "sim")]
            verdicts: None,
            #[cfg(feature = "sim")]
            shared: None,
            config,
        })
    }

    /// Takes in a datagram, which is opened in place. Whatever it holds, it never panics; what is
    /// not from a node of this cluster has no effect but to be counted.
    pub fn handle_datagram(&mut self, now: Time, from: SocketAddr, datagram: &mut [u8]) {
        let now = self.inner_time(now);
        self.stats.received += 1;
        let bytes = datagram.len();
        self.stats.received_bytes += bytes as u64;
        if let Some(notice) = Notice::decode(datagram) {
            return self.on_notice(now, from, notice);
        }
        let (origin, body, sealed_with) = match self.envelope.unwrap(datagram) {
            Ok(opened) => opened,
            Err(refusal) => return self.on_refusal(now, from, datagram, refusal),
        };
        let known = (&self.me, &self.table);
        match Message::decode(body, &known, &mut self.spare.records) {
            Ok(Message { to, payload }) => {
                #[cfg(feature = "sim")]
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

    /// Does what is due. Call it at [`poll_timeout`](Self::poll_timeout), after all datagrams
    /// that have arrived.
    pub fn handle_timeout(&mut self, now: Time) {
        let now = self.inner_time(now);
        while let Some(timer) = self.timers.pop_due(now) {
            match timer {
                Timer::Single(Single::Probe) => self.on_probe_timer(now),
                Timer::Single(Single::Gossip) => self.on_gossip_timer(now),
                Timer::Single(Single::Join) => self.on_join_timer(now),
                Timer::Single(Single::Pull) => self.on_pull_timer(now),
                Timer::Single(Single::Leave) => self.on_leave_timer(now),
                Timer::Single(Single::Redial) => self.on_redial_timer(now),
                Timer::Single(Single::Conflict) => self.on_conflict_timer(now),
                Timer::Single(Single::Reach) => self.on_check_timer(now),
                #[cfg(feature = "sim")]
                Timer::Single(Single::Rival) => self.on_rival_timer(now),
                Timer::Round(seq) => self.on_round_timer(now, seq),
                Timer::Relay(seq) => self.on_relay_timer(seq),
                Timer::Suspicion(key, generation) => self.on_suspicion_timer(now, key, generation),
            }
        }
        self.prune_timers();
    }

    /// Replaces this node's tags and spreads the change; tells it as an event too.
    ///
    /// # Errors
    /// [`TagError::TooLargeBesideName`] if they have no room beside a long name; they are as they were.
    pub fn set_tags(&mut self, now: Time, tags: Tags) -> Result<(), TagError> {
        tags.check_beside(&self.me.name)?;
        let now = self.inner_time(now);
        if self.me.tags != tags {
            self.me.tags = tags;
            self.raise_incarnation(now);
            self.emit(Event::NodeUpdated(self.me()));
        }
        Ok(())
    }

    /// Sets one tag.
    ///
    /// # Errors
    /// [`TagError`] if the tags would be too large; they are as they were.
    pub fn set_tag(&mut self, now: Time, key: &str, value: &str) -> Result<(), TagError> {
        let tags = self.me.tags.with(key, value)?;
        self.set_tags(now, tags)
    }

    /// Announces that this node takes no new work, or that it does again.
    pub fn set_draining(&mut self, now: Time, draining: bool) {
        let now = self.inner_time(now);
        if self.me.draining != draining {
            self.me.draining = draining;
            self.raise_incarnation(now);
            self.emit(Event::NodeUpdated(self.me()));
        }
    }

    /// Tells others that this node leaves, until enough of them acknowledge it or the leave
    /// timeout passes. Ends with [`Event::Left`]; after it the engine is silent.
    pub fn leave(&mut self, now: Time) {
        let now = self.inner_time(now);
        self.start_leave(now, self.config.leave_timeout);
    }

    /// The next datagram to send, and where to.
    pub fn poll_transmit(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        pop(&mut self.transmits)
    }

    /// Takes the buffer of a datagram that was sent back, to be used for another. Not needed, but
    /// with it answering a ping allocates nothing.
    pub fn recycle(&mut self, datagram: Vec<u8>) {
        self.spare.keep_datagram(datagram);
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        match std::mem::take(&mut self.lagged) {
            0 => pop(&mut self.events),
            missed => Some(Event::Lagged(missed)),
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due; none after the node has left.
    pub fn poll_timeout(&self) -> Option<Time> {
        (self.phase != Phase::Gone).then(|| self.timers.next().map(|at| at + self.stalled))?
    }

    /// This node's id; its epoch is raised if another life of its name had a higher one.
    pub fn id(&self) -> NodeId {
        NodeId {
            name: self.me.name.clone(),
            epoch: self.me.epoch,
        }
    }

    /// This node as others see it.
    pub fn me(&self) -> Member {
        let state = if self.phase == Phase::Active {
            MemberState::Alive
        } else {
            MemberState::Left
        };
        Member {
            id: self.id(),
            addr: self.me.addr,
            incarnation: self.me.incarnation,
            state,
            draining: self.me.draining,
            slow: self.me.slow,
            unreachable: self.me.unreachable,
            tags: self.me.tags.clone(),
        }
    }

    /// Every member that is tracked, failed and left ones too; this node is not among them.
    pub fn members(&self) -> impl Iterator<Item = Member> {
        self.table.iter().map(|(_, entry)| entry.member())
    }

    /// The member of this name.
    pub fn member(&self, name: &str) -> Option<Member> {
        self.table.get(crate::id::name_key(name)).map(Entry::member)
    }

    /// How many members are live, this node included.
    pub fn live_count(&self) -> usize {
        self.table.live().len() + 1
    }

    /// Whether a seed has let this node in, or it needs none.
    pub fn is_joined(&self) -> bool {
        self.join.joined && self.phase == Phase::Active
    }

    /// Whether this node has left; then it does nothing more.
    pub fn is_gone(&self) -> bool {
        self.phase == Phase::Gone
    }

    /// Whether this node sees the whole cluster.
    pub fn partition_status(&self) -> PartitionStatus {
        match self.partition.status() {
            PartitionStatus::Healthy if self.reach.is_in_force() => PartitionStatus::Suspected,
            status => status,
        }
    }

    /// Hash of the view: equal in all nodes that know of the same live members.
    pub fn view_hash(&self) -> u64 {
        self.table.view()
    }

    /// What was counted so far.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// With which key each member seals, of those heard from: whether a rotation is through.
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

    /// Nobody is to be woken for a round or a relay that was answered.
    fn prune_timers(&mut self) {
        let (rounds, relays) = (&self.rounds, &self.relays);
        self.timers.prune(|timer| match timer {
            Timer::Round(seq) => rounds.iter().any(|round| round.seq == seq),
            Timer::Relay(seq) => relays.iter().any(|relay| relay.seq == seq),
            Timer::Single(_) | Timer::Suspicion(..) => true,
        });
    }

    fn rules(&self) -> &Rules {
        self.config.rules()
    }

    fn emit(&mut self, event: Event) {
        self.note_settling(&event);
        if self.events.len() >= EVENTS_MAX {
            self.events.pop_front();
            self.lagged += 1;
        }
        self.events.push_back(event);
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("id", &self.id())
            .field("incarnation", &self.me.incarnation)
            .field("phase", &self.phase)
            .field("live", &self.live_count())
            .field("partition", &self.partition.status())
            .finish_non_exhaustive()
    }
}

/// The next of a queue. What a burst took is given back once it is over.
fn pop<T>(queue: &mut VecDeque<T>) -> Option<T> {
    let next = queue.pop_front();
    if next.is_none() && queue.capacity() > QUEUE_KEPT {
        queue.shrink_to(QUEUE_KEPT);
    }
    next
}

/// Assumed chance that a round to a live member goes unanswered, before any was observed.
const LOSS_PRIOR: f64 = 0.01;
/// Assumed round trip, in seconds, before any was observed.
const RTT_PRIOR: f64 = 0.01;
/// Least deviation of round trips, in seconds: a scheduler's tick.
const RTT_DEVIATION_MIN: f64 = 0.001;
/// Capacity of an empty queue that is kept.
const QUEUE_KEPT: usize = 64;
/// Most events that wait to be polled.
const EVENTS_MAX: usize = 16_384;
