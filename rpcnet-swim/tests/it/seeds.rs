//! Seeds that do not let a node in, and the errors and log lines that name the reason.

use std::net::SocketAddr;
use std::time::Duration;

use rpcnet_swim::{
    ClusterConfig, ClusterKey, ClusterMembership, ClusterMismatch, ConfigError, Event, JoinError,
    JoinOutcome, SeedFailure, SeedSyntaxError, StartError,
};
use rpcnet_testing::within;

use crate::local;

/// An address that no socket is bound to, as far as that can be had.
fn free_addr() -> SocketAddr {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap()
}

async fn start(config: ClusterConfig) -> ClusterMembership {
    ClusterMembership::new(config).await.unwrap()
}

/// The failure of the only seed of a node that was not let in.
fn failure(error: JoinError) -> SeedFailure {
    match error {
        JoinError::NoSeedAnswered { mut seeds } => seeds.remove(0).1,
        error => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_node_whose_seeds_do_not_resolve_is_not_in_and_says_why() {
    let config = ClusterConfig::local()
        .with_join_timeout(Duration::from_millis(500))
        .with_seeds(["first.invalid:1"]);
    let node = start(config).await;
    for _ in 0..2 {
        let error = node.join(["second.invalid:1"]).await.unwrap_err();
        let JoinError::NoSeedAnswered { seeds } = error else {
            panic!("{error}");
        };
        assert_eq!(seeds.len(), 2);
        assert!(
            matches!(&seeds[0], (text, SeedFailure::Unresolved(_) | SeedFailure::NoAnswer) if text == "first.invalid:1"),
            "{seeds:?}"
        );
    }
    // It goes on trying: once the seed is there, it joins.
    let other = start(ClusterConfig::local()).await;
    other.join([""; 0]).await.unwrap();
    let seeds = [other.local_addr().to_string()];
    let joined = async { while node.join(seeds.clone()).await != Ok(JoinOutcome::Complete) {} };
    within(joined).await;
}

#[tokio::test]
async fn what_can_never_be_a_seed_is_an_error_at_the_start() {
    for (seed, reason) in [
        ("seed.internal", SeedSyntaxError::NoPort),
        ("http://10.0.0.1:80", SeedSyntaxError::Url),
        ("10.0.0.1:1 10.0.0.2:1", SeedSyntaxError::WhiteSpace),
        (
            "10.0.0.1:0",
            SeedSyntaxError::InvalidPort { port: "0".into() },
        ),
    ] {
        let error = ClusterMembership::new(local("a").with_seeds([seed])).await;
        let error = error.unwrap_err();
        assert!(error.to_string().contains(seed), "{error}");
        assert!(
            matches!(&error, StartError::Config(ConfigError::InvalidSeed { reason: r, .. }) if *r == reason),
            "{error}"
        );
        let node = start(local("a")).await;
        let error = node.join([seed]).await.unwrap_err();
        let seed = seed.to_owned();
        assert_eq!(error, JoinError::InvalidSeed { seed, reason });
        assert_eq!(
            node.join([""; 0]).await,
            Ok(JoinOutcome::Alone),
            "it goes on"
        );
    }
}

#[tokio::test]
async fn white_space_and_empty_seeds_are_skipped() {
    let alone = start(local("a").with_seeds("".split(','))).await;
    assert_eq!(alone.join([""]).await, Ok(JoinOutcome::Alone));
    let list = format!(" {} ,", alone.local_addr());
    let second = start(local("b").with_seeds(list.split(','))).await;
    assert_eq!(second.join([""; 0]).await, Ok(JoinOutcome::Complete));
}

#[tokio::test]
async fn a_first_node_that_is_one_of_its_seeds_does_not_wait_for_one_that_is_not_up() {
    let (own, other) = (free_addr(), free_addr());
    let seeds = [own.to_string(), other.to_string()];
    let first = start(local("first").with_bind_addr(own).with_seeds(seeds.clone())).await;
    assert_eq!(first.join([""; 0]).await, Ok(JoinOutcome::Alone));
    // The other node starts, and the first one lets it in.
    let second = start(local("second").with_bind_addr(other).with_seeds(seeds)).await;
    assert_eq!(second.join([""; 0]).await, Ok(JoinOutcome::Complete));
    assert_eq!(second.live_count(), 2);
}

#[tokio::test]
async fn a_seed_of_a_family_that_the_socket_cannot_send_to_is_told_at_once() {
    let patient = local("a").with_join_timeout(Duration::from_secs(24 * 3600));
    let node = start(patient).await;
    // Not after the join timeout.
    let error = within(node.join(["[::1]:9"])).await.unwrap_err();
    let expected = SeedFailure::AddressFamilyMismatch {
        seed: "[::1]:9".parse().unwrap(),
        bound: node.local_addr(),
    };
    assert_eq!(failure(error), expected);
}

/// Another key, another cluster, no key and no node there are four different messages, at the node
#[tokio::test]
async fn why_a_node_is_not_let_in_is_told_on_both_sides() {
    let seed = start(local("seed")).await;
    seed.join([""; 0]).await.unwrap();
    let at = seed.local_addr();
    let other_key = local("a").with_key(ClusterKey::from_bytes([8; 32]));
    let other_cluster = local("b").with_cluster_name("other");
    let no_key = ClusterConfig::local().with_name("c");
    let mut messages = Vec::new();
    for (config, refusal) in [
        (other_key, ClusterMismatch::ClusterKey),
        (other_cluster, ClusterMismatch::ClusterName),
        (no_key, ClusterMismatch::MissingKey),
    ] {
        let mut events = seed.subscribe();
        // Its hellos are answered in a millisecond; the seed tells two of them in half a second.
        let node = start(config.with_join_timeout(Duration::from_secs(3))).await;
        let error = node.join([at.to_string()]).await.unwrap_err();
        messages.push(error.to_string());
        assert_eq!(failure(error), SeedFailure::Refused(refusal));
        let reported = loop {
            match events.recv().await {
                Some(Event::DatagramRefused { from, reason }) => break (from, reason),
                Some(_) => {}
                None => panic!("the seed lives"),
            }
        };
        assert_eq!(reported, (node.local_addr(), refusal));
    }
    let unused = free_addr();
    let node = start(local("d").with_join_timeout(Duration::from_secs(1))).await;
    let error = node.join([unused.to_string()]).await.unwrap_err();
    messages.push(
        error
            .to_string()
            .replace(&unused.to_string(), &at.to_string()),
    );
    assert_eq!(failure(error), SeedFailure::NoAnswer);
    messages.sort_unstable();
    messages.dedup();
    assert_eq!(messages.len(), 4, "{messages:?}");
    assert_eq!(seed.live_count(), 1, "no node got in");
}

#[tokio::test]
async fn a_node_that_has_joined_knows_of_everybody() {
    let mut nodes = vec![start(local("n0")).await];
    nodes[0].join([""; 0]).await.unwrap();
    let seeds = [nodes[0].local_addr().to_string()];
    for n in 1..12 {
        let node = start(local(&format!("n{n}"))).await;
        assert_eq!(node.join(seeds.clone()).await, Ok(JoinOutcome::Complete));
        assert_eq!(node.live_count(), n + 1, "without a wait");
        nodes.push(node);
    }
}
