//! Faults of the network.

use rpcnet_client::NodeState;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_partition_separates_gossip_and_calls_until_it_heals() {
    let cluster = TestCluster::seeded(11);
    let nodes = started(&cluster, 5).await;
    cluster.partition(&nodes[..2], &nodes[2..]);
    call::<String>(&nodes[0], &nodes[2], "name")
        .await
        .expect_err("the other side");
    call::<String>(&nodes[2], &nodes[0], "name")
        .await
        .expect_err("the other side");
    let own_side = call::<String>(&nodes[0], &nodes[1], "name").await;
    assert_eq!(own_side.expect("the same side"), "node-1");
    let failed = |from: usize, to: usize| nodes[from].sees(&nodes[to]) == Some(NodeState::Failed);
    cluster
        .eventually(|| failed(0, 2) && failed(1, 4) && failed(2, 0) && failed(4, 1))
        .await;
    let intact = || nodes[0].alive() == 2 && nodes[2].alive() == 3;
    cluster.eventually(intact).await;
    cluster.holds_for(30 * SECOND, intact).await;

    cluster.heal();
    cluster.eventually(|| cluster.has_converged()).await;
    let name = cluster.eventually_ok(async || call::<String>(&nodes[0], &nodes[2], "name").await);
    assert_eq!(name.await, "node-2");
}

#[tokio::test(start_paused = true)]
async fn a_partition_outlives_a_restart() {
    let cluster = TestCluster::seeded(12);
    let nodes = started(&cluster, 3).await;
    cluster.partition([&nodes[2]], [&nodes[0], &nodes[1]]);
    nodes[2].restart().await;
    cluster
        .holds_for(20 * SECOND, || nodes[2].alive() == 1)
        .await;
    cluster.heal();
    cluster.eventually(|| cluster.has_converged()).await;
}

#[tokio::test(start_paused = true)]
async fn a_one_way_partition_loses_what_one_node_sends_to_another() {
    let cluster = TestCluster::seeded(13);
    let nodes = started(&cluster, 2).await;
    let received = |node: &TestNode| node.node().endpoint().stats().side_received;
    cluster.one_way(&nodes[0], &nodes[1]);
    // What was on the way.
    tokio::time::sleep(SECOND / 10).await;
    let before = [received(&nodes[0]), received(&nodes[1])];
    tokio::time::sleep(5 * SECOND).await;
    assert!(received(&nodes[0]) > before[0], "the other direction works");
    assert_eq!(received(&nodes[1]), before[1]);
    call::<String>(&nodes[0], &nodes[1], "name")
        .await
        .expect_err("no request arrives");
    cluster.heal();
    cluster.eventually(|| cluster.has_converged()).await;
    assert!(received(&nodes[1]) > before[1]);
}

#[tokio::test(start_paused = true)]
async fn loss_is_survived_until_everything_is_lost() {
    let cluster = TestCluster::seeded(14);
    let nodes = started(&cluster, 3).await;
    cluster.lose(0.2);
    let lost = cluster.network().stats().lost;
    for _ in 0..10 {
        let name = call::<String>(&nodes[0], &nodes[1], "name").await;
        assert_eq!(name.expect("sent again"), "node-1");
    }
    tokio::time::sleep(10 * SECOND).await;
    assert!(cluster.network().stats().lost > lost + 10);
    cluster.lose(1.0);
    call::<String>(&nodes[0], &nodes[1], "name")
        .await
        .expect_err("all is lost");
    cluster.lose(0.0);
    cluster.eventually(|| cluster.has_converged()).await;
    let name = cluster.eventually_ok(async || call::<String>(&nodes[0], &nodes[1], "name").await);
    assert_eq!(name.await, "node-1");
}

#[tokio::test(start_paused = true)]
async fn loss_between_two_nodes_leaves_the_others_alone() {
    let cluster = TestCluster::seeded(15);
    let nodes = started(&cluster, 3).await;
    cluster.lose_between(&nodes[0], &nodes[1], 1.0);
    call::<String>(&nodes[0], &nodes[1], "name")
        .await
        .expect_err("all is lost");
    call::<String>(&nodes[0], &nodes[2], "name")
        .await
        .expect("another link");
    call::<String>(&nodes[2], &nodes[1], "name")
        .await
        .expect("another link");
}

#[tokio::test(start_paused = true)]
async fn calls_take_as_long_as_the_delay_says() {
    let cluster = TestCluster::seeded(16);
    let nodes = started(&cluster, 3).await;
    // With connections that are open.
    for to in &nodes[1..] {
        call::<String>(&nodes[0], to, "name")
            .await
            .expect("a reply");
    }
    let time = async |to: &TestNode| {
        let began = cluster.elapsed();
        call::<String>(&nodes[0], to, "name")
            .await
            .expect("a reply");
        cluster.elapsed() - began
    };
    let millis = Duration::from_millis;
    let took = time(&nodes[1]).await;
    assert!((millis(2)..millis(10)).contains(&took), "{took:?}");
    cluster.delay(millis(40)..=millis(50));
    let took = time(&nodes[1]).await;
    assert!((millis(80)..millis(110)).contains(&took), "{took:?}");
    cluster.delay_between(&nodes[0], &nodes[2], millis(150)..=millis(150));
    let took = time(&nodes[2]).await;
    assert!((millis(300)..millis(310)).contains(&took), "{took:?}");
    let took = time(&nodes[1]).await;
    assert!((millis(80)..millis(110)).contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "1.5 is no probability")]
async fn a_loss_is_a_probability() {
    TestCluster::seeded(17).lose(1.5);
}
