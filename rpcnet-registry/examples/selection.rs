//! Selection of workers in a cluster that changes meanwhile:
//! `cargo run -p rpcnet-registry --no-default-features --example selection`.

use futures::executor::block_on;
use rpcnet_registry::{
    LoadBalancingStrategy, NodeId, NodeInfo, NodeRegistry, StaticMembership, Tags, WorkerRegistry,
};

fn main() {
    let cluster: StaticMembership = [("red", "eu-1"), ("green", "eu-1"), ("blue", "us-1")]
        .into_iter()
        .zip(7001..)
        .map(|((name, zone), port)| {
            NodeInfo::new(NodeId::new(name, 1), ([127, 0, 0, 1], port).into())
                .with_tags(Tags::from([("role", "worker"), ("zone", zone)]))
        })
        .collect();

    let nodes = NodeRegistry::new(cluster.clone());
    let workers = WorkerRegistry::new(cluster.clone(), LoadBalancingStrategy::LeastConnections);
    block_on(async {
        nodes.start().await;
        workers.start().await;
    });
    let mut events = nodes.subscribe();

    show(&workers, "all workers are healthy");
    cluster.suspect("red", 9.3);
    show(&workers, "red has not answered lately");
    cluster.fail("red");
    cluster.drain("green");
    show(&workers, "red is dead and green about to leave");
    cluster.insert(
        NodeInfo::new(NodeId::new("red", 2), ([127, 0, 0, 1], 7009).into())
            .with_tags(Tags::from([("role", "worker"), ("zone", "eu-2")])),
    );
    show(&workers, "red has started anew, elsewhere");

    println!("\nand the events were:");
    while let Some(event) = events.try_recv() {
        if let Some(node) = event.node() {
            println!("  {} is {}", node.id, node.state);
        }
    }
}

/// Six calls to each of some filters, all in flight at once.
fn show(workers: &WorkerRegistry, what: &str) {
    println!("{what}");
    for filter in [
        "role=worker",
        "zone=eu-1",
        "zone in (eu-1|eu-2)",
        "zone==eu-1",
    ] {
        let calls: Result<Vec<_>, _> = (0..6)
            .map(|_| block_on(workers.select_worker(Some(filter))))
            .collect();
        match calls {
            Ok(mut calls) => {
                calls.sort_by_key(|call| call.addr);
                let labels: Vec<_> = calls.iter().map(|call| call.label.as_ref()).collect();
                println!("  {filter:20} {}", labels.join(" "));
            }
            Err(error) => println!(
                "  {filter:20} {}",
                error.to_string().replace('\n', "\n    ")
            ),
        }
    }
}
