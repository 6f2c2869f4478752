//! Properties of the engine that hold for any datagrams, in any order.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use proptest::prelude::*;
use rpcnet_swim::{
    ClusterConfig, ClusterKey, DropCounters, Engine, Event, KeyRing, Member, MemberState, NodeId,
    Stats, Time,
};

fn addr(n: usize) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 1_000 + n as u16))
}

fn key(byte: u8) -> ClusterKey {
    ClusterKey::from_bytes([byte; 32])
}

fn config(sealed: bool) -> ClusterConfig {
    match sealed {
        true => ClusterConfig::lan().with_key(key(1)),
        false => ClusterConfig::lan(),
    }
}

fn engine(n: usize, epoch: u64, config: &ClusterConfig, now: Time) -> Engine {
    let id = NodeId::new(format!("n{n}"), epoch);
    Engine::new(config.clone(), id, addr(n), now, n as u64 + epoch).unwrap()
}

/// A datagram on its way.
#[derive(Clone, Debug)]
struct InFlightDatagram {
    from: SocketAddr,
    to: usize,
    datagram: Vec<u8>,
}

/// Some engines and what is on its way between them; time passes by hand.
struct Net {
    now: Time,
    engines: Vec<Engine>,
    in_flight: Vec<InFlightDatagram>,
    /// Everything that was ever sent.
    recorded: Vec<InFlightDatagram>,
    config: ClusterConfig,
    epoch: u64,
}

impl Net {
    fn new(count: usize, config: ClusterConfig) -> Self {
        let mut engines: Vec<_> = (0..count)
            .map(|n| engine(n, 1, &config, Time::ZERO))
            .collect();
        let seeds: Vec<_> = (0..count).map(addr).collect();
        for engine in &mut engines {
            engine.handle_seeds(Time::ZERO, &seeds);
        }
        Self {
            now: Time::ZERO,
            engines,
            in_flight: Vec::new(),
            recorded: Vec::new(),
            config,
            epoch: 1,
        }
    }

    fn drain(&mut self, node: usize) {
        while let Some((to, datagram)) = self.engines[node].poll_transmit() {
            assert!(datagram.len() <= 1_400, "{}", datagram.len());
            let to = usize::from(to.port()) - 1_000;
            let from = addr(node);
            let packet = InFlightDatagram { from, to, datagram };
            self.recorded.push(packet.clone());
            self.in_flight.push(packet);
        }
        while self.engines[node].poll_event().is_some() {}
    }

    fn deliver(&mut self, mut packet: InFlightDatagram) {
        let now = self.now;
        if let Some(engine) = self.engines.get_mut(packet.to) {
            engine.handle_datagram(now, packet.from, &mut packet.datagram);
            self.drain(packet.to);
        }
    }

    fn timeout(&mut self, node: usize) {
        self.engines[node].handle_timeout(self.now);
        self.drain(node);
    }

    fn restart(&mut self, node: usize) {
        self.epoch += 1;
        let seeds: Vec<_> = (0..self.engines.len()).map(addr).collect();
        let mut fresh = engine(node, self.epoch, &self.config, self.now);
        fresh.handle_seeds(self.now, &seeds);
        self.engines[node] = fresh;
        self.drain(node);
    }

    /// Runs as a driver would, without loss.
    fn settle(&mut self, time: Duration) {
        let end = self.now + time;
        (0..self.engines.len()).for_each(|node| self.drain(node));
        loop {
            while !self.in_flight.is_empty() {
                let packet = self.in_flight.remove(0);
                self.deliver(packet);
            }
            let next = (0..self.engines.len())
                .filter_map(|n| Some((self.engines[n].poll_timeout()?, n)))
                .min();
            match next.filter(|(at, _)| *at <= end) {
                Some((at, node)) => {
                    self.now = self.now.max(at);
                    self.timeout(node);
                }
                None => break,
            }
        }
        self.now = end;
    }
}

fn settled(sealed: bool) -> Net {
    let mut net = Net::new(3, config(sealed));
    net.settle(Duration::from_secs(5));
    assert!(net.engines.iter().all(|engine| engine.live_count() == 3));
    net
}

/// All that can be seen of an engine but its counters.
fn state(engine: &Engine) -> (u64, Vec<Member>, Member, Option<Time>, bool) {
    (
        engine.view_hash(),
        engine.members().collect(),
        engine.local_member(),
        engine.poll_timeout(),
        engine.is_joined(),
    )
}

/// Feeds `datagram` and says which counter it moved; nothing else may have changed. It may be
/// reported, and answered by a notice that is no longer than it is.
fn refused(engine: &mut Engine, datagram: &[u8], now: Time) -> DropCounters {
    let (before, stats) = (state(engine), engine.stats());
    engine.handle_datagram(now, addr(1), &mut datagram.to_vec());
    assert_eq!(state(engine), before);
    let mut expected: Stats = stats;
    while let Some((to, notice)) = engine.poll_transmit() {
        assert_eq!(to, addr(1));
        assert!(notice.len() <= datagram.len(), "{} bytes", notice.len());
        expected.sent += 1;
        expected.sent_bytes += notice.len() as u64;
    }
    assert!(expected.sent <= stats.sent + 1);
    while let Some(event) = engine.poll_event() {
        assert!(matches!(event, Event::DatagramRefused { .. }), "{event:?}");
    }
    let after = engine.stats();
    expected.received += 1;
    expected.received_bytes += datagram.len() as u64;
    expected.dropped = after.dropped;
    assert_eq!(after, expected);
    assert_ne!(after.dropped, stats.dropped, "it is counted");
    after.dropped
}

/// How many datagrams were dropped for any reason.
fn dropped(dropped: DropCounters) -> u64 {
    dropped.malformed
        + dropped.version
        + dropped.foreign_cluster
        + dropped.unsealed
        + dropped.unknown_key
        + dropped.bad_seal
        + dropped.replayed
        + dropped.misaddressed
        + dropped.unknown_sender
        + dropped.unexpected
}

/// A fresh ping of a member to the first, and the time of it.
fn a_valid_datagram(net: &mut Net) -> Vec<u8> {
    let sent = net.recorded.len();
    loop {
        let at = net.engines[1].poll_timeout().unwrap();
        net.now = net.now.max(at);
        net.timeout(1);
        net.timeout(0);
        let mut fresh = net.recorded[sent..].iter();
        if let Some(packet) = fresh.find(|f| f.to == 0 && f.from == addr(1)) {
            return packet.datagram.clone();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn arbitrary_bytes_change_nothing(
        sealed in any::<bool>(),
        datagrams in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..1_600), 1..20),
        like_gossip in any::<bool>(),
    ) {
        let mut net = settled(sealed);
        let now = net.now;
        let valid = net.recorded[0].datagram.clone();
        for mut datagram in datagrams {
            if like_gossip && datagram.len() > 10 {
                // Past the version, into the body or up to the seal.
                let head = if sealed { 10 } else { 2 };
                datagram[..head].copy_from_slice(&valid[..head]);
            }
            refused(&mut net.engines[0], &datagram, now);
        }
        net.settle(Duration::from_secs(5));
        prop_assert!(net.engines.iter().all(|engine| engine.live_count() == 3));
    }

    #[test]
    fn a_damaged_datagram_is_counted_and_changes_nothing(
        bit in any::<prop::sample::Index>(),
        cut in any::<prop::sample::Index>(),
        extra in prop::collection::vec(any::<u8>(), 1..3_000),
    ) {
        let mut net = settled(true);
        let valid = a_valid_datagram(&mut net);
        let now = net.now;
        let mut flipped = valid.clone();
        let bit = bit.index(8 * valid.len());
        flipped[bit / 8] ^= 1 << (bit % 8);
        refused(&mut net.engines[0], &flipped, now);
        refused(&mut net.engines[0], &valid[..cut.index(valid.len())], now);
        let before = net.engines[0].stats().dropped.bad_seal;
        let longer = [valid.as_slice(), &extra].concat();
        prop_assert_eq!(refused(&mut net.engines[0], &longer, now).bad_seal, before + 1);
        // The undamaged one is accepted all the same.
        let dropped_before = dropped(net.engines[0].stats().dropped);
        net.engines[0].handle_datagram(now, addr(1), &mut valid.clone());
        prop_assert_eq!(dropped(net.engines[0].stats().dropped), dropped_before);
    }

    #[test]
    fn a_damaged_unsealed_datagram_has_bounded_effects(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..60),
    ) {
        let mut net = settled(false);
        let recorded = net.recorded.clone();
        for (which, bit) in flips {
            let mut packet = recorded[which.index(recorded.len())].clone();
            let bit = bit.index(8 * packet.datagram.len());
            packet.datagram[bit / 8] ^= 1 << (bit % 8);
            net.deliver(packet);
        }
        net.in_flight.clear();
        net.settle(Duration::from_secs(10));
        for engine in &net.engines {
            let live = engine.members().filter(|m| m.state.is_live()).count() + 1;
            prop_assert_eq!(engine.live_count(), live);
        }
    }

    #[test]
    fn a_replayed_datagram_changes_no_state(
        sealed in any::<bool>(),
        order in prop::collection::vec((any::<prop::sample::Index>(), 0usize..3), 1..80),
        later in 0u64..100,
    ) {
        let mut net = settled(sealed);
        net.engines[2].set_tag(net.now, "a", "b").unwrap();
        net.settle(Duration::from_secs(5));
        net.restart(2);
        net.settle(Duration::from_secs(5));
        net.engines[1].leave(net.now);
        net.settle(Duration::from_secs(5) + Duration::from_millis(100 * later));
        let recorded = net.recorded.clone();
        let (now, before) = (net.now, net.engines.iter().map(state).collect::<Vec<_>>());
        for (which, to) in order {
            let InFlightDatagram { from, to: meant, mut datagram } = recorded[which.index(recorded.len())].clone();
            // To its receiver, or to another node.
            let to = if to == 0 { meant } else { to };
            net.engines[to].handle_datagram(now, from, &mut datagram);
            // A hello is challenged, a ping to a former instance answered with a hello: no state.
            while net.engines[to].poll_transmit().is_some() {}
            prop_assert!(net.engines[to].poll_event().is_none());
        }
        let after: Vec<_> = net.engines.iter().map(state).collect();
        prop_assert_eq!(after, before);
    }
}

#[test]
fn foreign_datagrams_are_counted_by_kind() {
    let mut net = settled(true);
    let now = net.now;
    let mut check = |config: ClusterConfig, counter: fn(DropCounters) -> u64| {
        let mut outsider = engine(1, 7, &config, now);
        outsider.handle_seeds(now, &[addr(0)]);
        let (_, datagram) = outsider.poll_transmit().expect("a hello");
        let before = counter(net.engines[0].stats().dropped);
        let after = counter(refused(&mut net.engines[0], &datagram, now));
        assert_eq!(after, before + 1);
    };
    let lan = ClusterConfig::lan;
    check(lan().with_key(key(2)), |d| d.unknown_key);
    check(lan(), |d| d.unsealed);
    let other = lan().with_key(key(1)).with_cluster_name("other");
    check(other, |d| d.foreign_cluster);
    let valid = a_valid_datagram(&mut net);
    let now = net.now;
    let engine = &mut net.engines[0];
    let mut version = valid.clone();
    version[0] ^= 3;
    assert_eq!(refused(engine, &version, now).version, 1);
    let mut quic = valid.clone();
    quic[0] |= 0x40;
    let malformed = refused(engine, &quic, now).malformed;
    assert_eq!(refused(engine, &[], now).malformed, malformed + 1);
    let mut forged = valid.clone();
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(refused(engine, &forged, now).bad_seal, 1);
    engine.handle_datagram(now, addr(1), &mut valid.clone());
    while engine.poll_transmit().is_some() || engine.poll_event().is_some() {}
    let replayed = engine.stats().dropped.replayed;
    assert_eq!(refused(engine, &valid, now).replayed, replayed + 1);
    // A ring of both keys opens what either sealed.
    let ring = KeyRing::new([key(2), key(1)]).unwrap();
    let mut rotating = self::engine(9, 1, &lan().with_key(ring), now);
    rotating.handle_seeds(now, &[addr(0)]);
    let (_, mut hello) = rotating.poll_transmit().unwrap();
    let before = dropped(net.engines[1].stats().dropped);
    let mut both = self::engine(
        5,
        1,
        &lan().with_key(KeyRing::new([key(1), key(2)]).unwrap()),
        now,
    );
    both.handle_datagram(now, addr(9), &mut hello);
    assert!(both.poll_transmit().is_some(), "it is challenged");
    assert_eq!(dropped(net.engines[1].stats().dropped), before);
}

#[derive(Clone, Debug)]
enum Op {
    Deliver(prop::sample::Index),
    Drop(prop::sample::Index),
    Duplicate(prop::sample::Index),
    Wait(u64),
    /// To the next deadline of a node, and the timeout.
    Due(usize),
    /// A call when it is not due, or much too late.
    Timeout(usize),
    Tag(usize, u8),
    Drain(usize, bool),
    Leave(usize),
    Restart(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let node = 0..NODES;
    prop_oneof![
        30 => any::<prop::sample::Index>().prop_map(Op::Deliver),
        3 => any::<prop::sample::Index>().prop_map(Op::Drop),
        3 => any::<prop::sample::Index>().prop_map(Op::Duplicate),
        5 => (0u64..400).prop_map(Op::Wait),
        1 => (0u64..40_000).prop_map(Op::Wait),
        20 => node.clone().prop_map(Op::Due),
        5 => node.clone().prop_map(Op::Timeout),
        2 => (node.clone(), any::<u8>()).prop_map(|(node, value)| Op::Tag(node, value)),
        1 => (node.clone(), any::<bool>()).prop_map(|(node, drains)| Op::Drain(node, drains)),
        1 => node.clone().prop_map(Op::Leave),
        1 => node.prop_map(Op::Restart),
    ]
}

/// The highest versions so far: own incarnations by epoch, and each view.
#[derive(Default)]
struct Seen {
    own: HashMap<(String, u64), u32>,
    views: HashMap<(usize, String), (u64, u32, MemberState)>,
}

impl Seen {
    fn check(&mut self, net: &Net) {
        for engine in &net.engines {
            let me = engine.local_member();
            let own = self
                .own
                .entry((me.id.name.to_string(), me.id.epoch))
                .or_default();
            assert!(*own <= me.incarnation, "{me:?} fell");
            *own = me.incarnation;
        }
        for (at, engine) in net.engines.iter().enumerate() {
            let mut live = 1;
            for member in engine.members() {
                live += usize::from(member.state.is_live());
                let name = member.id.name.to_string();
                let now = (member.id.epoch, member.incarnation, member.state);
                let own = self.own.get(&(name.clone(), now.0));
                assert!(
                    own.is_some_and(|own| *own >= now.1),
                    "{member:?} is invented"
                );
                if let Some(before) = self.views.insert((at, name), now) {
                    let newer = (now.0, now.1) > (before.0, before.1);
                    assert!(
                        (now.0, now.1) >= (before.0, before.1),
                        "{before:?}, {now:?}"
                    );
                    let rose = !before.2.is_live() && now.2.is_live();
                    assert!(newer || !rose, "{member:?} rose");
                }
            }
            assert_eq!(engine.live_count(), live);
        }
    }
}

const NODES: usize = 4;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_order_of_operations_breaks_no_invariant(
        sealed in any::<bool>(),
        start_settled in any::<bool>(),
        ops in prop::collection::vec(op(), 1..400),
    ) {
        let mut net = Net::new(NODES, config(sealed));
        if start_settled {
            net.settle(Duration::from_secs(3));
        }
        (0..NODES).for_each(|node| net.drain(node));
        let mut seen = Seen::default();
        seen.check(&net);
        for op in ops {
            let pick = |at: prop::sample::Index, net: &Net| match net.in_flight.len() {
                0 => None,
                len => Some(at.index(len)),
            };
            match op {
                Op::Deliver(at) => {
                    if let Some(at) = pick(at, &net) {
                        let packet = net.in_flight.swap_remove(at);
                        net.deliver(packet);
                    }
                }
                Op::Drop(at) => {
                    pick(at, &net).map(|at| net.in_flight.swap_remove(at));
                }
                Op::Duplicate(at) => {
                    if let Some(at) = pick(at, &net) {
                        let packet = net.in_flight[at].clone();
                        net.deliver(packet);
                    }
                }
                Op::Wait(millis) => net.now += Duration::from_millis(millis),
                Op::Due(node) => {
                    if let Some(at) = net.engines[node].poll_timeout() {
                        net.now = net.now.max(at);
                        net.timeout(node);
                        let next = net.engines[node].poll_timeout();
                        prop_assert!(next.is_none_or(|next| next > at), "it gets on");
                    }
                }
                Op::Timeout(node) => {
                    let early = net.engines[node].poll_timeout().is_some_and(|at| at > net.now);
                    let before = state(&net.engines[node]);
                    let sent = net.recorded.len();
                    net.timeout(node);
                    if early {
                        prop_assert_eq!(state(&net.engines[node]), before);
                        prop_assert_eq!(net.recorded.len(), sent);
                    }
                }
                Op::Tag(node, value) => {
                    net.engines[node].set_tag(net.now, "tag", &value.to_string()).unwrap();
                    net.drain(node);
                }
                Op::Drain(node, drains) => {
                    net.engines[node].set_draining(net.now, drains);
                    net.drain(node);
                }
                Op::Leave(node) => {
                    net.engines[node].leave(net.now);
                    net.drain(node);
                }
                Op::Restart(node) => {
                    net.restart(node);
                    // The view of the node's former instance is no measure for this one.
                    seen.views.retain(|(at, _), _| *at != node);
                }
            }
            seen.check(&net);
        }
        // In the end nothing changes any more.
        (0..NODES).for_each(|node| net.restart(node));
        net.settle(Duration::from_secs(60));
        seen.views.clear();
        seen.check(&net);
        for engine in &net.engines {
            prop_assert_eq!(engine.live_count(), NODES);
            prop_assert_eq!(engine.view_hash(), net.engines[0].view_hash());
        }
    }
}
