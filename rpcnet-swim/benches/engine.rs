//! Cost of an engine: a ping answered, records merged, a round of its timers.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use rpcnet_swim::{ClusterConfig, ClusterKey, Engine, NodeId, Tags, Time};
use rpcnet_swim_sim::{Cluster, join_directly};

fn config() -> ClusterConfig {
    let tags = [("role", "worker"), ("zone", "eu-1"), ("version", "1.4.2")];
    ClusterConfig::lan()
        .with_key(ClusterKey::from_bytes([1; 32]))
        .with_tags(Tags::from_pairs(tags).expect("small"))
}

fn addr(n: u32) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::from(0x0a00_0001 + n), 7_946))
}

fn engine(n: u32, now: Time) -> Engine {
    engine_of(n, now, config())
}

fn engine_of(n: u32, now: Time, config: ClusterConfig) -> Engine {
    let id = NodeId::new(format!("n{n}"), 1);
    Engine::new(config, id, addr(n), now, u64::from(n)).expect("valid")
}

/// Two engines that know each other.
fn pair() -> (Engine, Engine) {
    let (mut a, mut b) = (engine(0, Time::ZERO), engine(1, Time::ZERO));
    b.handle_seeds(Time::ZERO, &[addr(0)]);
    exchange(Time::ZERO, &mut a, &mut b);
    assert_eq!((a.live_count(), b.live_count()), (2, 2));
    (a, b)
}

fn exchange(now: Time, a: &mut Engine, b: &mut Engine) {
    loop {
        if let Some((_, mut datagram)) = a.poll_transmit() {
            b.handle_datagram(now, addr(0), &mut datagram);
        } else if let Some((_, mut datagram)) = b.poll_transmit() {
            a.handle_datagram(now, addr(1), &mut datagram);
        } else {
            while a.poll_event().is_some() || b.poll_event().is_some() {}
            return;
        }
    }
}

/// Next datagram that `b` sends when its timers are due.
fn next_datagram(b: &mut Engine) -> (Time, Vec<u8>) {
    loop {
        let now = b.poll_timeout().expect("it is active");
        b.handle_timeout(now);
        if let Some((_, datagram)) = b.poll_transmit() {
            return (now, datagram);
        }
    }
}

fn ping_handled(c: &mut Criterion) {
    let (mut a, mut b) = pair();
    c.bench_function("ping handled and answered", |bench| {
        bench.iter_batched_ref(
            || {
                let (now, ping) = next_datagram(&mut b);
                while b.poll_transmit().is_some() {}
                (now, ping)
            },
            |(now, ping)| {
                a.handle_datagram(*now, addr(1), ping);
                while a.poll_transmit().is_some() {}
            },
            BatchSize::NumIterations(1),
        );
    });
}

/// Member that knows the sender alone, and two datagrams to it with the same 20 updates.
fn updates() -> (Engine, Time, Vec<u8>, Vec<u8>) {
    // It gossips for long enough to tell one member twice.
    let mut node = engine_of(0, Time::ZERO, config().with_retransmit_mult(16));
    let mut others = greet(&mut node, 24);
    let mut sent: Vec<(SocketAddr, Vec<u8>)> = Vec::new();
    loop {
        let now = node.poll_timeout().expect("it is active");
        node.handle_timeout(now);
        while let Some((to, datagram)) = node.poll_transmit() {
            if datagram.len() < 1_000 {
                continue;
            }
            if let Some(at) = sent.iter().position(|(before, _)| *before == to) {
                let (_, first) = sent.swap_remove(at);
                let at = others.iter().position(|(at, _)| *at == to);
                let (_, other) = others.swap_remove(at.expect("one of them"));
                return (other, now, first, datagram);
            }
            sent.push((to, datagram));
        }
    }
}

fn updates_merged(c: &mut Criterion) {
    let (mut other, now, mut first, mut again) = updates();
    other.handle_datagram(now, addr(0), &mut first);
    let news = other.live_count() - 2;
    assert!(news >= 20, "{news}");
    other.handle_datagram(now, addr(0), &mut again);
    c.bench_function("20 updates merged, all new", |bench| {
        bench.iter_batched_ref(
            updates,
            |(other, now, first, _)| other.handle_datagram(*now, addr(0), first),
            BatchSize::SmallInput,
        );
    });
    c.bench_function("20 updates merged, all known", |bench| {
        let prepare = || {
            let (mut other, now, mut first, again) = updates();
            other.handle_datagram(now, addr(0), &mut first);
            (other, now, again)
        };
        bench.iter_batched_ref(
            prepare,
            |(other, now, again)| other.handle_datagram(*now, addr(0), again),
            BatchSize::SmallInput,
        );
    });
}

fn tick(c: &mut Criterion) {
    for members in [10, 1_000, 10_000] {
        // An engine that knows all members; the others need not go on.
        let mut node = greeted(members);
        c.bench_function(&format!("tick at {members} members"), |bench| {
            bench.iter(|| {
                let now = node.poll_timeout().expect("it is active");
                node.handle_timeout(now);
                while node.poll_transmit().is_some() {}
                while node.poll_event().is_some() {}
            });
        });
    }
}

/// Engine to which `members` others said hello.
fn greeted(members: u32) -> Engine {
    let mut node = engine(0, Time::ZERO);
    greet(&mut node, members);
    node
}

/// Lets `count` others say hello to `node` and gives them, each knowing `node` alone.
fn greet(node: &mut Engine, count: u32) -> Vec<(SocketAddr, Engine)> {
    let greeted = (1..=count).map(|n| {
        let mut other = engine(n, Time::ZERO);
        join_directly((node, addr(0)), (&mut other, addr(n)));
        (addr(n), other)
    });
    let greeted = greeted.collect();
    assert_eq!(node.live_count() as u32, count + 1);
    greeted
}

fn virtual_second(c: &mut Criterion) {
    let mut cluster = Cluster::bootstrap(1, 32, config());
    cluster.check_every(0);
    cluster.log_events(false);
    cluster.run_for(Duration::from_secs(10));
    assert!(cluster.is_converged());
    c.bench_function("a second of 32 nodes", |bench| {
        bench.iter(|| cluster.run_for(Duration::from_secs(1)));
    });
}

criterion_group!(benches, ping_handled, updates_merged, tick, virtual_second);
criterion_main!(benches);
