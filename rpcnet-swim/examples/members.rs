//! Shows the members of a cluster as they come and go.
//!
//! ```text
//! cargo run -p rpcnet-swim --example members -- a 127.0.0.1:7001
//! cargo run -p rpcnet-swim --example members -- b 127.0.0.1:7002 127.0.0.1:7001
//! ```
//!
//! The first argument is the node's name, the second the address to bind, the others are seeds.
//! Ctrl-C leaves. Without arguments, two nodes in this process join and leave.

use std::error::Error;

use rpcnet_swim::{ClusterConfig, ClusterMembership, Event};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(name), Some(addr)) = (args.next(), args.next()) else {
        return run_two_nodes().await;
    };
    let config = ClusterConfig::lan()
        .with_name(name)
        .with_bind_addr(addr.parse()?);
    let node = ClusterMembership::new(config).await?;
    let mut events = node.subscribe();
    if let Err(error) = node.join(args).await {
        eprintln!("{error}; still trying");
    }
    loop {
        tokio::select! {
            Some(event) = events.recv() => print_event(&node, &event),
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    let acknowledged = node.leave().await?;
    println!("left, {acknowledged} members know");
    Ok(())
}

async fn run_two_nodes() -> Result<(), Box<dyn Error>> {
    let config = |name: &str| ClusterConfig::local().with_name(name);
    let first = ClusterMembership::new(config("first")).await?;
    let mut events = first.subscribe();
    let second = ClusterMembership::new(config("second")).await?;
    second.join([first.local_addr().to_string()]).await?;
    second.set_tag("role", "worker")?;
    while let Some(event) = events.recv().await {
        print_event(&first, &event);
        match event {
            Event::NodeUpdated(_) => drop(second.leave().await?),
            Event::NodeLeft(_) => break,
            _ => {}
        }
    }
    Ok(())
}

fn print_event(node: &ClusterMembership, event: &Event) {
    match event {
        Event::NodeJoined(member) => println!("{} joined at {}", member.id, member.addr),
        Event::NodeUpdated(member) => println!("{} has tags {:?}", member.id, member.tags),
        Event::NodeSuspect { member, phi } => println!("{} is suspect, phi {phi:.1}", member.id),
        Event::NodeRecovered(member) => println!("{} recovered", member.id),
        Event::NodeFailed(member) => println!("{} failed", member.id),
        Event::NodeLeft(member) => println!("{} left", member.id),
        other => println!("{other:?}"),
    }
    let live = node
        .members()
        .iter()
        .filter(|member| member.state.is_live())
        .count();
    println!("  {live} members, {:?}", node.partition_status());
}
