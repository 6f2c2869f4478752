//! Benchmarks of calls through the whole stack, beside calls on a bare connection.

use std::{hint::black_box, time::Duration};

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use futures::future::join_all;
use rpcnet_client::{ClusterConfig, DevCa, Node, Router, RpcClient, balance::PickContext};
use tokio::runtime::{Builder, Runtime};

const WORKERS: Option<&str> = Some("role=worker");

/// A caller, its workers, and a bare connection to the first of them.
struct Cluster {
    caller: Node,
    _workers: Vec<Node>,
    direct: RpcClient,
}

async fn cluster(workers: usize) -> Cluster {
    let ca = DevCa::new("bench");
    let builder = |name: &str| {
        Node::builder()
            .tls(ca.issue(name).expect("a node name"))
            .cluster_config(ClusterConfig::local())
    };
    let caller = builder("caller").start().await.expect("a node");
    let mut nodes = Vec::new();
    for index in 0..workers {
        let echo = Router::new().raw("echo", |_, body| async move { Ok(body) });
        let node = builder(&format!("worker-{index}"))
            .tag("role", "worker")
            .serve(echo)
            .seeds([caller.addr().to_string()])
            .start();
        nodes.push(node.await.expect("a node"));
    }
    caller
        .wait_for_workers(WORKERS, workers, Duration::from_secs(30))
        .await
        .expect("the nodes find each other");
    let direct = caller
        .endpoint()
        .connect(nodes[0].addr(), nodes[0].name())
        .await
        .expect("a connection");
    Cluster {
        caller,
        _workers: nodes,
        direct,
    }
}

fn calls(c: &mut Criterion) {
    let runtime: Runtime = Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let cluster = runtime.block_on(cluster(3));
    let client = cluster.caller.client();
    let body = Bytes::from(vec![7; 32]);
    let echo = || async {
        let reply = client.call_worker("echo", body.clone(), WORKERS).await;
        reply.expect("a reply")
    };
    let mut group = c.benchmark_group("call 32 B");
    group.bench_function("direct", |b| {
        b.iter(|| {
            runtime
                .block_on(cluster.direct.call("echo", body.clone()))
                .expect("a reply")
        });
    });
    group.bench_function("through the cluster client", |b| {
        b.iter(|| runtime.block_on(echo()));
    });
    group.bench_function("32 at a time", |b| {
        b.iter(|| runtime.block_on(join_all((0..32).map(|_| echo()))));
    });
    group.finish();

    c.bench_function("select a worker", |b| {
        let workers = cluster.caller.workers();
        b.iter(|| {
            let worker = workers.select(black_box(WORKERS), &PickContext::new());
            worker.expect("three are there")
        });
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().measurement_time(Duration::from_secs(3));
    targets = calls
}
criterion_main!(benches);
