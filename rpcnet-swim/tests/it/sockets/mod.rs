//! A cluster on real sockets: every test waits for a condition under a deadline.

mod partition;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rpcnet_swim::{
    ClusterConfig, ClusterKey, ClusterMembership, DatagramSocket, Event, EventStream, JoinError,
    JoinOutcome, MemberState, PartitionStatus, SeedFailure, StartError,
};
use rpcnet_testing::{TEST_TIMEOUT, until, within};
use tokio::net::UdpSocket;

use crate::local;

async fn start(name: &str, seeds: &[&ClusterMembership]) -> ClusterMembership {
    let node = ClusterMembership::new(local(name)).await.unwrap();
    node.join(addrs(seeds)).await.unwrap();
    node
}

fn addrs(nodes: &[&ClusterMembership]) -> Vec<String> {
    nodes
        .iter()
        .map(|node| node.local_addr().to_string())
        .collect()
}

/// Five nodes that know each other.
async fn five() -> Vec<ClusterMembership> {
    let mut nodes = vec![start("n0", &[]).await];
    for name in ["n1", "n2", "n3", "n4"] {
        nodes.push(start(name, &[&nodes[0]]).await);
    }
    let all = names(&["n0", "n1", "n2", "n3", "n4"]);
    until("all know all", || {
        nodes.iter().all(|node| live(node) == all)
    })
    .await;
    nodes
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(ToString::to_string).collect()
}

/// Names of the members that are live in the view of a node, its own among them.
fn live(node: &ClusterMembership) -> BTreeSet<String> {
    let live = node
        .members()
        .into_iter()
        .filter(|member| member.state.is_live());
    live.map(|member| member.id.to_string()).collect()
}

fn state(node: &ClusterMembership, name: &str) -> Option<MemberState> {
    node.members()
        .into_iter()
        .find(|member| &*member.id.name == name)
        .map(|m| m.state)
}

/// Waits for an event that is `wanted`.
async fn event(events: &mut EventStream, wanted: impl Fn(&Event) -> bool) -> Event {
    let found = async {
        loop {
            let event = events.recv().await.expect("the node lives");
            if wanted(&event) {
                return event;
            }
        }
    };
    within(found).await
}

#[tokio::test]
async fn ten_nodes_know_all_and_a_crash_at_lan_settings() {
    let lan = |n: usize| ClusterConfig::lan().with_name(format!("n{n}"));
    let first = ClusterMembership::new(lan(0)).await.unwrap();
    let mut nodes = vec![first];
    for n in 1..10 {
        let seeds = addrs(&[&nodes[0]]);
        nodes.push(
            ClusterMembership::new(lan(n).with_seeds(seeds))
                .await
                .unwrap(),
        );
    }
    until("all know all", || {
        nodes.iter().all(|node| live(node).len() == 10)
    })
    .await;
    let killed = nodes.pop().unwrap();
    let name = killed.local_id().to_string();
    drop(killed);
    let knows = |node: &ClusterMembership| state(node, &name) == Some(MemberState::Failed);
    until("all know of the crash", || nodes.iter().all(knows)).await;
}

#[tokio::test]
async fn a_killed_node_is_found_failed_and_its_restart_takes_over_at_once() {
    let mut nodes = five().await;
    let mut events = nodes[0].subscribe();
    let killed = nodes.remove(2);
    let (old_id, old_addr) = (killed.local_id(), killed.local_addr());
    drop(killed);
    let suspect = event(&mut events, |e| matches!(e, Event::NodeSuspect { .. })).await;
    assert!(
        matches!(suspect, Event::NodeSuspect { member, phi } if member.id == old_id && phi >= 1.5)
    );
    event(
        &mut events,
        |e| matches!(e, Event::NodeFailed(member) if member.id == old_id),
    )
    .await;
    assert!(nodes[0].phi(&old_id).unwrap() >= 8.0);

    let restarted = start("n2", &[&nodes[3]]).await;
    assert_ne!(restarted.local_addr(), old_addr);
    let joined = event(&mut events, |e| matches!(e, Event::NodeJoined(_))).await;
    assert!(matches!(joined, Event::NodeJoined(m) if m.id == restarted.local_id()));
    assert!(restarted.local_id().epoch > old_id.epoch);
    let all = live(&restarted);
    until("all know the restarted node", || {
        nodes.iter().all(|node| live(node) == all)
    })
    .await;
}

#[tokio::test]
async fn a_restart_does_not_wait_for_its_old_self_to_be_found_failed() {
    let mut nodes = five().await;
    let mut events = nodes[0].subscribe();
    drop(nodes.remove(4));
    let restarted = start("n4", &[&nodes[1]]).await;
    let id = restarted.local_id();
    event(
        &mut events,
        |e| matches!(e, Event::NodeFailed(m) if m.id.epoch < id.epoch),
    )
    .await;
    event(
        &mut events,
        |e| matches!(e, Event::NodeJoined(m) if m.id == id),
    )
    .await;
}

#[tokio::test]
async fn a_node_that_leaves_is_left_and_not_failed() {
    let mut nodes = five().await;
    let mut events = nodes[1].subscribe();
    let leaver = nodes.remove(3);
    let mut own = leaver.subscribe();
    assert!(leaver.leave().await.unwrap() >= 3);
    assert!(matches!(
        own.recv().await,
        Some(Event::Left { acknowledged: 3.. })
    ));
    assert_eq!(own.recv().await, None, "nothing comes after it");
    assert_eq!(leaver.join([""; 0]).await, Err(JoinError::Stopped));
    event(
        &mut events,
        |e| matches!(e, Event::NodeLeft(m) if &*m.id.name == "n3"),
    )
    .await;
    until("all know", || {
        nodes
            .iter()
            .all(|n| state(n, "n3") == Some(MemberState::Left))
    })
    .await;
}

#[tokio::test]
async fn tags_change_and_spread_and_have_a_limit() {
    let nodes = five().await;
    let mut events = nodes[4].subscribe();
    nodes[0]
        .update_tags([("role", "worker"), ("zone", "eu-1")])
        .unwrap();
    let updated = event(&mut events, |e| matches!(e, Event::NodeUpdated(_))).await;
    assert!(matches!(updated, Event::NodeUpdated(m) if m.tags.get("zone") == Some("eu-1")));
    until("all know", || {
        nodes
            .iter()
            .all(|n| n.nodes_with_tag("role", "worker").len() == 1)
    })
    .await;

    let value = "x".repeat(250);
    let too_many = (0..5).map(|n| (n.to_string(), value.clone()));
    let error = nodes[0].update_tags(too_many).unwrap_err();
    assert!(error.to_string().contains("at most 1024"), "{error}");
    assert_eq!(
        nodes[0].local_member().tags.get("zone"),
        Some("eu-1"),
        "as it was"
    );
    nodes[0].remove_tag("zone");
    until("all know", || {
        nodes
            .iter()
            .all(|n| n.nodes_with_tag("zone", "eu-1").is_empty())
    })
    .await;

    nodes[2].set_draining(true);
    let drains = |n: &ClusterMembership| n.members().iter().any(|m| m.draining);
    until("all know which nodes drain", || nodes.iter().all(drains)).await;
}

/// A process that is stopped hears nothing and its clock goes on: here by blocking its runtime.
#[test]
fn a_blocked_runtime_declares_no_member_failed() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let (reported, addr) = std::sync::mpsc::sync_channel(1);
    let (found_failed, is_found_failed) = std::sync::mpsc::sync_channel(1);
    let (saw_it_back, it_is_back) = std::sync::mpsc::sync_channel(1);
    let others = std::thread::spawn(move || {
        runtime().block_on(async {
            let nodes = five().await;
            reported.send(nodes[0].local_addr()).unwrap();
            until("the blocked one joins", || live(&nodes[0]).len() == 6).await;
            let blocked = |n: &ClusterMembership| state(n, "blocked") == Some(MemberState::Failed);
            until("it is found failed", || nodes.iter().all(blocked)).await;
            found_failed.send(()).unwrap();
            until("it is back", || {
                nodes.iter().all(|node| live(node).len() == 6)
            })
            .await;
            saw_it_back.send(()).unwrap();
            until("it left", || {
                nodes
                    .iter()
                    .all(|n| state(n, "blocked") == Some(MemberState::Left))
            })
            .await;
        });
    });
    runtime().block_on(async {
        let node = ClusterMembership::new(local("blocked")).await.unwrap();
        node.join([addr.recv().unwrap().to_string()]).await.unwrap();
        until("it knows all", || live(&node).len() == 6).await;
        let mut events = node.subscribe();
        // This blocks the thread, and with it the runtime.
        is_found_failed.recv_timeout(TEST_TIMEOUT).unwrap();
        until("it hears them again", || {
            node.stats().stalls > 0 && live(&node).len() == 6
        })
        .await;
        until("they hear it again", || node.stats().refutations > 0).await;
        until("it rests", || {
            node.members().iter().all(|m| m.state == MemberState::Alive)
        })
        .await;
        until("they see it back", || it_is_back.try_recv().is_ok()).await;
        node.leave().await.unwrap();
        while let Some(event) = events.recv().await {
            assert!(!matches!(event, Event::NodeFailed(_)), "{event:?}");
        }
    });
    others.join().unwrap();
}

#[tokio::test]
async fn any_of_several_seeds_is_enough() {
    let first = start("n0", &[]).await;
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let second = ClusterMembership::new(local("n1")).await.unwrap();
    let port = first.local_addr().port();
    let seeds = [
        "no-such-host.invalid:7946".to_owned(),
        silent.local_addr().unwrap().to_string(),
        format!("localhost:{port}"),
    ];
    second.join(seeds).await.unwrap();
    assert_eq!(live(&second).len(), 2);
}

#[tokio::test]
async fn seeds_that_do_not_answer_are_named_and_tried_again() {
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let addr = silent.local_addr().unwrap();
    let config = |name| local(name).with_join_timeout(Duration::from_secs(1));
    let node = ClusterMembership::new(config("n1")).await.unwrap();
    let seeds = ["no-such-host.invalid:1".to_owned(), addr.to_string()];
    let error = node.join(seeds).await.unwrap_err();
    let JoinError::NoSeedAnswered { seeds } = &error else {
        panic!("{error}")
    };
    assert!(matches!(&seeds[0].1, SeedFailure::Unresolved(_)), "{error}");
    assert_eq!(seeds[1], (addr.to_string(), SeedFailure::NoAnswer));

    // The seed comes up later; no second call of `join` is needed.
    drop(silent);
    let seed = ClusterMembership::new(config("n0").with_bind_addr(addr))
        .await
        .unwrap();
    until("the node is in", || {
        live(&seed).len() == 2 && live(&node).len() == 2
    })
    .await;
    assert_eq!(node.join([""; 0]).await, Ok(JoinOutcome::Complete));
}

#[tokio::test]
async fn two_clusters_that_learn_of_each_other_merge() {
    let (a, b) = (start("a", &[]).await, start("b", &[]).await);
    let (c, d) = (start("c", &[&a]).await, start("d", &[&b]).await);
    a.join(addrs(&[&b])).await.unwrap();
    until("all know all", || {
        [&a, &b, &c, &d].iter().all(|node| live(node).len() == 4)
    })
    .await;
}

#[tokio::test]
async fn hostile_datagrams_are_counted_and_change_nothing() {
    let nodes = five().await;
    let (target, before) = (&nodes[0], nodes[0].view_hash());
    let dropped = || target.stats().dropped;
    let attacker = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let send = |datagram: Vec<u8>| {
        let attacker = &attacker;
        async move {
            attacker
                .send_to(&datagram, target.local_addr())
                .await
                .unwrap()
        }
    };
    send(vec![0xff; 40]).await;
    send(Vec::new()).await;
    send(vec![0x22; 60_000]).await;
    until("rubbish is counted", || {
        dropped().malformed >= 2 && dropped().foreign_cluster == 1
    })
    .await;

    let foreign = |config: ClusterConfig| async {
        let config = config
            .with_name("foreign")
            .with_join_timeout(Duration::from_secs(1));
        let node = ClusterMembership::new(config).await.unwrap();
        assert!(node.join(addrs(&[target])).await.is_err());
    };
    foreign(local("x").with_cluster_name("other")).await;
    assert!(dropped().foreign_cluster > 1);
    foreign(local("x").with_key(ClusterKey::from_bytes([8; 32]))).await;
    assert!(dropped().unknown_key > 0);
    foreign(ClusterConfig::local()).await;
    assert!(dropped().unsealed > 0);
    assert_eq!(target.view_hash(), before);
    let all = live(target);
    until("the cluster goes on", || {
        nodes.iter().all(|node| live(node) == all)
    })
    .await;
}

#[tokio::test]
async fn the_newer_of_two_live_nodes_keeps_their_name() {
    let nodes = five().await;
    let mut events = nodes[4].subscribe();
    let newer = start("n4", &[&nodes[0]]).await;
    let reported = event(&mut events, |e| matches!(e, Event::NameConflict { .. })).await;
    let Event::NameConflict {
        name,
        older,
        newer: at,
    } = reported
    else {
        unreachable!()
    };
    assert_eq!(
        (name.as_str(), older, at),
        ("n4", nodes[4].local_addr(), newer.local_addr())
    );
    let (id, others) = (newer.local_id(), &nodes[..4]);
    let knows = |n: &ClusterMembership| n.members().iter().any(|m| m.id == id && m.state.is_live());
    until("all know the newer one", || others.iter().all(knows)).await;
}

#[tokio::test]
async fn a_slow_subscriber_learns_how_many_events_it_missed() {
    let first = ClusterMembership::new(local("n0").with_event_capacity(2))
        .await
        .unwrap();
    let mut events = first.subscribe();
    let second = start("n1", &[&first]).await;
    for n in 0..5 {
        second.set_tag("n", &n.to_string()).unwrap();
        let seen = || first.nodes_with_tag("n", &n.to_string()).len() == 1;
        until("the tag is seen", seen).await;
    }
    // Joined and five updates, of which two are kept.
    assert_eq!(events.recv().await, Some(Event::Lagged(4)));
    assert!(
        matches!(events.recv().await, Some(Event::NodeUpdated(m)) if m.tags.get("n") == Some("3"))
    );
}

#[tokio::test]
async fn a_subscriber_after_the_last_one_went_receives_later_events() {
    let first = start("n0", &[]).await;
    drop(first.subscribe());
    let second = start("n1", &[&first]).await;
    until("it is in", || first.live_count() == 2).await;
    let mut events = [first.subscribe(), first.subscribe()];
    second.set_tag("n", "1").unwrap();
    for events in &mut events {
        let event = within(events.recv()).await;
        assert!(matches!(event, Some(Event::NodeUpdated(m)) if m.tags.get("n") == Some("1")));
    }
}

#[tokio::test]
async fn a_port_in_use_and_a_key_forgotten_are_clear_errors() {
    let first = start("n0", &[]).await;
    let taken = local("n1").with_bind_addr(first.local_addr());
    let error = ClusterMembership::new(taken).await.unwrap_err();
    assert!(matches!(&error, StartError::Bind { addr, .. } if *addr == first.local_addr()));
    assert!(error.to_string().contains("in use"), "{error}");

    let open = ClusterConfig::lan().with_bind_addr("0.0.0.0:0".parse().unwrap());
    let error = ClusterMembership::new(open).await.unwrap_err();
    assert!(
        error.to_string().contains("there is no cluster key"),
        "{error}"
    );
}

#[tokio::test]
async fn keys_rotate_without_splitting_the_cluster() {
    let ring = |keys: &[u8]| {
        let keys = keys.iter().map(|key| ClusterKey::from_bytes([*key; 32]));
        rpcnet_swim::KeyRing::new(keys).unwrap()
    };
    let old = ClusterMembership::new(local("old").with_key(ring(&[1, 2])))
        .await
        .unwrap();
    let new = ClusterMembership::new(local("new").with_key(ring(&[2, 1])))
        .await
        .unwrap();
    new.join(addrs(&[&old])).await.unwrap();
    let sealed_with = |node: &ClusterMembership| node.keys_in_use().first().map(|(_, key)| *key);
    assert_eq!(
        sealed_with(&new),
        Some(ClusterKey::from_bytes([1; 32]).id())
    );
    assert_eq!(
        sealed_with(&old),
        Some(ClusterKey::from_bytes([2; 32]).id())
    );
}

#[tokio::test]
async fn arrived_datagrams_are_handled_before_deadlines_are_judged() {
    let node = start("n0", &[]).await;
    let before = node.stats().received;
    let sender = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    // More than what the runtime lets a task receive at once, and nothing awaits meanwhile.
    for _ in 0..WAITING {
        sender.send_to(b"rubbish", node.local_addr()).unwrap();
    }
    while node.stats().received == before {
        tokio::task::yield_now().await;
    }
    assert_eq!(node.stats().received - before, WAITING);
}

#[test]
fn a_runtime_that_ends_ends_every_wait() {
    let runtime = || tokio::runtime::Runtime::new().unwrap();
    let (gone, here) = (runtime(), runtime());
    let node = gone.block_on(start("n0", &[]));
    let mut events = node.subscribe();
    gone.shutdown_background();
    let all_end = async {
        assert_eq!(events.recv().await, None);
        assert_eq!(node.leave().await, Ok(0), "there was no member to tell");
        assert_eq!(node.join(["127.0.0.1:9"]).await, Err(JoinError::Stopped));
    };
    here.block_on(async { within(all_end).await });
}

/// Datagrams that wait for a node: 300, which fit the smallest buffer.
const WAITING: u64 = 300;
