//! Steps of virtual time: each handles one event, then checks the view that it changed.

use std::cmp::Reverse;
use std::net::SocketAddr;
use std::time::Duration;

use rpcnet_swim::unstable::{DetectorHooks, name_key};
use rpcnet_swim::{Engine, Event, Member, NodeId, Time};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::Cluster;
use super::check::{self, CheckCounts, CheckDepth, SimFailure, Violation};
use super::check_traffic::TrafficCheck;
use super::event_queue::{ScheduledEvent, SimEvent};
use super::network::Delivery;
use super::process_fault::{PendingDatagram, PendingQueue, ProcessFault};
use super::traffic::wire_bytes;

impl<D: DetectorHooks> Cluster<D> {
    /// Handles the next event. Returns `false` if there is none, or a rule was broken.
    pub fn step(&mut self) -> bool {
        if self.report.failure.is_some() {
            return false;
        }
        let Some(Reverse(ScheduledEvent { at, event, .. })) = self.queue.pop() else {
            return false;
        };
        self.now = self.now.max(at);
        self.check_split_brain();
        match event {
            SimEvent::Timeout(node) => self.handle_timeout(node as usize, at),
            SimEvent::SeedsResolved(node) => {
                let node = node as usize;
                let seeds = self.nodes[node].resolve_seeds();
                self.input(node, |engine, now| engine.handle_seeds(now, &seeds));
            }
            SimEvent::MessageDone(node) => self.finish_message(node as usize, at),
            SimEvent::DatagramArrival {
                from,
                to,
                number,
                datagram,
            } => self.arrive(from as usize, to as usize, number, datagram),
        }
        true
    }

    /// Lets this much time pass.
    pub fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.queue.peek().is_some_and(|Reverse(due)| due.at <= end) && self.step() {}
        self.now = self.now.max(end);
    }

    /// Lets time pass until the condition holds, checked every 10 ms, and returns how much did;
    /// `None` if it does not hold within `limit` or a rule was broken.
    pub fn run_until(
        &mut self,
        limit: Duration,
        condition: impl Fn(&Self) -> bool,
    ) -> Option<Duration> {
        let start = self.now;
        loop {
            if self.report.failure.is_some() {
                return None;
            }
            if condition(self) {
                return Some(self.now.since(start));
            }
            if self.now.since(start) >= limit {
                return None;
            }
            self.run_for(CONDITION_INTERVAL);
        }
    }

    pub(super) fn start(&mut self, node: usize, epoch: u64) {
        let engine = self.new_engine(node, epoch);
        self.install_engine(node, engine);
    }

    /// A new engine for a slot, whose state is reset.
    pub(super) fn new_engine(&mut self, node: usize, epoch: u64) -> Box<Engine<D>> {
        let seed = self.rng.u64(..);
        let (now, slot) = (self.now, &mut self.nodes[node]);
        let id = NodeId::new(slot.name.as_str(), epoch);
        let by_hand = slot.config.advertise_addr().or(slot.advertised);
        let addr = by_hand.unwrap_or(slot.location);
        let (config, detector) = (slot.config.clone(), self.detector.clone());
        let engine = Engine::with_detector(config, id, addr, now, seed, detector);
        slot.epoch = epoch;
        slot.traffic_check = TrafficCheck::new(now);
        slot.failures_declared = 0;
        slot.impaired_at = None;
        slot.fault = ProcessFault::None;
        slot.pending = PendingQueue::default();
        slot.busy_until = None;
        slot.next_timeout = None;
        let mut engine = Box::new(engine.expect("a valid configuration"));
        // In its canonical form.
        slot.name = engine.id().name.to_string();
        engine.set_interner(self.shared.clone());
        if self.check_every > 0 {
            engine.record_history();
        }
        let own = engine.local_view();
        self.own_versions.record(own.key, own.version);
        slot.own_version = Some(own.version);
        engine
    }

    pub(super) fn install_engine(&mut self, node: usize, engine: Box<Engine<D>>) {
        self.nodes[node].engine = Some(engine);
        self.after_input(node);
    }

    pub(super) fn input(&mut self, node: usize, input: impl FnOnce(&mut Engine<D>, Time)) {
        let now = self.now;
        if let Some(engine) = &mut self.nodes[node].engine {
            input(engine, now);
            self.after_input(node);
        }
    }

    fn handle_timeout(&mut self, node: usize, at: Time) {
        let slot = &mut self.nodes[node];
        if slot.next_timeout != Some(at) {
            return;
        }
        slot.next_timeout = None;
        if slot.fault != ProcessFault::Stalled {
            self.input(node, |engine, now| engine.handle_timeout(now));
        }
    }

    fn arrive(&mut self, from: usize, to: usize, number: u64, datagram: Vec<u8>) {
        let slot = &mut self.nodes[to];
        if slot.engine.is_none() {
            return;
        }
        self.report.overtaken += u64::from(slot.arrivals.is_overtaken(from, number));
        self.pass_or_hold(to, PendingDatagram::Inbound { from, datagram });
    }

    /// Feeds a datagram to a node.
    pub(super) fn deliver(&mut self, from: usize, to: usize, mut datagram: Vec<u8>) {
        let from = self.nodes[from].location;
        self.report.delivered += 1;
        self.nodes[to].traffic.count_received(&datagram);
        self.input(to, |engine, now| {
            engine.handle_datagram(now, from, &mut datagram);
        });
    }

    /// Drains the engine's outputs as a driver does after each input, then checks its view.
    pub(super) fn after_input(&mut self, node: usize) {
        let Some(mut engine) = self.nodes[node].engine.take() else {
            return;
        };
        self.report.steps += 1;
        self.record_own_state(node, &engine);
        while let Some((to, datagram)) = engine.poll_transmit() {
            let max = self.nodes[node].config.datagram_bytes_max();
            if datagram.len() > max {
                let bytes = datagram.len();
                self.violate(node, Violation::Oversized { bytes, max });
            }
            self.pass_or_hold(node, PendingDatagram::Outbound { to, datagram });
        }
        while let Some(event) = engine.poll_event() {
            self.record_event(node, engine.live_count(), event);
        }
        if engine.wants_seeds() && !self.nodes[node].seeds.is_empty() {
            self.push(
                self.now + RESOLVE_TIME,
                SimEvent::SeedsResolved(node as u32),
            );
        } else if self.nodes[node].steps == 0 {
            // Without seeds it is a cluster of its own.
            engine.handle_seeds(self.now, &[]);
        }
        self.nodes[node].steps += 1;
        if self.check_every > 0 {
            self.check_view(node, &mut engine);
        }
        let (next, slot) = (engine.poll_timeout(), &mut self.nodes[node]);
        if let Some(next) = next
            && slot.next_timeout.is_none_or(|wake| next < wake)
        {
            slot.next_timeout = Some(next);
            self.push(next, SimEvent::Timeout(node as u32));
        }
        self.nodes[node].engine = Some(engine);
    }

    /// Records what a node says of itself now.
    pub(super) fn record_own_state(&mut self, node: usize, engine: &Engine<D>) {
        let (own, slot) = (engine.local_view(), &mut self.nodes[node]);
        let before = slot.own_version.replace(own.version);
        if before == slot.own_version {
            return;
        }
        slot.epoch = own.version.epoch;
        self.own_versions.record(own.key, own.version);
        if let Some(before) = before
            && let Err(fell) =
                check::check_version_order(|| own.name.to_owned(), before, own.version)
        {
            self.violate(node, fell);
        }
    }

    fn check_view(&mut self, node: usize, engine: &mut Engine<D>) {
        let slot = &mut self.nodes[node];
        let depth = match slot.steps.is_multiple_of(self.check_every) {
            true => CheckDepth::WholeView,
            false => CheckDepth::Changes,
        };
        let mut counts = CheckCounts::default();
        let result = check::check_view(
            engine,
            &self.own_versions,
            slot.failures_declared,
            depth,
            &mut counts,
        );
        let is_well = slot.fault == ProcessFault::None && slot.impaired_at != Some(self.now);
        let is_calm = is_well && counts.changes == 0;
        let result = result.and_then(|()| slot.traffic_check.check(self.now, engine, is_calm));
        slot.failures_declared = engine.stats().failures_declared;
        self.report.checks += u64::from(depth == CheckDepth::WholeView);
        self.report.changes_checked += counts.changes;
        self.report.decisions_checked += counts.decisions;
        self.report.work_max = self.report.work_max.max(counts.steps_max);
        if let Err(violation) = result {
            self.violate(node, violation);
        }
    }

    pub(super) fn transmit(&mut self, from: usize, to: SocketAddr, datagram: Vec<u8>) {
        self.report.sent += 1;
        self.report.sent_bytes += wire_bytes(&datagram);
        self.nodes[from].traffic.count_sent(&datagram);
        self.trace(xxh3_64_with_seed(&datagram, from as u64));
        let Some(to) = self.locate(from, to) else {
            return;
        };
        let number = self.report.sent;
        let arrive = |datagram| SimEvent::DatagramArrival {
            from: from as u32,
            to: to as u32,
            number,
            datagram,
        };
        let bytes = wire_bytes(&datagram);
        match self.network.delivery(&mut self.rng, from, to, bytes) {
            Delivery::Once(after) => self.push(self.now + after, arrive(datagram)),
            Delivery::Twice(first, second) => {
                self.report.duplicated += 1;
                self.push(self.now + first, arrive(datagram.clone()));
                self.push(self.now + second, arrive(datagram));
            }
            Delivery::Lost => self.report.lost += 1,
            Delivery::TooLarge => self.report.too_large += 1,
            Delivery::Cut => {
                self.report.cut += 1;
                self.nodes[from].impaired_at = Some(self.now);
                self.nodes[to].impaired_at = Some(self.now);
            }
        }
    }

    fn record_event(&mut self, node: usize, live: usize, event: Event) {
        self.record_transition(node, &event);
        self.trace_event(node, &event);
        match &event {
            Event::NodeSuspect { .. } => self.report.suspicions += 1,
            Event::NodeRecovered(_) => self.report.recoveries += 1,
            Event::PartitionDetected { .. } => self.report.partitions_detected += 1,
            Event::NameConflict { .. } => self.report.name_conflicts += 1,
            Event::NodeFailed(member) => {
                self.report.failures += 1;
                // A node that knows one other member alone cannot tell which of the two networks is
                // broken.
                let can_tell = live > 1 || self.nodes[node].fault == ProcessFault::None;
                if can_tell && self.has_been_healthy(member) {
                    self.report.false_failures += 1;
                    if self.is_false_failure_a_violation {
                        let member = format!("{:?}", member.id);
                        self.violate(node, Violation::FalseFailure { member });
                    }
                }
            }
            _ => {}
        }
        if self.log_events {
            self.nodes[node].events.push((self.now, event));
        }
    }

    /// Whether a member is up and has been healthy for so long that nothing said of it is older.
    fn has_been_healthy(&self, member: &Member) -> bool {
        let Some(at) = self.node_at(member.addr) else {
            return false;
        };
        let slot = &self.nodes[at];
        self.is_current(at, member)
            // The observer's own engine is taken out while its events are recorded; it is not the
            // member.
            && slot.engine.as_ref().is_some_and(|engine| {
                !engine.has_left() && engine.local_member().state.is_live()
            })
            && slot.fault == ProcessFault::None
            && slot
                .impaired_at
                .is_none_or(|at| self.now.since(at) >= HEALTHY_AFTER)
    }

    pub(super) fn violate(&mut self, node: usize, violation: Violation) {
        self.report.failure.get_or_insert_with(|| SimFailure {
            at: self.now,
            observer: self.nodes[node].name.clone(),
            violation,
        });
    }

    /// Adds the kind of an event and its member's version to the trace hash.
    fn trace_event(&mut self, node: usize, event: &Event) {
        let (kind, member) = match event {
            Event::NodeJoined(member) => (1, Some(member)),
            Event::NodeLeft(member) => (2, Some(member)),
            Event::NodeFailed(member) => (3, Some(member)),
            Event::NodeSuspect { member, .. } => (4, Some(member)),
            Event::NodeRecovered(member) => (5, Some(member)),
            Event::NodeUpdated(member) => (6, Some(member)),
            // Rare, so formatting it may take long.
            other => (xxh3_64(format!("{other:?}").as_bytes()), None),
        };
        let (key, epoch, incarnation) = member.map_or((0, 0, 0), |member| {
            (
                name_key(&member.id.name),
                member.id.epoch,
                member.incarnation,
            )
        });
        let phi = match event {
            Event::NodeSuspect { phi, .. } => phi.to_bits(),
            _ => 0,
        };
        let mut bytes = [0; 36];
        bytes[..8].copy_from_slice(&kind.to_le_bytes());
        bytes[8..16].copy_from_slice(&key.to_le_bytes());
        bytes[16..24].copy_from_slice(&epoch.to_le_bytes());
        bytes[24..32].copy_from_slice(&phi.to_le_bytes());
        bytes[32..].copy_from_slice(&incarnation.to_le_bytes());
        self.trace(xxh3_64_with_seed(&bytes, node as u64));
    }

    fn trace(&mut self, hash: u64) {
        let at = self.now.as_micros().to_le_bytes();
        self.report.trace = xxh3_64_with_seed(&at, self.report.trace ^ hash);
    }

    pub(super) fn push(&mut self, at: Time, event: SimEvent) {
        self.sequence += 1;
        let sequence = self.sequence;
        self.queue.push(Reverse(ScheduledEvent {
            at,
            sequence,
            event,
        }));
    }
}

/// Time that it takes to resolve the seeds.
const RESOLVE_TIME: Duration = Duration::from_millis(1);
/// Interval at which a condition is checked.
const CONDITION_INTERVAL: Duration = Duration::from_millis(10);
/// Time after which older statements about a node are settled.
const HEALTHY_AFTER: Duration = Duration::from_secs(20);
