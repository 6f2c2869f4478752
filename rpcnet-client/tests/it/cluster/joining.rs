//! Joining in memory: what a started node knows, and when others call it.

use rpcnet_client::{
    NodeError, Tls,
    swim::{ConfigError, JoinOutcome, Tags},
};

use super::*;

/// With all of them in the registries, not just the seed.
#[tokio::test(start_paused = true)]
async fn a_started_node_knows_all_members() {
    let cluster = TestCluster::seeded(41);
    for count in 0..6 {
        let node = cluster.start(&format!("w{count}"), in_memory_worker).await;
        let joined = [JoinOutcome::Alone, JoinOutcome::Complete][count.min(1)];
        assert_eq!(node.node().joined(), Some(joined));
        assert_eq!(node.alive(), count + 1, "without a wait");
    }
}

/// As pods of stateful sets have them, with labels of namespaces that people chose.
#[tokio::test(start_paused = true)]
async fn a_node_whose_name_is_longer_than_a_dns_label_is_called_by_it() {
    let cluster = TestCluster::seeded(42);
    let pod = |n| {
        format!("Worker-{n}.workers.video-transcoding-production.svc.cluster.frankfurt.example.com")
    };
    let first = cluster.start(&pod(0), in_memory_worker).await.node();
    assert!(first.name().len() > 63);
    assert_eq!(first.name(), pod(0).to_lowercase());
    let second = cluster.start(&pod(1), |node| node).await.node();
    assert_eq!(second.joined(), Some(JoinOutcome::Complete));
    let reply = who(&second).await.expect("a reply");
    assert_eq!(reply, format!("{} 0", first.name()));

    // What the name takes is not there for tags.
    let crowded = |builder: NodeBuilder| {
        let values = (0..4).map(|n| (n.to_string(), "v".repeat(247)));
        values.fold(builder, |node, (key, value)| node.tag(key, value))
    };
    let (_, error) = cluster
        .try_start(&pod(2), crowded)
        .await
        .expect_err("no room");
    assert!(
        matches!(
            error,
            NodeError::Cluster(ConfigError::TagsTooLargeWithName(_))
        ),
        "{error}"
    );
}

/// Another cluster key and another authority are told apart: gossip names the one, a call the
/// other.
#[tokio::test(start_paused = true)]
async fn a_wrong_key_and_a_wrong_authority_are_different_errors() {
    let cluster = TestCluster::seeded(43);
    let seed = workers(&cluster, 1).await[0].addr();
    let joins = move |builder: NodeBuilder| builder.seeds([seed.to_string()]).require_join(true);
    let other_key =
        move |builder: NodeBuilder| joins(builder).cluster_key(ClusterKey::from_bytes([43; 32]));
    let (_, error) = cluster
        .try_start("a", other_key)
        .await
        .expect_err("refused");
    let text = error.to_string();
    assert!(text.contains("the cluster keys differ"), "{text}");
    assert!(!error.is_retryable(), "the key has to be changed");

    let other_name = move |builder: NodeBuilder| joins(builder).cluster_name("other");
    let (_, error) = cluster
        .try_start("b", other_name)
        .await
        .expect_err("refused");
    let text = error.to_string();
    assert!(text.contains("the cluster names differ"), "{text}");
    assert!(!error.is_retryable(), "the name has to be changed");

    let tls: Tls = DevCa::new("other").issue("c").expect("a node name");
    let other_authority = move |builder: NodeBuilder| joins(builder).tls(tls.clone());
    let node = cluster.start("c", other_authority).await.node();
    let error = who(&node)
        .await
        .expect_err("gossip lets it in, and calls do not");
    assert!(error.to_string().contains("is not trusted"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn tags_of_the_config_stay_unless_the_builder_says_otherwise() {
    let cluster = TestCluster::seeded(44);
    let tagged = |builder: NodeBuilder| {
        let tags = Tags::from_pairs([("zone", "eu-1"), ("role", "none")]);
        let config = ClusterConfig::local().with_tags(tags.expect("few tags"));
        in_memory_worker(builder.cluster_config(config))
    };
    let node = cluster.start("a", tagged).await.node();
    let me = node.membership().local_member();
    let tags: Vec<_> = me.tags.iter().collect();
    assert_eq!(tags, [("role", "worker"), ("zone", "eu-1")]);
    assert_eq!(node.name(), "a");
}

#[tokio::test(start_paused = true)]
async fn a_node_without_methods_is_no_worker_until_it_serves_some() {
    let cluster = TestCluster::seeded(45);
    let gateway = cluster.start("gateway", |node| node).await.node();
    let first = cluster.start("w0", in_memory_worker).await.node();
    let tagged = |builder: NodeBuilder| builder.tag("role", "worker");
    let late = cluster.start("late", tagged).await.node();
    let known = |node: &Node| {
        let all = node.workers().workers(None).expect("no filter");
        let names: Vec<_> = all.iter().map(|one| one.label.to_string()).collect();
        names
    };
    cluster.eventually(|| cluster.has_converged()).await;
    assert_eq!(known(&late), ["w0"]);
    cluster.eventually(|| known(&gateway) == ["w0"]).await;
    for caller in [&gateway, &late] {
        for _ in 0..20 {
            let call = caller.client().call_worker("who", Bytes::new(), None);
            assert_eq!(call.await.expect("a reply"), "w0 0");
        }
    }
    late.serve(Router::new());
    assert_eq!(known(&gateway), ["w0"]);
    late.serve(methods("late"));
    cluster
        .eventually(|| known(&gateway) == ["late", "w0"])
        .await;
    for node in [&gateway, &first, &late] {
        assert_eq!(node.endpoint().stats().unknown_methods, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_starts_before_its_seed_joins_when_that_is_up() {
    let cluster = TestCluster::seeded(46);
    let seed = cluster.start("seed", |node| node).await;
    seed.kill();
    let early = cluster.start("early", |node| node).await;
    assert_eq!((early.node().joined(), early.alive()), (None, 1));
    seed.restart().await;
    cluster.eventually(|| cluster.has_converged()).await;
    assert_eq!(early.alive(), 2);
}

/// Known to all from the beginning, called by no client before it says so, and not after it takes
/// that back: without a single rejection.
#[tokio::test(start_paused = true)]
async fn an_unready_node_gets_no_calls() {
    let cluster = TestCluster::seeded(47);
    let caller = cluster.start("caller", |node| node).await.node();
    let first = cluster.start("w0", in_memory_worker).await.node();
    let unready = |builder: NodeBuilder| builder.tag("role", "worker").start_unready();
    let second = cluster.start("w1", unready).await.node();
    assert!(first.is_ready() && !second.is_ready());
    let are_known = || {
        state("w0", &caller) == Some(NodeState::Alive)
            && state("w1", &caller) == Some(NodeState::Draining)
    };
    cluster.eventually(are_known).await;
    let only_first = async || {
        for _ in 0..10 {
            assert_eq!(who(&caller).await.expect("a reply"), "w0 0");
        }
    };
    only_first().await;
    // Its handlers are added late; no caller fails for that.
    second.serve(methods("w1"));
    second.set_ready(true);
    let joined = async || while who(&caller).await.expect("a reply") != "w1 0" {};
    within(joined()).await;

    second.set_ready(false);
    let is_passed_over = || {
        let all = caller.workers().select_all(Some("role=worker"));
        all.is_ok_and(|all| all.len() == 1)
    };
    cluster.eventually(is_passed_over).await;
    only_first().await;
    second.set_ready(true);
    within(joined()).await;
    for node in [&first, &second] {
        let stats = node.endpoint().stats();
        let refused = (stats.calls_rejected_draining, stats.unknown_methods);
        assert_eq!(refused, (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_node_is_not_ready_until_it_advertises_another_address() {
    let cluster = TestCluster::seeded(48);
    let caller = cluster.start("caller", |node| node).await.node();
    let first = cluster.start("w0", in_memory_worker).await.node();
    let wrong = |builder: NodeBuilder| {
        let no_one = ([10, 9, 9, 9], 7946).into();
        in_memory_worker(builder.advertise(no_one))
    };
    let second = cluster.start("w1", wrong).await.node();
    let is_known = || !second.is_ready() && state("w1", &caller) == Some(NodeState::Unreachable);
    cluster.eventually(is_known).await;
    assert!(first.is_ready());
    for _ in 0..10 {
        assert_eq!(who(&caller).await.expect("a reply"), "w0 0");
    }
    let right = second.endpoint().local_addr();
    second.set_advertise_addr(right).expect("a usable address");
    assert_eq!(second.addr(), right);
    let is_ready = || second.is_ready() && state("w1", &caller) == Some(NodeState::Alive);
    cluster.eventually(is_ready).await;
    let called = async { while who(&caller).await.expect("a reply") != "w1 0" {} };
    within(called).await;
}
