//! Regions under a master: each region gossips for itself and has a leader, which takes part in the
//! leaders' gossip too. A call goes from the master to the leader of a region, and from there to a
//! worker, each found by tags. When a leader is killed, another node of its region takes its place.
//!
//! - The master knows two leaders, whatever the number of nodes below; a region knows nothing of
//!   the others. Two memberships in one process are two nodes, each with its port.
//! - The leader is not elected: all nodes of a region apply one rule, by which the oldest node
//!   leads, and of two of an age the first by name. While the news of a change spreads there may be
//!   two leaders or none. So the master calls again when no leader answers, and what it calls may
//!   run twice.
//!
//! Run with `cargo run -p rpcnet-client --example hierarchical`.

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use common::{PATIENCE, Process, Result, Trust, count, ensure, until};
use rpcnet_client::{
    LoadBalancingStrategy, Message, Method, MethodOptions, Node, NodeState, Router, Status,
};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

/// Work in a region, which may run twice; the reply names the worker.
const WORK: Method<(), String> =
    Method::new("work").with_options(MethodOptions::new().with_idempotent(true));

/// Work in the region of a leader, which passes it on.
const ROUTE: Method<(), Route> = Method::new("route");

/// A node of a region: a worker, and its leader when that is due.
#[derive(Clone)]
struct Member {
    trust: Trust,
    name: &'static str,
    region: &'static str,
    /// Where the other nodes of the region are found, and where the leaders.
    seeds: Vec<String>,
    leaders: String,
}

/// Route of a call: through which leader, to which worker.
#[derive(Serialize, Deserialize, Message)]
struct Route {
    leader: String,
    worker: String,
}

impl Member {
    async fn start(self) -> Result<Node> {
        let name = self.name;
        let builder = self.trust.node(name)?.cluster_name(self.region);
        let node = builder
            .seeds(self.seeds.clone())
            .tag("role", "worker")
            .strategy(LoadBalancingStrategy::RoundRobin)
            .serve(Router::new().method(WORK, move |()| async move { name.to_owned() }))
            .start()
            .await?;
        tokio::spawn(self.lead_when_due(node.clone()));
        Ok(node)
    }

    /// Sits among the leaders for as long as the rule says so.
    async fn lead_when_due(self, node: Node) -> Result {
        let mut changes = node.nodes().subscribe();
        let mut leadership = None;
        loop {
            let is_due = leader(&node) == self.name;
            match leadership.take() {
                None if is_due => leadership = Some(self.become_leader(&node).await?),
                Some(held) if !is_due => {
                    let held: Node = held;
                    held.shutdown(Duration::from_secs(5)).await;
                }
                as_before => leadership = as_before,
            }
            changes.recv().await;
        }
    }

    /// A second node in this process: it gossips with the leaders, and passes calls on into the
    /// region.
    async fn become_leader(&self, node: &Node) -> Result<Node> {
        let leader = self.name;
        let workers = node.client().workers(Some("role=worker"));
        let route = move |()| {
            let workers = workers.clone();
            async move {
                Ok::<_, Status>(Route {
                    leader: leader.to_owned(),
                    worker: WORK.call(&workers, &()).await?,
                })
            }
        };
        let builder = self.trust.node(leader)?.cluster_name("leaders");
        let leadership = builder
            .seeds([self.leaders.clone()])
            .tag("role", "leader")
            .tag("region", self.region)
            .serve(Router::new().method(ROUTE, route));
        Ok(leadership.start().await?)
    }
}

/// Who leads the region of this node, by what the node sees: the oldest, and of two of an age the
/// first by name.
fn leader(node: &Node) -> String {
    let nodes = node.nodes().snapshot();
    let there = nodes
        .iter()
        .filter(|one| matches!(one.state, NodeState::Alive | NodeState::Suspect));
    let oldest = there.map(|one| (one.id.epoch, &one.id.name)).min();
    oldest.map_or_else(String::new, |(_, name)| name.to_string())
}

/// Calls into a region, and asks again when the leader dies over it, or when there is none for the
/// moment.
async fn ask(master: &Node, region: &str) -> Result<Route> {
    let leader = format!("role=leader,region={region}");
    let deadline = Instant::now() + PATIENCE;
    let mut changes = master.workers().subscribe();
    let leaders = master.client().workers(Some(&leader));
    loop {
        match ROUTE.call(&leaders, &()).await {
            Ok(route) => return Ok(route),
            Err(error) if Instant::now() > deadline => return Err(error.into()),
            // Until a node joins, or at least a moment.
            Err(_) => _ = timeout(Duration::from_millis(100), changes.recv()).await,
        }
    }
}

/// Calls into a region many times. All have to go through this leader, to others of its region.
async fn survey(master: &Node, region: &str, leader: &str) -> Result {
    let mut workers = BTreeSet::new();
    for _ in 0..CALLS {
        let route = ask(master, region).await?;
        ensure(route.leader == leader, "the oldest node leads")?;
        workers.insert(route.worker);
    }
    println!("  {region}: {CALLS} calls through {leader} to {workers:?}");
    let is_below = |name: &String| name.starts_with(region) && name != leader;
    ensure(workers.iter().all(is_below), "the leader passes calls on")
}

/// Whether the master sees this node lead its region, and no other.
fn leads(master: &Node, name: &str) -> bool {
    let region = &name[..2];
    let leaders = master
        .workers()
        .select_all(Some(&format!("role=leader,region={region}")));
    leaders.is_ok_and(|leaders| leaders.len() == 1 && *leaders[0].label == *name)
}

#[tokio::main]
async fn main() -> Result {
    let trust = Trust::new();
    let master = trust
        .node("master")?
        .cluster_name("leaders")
        .client_config(|config| config.with_idempotent(["route"]).with_timeout(PATIENCE))
        .start()
        .await?;
    let mut members = BTreeMap::<_, Process<Node>>::new();
    let member = |name, region, seeds| Member {
        trust: trust.clone(),
        name,
        region,
        seeds,
        leaders: master.addr().to_string(),
    };
    for (region, names) in [
        ("eu", ["eu-1", "eu-2", "eu-3"]),
        ("us", ["us-1", "us-2", "us-3"]),
    ] {
        let mut seeds = Vec::new();
        for name in names {
            let node = Process::start(member(name, region, seeds.clone()).start()).await?;
            seeds.push(node.addr().to_string());
            members.insert(name, node);
        }
    }
    let leads = |name| leads(&master, name);
    until("every region has its nodes and its leader", || {
        members.values().all(|node| count(node, None) == 2) && leads("eu-1") && leads("us-1")
    })
    .await?;
    println!(
        "two regions of 3 nodes; of these the master knows {}",
        count(&master, None)
    );
    ensure(
        count(&master, None) == 2,
        "the master knows the leaders alone",
    )?;
    survey(&master, "eu", "eu-1").await?;
    survey(&master, "us", "us-1").await?;

    println!("eu-1 is killed");
    if let Some(eu_1) = members.remove("eu-1") {
        eu_1.kill().await?;
    }
    // The first of these calls still goes to the dead leader, and the next ones may find none.
    survey(&master, "eu", "eu-2").await?;
    survey(&master, "us", "us-1").await?;

    println!("eu-1 comes back: the youngest now, so it does not lead");
    let seeds = vec![members["eu-2"].addr().to_string()];
    let eu_1 = Process::start(member("eu-1", "eu", seeds).start()).await?;
    until("eu-2 knows eu-1", || {
        count(&members["eu-2"], None) == 2 && leads("eu-2")
    })
    .await?;
    survey(&master, "eu", "eu-2").await?;
    drop(eu_1);
    println!("no call failed");
    Ok(())
}

const CALLS: usize = 20;
