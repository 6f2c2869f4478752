//! Node process of a host: a full node, which sends its events and its view to the command.

use std::{
    error::Error,
    io,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use clap::Args;
use rpcnet_client::{
    Hedging, LoadBalancingStrategy, MethodPolicy, Node, Router,
    swim::{ClusterConfig, Event, SplitBrainPolicy},
};
use tokio::time::{Instant, MissedTickBehavior, interval};
use xtask_harness::{Outcome, ParentLink, cluster_key, run_child, tls};

use super::{
    load::LoadGenerator,
    protocol::{MemberView, Notice, Order, SeenEvent, Setup, Status},
};

/// The connection to the command.
pub(crate) type Link = ParentLink<Order, Notice>;

/// Command line of the process, whose setup comes over its standard input.
#[derive(Debug, Args)]
pub(crate) struct Options {}

/// Runs the process until its parent kills it or is gone.
pub(crate) fn run(_: &Options) -> Outcome {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(false)
        .init();
    run_child(run_node)
}

async fn run_node(link: &mut Link) -> Result<(), Box<dyn Error + Send + Sync>> {
    let Some(Order::Start(setup)) = link.next_order().await else {
        return Err("the first order of the parent is no setup".into());
    };
    let begin = Instant::now();
    let node = start_node(&setup).await?;
    let took_ms = u64::try_from(begin.elapsed().as_millis())?;
    let notices = link.notices();
    let clock_ms = unix_ms();
    notices.send(Notice::Ready { took_ms, clock_ms }).await;
    let mut events = node.membership().subscribe();
    let mut events_end = false;
    let mut ticks = interval(STATUS_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut load: Option<LoadGenerator> = None;
    loop {
        tokio::select! {
            event = events.recv(), if !events_end => {
                events_end = event.is_none();
                let seen = event.map_or_else(end_of_events, |event| describe_event(&event));
                notices.send(Notice::Event(seen)).await;
            }
            _ = ticks.tick() => {
                notices.try_send(Notice::Status(current_status(&node)));
                if let Some(calls) = load.as_ref().and_then(LoadGenerator::take) {
                    notices.send(Notice::Calls(calls)).await;
                }
            }
            order = link.next_order() => match order {
                Some(Order::Load { calls_per_s }) => {
                    load = Some(LoadGenerator::begin(Arc::clone(node.client()), calls_per_s));
                }
                Some(Order::EndLoad) => {
                    if let Some(load) = load.take() {
                        notices.send(Notice::Calls(load.finish().await)).await;
                    }
                    notices.send(Notice::LoadEnded).await;
                }
                Some(Order::Start(_)) => {}
                None => return Ok(()),
            },
        }
    }
}

async fn start_node(setup: &Setup) -> Result<Node, Box<dyn Error + Send + Sync>> {
    let policy = MethodPolicy::new()
        .with_hedging(Hedging::at_quantile(0.95))
        .with_attempt_timeout(ATTEMPT_TIMEOUT);
    let mut builder = Node::builder()
        .bind(setup.bind)
        .cluster_name("chaos")
        .cluster_config(ClusterConfig::lan())
        .tls(tls(&setup.keys, &setup.name)?)
        .cluster_key(cluster_key(&setup.keys)?)
        .seeds(setup.seeds.clone())
        // So that calls tell of every worker, not of the quick ones.
        .strategy(LoadBalancingStrategy::RoundRobin)
        .client_config(move |config| config.with_method(METHOD, policy));
    for (key, value) in &setup.tags {
        builder = builder.tag(key, value);
    }
    if setup.is_client {
        builder = builder.tag("role", "client");
    } else {
        let name = Bytes::from(setup.name.clone());
        let answer = move |_cx, _body| {
            let name = name.clone();
            async move { Ok(name) }
        };
        builder = builder
            .tag("role", "worker")
            .serve(Router::new().raw(METHOD, answer));
    }
    Ok(builder.start().await?)
}

/// The wall clock, in milliseconds since the Unix epoch.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn current_status(node: &Node) -> Status {
    let membership = node.membership();
    let seen = membership.members().into_iter().map(|member| {
        let seen = MemberView {
            state: format!("{:?}", member.state).to_lowercase(),
            addr: member.addr,
            epoch: member.id.epoch,
        };
        (member.id.name.to_string(), seen)
    });
    Status {
        members: seen.collect(),
        refuses: node
            .may_serve(&SplitBrainPolicy::keep_majority())
            .reason()
            .map(ToString::to_string),
        sent: membership.stats().sent,
    }
}

/// The kind of an event is the first word of its debug form, so that kinds unknown here have one
/// too.
fn describe_event(event: &Event) -> SeenEvent {
    let text = format!("{event:?}");
    let kind = text.split(|c: char| !c.is_alphanumeric()).next();
    let member = match event {
        Event::NodeJoined(member)
        | Event::NodeLeft(member)
        | Event::NodeFailed(member)
        | Event::NodeSuspect { member, .. }
        | Event::NodeRecovered(member)
        | Event::NodeUpdated(member)
        | Event::NodeSlow(member)
        | Event::NodeResponsive(member) => Some(member.id.name.to_string()),
        _ => None,
    };
    SeenEvent {
        kind: kind.unwrap_or_default().to_owned(),
        member,
        text: text.chars().take(EVENT_CHARS_MAX).collect(),
    }
}

fn end_of_events() -> SeenEvent {
    SeenEvent {
        kind: "EndOfEvents".into(),
        member: None,
        text: "the node's membership has ended".into(),
    }
}

/// The hidden subcommand.
pub(crate) const COMMAND: &str = "chaos-host";
/// The idempotent method that is called.
pub(crate) const METHOD: &str = "look";
const STATUS_INTERVAL: Duration = Duration::from_millis(200);
/// A call that hangs with one node is repeated with another after this time.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);
const EVENT_CHARS_MAX: usize = 400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_have_the_names_that_operators_know() {
        let seen = describe_event(&Event::Isolated { expected: 12 });
        assert_eq!((seen.kind.as_str(), seen.member), ("Isolated", None));
        assert_eq!(
            describe_event(&Event::PartitionHealed).kind,
            "PartitionHealed"
        );
    }
}
