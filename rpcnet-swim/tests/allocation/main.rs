//! Allocations of an engine in its steady state.

mod memory;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use rpcnet_swim::{ClusterConfig, ClusterKey, Engine, NodeId, Tags, Time};
use rpcnet_swim_sim::join_directly;
use rpcnet_testing::CountingAllocator;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// A few engines on a network that loses nothing and takes no time.
struct Group {
    engines: Vec<Engine>,
    now: Time,
    datagrams: usize,
}

impl Group {
    fn new(count: u32) -> Self {
        let mut engines: Vec<_> = (0..count).map(engine).collect();
        engines
            .iter_mut()
            .for_each(|engine| engine.handle_seeds(Time::ZERO, &[addr(0)]));
        Self {
            engines,
            now: Time::ZERO,
            datagrams: 0,
        }
    }

    /// Lets time pass; counts what the engines allocate.
    fn run_for(&mut self, time: Duration) -> u64 {
        let before = CountingAllocator::allocations();
        let end = self.now + time;
        self.deliver();
        loop {
            let due = self.engines.iter().filter_map(Engine::poll_timeout).min();
            let Some(now) = due.filter(|at| *at <= end) else {
                break;
            };
            self.now = now;
            self.engines
                .iter_mut()
                .for_each(|engine| engine.handle_timeout(now));
            self.deliver();
        }
        self.now = end;
        CountingAllocator::allocations() - before
    }

    fn deliver(&mut self) {
        let mut idle = false;
        while !idle {
            idle = true;
            for from in 0..self.engines.len() {
                while let Some((to, mut datagram)) = self.engines[from].poll_transmit() {
                    let to = (0..).find(|n| addr(*n) == to).expect("one of them");
                    let source = addr(from as u32);
                    self.engines[to as usize].handle_datagram(self.now, source, &mut datagram);
                    self.engines[from].recycle(datagram);
                    self.datagrams += 1;
                    idle = false;
                }
                while self.engines[from].poll_event().is_some() {}
            }
        }
    }
}

fn addr(n: u32) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::from(0x0a00_0001 + n), 7_946))
}

fn engine(n: u32) -> Engine {
    engine_of(n, ClusterConfig::lan())
}

fn engine_of(n: u32, config: ClusterConfig) -> Engine {
    let tags = [("role", "worker"), ("zone", "eu-1"), ("version", "1.4.2")];
    let config = config
        .with_key(ClusterKey::from_bytes([1; 32]))
        .with_tags(Tags::from_pairs(tags).expect("small"));
    let id = NodeId::new(format!("n{n}"), 1);
    Engine::new(config, id, addr(n), Time::ZERO, u64::from(n)).expect("valid")
}

/// Lets `other`, which is number `n`, say hello to `node`, and gives it, knowing `node` alone.
fn greet(node: &mut Engine, n: u32, mut other: Engine) -> Engine {
    join_directly((node, addr(0)), (&mut other, addr(n)));
    other
}

#[test]
fn a_round_that_is_answered_allocates_nothing() {
    for nodes in [2, 10] {
        let mut group = Group::new(nodes);
        group.run_for(Duration::from_secs(600));
        assert!(
            group
                .engines
                .iter()
                .all(|e| e.live_count() == nodes as usize)
        );
        group.datagrams = 0;
        let allocations = group.run_for(Duration::from_secs(60));
        println!(
            "{nodes} nodes: {allocations} allocations for {} datagrams",
            group.datagrams
        );
        assert!(group.datagrams >= 170 * nodes as usize);
        assert_eq!(allocations, 0);
    }
}

#[test]
fn known_updates_allocate_nothing() {
    let mut node = engine_of(0, ClusterConfig::lan().with_retransmit_mult(16));
    let mut others: Vec<_> = (1..=20).map(|n| greet(&mut node, n, engine(n))).collect();
    // The first two large datagrams to the same member: all in them is new, then nothing.
    let mut sent = vec![Vec::new(); others.len() + 1];
    let (n, now) = loop {
        let now = node.poll_timeout().expect("it is active");
        node.handle_timeout(now);
        let mut full = None;
        while let Some((to, datagram)) = node.poll_transmit() {
            let n = (1..).find(|n| addr(*n) == to).expect("one of them") as usize;
            if datagram.len() > 1_000 {
                sent[n].push(datagram);
                full = full.or_else(|| (sent[n].len() == 2).then_some(n));
            }
        }
        if let Some(n) = full {
            break (n, now);
        }
    };
    let other = &mut others[n - 1];
    let mut handle = |datagram: &mut Vec<u8>| {
        let (before, known) = (CountingAllocator::allocations(), other.live_count());
        other.handle_datagram(now, addr(0), datagram);
        let allocations = CountingAllocator::allocations() - before;
        while other.poll_transmit().is_some() || other.poll_event().is_some() {}
        (allocations, other.live_count() - known)
    };
    let (first, learnt) = handle(&mut sent[n][0].clone());
    println!("{learnt} new members: {first} allocations");
    assert!(learnt >= 16, "{learnt}");
    let (again, learnt) = handle(&mut sent[n][1].clone());
    println!("{learnt} new members: {again} allocations");
    assert_eq!((learnt, again), (0, 0));
}
