//! Three nodes in one program: they find each other, one dies, one drains, and no call fails.
//!
//! Run with `cargo run -p rpcnet-client --example cluster`.

use std::{collections::BTreeMap, error::Error, time::Duration};

use rpcnet_client::{
    CallContext, ClusterConfig, ClusterEvent, ClusterKey, DevCa, Method, MethodOptions, Node,
    Router,
};

/// A greeting; given twice it does no harm.
const HELLO: Method<(), String> =
    Method::new("hello").with_options(MethodOptions::new().with_idempotent(true));

const WORKERS: Option<&str> = Some("role=worker");

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Both are made for this run. Separate processes would read them from files and the
    // environment.
    let ca = DevCa::new("example");
    let key = ClusterKey::generate();
    let builder = |name: &str| -> Result<_, Box<dyn Error>> {
        Ok(Node::builder()
            .tls(ca.issue(name)?)
            .cluster_key(key.clone())
            .cluster_config(ClusterConfig::local()))
    };
    let worker = |name: &'static str| -> Result<_, Box<dyn Error>> {
        let hello = move |cx: CallContext, (): ()| async move {
            format!("{name} greets {}", cx.peer().name())
        };
        let methods = Router::new().method_with(HELLO, hello);
        Ok(builder(name)?.tag("role", "worker").serve(methods))
    };

    let director = builder("director")?.start().await?;
    let mut events = director.workers().subscribe();
    let seed = director.addr().to_string();
    let red = worker("red")?.seeds([seed.clone()]).start().await?;
    let blue = worker("blue")?.seeds([seed]).start().await?;
    let within = Duration::from_secs(10);
    let workers = director.wait_for_workers(WORKERS, 2, within).await?;
    println!("{} workers are there", workers.len());
    greet(&director).await?;

    println!("red dies");
    drop(red);
    // Calls go on meanwhile.
    greet(&director).await?;
    let died = async {
        while let Some(event) = events.recv().await {
            match event {
                ClusterEvent::NodeSuspect { node, phi } => {
                    println!("{} is suspect, phi {phi:.1}", node.id);
                }
                ClusterEvent::NodeFailed(node) => {
                    println!("{} is declared failed", node.id);
                    break;
                }
                _ => {}
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), died).await?;
    greet(&director).await?;

    println!("green comes, blue drains and leaves");
    let green = worker("green")?
        .seeds([director.addr().to_string()])
        .start()
        .await?;
    let (report, greeted) = tokio::join!(blue.shutdown(Duration::from_secs(5)), greet(&director));
    greeted?;
    println!("blue: {report:?}");
    greet(&director).await?;

    green.shutdown(Duration::from_secs(5)).await;
    director.shutdown(Duration::from_secs(5)).await;
    Ok(())
}

/// Calls a hundred times and says who replied.
async fn greet(director: &Node) -> Result<(), Box<dyn Error>> {
    let mut replies: BTreeMap<String, u32> = BTreeMap::new();
    let workers = director.client().workers(WORKERS);
    for _ in 0..100 {
        let reply = HELLO.call(&workers, &()).await?;
        *replies.entry(reply).or_default() += 1;
    }
    println!("100 calls: {replies:?}");
    Ok(())
}
