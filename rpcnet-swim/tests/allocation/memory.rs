//! Memory of an engine for each member that it tracks.

use std::time::Duration;

use rpcnet_swim::{ClusterConfig, Engine, NodeId, Tags, Time};
use rpcnet_testing::CountingAllocator;

use super::{addr, greet};

fn engine(n: u32) -> Engine {
    let tags = [("role", "worker"), ("zone", "eu-1"), ("version", "1.4.2")];
    let config = ClusterConfig::lan().with_tags(Tags::from_pairs(tags).unwrap());
    let id = NodeId::new(format!("worker-{n:05}"), 1_700_000_000_000);
    Engine::new(config, id, addr(n), Time::ZERO, u64::from(n)).unwrap()
}

#[test]
fn state_per_member_is_small() {
    for members in [1_000, 3_000, 10_000] {
        let mut node = engine(0);
        let before = CountingAllocator::held_bytes();
        (1..=members).for_each(|n| drop(greet(&mut node, n, engine(n))));
        while node.poll_event().is_some() {}
        let fresh = CountingAllocator::held_bytes() - before;
        // Until there is no gossip to pass on: the steady state.
        let end = Time::ZERO + Duration::from_secs(1_200);
        while let Some(now) = node.poll_timeout().filter(|at| *at < end) {
            node.handle_timeout(now);
            while node.poll_transmit().is_some() || node.poll_event().is_some() {}
        }
        assert_eq!(node.live_count() as u32, members + 1);
        let steady = CountingAllocator::held_bytes() - before;
        let per_member = |bytes: i64| bytes / i64::from(members);
        let (fresh, steady) = (per_member(fresh), per_member(steady));
        println!("{members} members: {steady} bytes each, {fresh} while all are new");
        // 28 of them are its name; all have the same tags, which are kept once.
        assert!(steady <= 240, "{steady} bytes a member of {members}");
    }
}
