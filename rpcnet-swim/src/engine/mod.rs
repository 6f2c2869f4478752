//! The membership engine: SWIM with phi-accrual evidence, without a clock or a socket.
//!
//! Read on with `probe` (is it there?), `suspicion` and `judge` (is it gone?), `merge` (what
//! others say), `join` (getting in and out), `sync` (repairing what gossip missed).

mod gossip;
#[cfg(feature = "sim")]
pub(crate) mod inspect;
mod join;
mod judge;
mod leave;
mod merge;
mod partition;
mod probe;
mod replay;
mod suspicion;
mod sync;
mod table;
mod timers;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use rpcnet_phi::Estimator;

use self::gossip::{GossipQueue, retransmit_limit};
use self::join::Join;
use self::leave::Leave;
use self::merge::Source;
use self::partition::{PartitionChange, PartitionWatch};
use self::probe::{Relay, Round};
use self::sync::{Pull, Sync};
use self::table::{Entry, Table};
use self::timers::{Single, Timer, Timers};
use crate::config::ClusterConfig;
use crate::error::{ConfigError, TagError};
use crate::event::{Event, Member, MemberState, PartitionStatus};
use crate::id::{NodeId, check_name, life_key};
use crate::key::KeyId;
use crate::stats::Stats;
use crate::tags::Tags;
use crate::time::Time;
use crate::wire::{Claim, Envelope, Header, Message, Payload, Record, Refusal};

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
    /// Of the last datagram from any member.
    heard_at: Time,
    /// Of the first one after a time of isolation.
    back_at: Time,
    /// Of the last dial of a failed member.
    redialled_at: Time,
    join: Join,
    leave: Option<Leave>,
    pull: Option<Pull>,
    sync: Sync,
    partition: PartitionWatch,
    transmits: VecDeque<(SocketAddr, Vec<u8>)>,
    events: VecDeque<Event>,
    lagged: u64,
    stats: Stats,
}

/// This node itself.
#[derive(Debug)]
struct Me {
    name: Arc<str>,
    key: u64,
    epoch: u64,
    incarnation: u32,
    addr: SocketAddr,
    draining: bool,
    tags: Tags,
}

/// Whom a message is from.
#[derive(Clone, Copy, Debug)]
struct Sender {
    addr: SocketAddr,
    key: u64,
    epoch: u64,
    counter: u64,
    sealed_with: Option<KeyId>,
}

impl Sender {
    fn life(&self) -> u64 {
        life_key(self.key, self.epoch)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Active,
    /// Tells others that it goes.
    Leaving,
    /// Left, or gave its name up to a newer node: says nothing and hears nothing.
    Gone,
}

impl Engine {
    /// A node of the cluster that `config` describes, alone until it joins.
    ///
    /// `addr` is what others are told to send to. `seed` makes all its choices; together with
    /// `id` it must be unlike any other use of the same cluster key, as the nonces depend on both.
    ///
    /// # Errors
    /// [`ConfigError`] if the configuration contradicts itself, or if nobody could send to `addr`.
    pub fn new(
        config: ClusterConfig,
        id: NodeId,
        addr: SocketAddr,
        now: Time,
        seed: u64,
    ) -> Result<Self, ConfigError> {
        config.validate()?;
        check_name(&id.name)?;
        if addr.ip().is_unspecified() || addr.ip().is_multicast() || addr.port() == 0 {
            return Err(ConfigError::UnusableAdvertiseAddr { addr });
        }
        let mut rng = Rng::with_seed(seed);
        let key = id.key();
        let envelope = Envelope::new(
            &config.cluster_name,
            config.keys.as_ref(),
            life_key(key, id.epoch),
            rng.u64(..),
        );
        let me = Me {
            name: id.name,
            key,
            epoch: id.epoch,
            incarnation: 0,
            addr,
            draining: false,
            tags: config.tags.clone(),
        };
        let mut table = Table::new(key);
        table.set_own_version(now, me.epoch, me.incarnation);
        let mut timers = Timers::default();
        // Nodes started together do not probe together.
        timers.set(
            Single::Probe,
            now + config.probe_interval.mul_f64(rng.f64()),
        );
        Ok(Self {
            me,
            phase: Phase::Active,
            envelope,
            counter: 0,
            stalled: Duration::ZERO,
            last_now: now,
            timers,
            table,
            queue: GossipQueue::default(),
            rounds: Vec::new(),
            relays: Vec::new(),
            seq: rng.u32(..),
            generation: 0,
            turn: 0,
            loss: LOSS_PRIOR,
            rtt: Estimator::new(RTT_PRIOR, RTT_PRIOR, RTT_DEVIATION_MIN).expect("positive"),
            heard_at: now,
            back_at: now,
            redialled_at: now,
            join: Join::new(rng.u64(..)),
            rng,
            leave: None,
            pull: None,
            sync: Sync::default(),
            partition: PartitionWatch::new(),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            lagged: 0,
            stats: Stats::default(),
            config,
        })
    }

    /// Takes in a datagram, which is opened in place. Whatever it holds, it never panics; what is
    /// not from a node of this cluster has no effect but to be counted.
    pub fn handle_datagram(&mut self, now: Time, from: SocketAddr, datagram: &mut [u8]) {
        let now = self.inner_time(now);
        self.stats.received += 1;
        self.stats.received_bytes += datagram.len() as u64;
        let (body, sealed_with) = match self.envelope.unwrap(datagram) {
            Ok(opened) => opened,
            Err(refusal) => return self.count_refusal(refusal),
        };
        match Message::decode(body) {
            Ok(Message { header, payload }) => {
                let Header {
                    from: key,
                    epoch,
                    counter,
                    to,
                } = header;
                let sender = Sender {
                    addr: from,
                    key,
                    epoch,
                    counter,
                    sealed_with,
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
                Timer::Round(seq) => self.on_round_timer(now, seq),
                Timer::Relay(seq) => self.on_relay_timer(seq),
                Timer::Suspicion(key, generation) => self.on_suspicion_timer(now, key, generation),
            }
        }
    }

    /// Takes in what the seeds resolve to now, and dials them if the node is not in yet. This is
    /// how to join; with no seeds at all the node is a cluster of its own.
    pub fn handle_seeds(&mut self, now: Time, seeds: &[SocketAddr]) {
        let now = self.inner_time(now);
        self.set_seeds(now, seeds);
    }

    /// None of the seeds resolved. They are asked for again, with backoff; unlike with no seeds at
    /// all, this node is not in yet.
    pub fn handle_unresolved_seeds(&mut self, now: Time) {
        let now = self.inner_time(now);
        self.seeds_unresolved(now);
    }

    /// Replaces this node's tags and spreads the change; tells it as an event too.
    pub fn set_tags(&mut self, now: Time, tags: Tags) {
        let now = self.inner_time(now);
        if self.me.tags != tags {
            self.me.tags = tags;
            self.raise_incarnation(now);
            self.emit(Event::NodeUpdated(self.me()));
        }
    }

    /// Sets one tag.
    ///
    /// # Errors
    /// [`TagError`] if the tags would be too large; they are as they were.
    pub fn set_tag(&mut self, now: Time, key: &str, value: &str) -> Result<(), TagError> {
        let tags = self.me.tags.with(key, value)?;
        self.set_tags(now, tags);
        Ok(())
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
        self.start_leave(now);
    }

    /// The next datagram to send, and where to.
    pub fn poll_transmit(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        self.transmits.pop_front()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        match std::mem::take(&mut self.lagged) {
            0 => self.events.pop_front(),
            missed => Some(Event::Lagged(missed)),
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due; none after the node has left.
    pub fn poll_timeout(&self) -> Option<Time> {
        (self.phase != Phase::Gone).then(|| self.timers.next().map(|at| at + self.stalled))?
    }

    /// Whether the seeds are to be resolved, for [`handle_seeds`](Self::handle_seeds). Asks once.
    pub fn wants_seeds(&mut self) -> bool {
        self.phase == Phase::Active && self.join.take_wants_seeds()
    }

    /// Asks for the seeds to be resolved now rather than at the next attempt to join.
    pub fn want_seeds(&mut self) {
        self.join.want_seeds();
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

    /// Whether this node has left or given its name up; then it does nothing more.
    pub fn is_gone(&self) -> bool {
        self.phase == Phase::Gone
    }

    /// Whether this node sees the whole cluster.
    pub fn partition_status(&self) -> PartitionStatus {
        self.partition.status()
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
        let in_use = |e: &Entry| Some((NodeId::new(e.name.clone(), e.epoch), e.sealed_with?));
        self.table
            .iter()
            .filter_map(|(_, entry)| in_use(entry))
            .collect()
    }

    fn handle_message(&mut self, now: Time, sender: Sender, to: u64, payload: Payload) {
        let own_life = life_key(self.me.key, self.me.epoch);
        if self.phase == Phase::Gone {
            self.stats.dropped.after_leave += 1;
            return;
        }
        if to != 0 && to != own_life {
            self.stats.dropped.misaddressed += 1;
            if matches!(payload, Payload::Ping { .. }) {
                // It looks for a former life of ours.
                self.send_hello(sender.addr, 0, 0);
            }
            return;
        }
        if sender.life() == own_life {
            // A seed list may hold our own address.
            self.stats.dropped.misaddressed += 1;
            return;
        }
        match payload {
            Payload::Hello { cookie, me } => return self.on_hello(now, sender, cookie, me),
            Payload::Challenge { cookie, echo } => return self.on_challenge(sender, cookie, echo),
            Payload::Welcome { echo, view, me } => {
                return self.on_welcome(now, sender, echo, view, me);
            }
            Payload::Refused { echo, known } => return self.on_refused(now, sender, echo, known),
            // The target of a relay need not be known to the helper.
            Payload::Ack { seq, .. } => self.answer_relay(sender, seq),
            _ => {}
        }
        let Some(entry) = self.table.get_mut(sender.key) else {
            return self.challenge(sender);
        };
        if entry.epoch < sender.epoch {
            return self.challenge(sender);
        }
        if entry.epoch > sender.epoch {
            let pings = matches!(payload, Payload::Ping { .. });
            return self.on_older_life(now, sender, pings);
        }
        if !entry.window.accept(sender.counter) {
            self.stats.dropped.replayed += 1;
            return;
        }
        entry.sealed_with = sender.sealed_with;
        entry.evidence.silent = false;
        self.hear(now);
        self.handle_payload(now, sender, payload);
    }

    /// What a known member says, fresh and for us.
    fn handle_payload(&mut self, now: Time, sender: Sender, payload: Payload) {
        match payload {
            Payload::Ping { seq, view, updates } => {
                self.merge_all(now, updates, Source::Gossip);
                self.send_ack(sender, seq);
                self.compare_views(now, sender.key, view);
            }
            Payload::Ack { seq, view, updates } => {
                self.merge_all(now, updates, Source::Gossip);
                self.on_answer(now, sender.key, seq, true);
                self.compare_views(now, sender.key, view);
            }
            Payload::PingReq {
                seq,
                target,
                updates,
            } => {
                self.merge_all(now, updates, Source::Gossip);
                self.on_ping_req(now, sender, seq, target);
            }
            Payload::RelayedAck { seq, target } => self.on_answer(now, target, seq, false),
            Payload::Nack { seq, target } => self.on_nack(sender.key, seq, target),
            Payload::Gossip { updates } => self.merge_all(now, updates, Source::Gossip),
            Payload::Leave { seq, me } => self.on_leave(now, sender, seq, me),
            Payload::LeaveAck { seq } => self.on_leave_ack(now, sender.key, seq),
            Payload::SyncDigest { buckets } => self.on_digest(sender, &buckets),
            Payload::SyncSummary(page) => self.on_summary(now, sender, &page),
            Payload::SyncPull { keys } => self.on_sync_pull(sender, &keys),
            Payload::SyncRecords { records } => self.on_sync_records(now, sender, records),
            Payload::FullPull { cursor } => self.on_full_pull(sender, cursor),
            Payload::FullPage {
                cursor,
                next,
                records,
            } => {
                self.on_full_page(now, sender.key, cursor, next, records);
            }
            Payload::Hello { .. }
            | Payload::Challenge { .. }
            | Payload::Welcome { .. }
            | Payload::Refused { .. } => unreachable!("handled before the sender is looked up"),
        }
    }

    /// Time without the gaps in which the process was stopped. A deadline missed by more than a
    /// scheduler's whim is such a gap: all deadlines shift by it, so that nobody is judged for
    /// what this node could not have heard.
    fn inner_time(&mut self, now: Time) -> Time {
        let inner = (now - self.stalled).max(self.last_now);
        let mut shifted = inner;
        if let Some(due) = self.timers.next().filter(|_| self.phase != Phase::Gone) {
            let late = inner.since(due);
            if late > self.stall_limit() {
                self.stalled += late;
                shifted = inner - late;
                self.stats.stalls += 1;
                self.rounds
                    .iter_mut()
                    .for_each(|round| round.tainted = true);
            }
        }
        self.last_now = shifted.max(self.last_now);
        self.last_now
    }

    fn stall_limit(&self) -> Duration {
        (self.config.probe_interval / 4).max(STALL_MIN)
    }

    fn on_gossip_timer(&mut self, now: Time) {
        if self.queue.is_empty() || self.phase == Phase::Gone {
            return;
        }
        for key in self.sample_live(self.config.gossip_fanout, |_, _| true) {
            let updates = self.news(0, None);
            if !updates.is_empty() {
                self.send_to(key, Payload::Gossip { updates });
            }
        }
        // Alone, there is nobody to tell: whoever comes gets the full state.
        if !self.queue.is_empty() && !self.table.live().is_empty() {
            self.timers
                .set(Single::Gossip, now + self.config.gossip_interval);
        }
    }

    /// There is news of `key` to pass on.
    fn spread(&mut self, now: Time, key: u64) {
        self.queue.push(key);
        // Spread over the interval, or members that heard it together would speak together.
        let delay = self.config.gossip_interval.mul_f64(self.rng.f64());
        self.timers.arm(Single::Gossip, now + delay);
    }

    /// News for a datagram that has `fixed` bytes of payload beside them: `first` if there is
    /// such a record, then from the queue what fits.
    fn news(&mut self, fixed: usize, first: Option<Record>) -> Vec<Record> {
        let mut room = self.room(fixed);
        let mut records = Vec::new();
        if let Some(record) = first {
            room = room.saturating_sub(encoded_len(&record));
            records.push(record);
        }
        if self.queue.is_empty() {
            return records;
        }
        let limit = retransmit_limit(self.config.retransmit_mult, self.live_count());
        for key in self.queue.first(PIGGYBACK_MAX) {
            let Some(record) = self.record_of(key) else {
                self.queue.remove(key);
                continue;
            };
            let len = encoded_len(&record);
            if len <= room && !records.contains(&record) {
                room -= len;
                records.push(record);
                self.queue.mark_sent(key, limit);
            }
        }
        records
    }

    /// Bytes left for records in a datagram with `fixed` bytes of other payload.
    fn room(&self, fixed: usize) -> usize {
        let taken = self.envelope.overhead() + HEADER_BYTES_MAX + fixed;
        self.config.datagram_bytes_max.saturating_sub(taken)
    }

    /// Records in as few payloads as they fit in, at most `max`, each with `fixed` bytes beside.
    fn pack(&self, records: Vec<Record>, fixed: usize, max: usize) -> Vec<Vec<Record>> {
        let room = self.room(fixed);
        let (mut packed, mut free) = (Vec::<Vec<Record>>::new(), 0);
        for record in records {
            let len = encoded_len(&record);
            if len > free {
                if packed.len() == max {
                    break;
                }
                packed.push(Vec::new());
                free = room;
            }
            free = free.saturating_sub(len);
            packed.last_mut().expect("one was pushed").push(record);
        }
        packed
    }

    fn own_record(&self) -> Record {
        let claim = match self.phase {
            Phase::Active => Claim::Alive(self.me.tags.clone()),
            Phase::Leaving | Phase::Gone => Claim::Left,
        };
        Record {
            name: self.me.name.clone(),
            epoch: self.me.epoch,
            incarnation: self.me.incarnation,
            addr: self.me.addr,
            draining: self.me.draining,
            claim,
        }
    }

    fn record_of(&self, key: u64) -> Option<Record> {
        match key == self.me.key {
            true => Some(self.own_record()),
            false => self.table.get(key).map(Entry::record),
        }
    }

    /// Something about this node changed: only it may do this (SWIM section 4.2).
    fn raise_incarnation(&mut self, now: Time) {
        match self.me.incarnation.checked_add(1) {
            Some(next) => self.me.incarnation = next,
            // Only a forged claim is that high; one has to be above it all the same.
            None => return self.raise_epoch(now, self.me.epoch),
        }
        self.announce(now);
    }

    /// Starts a new life, as far as others are concerned.
    fn raise_epoch(&mut self, now: Time, above: u64) {
        self.me.epoch = above.saturating_add(1);
        self.me.incarnation = 0;
        self.announce(now);
    }

    fn announce(&mut self, now: Time) {
        self.table
            .set_own_version(now, self.me.epoch, self.me.incarnation);
        self.spread(now, self.me.key);
    }

    /// Sends to a member of the table.
    fn send_to(&mut self, key: u64, payload: Payload) {
        if let Some(entry) = self.table.get(key) {
            let (addr, life) = (entry.addr, entry.life(key));
            self.send(addr, life, payload);
        }
    }

    /// Sends back to where a message came from.
    fn reply(&mut self, sender: Sender, payload: Payload) {
        self.send(sender.addr, sender.life(), payload);
    }

    fn send(&mut self, addr: SocketAddr, to: u64, payload: Payload) {
        self.counter += 1;
        let header = Header {
            from: self.me.key,
            epoch: self.me.epoch,
            counter: self.counter,
            to,
        };
        let mut datagram = Vec::with_capacity(DATAGRAM_BYTES_TYPICAL);
        self.envelope.open(self.counter, &mut datagram);
        Message { header, payload }.encode(&mut datagram);
        self.envelope.close(&mut datagram);
        debug_assert!(
            datagram.len() <= self.config.datagram_bytes_max,
            "{}",
            datagram.len()
        );
        if self.transmits.len() >= TRANSMITS_MAX {
            self.transmits.pop_front();
        }
        self.stats.sent += 1;
        self.stats.sent_bytes += datagram.len() as u64;
        self.transmits.push_back((addr, datagram));
    }

    fn emit(&mut self, event: Event) {
        if self.events.len() >= EVENTS_MAX {
            self.events.pop_front();
            self.lagged += 1;
        }
        self.events.push_back(event);
    }

    /// Up to `count` different live members of those that are `wanted`, at random.
    fn sample_live(&mut self, count: usize, wanted: impl Fn(u64, &Entry) -> bool) -> Vec<u64> {
        let live = self.table.live();
        let wanted = |key: &u64| self.table.get(*key).is_some_and(|e| wanted(*key, e));
        let mut sample = Vec::with_capacity(count);
        if live.len() <= 4 * count {
            sample.extend(live.iter().copied().filter(wanted));
            self.rng.shuffle(&mut sample);
            sample.truncate(count);
            return sample;
        }
        for _ in 0..4 * count {
            let key = live[self.rng.usize(..live.len())];
            if sample.len() < count && !sample.contains(&key) && wanted(&key) {
                sample.push(key);
            }
        }
        sample
    }

    /// Whether nobody has been heard for so long that it must be this node's own network. With a
    /// single other member there is no telling.
    fn is_isolated(&self, now: Time) -> bool {
        self.table.live().len() >= 2 && now.since(self.heard_at) > 3 * self.config.probe_interval
    }

    /// A member was heard.
    fn hear(&mut self, now: Time) {
        if self.is_isolated(now) {
            self.back_at = now;
        }
        self.heard_at = now;
    }

    fn watch_partition(&mut self, now: Time) {
        let window = PARTITION_WINDOW_ROUNDS * self.config.probe_interval;
        let live = self.live_count();
        let missing = self
            .table
            .missing_since(self.partition.window_start(now, window));
        let reachable = if self.is_isolated(now) { 1 } else { live };
        let grace = self.config.partition_grace;
        match self
            .partition
            .observe(now, reachable, live + missing, grace)
        {
            Some(PartitionChange::Detected {
                reachable,
                expected,
                minority,
            }) => {
                self.emit(Event::PartitionDetected {
                    reachable,
                    expected,
                    minority,
                });
            }
            Some(PartitionChange::Healed) => self.emit(Event::PartitionHealed),
            None => {}
        }
    }

    fn count_refusal(&mut self, refusal: Refusal) {
        let dropped = &mut self.stats.dropped;
        *match refusal {
            Refusal::Malformed => &mut dropped.malformed,
            Refusal::Version => &mut dropped.version,
            Refusal::Cluster => &mut dropped.foreign_cluster,
            Refusal::Unsealed => &mut dropped.unsealed,
            Refusal::UnknownKey => &mut dropped.unknown_key,
            Refusal::Seal => &mut dropped.bad_seal,
        } += 1;
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

fn encoded_len(record: &Record) -> usize {
    struct Len(usize);
    impl crate::wire::Write for Len {
        fn put(&mut self, bytes: &[u8]) {
            self.0 += bytes.len();
        }
    }
    let mut len = Len(0);
    record.encode(&mut len);
    len.0
}

/// Assumed chance that a round to a live member goes unanswered, before any was observed.
const LOSS_PRIOR: f64 = 0.01;
/// Assumed round trip, in seconds, before any was observed.
const RTT_PRIOR: f64 = 0.01;
/// Least deviation of round trips, in seconds: a scheduler's tick.
const RTT_DEVIATION_MIN: f64 = 0.001;
/// A deadline missed by less than this is no stall, whatever the probe interval.
const STALL_MIN: Duration = Duration::from_millis(100);
/// Failures within so many probe intervals of each other may be one cut.
const PARTITION_WINDOW_ROUNDS: u32 = 60;
/// Kind, sender, epoch, counter, receiver.
const HEADER_BYTES_MAX: usize = 1 + 8 + 10 + 10 + 8;
const DATAGRAM_BYTES_TYPICAL: usize = 256;
/// Most records that ride on one datagram.
const PIGGYBACK_MAX: usize = 64;
/// Most datagrams that wait to be polled; a driver drains them after each input.
const TRANSMITS_MAX: usize = 4_096;
/// Most events that wait to be polled.
const EVENTS_MAX: usize = 16_384;
