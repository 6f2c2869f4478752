//! Abort of an endpoint: a crash as its peers see it.

use std::time::Duration;

use rpcnet_testing::{loopback, within};
use rpcnet_transport::{
    CloseReason, Code, DevCa, Endpoint, MemoryNetwork, Processed, Router, TransportConfig,
};
use tokio::time::Instant;

const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

fn router() -> Router {
    Router::new()
        .typed("echo", |n: u32| async move { n })
        .typed("hang", |n: u32| async move {
            std::future::pending::<()>().await;
            n
        })
}

#[tokio::test(start_paused = true)]
async fn the_peers_of_an_aborted_endpoint_are_not_told_and_its_port_is_free() {
    let (network, ca) = (MemoryNetwork::new(), DevCa::new("abort"));
    let addr = ([10, 0, 0, 1], 80).into();
    let bind = |addr, name| {
        let tls = ca.issue(name).expect("a node name");
        let config = TransportConfig::lan()
            .with_idle_timeout(IDLE_TIMEOUT)
            .with_keep_alive(IDLE_TIMEOUT / 4);
        network.bind(addr, config, tls)
    };
    let server = bind(addr, "server").expect("a free address");
    server.serve(router());
    let caller = bind(([10, 0, 0, 2], 80).into(), "caller").expect("a free address");
    let client = caller.connect(addr, "server").await.expect("a connection");
    let served = client.call_typed::<_, u32>("echo", &1u32).await;
    assert_eq!(served.expect("a reply"), 1);

    let hanging = tokio::spawn({
        let client = client.clone();
        async move { client.call_typed::<_, u32>("hang", &1u32).await }
    });
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(server.in_flight(), 1);
    let began = Instant::now();
    server.abort();
    let error = hanging.await.expect("no panic").expect_err("no reply");
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    assert_eq!(error.processed(), Processed::Maybe, "{error}");
    assert!(
        began.elapsed() >= IDLE_TIMEOUT / 2,
        "not told: {:?}",
        began.elapsed()
    );
    assert_eq!(client.close_reason(), Some(CloseReason::TimedOut));
    within(server.idle()).await;

    let next = bind(addr, "server").expect("the address is free");
    next.serve(router());
    let client = caller.connect(addr, "server").await.expect("a connection");
    let served = client.call_typed::<_, u32>("echo", &2u32).await;
    assert_eq!(served.expect("a reply"), 2);
}

#[tokio::test]
async fn the_port_of_an_aborted_endpoint_is_free_at_once() {
    let tls = DevCa::new("abort").issue("server").expect("a node name");
    let endpoint = Endpoint::bind(loopback(), TransportConfig::lan(), tls.clone());
    let endpoint = endpoint.expect("a free port");
    endpoint.abort();
    let again = Endpoint::bind(endpoint.local_addr(), TransportConfig::lan(), tls);
    assert_eq!(
        again.expect("it is free").local_addr(),
        endpoint.local_addr()
    );
}
