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

/// With all of them in the registries, not just the seed.
#[tokio::test]
async fn a_started_node_knows_all_members() {
    let mut nodes = vec![start(worker("w0"), &[]).await];
    assert_eq!(nodes[0].joined(), Some(JoinOutcome::Alone));
    for count in 1..6 {
        let node = start(worker(&format!("w{count}")), &nodes).await;
        assert_eq!(node.joined(), Some(JoinOutcome::Complete));
        assert_eq!(alive(&node), count + 1, "without a wait");
        nodes.push(node);
    }
}

/// As pods of stateful sets have them, with labels of namespaces that people chose.
#[tokio::test]
async fn a_node_whose_name_is_longer_than_a_dns_label_is_called_by_it() {
    let pod = |n| {
        format!("Worker-{n}.workers.video-transcoding-production.svc.cluster.frankfurt.example.com")
    };
    let first = start(worker(&pod(0)), &[]).await;
    assert!(first.name().len() > 63);
    assert_eq!(first.name(), pod(0).to_lowercase());
    let second = start(builder(&pod(1)), std::slice::from_ref(&first)).await;
    assert_eq!(second.joined(), Some(JoinOutcome::Complete));
    let reply = within(who(&second)).await.expect("a reply");
    assert_eq!(reply, format!("{} 0", pod(0)));

    // What the name takes is not there for tags.
    let values = (0..4).map(|n| (n.to_string(), "v".repeat(247)));
    let crowded = values.fold(builder(&pod(2)), |node, (key, value)| node.tag(key, value));
    let error = refused(crowded).await;
    assert!(
        matches!(
            error,
            NodeError::Cluster(ConfigError::TagsTooLargeWithName(_))
        ),
        "{error}"
    );
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

/// Another cluster key and another authority are told apart: gossip names the one, a call the
/// other.
#[tokio::test]
async fn a_wrong_key_and_a_wrong_authority_are_different_errors() {
    let seed = start(worker("seed"), &[]).await;
    let impatient = ClusterConfig::local().with_join_timeout(Duration::from_secs(2));
    let joins = |tls: rpcnet_client::Tls, key| {
        Node::builder()
            .bind("127.0.0.1:0")
            .tls(tls)
            .cluster_key(ClusterKey::from_bytes(key))
            .cluster_config(impatient.clone())
            .seeds([seed.addr().to_string()])
            .require_join(true)
    };
    let error = refused(joins(CA.issue("a").unwrap(), [43; 32])).await;
    assert!(
        error.to_string().contains("the cluster keys differ"),
        "{error}"
    );
    assert!(!error.is_retryable(), "the key has to be changed");
    let other_name = joins(CA.issue("a").unwrap(), [42; 32]).cluster_name("other");
    let error = refused(other_name).await;
    assert!(
        error.to_string().contains("the cluster names differ"),
        "{error}"
    );
    assert!(!error.is_retryable(), "the name has to be changed");
    let other = DevCa::new("other").issue("b").unwrap();
    let node = within(joins(other, [42; 32]).start()).await;
    let error = who(&node.expect("gossip lets it in")).await.unwrap_err();
    assert!(error.to_string().contains("is not trusted"), "{error}");
}

#[tokio::test]
async fn tags_of_the_config_stay_unless_the_builder_says_otherwise() {
    let tags = rpcnet_client::swim::Tags::from_pairs([("zone", "eu-1"), ("role", "none")]);
    let config = ClusterConfig::local().with_tags(tags.expect("few tags"));
    let node = within(worker("a").cluster_config(config).start())
        .await
        .expect("a node");
    let me = node.membership().local_member();
    assert_eq!(
        me.tags.iter().collect::<Vec<_>>(),
        [("role", "worker"), ("zone", "eu-1")]
    );
    assert_eq!(node.name(), "a");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_methods_is_no_worker_until_it_serves_some() {
    let gateway = start(builder("gateway"), &[]).await;
    let seed = std::slice::from_ref(&gateway);
    let first = start(worker("w0"), seed).await;
    let late = start(builder("late").tag("role", "worker"), seed).await;
    let workers = |node: &Node| {
        let all = node.workers().workers(None).expect("no filter");
        let names: Vec<_> = all.iter().map(|one| one.label.to_string()).collect();
        names
    };
    until("all are known", || {
        [&gateway, &first, &late].map(alive) == [3; 3]
    })
    .await;
    assert_eq!(workers(&late), ["w0"]);
    until("it is found", || workers(&gateway) == ["w0"]).await;
    for caller in [&gateway, &late] {
        for _ in 0..20 {
            let call = caller.client().call_worker("who", Bytes::new(), None);
            assert_eq!(within(call).await.expect("a reply"), "w0 0");
        }
    }
    late.serve(Router::new());
    assert_eq!(workers(&gateway), ["w0"]);
    late.serve(methods("late"));
    until("it is found", || workers(&gateway) == ["late", "w0"]).await;
    for node in [&gateway, &first, &late] {
        assert_eq!(node.endpoint().stats().unknown_methods, 0);
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

#[tokio::test]
async fn a_node_that_starts_before_its_seed_joins_when_that_is_up() {
    let free = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let addr = free.local_addr().expect("an address");
    drop(free);
    let impatient = ClusterConfig::local().with_join_timeout(Duration::from_millis(100));
    let early = builder("early")
        .cluster_config(impatient)
        .seeds([addr.to_string()]);
    let early = within(early.start()).await.expect("a node");
    assert_eq!(alive(&early), 1);
    let seed = start(builder("seed").bind(addr), &[]).await;
    until("they have met", || alive(&early) == 2 && alive(&seed) == 2).await;
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

/// Known to all from the beginning, called by no client before it says so, and not after it takes
/// that back: without a single rejection.
#[tokio::test(flavor = "multi_thread")]
async fn an_unready_node_gets_no_calls() {
    let caller = start(builder("caller"), &[]).await;
    let seed = std::slice::from_ref(&caller);
    let first = start(worker("w0"), seed).await;
    let unready = builder("w1").tag("role", "worker").start_unready();
    let second = start(unready, seed).await;
    assert!(first.is_ready() && !second.is_ready());
    until("all are known", || {
        state("w0", &caller) == Some(NodeState::Alive)
            && state("w1", &caller) == Some(NodeState::Draining)
    })
    .await;
    for _ in 0..10 {
        let reply = within(who(&caller)).await.expect("a reply");
        assert_eq!(reply, "w0 0");
    }
    // Its handlers are added late; no caller fails for that.
    second.serve(methods("w1"));
    second.set_ready(true);
    let joined = async { while who(&caller).await.expect("a reply") != "w1 0" {} };
    within(joined).await;

    second.set_ready(false);
    until("it is passed over", || {
        let all = caller.workers().select_all(Some("role=worker"));
        all.is_ok_and(|all| all.len() == 1)
    })
    .await;
    for _ in 0..10 {
        let reply = within(who(&caller)).await.expect("a reply");
        assert_eq!(reply, "w0 0");
    }
    second.set_ready(true);
    let back = async { while who(&caller).await.expect("a reply") != "w1 0" {} };
    within(back).await;
    for node in [&first, &second] {
        let stats = node.endpoint().stats();
        assert_eq!(
            (stats.calls_rejected_draining, stats.unknown_methods),
            (0, 0)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_node_is_not_ready_until_it_advertises_another_address() {
    let caller = start(builder("caller"), &[]).await;
    let seed = std::slice::from_ref(&caller);
    let first = start(worker("w0"), seed).await;
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let wrong = silent.local_addr().expect("an address");
    let second = start(worker("w1").advertise(wrong), seed).await;
    until("it knows, and so does the caller", || {
        !second.is_ready() && state("w1", &caller) == Some(NodeState::Unreachable)
    })
    .await;
    assert!(first.is_ready());
    for _ in 0..10 {
        let reply = within(who(&caller)).await.expect("a reply");
        assert_eq!(reply, "w0 0");
    }
    let right = second.endpoint().local_addr();
    second.set_advertise_addr(right).expect("a usable address");
    assert_eq!(second.addr(), right);
    until("it is ready, and the caller knows", || {
        second.is_ready() && state("w1", &caller) == Some(NodeState::Alive)
    })
    .await;
    let called = async { while who(&caller).await.expect("a reply") != "w1 0" {} };
    within(called).await;
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
