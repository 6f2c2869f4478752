//! Fuzz target of engines under attack: honest members, an attacker with the key, and invariants.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use arbitrary::Arbitrary;
use rpcnet_swim::unstable::{
    Envelope, GossipMessage, MemberChange, MemberVersion, MismatchNotice, Occupancy, Origin,
    instance_key, name_key, short_instance_key,
};
use rpcnet_swim::{ClusterConfig, ClusterKey, Engine, KeyRing, MemberState, NodeId, Time};
use xxhash_rust::xxh3::Xxh3;

use super::attacker::{AttackerMessage, AttackerSender, EPOCH, NAMES, addr, name};
use crate::check::{check_evidence, check_version_order};

/// One step of a run. Numbers choose among what there is.
#[derive(Clone, Debug, Arbitrary)]
pub enum Operation {
    /// A datagram arrives.
    Deliver(u8),
    /// A datagram is lost.
    Drop(u8),
    /// A datagram arrives from another address, and will arrive again.
    Copy(u8, u8),
    /// A datagram arrives with one byte of its body changed, sealed again.
    Alter(u8, u16, u8),
    /// Time passes up to a node's deadline, which it keeps.
    Timeout(u8),
    /// Time passes without a timeout.
    Wait(u16),
    /// The attacker, which has the key, sends any bytes as a body.
    SendBytes(AttackerSender, Vec<u8>),
    /// The attacker sends a message.
    SendMessage(AttackerSender, AttackerMessage),
    /// A sender without the key sends any bytes.
    SendUnsealed(u8, Vec<u8>),
    /// A node's seeds resolve to these.
    Seeds(u8, Vec<u8>),
    /// A node's seeds do not resolve.
    Unresolved(u8),
    /// A node changes its tags.
    Tag(u8, u8),
    /// A node starts or ends draining.
    Drain(u8, bool),
    /// A node leaves.
    Leave(u8),
    /// A node restarts, with an epoch later by so many milliseconds.
    Restart(u8, u8),
}

/// Carries the operations out and checks every rule after each; some runs twice, for the same
/// outputs.
///
/// # Panics
/// If a rule is broken.
pub fn engine(operations: &[Operation]) {
    let first = Harness::new().run(operations);
    if operations.len() % 4 == 3 {
        assert_eq!(first, Harness::new().run(operations), "another outcome");
    }
}

struct Harness {
    now: Time,
    config: ClusterConfig,
    envelope: Envelope,
    nodes: Vec<Engine>,
    in_flight: VecDeque<InFlightDatagram>,
    /// The last counter of each name of the attacker.
    counters: [u64; NAMES],
    /// The last sequence number that a node was seen to use.
    seq: u32,
    digest: Xxh3,
}

#[derive(Clone, Debug)]
struct InFlightDatagram {
    from: SocketAddr,
    to: SocketAddr,
    datagram: Vec<u8>,
}

impl Harness {
    fn new() -> Self {
        let ring = KeyRing::from(ClusterKey::from_bytes([7; 32]));
        let config = ClusterConfig::lan()
            .with_cluster_name(CLUSTER)
            .with_key(ring.clone());
        let mut harness = Self {
            now: Time::from_millis(1_000),
            envelope: Envelope::new(CLUSTER, Some(&ring), 99),
            config,
            nodes: Vec::new(),
            in_flight: VecDeque::new(),
            counters: [0; NAMES],
            seq: 0,
            digest: Xxh3::new(),
        };
        for n in 0..NODES {
            let node = harness.node(n, EPOCH);
            harness.nodes.push(node);
        }
        // The nodes know each other from the start: most inputs are about what follows.
        let seeds: Vec<_> = (0..NODES).map(addr).collect();
        for n in 0..NODES {
            let now = harness.now;
            harness.nodes[n].handle_seeds(now, &seeds);
            harness.drain_outputs(n, INPUT_DATAGRAMS_MAX);
        }
        for _ in 0..200 {
            harness.deliver(0);
        }
        harness
    }

    fn node(&self, n: usize, epoch: u64) -> Engine {
        let id = NodeId::new(name(n), epoch);
        let mut node = Engine::new(self.config.clone(), id, addr(n), self.now, n as u64 + epoch)
            .expect("the configuration is valid");
        node.record_history();
        node
    }

    fn run(mut self, operations: &[Operation]) -> u64 {
        for operation in operations.iter().take(OPERATIONS_MAX) {
            self.step(operation);
        }
        self.digest.digest()
    }

    fn step(&mut self, operation: &Operation) {
        match operation {
            Operation::Deliver(at) => self.deliver((*at).into()),
            Operation::Drop(at) => drop(self.take(*at)),
            Operation::Copy(at, from) => self.copy(*at, addr((*from).into())),
            Operation::Alter(at, offset, xor) => self.alter(*at, (*offset).into(), *xor),
            Operation::Timeout(n) => self.timeout(usize::from(*n) % NODES),
            Operation::Wait(millis) => self.now += Duration::from_millis((*millis).into()),
            Operation::SendBytes(sender, bytes) => {
                let bytes = &bytes[..bytes.len().min(1_200)];
                self.send(sender, |out| out.extend_from_slice(bytes));
            }
            Operation::SendMessage(sender, forged) => {
                let payload = forged.payload(sender, self.seq);
                let message = GossipMessage {
                    to: self.addressee(sender),
                    payload,
                };
                self.send(sender, |out| message.encode(out));
            }
            Operation::SendUnsealed(from, bytes) => self.arrive(InFlightDatagram {
                from: addr((*from).into()),
                to: addr(0),
                datagram: bytes.clone(),
            }),
            Operation::Seeds(n, seeds) => {
                let seeds: Vec<_> = seeds.iter().map(|n| addr((*n).into())).collect();
                self.input(*n, |node, now| node.handle_seeds(now, &seeds));
            }
            Operation::Unresolved(n) => self.input(*n, Engine::handle_unresolved_seeds),
            Operation::Tag(n, value) => {
                let value = "v".repeat((*value).into());
                self.input(*n, |node, now| {
                    node.set_tag(now, "role", &value).expect("it is short");
                });
            }
            Operation::Drain(n, draining) => {
                self.input(*n, |node, now| node.set_draining(now, *draining));
            }
            Operation::Leave(n) => self.input(*n, Engine::leave),
            Operation::Restart(n, later) => self.restart(*n, (*later).into()),
        }
    }

    fn take(&mut self, at: u8) -> Option<InFlightDatagram> {
        let at = usize::from(at) % self.in_flight.len().max(1);
        self.in_flight.remove(at)
    }

    fn deliver(&mut self, at: usize) {
        let at = at % self.in_flight.len().max(1);
        if let Some(packet) = self.in_flight.remove(at) {
            self.arrive(packet);
        }
    }

    fn arrive(&mut self, mut packet: InFlightDatagram) {
        if let Some(n) = (0..NODES).find(|n| addr(*n) == packet.to) {
            let now = self.now;
            self.nodes[n].handle_datagram(now, packet.from, &mut packet.datagram);
            self.drain_outputs(n, INPUT_DATAGRAMS_MAX);
        }
    }

    fn alter(&mut self, at: u8, offset: usize, xor: u8) {
        let Some(mut packet) = self.take(at) else {
            return;
        };
        if let Ok((mut origin, body, _)) = self.envelope.open(&mut packet.datagram) {
            let mut body = body.to_vec();
            let at = offset % body.len().max(1);
            if let Some(byte) = body.get_mut(at) {
                *byte ^= xor;
            }
            origin.counter = origin.counter.wrapping_add(u64::from(xor));
            let mut datagram = Vec::new();
            self.envelope
                .seal(origin, &mut datagram, |out| out.extend_from_slice(&body));
            self.arrive(InFlightDatagram { datagram, ..packet });
        }
    }

    /// Delivers a datagram from another address, and keeps it to be delivered again.
    fn copy(&mut self, at: u8, from: SocketAddr) {
        if let Some(packet) = self.take(at) {
            self.in_flight.push_back(packet.clone());
            self.arrive(InFlightDatagram { from, ..packet });
        }
    }

    /// Lets time pass up to a node's deadline, which it keeps.
    fn timeout(&mut self, n: usize) {
        let due = self.nodes[n].poll_timeout().unwrap_or_default();
        let now = due.max(self.now);
        self.now = now;
        self.nodes[n].handle_timeout(now);
        if let Some(at) = self.nodes[n].poll_timeout() {
            assert!(at > now, "due again at {at:?}, and it is {now:?}");
        }
        self.drain_outputs(n, TIMEOUT_DATAGRAMS_MAX);
    }

    /// Starts a node again, with an epoch later by so many milliseconds.
    fn restart(&mut self, n: u8, later: u64) {
        let at = usize::from(n) % NODES;
        let epoch = self.nodes[at].id().epoch.saturating_add(later);
        self.nodes[at] = self.node(at, epoch);
        let seeds: Vec<_> = (0..NODES).map(addr).collect();
        self.input(n, |node, now| node.handle_seeds(now, &seeds));
    }

    fn input(&mut self, n: u8, input: impl FnOnce(&mut Engine, Time)) {
        let n = usize::from(n) % NODES;
        input(&mut self.nodes[n], self.now);
        self.drain_outputs(n, INPUT_DATAGRAMS_MAX);
    }

    fn send(&mut self, sender: &AttackerSender, body: impl FnOnce(&mut Vec<u8>)) {
        let by = usize::from(sender.name) % NAMES;
        self.counters[by] = sender.counter.near(self.counters[by].wrapping_add(1));
        let origin = Origin {
            from: name_key(&name(by)),
            epoch: sender.epoch.near(EPOCH),
            counter: self.counters[by],
        };
        let mut datagram = Vec::new();
        self.envelope.seal(origin, &mut datagram, body);
        self.arrive(InFlightDatagram {
            from: addr(sender.addr.into()),
            to: addr(usize::from(sender.to) % NODES),
            datagram,
        });
    }

    fn addressee(&self, sender: &AttackerSender) -> u32 {
        let id = self.nodes[usize::from(sender.to) % NODES].id();
        match sender.misaddressed {
            None => short_instance_key(instance_key(name_key(&id.name), id.epoch)),
            Some(false) => 0,
            Some(true) => 1,
        }
    }

    /// Takes what a node puts out after an input, and checks every rule.
    fn drain_outputs(&mut self, n: usize, datagrams_max: usize) {
        let node = &mut self.nodes[n];
        let mut sent = 0;
        while let Some((to, mut datagram)) = node.poll_transmit() {
            sent += 1;
            assert!(datagram.len() <= self.config.datagram_bytes_max());
            assert!(to.port() > 0 && !to.ip().is_unspecified(), "sent to {to}");
            self.digest.update(&datagram);
            self.digest.update(to.to_string().as_bytes());
            self.in_flight.push_back(InFlightDatagram {
                from: addr(n),
                to,
                datagram: datagram.clone(),
            });
            // The one datagram that is neither sealed nor a message.
            if MismatchNotice::decode(&datagram).is_some() {
                continue;
            }
            let (origin, body, _) = self.envelope.open(&mut datagram).expect("its own seal");
            assert_eq!(origin.from, name_key(&node.id().name));
            super::message(body);
            if let [1 | 3, _, _, _, _, seq @ ..] = body {
                let seq = seq.first_chunk().expect("a message is whole");
                self.seq = u32::from_le_bytes(*seq);
            }
        }
        assert!(sent <= datagrams_max, "{sent} datagrams after one input");
        while self.in_flight.len() > IN_FLIGHT_MAX {
            self.in_flight.pop_front();
        }
        while let Some(event) = node.poll_event() {
            self.digest.update(format!("{event:?}").as_bytes());
        }
        self.check(n);
    }

    fn check(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        for Occupancy { name, count, bound } in node.occupancies() {
            assert!(count <= bound, "{count} {name}, and {bound} are allowed");
        }
        assert_eq!(node.view_hash(), node.recomputed_view(), "hash of the view");
        let live = node.members().filter(|member| member.state.is_live());
        assert_eq!(node.live_count(), live.count() + 1);
        assert_eq!(node.has_left(), node.poll_timeout().is_none());
        let own = node.local_member();
        for MemberChange { key, before, after } in node.take_changes() {
            let before = before.unwrap_or(MemberVersion {
                epoch: 0,
                incarnation: 0,
                state: MemberState::Alive,
            });
            let order = check_version_order(|| format!("{key:016x}"), before, after);
            order.unwrap_or_else(|broken| panic!("{broken:?} at {}", own.id));
        }
        for decision in node.take_failure_decisions() {
            let evidence = check_evidence(|| decision.key.to_string(), &decision, &self.config);
            evidence.unwrap_or_else(|broken| panic!("{broken:?} at {}", own.id));
        }
    }
}

/// Name of the cluster.
const CLUSTER: &str = "rpcnet";
/// Real nodes.
const NODES: usize = 3;
/// Most operations of one input.
const OPERATIONS_MAX: usize = 256;
/// Most datagrams on the way.
const IN_FLIGHT_MAX: usize = 256;
/// Most datagrams that one datagram draws, or another input.
const INPUT_DATAGRAMS_MAX: usize = 64;
/// Most datagrams that a wake-up sends.
const TIMEOUT_DATAGRAMS_MAX: usize = 256;
