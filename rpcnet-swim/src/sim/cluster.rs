//! Nodes, the events that wait for them, and virtual time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use fastrand::Rng;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::check::{self, Failure, Lives, Truth, Violation, Watch};
use super::network::{Fate, Network};
use super::report::Report;
use crate::config::ClusterConfig;
use crate::engine::Engine;
use crate::error::TagError;
use crate::event::{Event, Member};
use crate::id::NodeId;
use crate::time::Time;

/// A simulated cluster. Nodes go by their number, which with their address is theirs for ever.
#[derive(Debug)]
pub struct Cluster {
    pub(super) now: Time,
    pub(super) rng: Rng,
    network: Network,
    pub(super) nodes: Vec<Node>,
    by_addr: HashMap<SocketAddr, usize>,
    queue: BinaryHeap<Reverse<Due>>,
    /// Ties of time are broken by the order of making.
    made: u64,
    lives: Lives,
    check_every: u64,
    is_false_failure_a_violation: bool,
    log_events: bool,
    pub(super) report: Report,
}

/// A place in the cluster and the node that lives there, or lived.
#[derive(Debug)]
pub(super) struct Node {
    name: String,
    addr: SocketAddr,
    config: ClusterConfig,
    seeds: Vec<SocketAddr>,
    engine: Option<Engine>,
    epoch: u64,
    /// When its next wake-up is due, so that there is one at a time.
    wake: Option<Time>,
    pub(super) plight: Plight,
    /// What waits at its door, or on its way out, until its plight is over.
    inbox: VecDeque<(SocketAddr, Vec<u8>)>,
    outbox: VecDeque<(SocketAddr, Vec<u8>)>,
    /// The last time that it was not well: stalled, blocked or cut off.
    unwell_at: Option<Time>,
    watch: Watch,
    steps: u64,
    events: Vec<(Time, Event)>,
    /// Number of the last datagram that arrived from each node.
    arrived: HashMap<usize, u64>,
}

/// What keeps a running process from doing its work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Plight {
    #[default]
    None,
    /// Neither messages nor timers: the process is stopped.
    Stalled,
    /// Timers but no messages: they wait, in and out.
    Blocked,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    at: Time,
    made: u64,
    what: What,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Wake(usize),
    Seeds(usize),
    Arrive {
        from: usize,
        to: usize,
        number: u64,
        datagram: Vec<u8>,
    },
}

impl Cluster {
    /// A cluster without nodes.
    pub fn new(seed: u64) -> Self {
        Self {
            now: Time::ZERO,
            rng: Rng::with_seed(seed),
            network: Network::new(),
            nodes: Vec::new(),
            by_addr: HashMap::new(),
            queue: BinaryHeap::new(),
            made: 0,
            lives: Lives::default(),
            check_every: 1,
            is_false_failure_a_violation: false,
            log_events: true,
            report: Report {
                seed,
                ..Report::default()
            },
        }
    }

    /// `count` nodes `n0`, `n1` ... that start together, with the first three as seeds.
    pub fn of(seed: u64, count: usize, config: ClusterConfig) -> Self {
        let mut cluster = Self::new(seed);
        let seeds: Vec<_> = (0..count.min(3)).map(addr_of).collect();
        for n in 0..count {
            cluster.add(format!("n{n}"), config.clone(), seeds.clone());
        }
        cluster
    }

    /// Starts a node and gives its number.
    ///
    /// # Panics
    /// If the configuration or the name is invalid.
    pub fn add(
        &mut self,
        name: impl Into<String>,
        config: ClusterConfig,
        seeds: Vec<SocketAddr>,
    ) -> usize {
        let node = self.nodes.len();
        let addr = addr_of(node);
        self.by_addr.insert(addr, node);
        self.nodes.push(Node {
            name: name.into(),
            addr,
            config,
            seeds,
            engine: None,
            epoch: 0,
            wake: None,
            plight: Plight::None,
            inbox: VecDeque::new(),
            outbox: VecDeque::new(),
            unwell_at: None,
            watch: Watch::default(),
            steps: 0,
            events: Vec::new(),
            arrived: HashMap::new(),
        });
        let epoch = self.epoch();
        self.start(node, epoch);
        node
    }

    /// Looks at every `steps`-th view only; never if it is 0. Default 1.
    pub fn check_every(&mut self, steps: u64) {
        self.check_every = steps;
    }

    /// Whether it breaks a rule to hold a member failed that is well. The protocol promises it
    /// while no direction is cut and little is lost. Default no: they are counted only.
    pub fn forbid_false_failures(&mut self, forbid: bool) {
        self.is_false_failure_a_violation = forbid;
    }

    /// Whether events are kept for [`Cluster::events`]. Default yes.
    pub fn log_events(&mut self, log: bool) {
        self.log_events = log;
    }

    /// What lies between the nodes.
    pub fn network(&mut self) -> &mut Network {
        &mut self.network
    }

    /// Stops a node without a word.
    pub fn crash(&mut self, node: usize) {
        if self.nodes[node].engine.take().is_some() {
            self.report.crashes += 1;
        }
        let node = &mut self.nodes[node];
        node.plight = Plight::None;
        node.inbox.clear();
        node.outbox.clear();
        node.wake = None;
    }

    /// Starts a node again: the same name and address, a newer epoch.
    pub fn restart(&mut self, node: usize) {
        self.crash(node);
        self.report.restarts += 1;
        let epoch = self.epoch();
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
        let epoch = self.epoch();
        self.start(node, epoch);
    }

    /// Stops a process: messages wait, and nothing happens in it.
    pub fn stall(&mut self, node: usize) {
        self.report.stalls += 1;
        self.nodes[node].plight = Plight::Stalled;
    }

    /// Withholds what a node sends and what is sent to it, while its timers run.
    pub fn block(&mut self, node: usize) {
        self.report.blocks += 1;
        self.nodes[node].plight = Plight::Blocked;
    }

    /// Lets a stalled or blocked process go on: first what waits, then what is due.
    pub fn resume(&mut self, node: usize) {
        if std::mem::take(&mut self.nodes[node].plight) == Plight::None {
            return;
        }
        self.nodes[node].unwell_at = Some(self.now);
        for (to, datagram) in std::mem::take(&mut self.nodes[node].outbox) {
            self.post(node, to, datagram);
        }
        let Some(mut engine) = self.nodes[node].engine.take() else {
            return;
        };
        for (from, mut datagram) in std::mem::take(&mut self.nodes[node].inbox) {
            self.report.delivered += 1;
            engine.handle_datagram(self.now, from, &mut datagram);
            self.lives.note(&engine);
        }
        engine.handle_timeout(self.now);
        self.nodes[node].engine = Some(engine);
        self.after_input(node);
    }

    /// Tells a node to leave.
    pub fn leave(&mut self, node: usize) {
        self.report.leaves += 1;
        self.input(node, |engine, now| engine.leave(now));
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

    /// Hands a datagram to a node, as if it came from this address.
    pub fn inject(&mut self, node: usize, from: SocketAddr, mut datagram: Vec<u8>) {
        self.input(node, |engine, now| {
            engine.handle_datagram(now, from, &mut datagram);
        });
    }

    /// Does the next thing that is due. False if there is none, or a rule was broken.
    pub fn step(&mut self) -> bool {
        if self.report.failure.is_some() {
            return false;
        }
        let Some(Reverse(Due { at, what, .. })) = self.queue.pop() else {
            return false;
        };
        self.now = self.now.max(at);
        match what {
            What::Wake(node) => self.wake(node, at),
            What::Seeds(node) => {
                let seeds = self.nodes[node].seeds.clone();
                self.input(node, |engine, now| engine.handle_seeds(now, &seeds));
            }
            What::Arrive {
                from,
                to,
                number,
                datagram,
            } => self.arrive(from, to, number, datagram),
        }
        true
    }

    /// Lets this much time pass.
    pub fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.queue.peek().is_some_and(|Reverse(due)| due.at <= end) && self.step() {}
        self.now = self.now.max(end);
    }

    /// Lets time pass until the condition holds, looked at every 10 ms, and says how much did;
    /// none if it does not hold within `limit` or a rule was broken.
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
            self.run_for(LOOK_EVERY);
        }
    }

    /// Virtual time.
    pub fn now(&self) -> Time {
        self.now
    }

    /// How many nodes there ever were.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there never was a node.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The engine of a node, unless it is down.
    pub fn engine(&self, node: usize) -> Option<&Engine> {
        self.nodes[node].engine.as_ref()
    }

    /// The engine of a node, to tamper with. Nothing is polled until its next input.
    #[cfg(test)]
    pub(super) fn engine_mut(&mut self, node: usize) -> Option<&mut Engine> {
        self.nodes[node].engine.as_mut()
    }

    /// Where a node is.
    pub fn addr(&self, node: usize) -> SocketAddr {
        self.nodes[node].addr
    }

    /// The name of the node there now, or last.
    pub fn name(&self, node: usize) -> &str {
        &self.nodes[node].name
    }

    /// Whether a node runs and takes part.
    pub fn is_up(&self, node: usize) -> bool {
        self.nodes[node]
            .engine
            .as_ref()
            .is_some_and(|engine| !engine.is_gone())
    }

    /// What a node told of the cluster, and when.
    pub fn events(&self, node: usize) -> &[(Time, Event)] {
        &self.nodes[node].events
    }

    /// How `observer` sees the node at `node`.
    pub fn sight(&self, observer: usize, node: usize) -> Option<Member> {
        self.engine(observer)?.member(&self.nodes[node].name)
    }

    /// Whether every view is what is: who is live, which life, where, with which tags; and no
    /// partition is reported.
    pub fn is_converged(&self) -> bool {
        self.difference().is_none()
    }

    /// In what a view differs from what is, if one does: the observer and what it sees.
    pub fn difference(&self) -> Option<(usize, String)> {
        let up = |node: &usize| {
            let engine = self.nodes[*node].engine.as_ref()?;
            (!engine.is_gone()).then_some((*node, engine))
        };
        let engines: Vec<_> = (0..self.nodes.len()).filter_map(|n| up(&n)).collect();
        let hash = engines.first().map(|(_, engine)| engine.view_hash());
        let odd = engines
            .iter()
            .find(|(_, e)| Some(e.view_hash()) != hash || e.live_count() != engines.len());
        // Cheap first: most looks find a view that differs.
        if let Some((node, engine)) = odd {
            let truth = engines.iter().map(|(_, e)| Truth::of(e.me())).collect();
            let difference = check::difference(engine, &truth);
            return Some((*node, difference.unwrap_or_else(|| "the hash".to_owned())));
        }
        let truth: HashMap<_, _> = engines.iter().map(|(_, e)| Truth::of(e.me())).collect();
        engines
            .iter()
            .find_map(|(node, engine)| Some((*node, check::difference(engine, &truth)?)))
    }

    /// What happened so far.
    pub fn report(&self) -> Report {
        Report {
            nodes: self.report.nodes.max(self.nodes.len()),
            took: self.now.since(Time::ZERO),
            ..self.report.clone()
        }
    }

    /// # Panics
    /// If a rule was broken so far.
    pub fn expect_safe(&self) {
        if let Some(failure) = &self.report.failure {
            panic!("seed {}: {failure}", self.report.seed);
        }
    }

    /// The next epoch: the time, and never the same twice.
    pub(super) fn epoch(&mut self) -> u64 {
        self.made += 1;
        EPOCH_ORIGIN + self.now.as_micros() / 1_000 + self.made
    }

    fn start(&mut self, node: usize, epoch: u64) {
        let seed = self.rng.u64(..);
        let (now, place) = (self.now, &mut self.nodes[node]);
        let id = NodeId::new(place.name.as_str(), epoch);
        let engine = Engine::new(place.config.clone(), id, place.addr, now, seed);
        place.engine = Some(engine.expect("a valid configuration"));
        place.epoch = epoch;
        place.watch = Watch::default();
        place.unwell_at = None;
        place.plight = Plight::None;
        place.wake = None;
        self.after_input(node);
    }

    fn input(&mut self, node: usize, input: impl FnOnce(&mut Engine, Time)) {
        let now = self.now;
        if let Some(engine) = &mut self.nodes[node].engine {
            input(engine, now);
            self.after_input(node);
        }
    }

    fn wake(&mut self, node: usize, at: Time) {
        let place = &mut self.nodes[node];
        if place.wake != Some(at) {
            return;
        }
        place.wake = None;
        if place.plight != Plight::Stalled {
            self.input(node, |engine, now| engine.handle_timeout(now));
        }
    }

    fn arrive(&mut self, from: usize, to: usize, number: u64, mut datagram: Vec<u8>) {
        let (now, addr) = (self.now, self.nodes[from].addr);
        let place = &mut self.nodes[to];
        let Some(engine) = &mut place.engine else {
            return;
        };
        if place.plight != Plight::None {
            // A socket's buffer: what does not fit is lost.
            match place.inbox.len() < INBOX_MAX {
                true => place.inbox.push_back((addr, datagram)),
                false => self.report.lost += 1,
            }
            return;
        }
        let last = place.arrived.entry(from).or_default();
        self.report.overtaken += u64::from(number < *last);
        *last = number.max(*last);
        self.report.delivered += 1;
        engine.handle_datagram(now, addr, &mut datagram);
        self.after_input(to);
    }

    /// What a driver does after each input, and the checks.
    fn after_input(&mut self, node: usize) {
        let Some(mut engine) = self.nodes[node].engine.take() else {
            return;
        };
        self.report.steps += 1;
        self.nodes[node].epoch = engine.id().epoch;
        self.lives.note(&engine);
        while let Some((to, datagram)) = engine.poll_transmit() {
            let max = self.nodes[node].config.datagram_bytes_max;
            if datagram.len() > max {
                let bytes = datagram.len();
                self.violate(node, Violation::Oversized { bytes, max });
            }
            match self.nodes[node].plight {
                Plight::None => self.post(node, to, datagram),
                _ => self.nodes[node].outbox.push_back((to, datagram)),
            }
        }
        while let Some(event) = engine.poll_event() {
            self.note_event(node, engine.live_count(), event);
        }
        if engine.wants_seeds() && !self.nodes[node].seeds.is_empty() {
            self.push(self.now + RESOLVE_TIME, What::Seeds(node));
        } else if self.nodes[node].steps == 0 {
            // A cluster of its own.
            engine.handle_seeds(self.now, &[]);
        }
        let place = &mut self.nodes[node];
        place.steps += 1;
        if self.check_every > 0 && place.steps.is_multiple_of(self.check_every) {
            self.report.checks += 1;
            if let Err(violation) = place.watch.look(&engine, &self.lives) {
                self.violate(node, violation);
            }
        }
        let (next, place) = (engine.poll_timeout(), &mut self.nodes[node]);
        if let Some(next) = next
            && place.wake.is_none_or(|wake| next < wake)
        {
            place.wake = Some(next);
            self.push(next, What::Wake(node));
        }
        self.nodes[node].engine = Some(engine);
    }

    fn post(&mut self, from: usize, to: SocketAddr, datagram: Vec<u8>) {
        self.report.sent += 1;
        self.report.sent_bytes += datagram.len() as u64;
        self.trace(xxh3_64_with_seed(&datagram, from as u64));
        let Some(to) = self.by_addr.get(&to).copied() else {
            return;
        };
        let number = self.report.sent;
        let arrive = |datagram| What::Arrive {
            from,
            to,
            number,
            datagram,
        };
        match self.network.fate(&mut self.rng, from, to) {
            Fate::Arrives(after) => self.push(self.now + after, arrive(datagram)),
            Fate::Twice(first, second) => {
                self.report.duplicated += 1;
                self.push(self.now + first, arrive(datagram.clone()));
                self.push(self.now + second, arrive(datagram));
            }
            Fate::Lost => self.report.lost += 1,
            Fate::Cut => {
                self.report.cut += 1;
                self.nodes[from].unwell_at = Some(self.now);
                self.nodes[to].unwell_at = Some(self.now);
            }
        }
    }

    fn note_event(&mut self, node: usize, live: usize, event: Event) {
        let text = format!("{event:?}");
        self.trace(xxh3_64_with_seed(text.as_bytes(), node as u64));
        match &event {
            Event::NodeSuspect { .. } => self.report.suspicions += 1,
            Event::NodeRecovered(_) => self.report.recoveries += 1,
            Event::PartitionDetected { .. } => self.report.partitions_detected += 1,
            Event::NameConflict { .. } => self.report.conflicts += 1,
            Event::NodeFailed(member) => {
                self.report.failures += 1;
                // Who knows of one other alone cannot tell whose network it is that is broken.
                let can_tell = live > 1 || self.nodes[node].plight == Plight::None;
                if can_tell && self.is_well(member) {
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

    /// Whether a member is up and has been free of any plight for long enough that nothing said
    /// of it is of that time.
    fn is_well(&self, member: &Member) -> bool {
        let Some(place) = self.by_addr.get(&member.addr) else {
            return false;
        };
        let place = &self.nodes[*place];
        place.name == *member.id.name
            && place.epoch == member.id.epoch
            // The observer's own engine is out while its events are noted; it is not the member.
            && place.engine.as_ref().is_some_and(|engine| {
                !engine.is_gone() && engine.me().state.is_live()
            })
            && place.plight == Plight::None
            && place
                .unwell_at
                .is_none_or(|at| self.now.since(at) >= WELL_AFTER)
    }

    pub(super) fn violate(&mut self, node: usize, violation: Violation) {
        self.report.failure.get_or_insert_with(|| Failure {
            at: self.now,
            observer: self.nodes[node].name.clone(),
            violation,
        });
    }

    fn trace(&mut self, what: u64) {
        let at = self.now.as_micros().to_le_bytes();
        self.report.trace = xxh3_64_with_seed(&at, self.report.trace ^ what);
    }

    fn push(&mut self, at: Time, what: What) {
        self.made += 1;
        let made = self.made;
        self.queue.push(Reverse(Due { at, made, what }));
    }
}

/// The address of the node of this number.
pub(super) fn addr_of(node: usize) -> SocketAddr {
    let [_, a, b, c] = (node as u32 + 1).to_be_bytes();
    SocketAddr::from((Ipv4Addr::new(10, a, b, c), 7_946))
}

/// How long it takes to resolve the seeds.
const RESOLVE_TIME: Duration = Duration::from_millis(1);
/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Most datagrams that wait for a process that does not read them.
const INBOX_MAX: usize = 1_024;
/// What was said of a node before is settled after this.
const WELL_AFTER: Duration = Duration::from_secs(20);
/// The epoch of a node that starts at time zero.
const EPOCH_ORIGIN: u64 = 1_700_000_000_000;
