//! Tests of what an endpoint expects: replies to the calls of all its connections.

use std::{net::Ipv4Addr, time::Duration};

use bytes::Bytes;
use rpcnet_testing::until;
use tokio::{sync::Semaphore, task::JoinHandle};

use super::*;
use crate::{
    CallOptions, DevCa, Endpoint, MemoryNetwork, Receiver, Router, RpcClient, RpcServer, Sender,
    TransportConfig,
};

/// Servers whose replies a test lets go, and an endpoint with a connection to each.
struct Fixture {
    endpoint: Endpoint,
    nodes: Vec<Node>,
}

struct Node {
    server: RpcServer,
    client: RpcClient,
    gate: Arc<Semaphore>,
}

impl Fixture {
    async fn new(nodes: usize) -> Self {
        let (network, ca) = (MemoryNetwork::new(), DevCa::new("expected"));
        let bind = |name: &str| {
            let identity = ca.issue(name).expect("a node name");
            let bound = network.bind(ANY.into(), TransportConfig::default(), identity);
            bound.expect("a free address")
        };
        let mut fixture = Self {
            endpoint: bind("caller"),
            nodes: Vec::new(),
        };
        for _ in 0..nodes {
            let gate = Arc::new(Semaphore::new(0));
            let server = bind("server").serve(router(&gate));
            let connected = fixture.endpoint.connect(server.local_addr(), "server");
            fixture.nodes.push(Node {
                client: connected.await.expect("a connection"),
                server,
                gate,
            });
        }
        fixture
    }

    fn expected(&self) -> Expected {
        self.nodes[0].client.0.shared.busy_poll.expected()
    }
}

impl Node {
    /// A call whose handler runs, and whose reply has to be let go.
    async fn call(&self, options: CallOptions) -> JoinHandle<Result<Bytes, RpcError>> {
        let (client, running) = (self.client.clone(), self.server.in_flight());
        let call = tokio::spawn(async move { client.call_with("wait", "x", options).await });
        until("it runs", || self.server.in_flight() > running).await;
        call
    }

    async fn let_go(&self, call: JoinHandle<Result<Bytes, RpcError>>) {
        self.gate.add_permits(1);
        call.await.expect("no panic").expect("a reply");
    }
}

fn router(gate: &Arc<Semaphore>) -> Router {
    let gate = Arc::clone(gate);
    Router::new()
        .raw("wait", move |_, body| {
            let gate = Arc::clone(&gate);
            async move {
                gate.acquire().await.expect("it stays open").forget();
                Ok(body)
            }
        })
        .raw("large", |_, _| async { Ok(vec![0; 100_000].into()) })
        .streaming("echo", |_, requests: Receiver<u32>, _: Sender<u32>| async {
            drop(requests);
            std::future::pending().await
        })
}

/// Options of a call on a lane, and on a stream of its own.
fn kinds() -> [CallOptions; 2] {
    [CallOptions::new(), CallOptions::new().with_isolated(true)]
}

#[tokio::test(start_paused = true)]
async fn replies_are_expected_until_the_last_connection_has_its_own() {
    let fixture = Fixture::new(3).await;
    for options in kinds() {
        let mut calls = Vec::new();
        for node in &fixture.nodes {
            calls.push(node.call(options).await);
        }
        assert_eq!(fixture.expected(), Expected::Several);
        for (left, (node, call)) in (0..3).rev().zip(fixture.nodes.iter().zip(calls)) {
            node.let_go(call).await;
            let expected = [Expected::Nothing, Expected::Several][usize::from(left > 0)];
            assert_eq!(fixture.expected(), expected, "{left} replies are left");
        }
        let call = fixture.nodes[1].call(options).await;
        assert_eq!(fixture.expected(), Expected::One);
        fixture.nodes[1].let_go(call).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_call_expects_nothing() {
    let fixture = Fixture::new(2).await;
    for options in kinds() {
        let (first, second) = (&fixture.nodes[0], &fixture.nodes[1]);
        let calls = [first.call(options).await, second.call(options).await];
        for (call, expected) in calls
            .into_iter()
            .zip([Expected::Several, Expected::Nothing])
        {
            call.abort();
            assert!(call.await.expect_err("it is aborted").is_cancelled());
            assert_eq!(fixture.expected(), expected);
        }
        let timeout = options.with_timeout(Duration::from_millis(20));
        let late = first.client.call_with("wait", "x", timeout).await;
        assert_eq!(late.expect_err("no reply").code(), Code::DeadlineExceeded);
        assert_eq!(fixture.expected(), Expected::Nothing);
    }
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_a_lane_cannot_carry_is_one_like_others() {
    let fixture = Fixture::new(1).await;
    let reply = fixture.nodes[0].client.call("large", "").await;
    assert_eq!(reply.expect("a reply").len(), 100_000);
    assert_eq!(fixture.expected(), Expected::Nothing);
}

#[tokio::test(start_paused = true)]
async fn an_open_stream_is_no_reason_to_expect_a_packet() {
    let fixture = Fixture::new(2).await;
    let opened = fixture.nodes[1].client.call_streaming::<u32, u32>("echo");
    let stream = opened.await.expect("a stream");
    assert_eq!(fixture.nodes[1].client.in_flight(), 1);
    for options in kinds() {
        let call = fixture.nodes[0].call(options).await;
        assert_eq!(fixture.expected(), Expected::One);
        fixture.nodes[0].let_go(call).await;
        assert_eq!(fixture.expected(), Expected::Nothing);
    }
    drop(stream);
    assert_eq!(fixture.nodes[1].client.in_flight(), 0);
}

const ANY: (Ipv4Addr, u16) = (Ipv4Addr::UNSPECIFIED, 0);
