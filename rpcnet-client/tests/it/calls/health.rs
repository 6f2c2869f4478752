//! Passive health: unreachable, draining and ejected workers are passed over.

use rpcnet_client::{
    balance::{
        ExclusionFlags,
        health::{EjectionReason, HealthConfig, OutlierConfig},
    },
    registry::HealthEvent,
};

use super::*;

impl TestCluster {
    fn flags(&self, name: &str) -> ExclusionFlags {
        let workers = self.client.registry().workers(None).expect("no filter");
        let worker = workers.iter().find(|one| &*one.label == name);
        worker.expect("it is on the list").flags
    }
}

/// Only the worker itself says that it drains: no membership, and no rejected call.
#[tokio::test(start_paused = true)]
async fn a_draining_worker_is_passed_over_before_it_rejects_a_call() {
    let cluster = TestCluster::new().await;
    let red = cluster.worker("red", identify("red"));
    let _blue = cluster.worker("blue", identify("blue"));
    for _ in 0..4 {
        cluster.call("who").await.expect("a reply");
    }
    let mut events = cluster.client.registry().subscribe_health();
    red.advertise_draining(true);
    until("it is passed over", || {
        cluster.flags("red") == ExclusionFlags::DRAINING
    })
    .await;
    assert!(
        matches!(events.try_recv(), Some(HealthEvent::NodeDraining(node)) if &*node.id.name == "red")
    );
    let begun = red.stats().calls_started;
    for _ in 0..10 {
        assert_eq!(cluster.call("who").await.expect("a reply"), "blue 0");
    }
    assert_eq!(red.stats().calls_started, begun);
    red.advertise_draining(false);
    until("it is back", || {
        cluster.flags("red") == ExclusionFlags::NONE
    })
    .await;
    let mut by_red = 0;
    for _ in 0..10 {
        by_red += usize::from(cluster.call("who").await.expect("a reply") == "red 0");
    }
    assert_eq!(by_red, 5, "in turns");
    assert_eq!(red.stats().calls_rejected_draining, 0);
}

/// A bad request says nothing about the worker, and must not keep the calls of others away from it.
#[tokio::test(start_paused = true)]
async fn application_errors_do_not_eject_a_worker() {
    let balancer = LoadBalancingStrategy::PeakEwma.balancer();
    let cluster = TestCluster::with_balancer(balancer, |config| config).await;
    let later = Status::app(&7u32, "your quota").with_retry_after(TEST_TIMEOUT);
    let overloaded = Status::overloaded("later").with_retry_after(TEST_TIMEOUT);
    let table = [
        ("a", Status::app(&7u32, "never").do_not_retry(), false),
        ("b", later, false),
        ("c", overloaded, true),
    ];
    for (name, status, in_backoff) in table {
        let _server = cluster.worker(name, failing_router(status).0);
        let once = WorkerCallOptions::new().with_attempts_max(1);
        cluster.failing_call(once).await;
        let registry = cluster.client.registry();
        let workers = registry.select_all(None).expect("one");
        let found = workers[0].endpoint().in_backoff(registry.now());
        assert_eq!(found, in_backoff, "{name}");
        cluster.list.remove(name);
    }
}

/// They are healthy: when they take calls again, all of them get calls.
#[tokio::test(start_paused = true)]
async fn draining_rejections_do_not_eject_a_worker() {
    let cluster = TestCluster::new().await;
    let servers = ["red", "blue"].map(|name| cluster.worker(name, identify(name)));
    for _ in 0..2 {
        cluster.call("who").await.expect("a reply");
    }
    let names = ["red", "blue"];
    servers.iter().for_each(|one| one.advertise_draining(true));
    until("both drain", || {
        names
            .iter()
            .all(|name| cluster.flags(name) == ExclusionFlags::DRAINING)
    })
    .await;
    let once = WorkerCallOptions::new().with_attempts_max(1);
    for _ in 0..20 {
        let error = cluster.failing_call(once).await;
        assert_eq!(error.attempts()[0].error.code(), Code::Draining);
    }
    for name in names {
        assert_eq!(cluster.flags(name), ExclusionFlags::DRAINING);
    }
    let stats = cluster.client.registry().health_stats();
    assert_eq!(
        (stats.ejected_consecutive, stats.ejections_overflow),
        (0, 0)
    );
    servers.iter().for_each(|one| one.advertise_draining(false));
    until("both are back", || {
        names
            .iter()
            .all(|name| cluster.flags(name) == ExclusionFlags::NONE)
    })
    .await;
}

/// No call fails or waits when the worker ends, while it is probed, and when it is back.
#[tokio::test(start_paused = true)]
async fn an_unreachable_worker_is_probed_beside_the_calls() {
    let cluster = TestCluster::new().await;
    let red = cluster.worker("red", identify("red"));
    let _blue = cluster.worker("blue", identify("blue"));
    for _ in 0..4 {
        cluster.call("who").await.expect("a reply");
    }
    let addr = red.local_addr();
    red.shutdown(Duration::from_secs(1)).await;
    drop(red);
    until("it is noticed", || {
        cluster.flags("red") == ExclusionFlags::UNREACHABLE
    })
    .await;
    let failed = || cluster.client.registry().health_stats().probes_failed;
    let probed = async {
        while failed() < 2 {
            assert_eq!(cluster.call("who").await.expect("a reply"), "blue 0");
            sleep(Duration::from_millis(1)).await;
        }
    };
    within(probed).await;

    let mut again = None;
    until("the address is free", || {
        again = cluster.bind_at("red", addr).ok();
        again.is_some()
    })
    .await;
    let _red = again.expect("it is free").serve(identify("red"));
    let back = async {
        loop {
            let reply = cluster.call("who").await.expect("a reply");
            if reply == "red 0" {
                break;
            }
            assert_eq!(reply, "blue 0");
            sleep(Duration::from_millis(1)).await;
        }
    };
    within(back).await;
    assert_eq!(cluster.flags("red"), ExclusionFlags::NONE);
}

#[tokio::test(start_paused = true)]
async fn five_failures_in_a_row_eject_a_worker() {
    let cluster = TestCluster::new().await;
    let mut events = cluster.client.registry().subscribe_health();
    let (router, runs) = failing_router(Status::internal("broken"));
    let mut servers = vec![cluster.worker("red", router)];
    for name in ["blue", "green", "gray"] {
        servers.push(cluster.worker(name, identify(name)));
    }
    let mut failed = 0;
    for _ in 0..100 {
        failed += usize::from(cluster.call("who").await.is_err());
    }
    assert_eq!((failed, runs.load(SeqCst)), (5, 5));
    let event = events.try_recv().expect("it is told");
    let HealthEvent::NodeEjected { node, reason, .. } = event else {
        panic!("{event:?}");
    };
    assert_eq!(&*node.id.name, "red");
    assert_eq!(reason, EjectionReason::ConsecutiveFailures(5));
}

/// A call is the probe of one that failed; when it does well, others follow.
#[tokio::test(start_paused = true)]
async fn one_successful_probe_unejects_an_ejected_worker() {
    let moment = Duration::from_millis(200);
    let outliers = OutlierConfig::new()
        .with_ejection_time(moment)
        .with_ejection_time_max(moment);
    let turns = LoadBalancingStrategy::RoundRobin.balancer();
    let cluster =
        TestCluster::with_health(turns, HealthConfig::from(outliers), |config| config).await;
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    let router = Router::new().raw("who", move |_, _| {
        // The first probe fails too.
        let fails = counted.fetch_add(1, SeqCst) < 6;
        async move {
            if fails {
                return Err(Status::internal("broken"));
            }
            Ok(Bytes::from_static(b"red"))
        }
    });
    let _red = cluster.worker("red", router);
    let _blue = cluster.worker("blue", identify("blue"));
    let mut failed = 0;
    let back = async {
        loop {
            match cluster.call("who").await {
                Ok(reply) if reply == "red" => break,
                Ok(reply) => assert_eq!(reply, "blue 0"),
                Err(_) => failed += 1,
            }
            sleep(Duration::from_millis(1)).await;
        }
    };
    within(back).await;
    assert_eq!((failed, runs.load(SeqCst)), (6, 7));
    let stats = cluster.client.registry().health_stats();
    assert_eq!((stats.probes, stats.probes_failed), (2, 1));
    assert_eq!(cluster.flags("red"), ExclusionFlags::NONE);
}

/// The address of a client is free again when its endpoint and all of its connections are gone.
#[tokio::test(start_paused = true)]
async fn a_dropped_client_releases_its_cached_connections() {
    let cluster = TestCluster::new().await;
    let red = cluster.worker("red", identify("red"));
    cluster.call("who").await.expect("a reply");
    let registry = Arc::clone(cluster.client.registry());
    // A second client of the same registry has connections of its own.
    let caller = cluster.bind("second");
    let second = ClusterClient::new(Arc::clone(&registry), ClusterClientConfig::new(caller));
    let call = || async {
        let call = second.call_worker("who", Bytes::new(), None);
        within(call).await.expect("a reply")
    };
    for _ in 0..3 {
        call().await;
    }
    assert_eq!(
        (second.connections(), red.stats().connections_accepted),
        (1, 2)
    );
    let addr = cluster.client.config().endpoint().local_addr();
    let network = cluster.network().clone();
    let is_free = |addr| {
        let tls = CA.issue("third").expect("a node name");
        let bound = network.bind(addr, TransportConfig::default(), tls);
        bound.is_ok()
    };
    assert!(!is_free(addr));
    drop(cluster);
    until("its address is free", || is_free(addr)).await;
    call().await;
    let addr = second.config().endpoint().local_addr();
    assert!(!is_free(addr));
    drop(second);
    until("the other's is too", || is_free(addr)).await;
    drop(registry);
}
