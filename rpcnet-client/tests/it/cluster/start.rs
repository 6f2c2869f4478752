//! Starting nodes: joining, settings, readiness, errors.

use std::net::UdpSocket;

use rpcnet_client::{
    LoadBalancingStrategy, NodeError,
    balance::RoundRobin,
    registry::WaitError,
    swim::{ConfigError, JoinError, JoinOutcome, SeedFailure},
    transport::BindError,
};

use super::*;

async fn refused(builder: NodeBuilder) -> NodeError {
    within(builder.start()).await.expect_err("it cannot start")
}

#[tokio::test]
async fn contradictory_settings_are_named() {
    let error = refused(Node::builder()).await;
    assert!(matches!(error, NodeError::NoIdentity), "{error}");
    for text in ["everywhere", "127.0.0.1", "127.0.0.1:99999"] {
        let error = refused(builder("a").bind(text)).await;
        assert!(
            matches!(&error, NodeError::BindAddress { text: given, .. } if given == text),
            "{error}"
        );
    }
    let named = ClusterConfig::local().with_name("b");
    let error = refused(builder("a").cluster_config(named)).await;
    assert!(
        matches!(&error, NodeError::NameMismatch { configured, certified } if configured == "b" && certified == "a"),
        "{error}"
    );
    let named = ClusterConfig::local().with_name("A.");
    let node = within(builder("a").cluster_config(named).start()).await;
    assert_eq!(node.expect("of the same name").name(), "a");
    let error = refused(builder("a").insecure_gossip()).await;
    assert!(
        matches!(error, NodeError::Cluster(ConfigError::KeyAndInsecure)),
        "{error}"
    );
    let open = Node::builder()
        .tls(CA.issue("a").unwrap())
        .bind("0.0.0.0:0");
    let error = refused(open).await;
    assert!(
        matches!(
            error,
            NodeError::Cluster(ConfigError::InsecureGossip { .. })
        ),
        "{error}"
    );
    let error = refused(builder("a").cluster_name("no spaces please")).await;
    assert!(
        matches!(error, NodeError::Cluster(ConfigError::InvalidName { .. })),
        "{error}"
    );
    let error = refused(builder("a").tag("story", "x".repeat(300))).await;
    assert!(matches!(error, NodeError::Tags(_)), "{error}");
    let both = builder("a")
        .strategy(LoadBalancingStrategy::Random)
        .balancer(Arc::new(RoundRobin::seeded(1)));
    let error = refused(both).await;
    assert!(matches!(error, NodeError::StrategyAndBalancer), "{error}");
    let transport = rpcnet_client::TransportConfig::lan().with_message_bytes_max(0);
    let error = refused(builder("a").transport_config(transport)).await;
    assert!(
        matches!(error, NodeError::Bind(BindError::Config(_))),
        "{error}"
    );
    assert!(!error.is_retryable());
}

/// On a runtime of one thread, the reactor has not seen the fresh port when the first hello is due.
#[tokio::test]
async fn the_first_join_request_is_sent() {
    let seed = start(builder("seed"), &[]).await;
    for name in ["a", "b", "c"] {
        let node = start(builder(name), std::slice::from_ref(&seed)).await;
        let (errors, sent) = (node.membership().socket_errors(), node.membership().stats());
        assert_eq!(errors, 0, "a hello was lost: {sent:?}");
    }
}

/// Without the join timeout: no datagram could leave.
#[tokio::test]
async fn a_seed_of_another_address_family_fails_at_once() {
    let slow_tolerant_builder =
        ClusterConfig::local().with_join_timeout(Duration::from_secs(24 * 3600));
    let joins = |seed: &str| {
        builder("a")
            .cluster_config(slow_tolerant_builder.clone())
            .seeds([seed])
    };
    let error = refused(joins("[::1]:7946").require_join(true)).await;
    assert!(error.to_string().contains("[::] reaches both"), "{error}");
    assert!(!error.is_retryable());
    let node = within(joins("[::1]:7946").start()).await;
    assert_eq!(node.expect("it comes up alone").joined(), None);
}

#[tokio::test]
async fn invalid_seeds_are_named() {
    for seed in ["seed", "http://seed:1", "seed:0", "a:1 b:2"] {
        let error = refused(builder("a").seeds([seed])).await;
        assert!(
            matches!(&error, NodeError::Cluster(ConfigError::InvalidSeed { seed: given, .. }) if given == seed),
            "{error}"
        );
        assert!(!error.is_retryable());
    }
    let node = within(builder("a").seeds("".split(',')).start()).await;
    assert_eq!(node.expect("a node").joined(), Some(JoinOutcome::Alone));
    for seeds in [vec![""], vec!["", " "]] {
        let error = refused(builder("a").seeds(seeds).require_join(true)).await;
        assert!(matches!(error, NodeError::EmptySeeds), "{error}");
    }
}

#[tokio::test]
async fn a_port_in_use_is_a_typed_error() {
    let node = start(builder("a"), &[]).await;
    let error = refused(builder("b").bind(node.addr())).await;
    assert!(
        matches!(&error, NodeError::Bind(BindError::AddressInUse(addr)) if *addr == node.addr()),
        "{error}"
    );
    assert!(error.is_retryable());
}

#[tokio::test]
async fn a_seed_that_does_not_resolve_is_named_if_joining_is_required() {
    let impatient = ClusterConfig::local().with_join_timeout(Duration::from_millis(300));
    let alone = || {
        builder("a")
            .cluster_config(impatient.clone())
            .seeds(["seed.invalid:7946"])
    };
    let error = refused(alone().require_join(true)).await;
    let NodeError::Join(JoinError::NoSeedAnswered { seeds }) = &error else {
        panic!("{error}");
    };
    assert!(error.is_retryable());
    assert_eq!(seeds[0].0, "seed.invalid:7946");
    assert!(
        matches!(
            seeds[0].1,
            SeedFailure::Unresolved(_) | SeedFailure::NoAnswer
        ),
        "{error}"
    );
    // Not required, it comes up alone.
    let node = within(alone().start()).await.expect("a node");
    assert_eq!(alive(&node), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_node_leaves_nothing_behind() {
    let other = start(builder("other"), &[]).await;
    let node = start(worker("a"), std::slice::from_ref(&other)).await;
    until("it is known", || other.workers().select_all(None).is_ok()).await;
    // With a connection in each direction, and calls made.
    within(who(&other)).await.expect("a reply");
    let addr = node.addr();
    drop(node);
    until("its port is free", || UdpSocket::bind(addr).is_ok()).await;
    let runtime = tokio::runtime::Handle::current().metrics();
    drop(other);
    until("no task is left", || runtime.num_alive_tasks() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_waits_for_workers_up_to_a_time_and_on_any_thread() {
    let caller = builder("caller").start().await.expect("a node");
    let waited = caller.wait_for_workers(Some("role=worker"), 1, Duration::from_millis(1));
    let error = within(waited).await.expect_err("there is none");
    let (wanted, present) = (1, 0);
    let filter = "role=worker".to_owned();
    assert_eq!(
        error,
        WaitError::DeadlineExceeded {
            filter,
            wanted,
            present
        }
    );

    let waiting = caller.clone();
    let thread = std::thread::spawn(move || {
        futures::executor::block_on(waiting.wait_for_workers(None, 2, TEST_TIMEOUT))
    });
    let caller = [caller];
    let _workers = [
        start(worker("a"), &caller).await,
        start(worker("b"), &caller).await,
    ];
    let joined = tokio::task::spawn_blocking(move || thread.join());
    let found = within(joined).await.expect("no panic");
    assert_eq!(found.expect("no panic").expect("both are there").len(), 2);
}
