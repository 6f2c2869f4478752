//! Process of members, which follows the orders of the benchmark.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use rpcnet_client::{
    ClusterConfig, ClusterKey, ClusterMembership,
    swim::{DropCounters, Event, EventStream, MemberState, Tags},
};
use serde_json::{Value, to_value};
use tokio::{runtime::Builder, time::interval};
use xtask_harness::{Outcome, run_child_on};
use xtask_load::{Failure, monotonic_us, usage};

use super::protocol::{Answer, Counters, Observation, ObservedChange, Order, Views};

/// Runs it, in a thread.
pub(crate) fn run() -> Outcome {
    run_child_on(Builder::new_current_thread(), async |link| {
        let mut process = Process::default();
        while let Some(order) = link.next_order().await {
            let answer = process.execute(order).await?;
            link.notices().send(Answer { answer }).await;
        }
        Ok(())
    })
}

#[derive(Default)]
struct Process {
    members: BTreeMap<usize, ClusterMembership>,
    full: Arc<Mutex<Vec<u64>>>,
    notices: Arc<Mutex<Vec<Observation>>>,
}

impl Process {
    async fn execute(&mut self, order: Order) -> Result<Value, Failure> {
        match order {
            Order::Seed { count, key } => {
                let mut addrs = Vec::new();
                for number in 0..count {
                    let member = ClusterMembership::new(config(number, key)?).await?;
                    addrs.push(member.local_addr().to_string());
                    self.members.insert(number, member);
                }
                return Ok(addrs.into());
            }
            Order::Start {
                numbers,
                seeds,
                key,
                nodes,
            } => {
                for seed in self.members.values() {
                    let (seed, seeds) = (seed.clone(), seeds.clone());
                    // Whether it came to anything, the views tell.
                    tokio::spawn(async move { seed.join(seeds).await });
                }
                for number in numbers {
                    if let Entry::Vacant(place) = self.members.entry(number) {
                        let config = config(number, key)?.with_seeds(seeds.clone());
                        place.insert(ClusterMembership::new(config).await?);
                    }
                }
                let pending = self.members.values().cloned().collect();
                tokio::spawn(watch_views(pending, nodes, Arc::clone(&self.full)));
            }
            Order::Views => {
                let counts = self.members.values().map(ClusterMembership::live_count);
                return Ok(to_value(Views {
                    least: counts.min().unwrap_or_default(),
                    full_at_us: self.full.lock().clone(),
                })?);
            }
            Order::Count => return Ok(to_value(self.count())?),
            Order::Watch => {
                for (number, member) in &self.members {
                    let events = member.subscribe();
                    tokio::spawn(watch_events(*number, events, Arc::clone(&self.notices)));
                }
            }
            Order::Drop { numbers } => {
                let at_us = monotonic_us();
                self.members.retain(|number, _| !numbers.contains(number));
                return Ok(at_us.into());
            }
            Order::Notices => {
                let mut notices = self.notices.lock();
                let answered = notices.len().min(NOTICES_PER_ANSWER);
                let notices: Vec<_> = notices.drain(..answered).collect();
                return Ok(to_value(notices)?);
            }
        }
        Ok(Value::Null)
    }

    fn count(&self) -> Counters {
        let usage = usage();
        let used = Counters {
            cpu_us: usage.cpu_us as u64,
            rss_bytes: usage.rss_bytes,
            ..Counters::default()
        };
        let members = self.members.values().map(|member| {
            let stats = member.stats();
            Counters {
                sent: stats.sent,
                sent_bytes: stats.sent_bytes,
                suspicions: stats.suspicions_raised,
                failures: stats.failures_declared,
                misses: stats.missed_probes + stats.inconclusive_rounds,
                syncs: stats.syncs,
                stalls: stats.stalls,
                dropped: dropped(&stats.dropped),
                ..Counters::default()
            }
        });
        members.fold(used, Counters::plus)
    }
}

fn dropped(dropped: &DropCounters) -> u64 {
    [
        dropped.malformed,
        dropped.version,
        dropped.foreign_cluster,
        dropped.unsealed,
        dropped.unknown_key,
        dropped.bad_seal,
        dropped.replayed,
        dropped.misaddressed,
        dropped.unknown_sender,
        dropped.unexpected,
        dropped.future_epoch,
        dropped.superseded,
        dropped.after_leave,
    ]
    .iter()
    .sum()
}

/// Records when each member first sees all others alive; ends with the last.
async fn watch_views(
    mut pending: Vec<ClusterMembership>,
    nodes: usize,
    full: Arc<Mutex<Vec<u64>>>,
) {
    let mut ticks = interval(VIEWS_INTERVAL);
    while !pending.is_empty() {
        ticks.tick().await;
        pending.retain(|member| {
            let is_full = member.live_count() == nodes
                && member
                    .members()
                    .iter()
                    .all(|it| it.state == MemberState::Alive);
            if is_full {
                full.lock().push(monotonic_us());
            }
            !is_full
        });
    }
}

/// Records what a member notices of others, until it is gone.
async fn watch_events(
    observer: usize,
    mut events: EventStream,
    notices: Arc<Mutex<Vec<Observation>>>,
) {
    while let Some(event) = events.recv().await {
        let (name, what) = match &event {
            Event::NodeSuspect { member, .. } => (&member.id.name, ObservedChange::Suspected),
            Event::NodeFailed(member) => (&member.id.name, ObservedChange::Failed),
            _ => continue,
        };
        let Some(subject) = number(name) else {
            continue;
        };
        let mut notices = notices.lock();
        if notices.len() < NOTICES_MAX {
            notices.push(Observation {
                at_us: monotonic_us(),
                observer,
                subject,
                what,
            });
        }
    }
}

fn config(number: usize, key: [u8; 32]) -> Result<ClusterConfig, Failure> {
    let zone = ["eu-1a", "eu-1b", "eu-1c"][number % 3];
    let tags = [("role", "worker"), ("version", "2.14.3"), ("zone", zone)];
    Ok(ClusterConfig::lan()
        .with_name(name(number))
        .with_cluster_name("bench")
        .with_key(ClusterKey::from_bytes(key))
        .with_tags(Tags::from_pairs(tags)?))
}

fn name(number: usize) -> String {
    format!("member-{number}")
}

fn number(name: &str) -> Option<usize> {
    name.strip_prefix("member-")?.parse().ok()
}

pub(crate) const COMMAND: &str = "bench-members";
const VIEWS_INTERVAL: Duration = Duration::from_millis(20);
/// Notices that fit into one line; the rest is in the answers to come.
const NOTICES_PER_ANSWER: usize = 8_192;
/// Most notices that wait to be asked for.
const NOTICES_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_the_number() {
        assert_eq!(number(&name(407)), Some(407));
        assert_eq!(number("other"), None);
        assert_eq!(config(7, [1; 32]).unwrap().name(), Some("member-7"));
    }

    #[test]
    fn datagrams_without_effect_are_counted_whatever_the_reason() {
        let mut counters = DropCounters::default();
        (
            counters.malformed,
            counters.future_epoch,
            counters.superseded,
        ) = (1, 2, 3);
        assert_eq!(dropped(&counters), 6);
    }
}
