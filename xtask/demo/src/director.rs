//! Director of the demo: has the workers digest every file and checks each answer.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rpcnet_client::{
    ClusterClient, ClusterClientConfig, Node,
    cluster::ClusterEvent,
    registry::{NodeState, WorkerRegistry},
};
use tokio::task::JoinSet;
use xtask_harness::{Latencies, NodeSetup, node_builder};

use crate::{
    corpus::{Corpus, CorpusFile, SkipReason},
    digest::FileDigest,
    live_view::{MemberRow, Snapshot},
    node::{DIGEST, DigestReply, Link},
    protocol::{EventKind, Notice, Order},
};

type Notices = xtask_harness::Notices<Notice>;

/// Runs the director until it is told to finish.
pub(crate) async fn run_director(
    link: &mut Link,
    setup: &NodeSetup,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let node = node_builder("demo", setup)?
        .tag("role", "director")
        .start()
        .await?;
    let notices = link.notices();
    notices.send(Notice::Ready { addr: node.addr() }).await;
    let client = ClusterClient::new(
        Arc::clone(node.workers()),
        // A digest may be computed twice.
        ClusterClientConfig::new(node.endpoint().clone()).with_idempotent([DIGEST]),
    );
    let director = Arc::new(Director {
        node,
        client,
        counters: CallCounters::default(),
        stop: AtomicBool::new(false),
    });
    let watching = tokio::spawn(Arc::clone(&director).report_events(notices.clone()));
    let telling = tokio::spawn(Arc::clone(&director).report_stats(notices.clone()));
    let mut calling = JoinSet::new();
    while let Some(order) = link.next_order().await {
        match order {
            Order::Digest { path } => {
                let corpus = Arc::new(walk_corpus(&path, &notices).await?);
                for _ in 0..CALLS_IN_FLIGHT {
                    calling.spawn(
                        Arc::clone(&director).digest_all(Arc::clone(&corpus), notices.clone()),
                    );
                }
            }
            Order::Finish => break,
            Order::Start(_) | Order::Drain => {}
        }
    }
    director.stop.store(true, Ordering::Relaxed);
    while let Some(ended) = calling.join_next().await {
        ended?;
    }
    telling.abort();
    watching.abort();
    notices.send(Notice::Finished(director.snapshot())).await;
    director.node.shutdown(SHUTDOWN_TIMEOUT).await;
    Ok(())
}

/// The files under `path`; what is left out is told.
async fn walk_corpus(
    path: &Path,
    notices: &Notices,
) -> Result<Corpus, Box<dyn Error + Send + Sync>> {
    let root = path.to_owned();
    let corpus = tokio::task::spawn_blocking(move || Corpus::walk(&root, FILE_BYTES_MAX)).await??;
    let (files, skipped) = (corpus.files().len(), corpus.skipped());
    let shown = skipped.iter().take(SKIPPED_SHOWN_MAX);
    let mut texts: Vec<_> = shown.map(|it| format!("skipped {it}")).collect();
    if let Some(more @ 1..) = skipped.len().checked_sub(SKIPPED_SHOWN_MAX) {
        texts.push(format!("skipped {more} more"));
    }
    texts.push(format!("{files} files, {} bytes a round", corpus.bytes()));
    for text in texts {
        notices.send(Notice::Note { text }).await;
    }
    let (files, skipped) = (files as u64, skipped.len() as u64);
    notices.send(Notice::Corpus { files, skipped }).await;
    Ok(corpus)
}

struct Director {
    node: Node,
    client: ClusterClient,
    counters: CallCounters,
    /// Set when no new calls are to begin.
    stop: AtomicBool,
}

/// Outcomes of the calls.
#[derive(Default)]
struct CallCounters {
    /// Files taken so far, over all rounds.
    next_file: AtomicUsize,
    rounds: AtomicU64,
    failed: AtomicU64,
    wrong: AtomicU64,
    workers: Mutex<BTreeMap<String, Latencies>>,
}

impl CallCounters {
    fn record(&self, worker: &str, took: Duration) {
        let mut workers = self.workers.lock();
        workers.entry(worker.to_owned()).or_default().record(took);
    }
}

impl Director {
    /// Takes file after file, round after round, until told to stop.
    async fn digest_all(self: Arc<Self>, corpus: Arc<Corpus>, notices: Notices) {
        let files = corpus.files();
        while !self.stop.load(Ordering::Relaxed) {
            let taken = self.counters.next_file.fetch_add(1, Ordering::Relaxed);
            self.counters
                .rounds
                .fetch_max((taken / files.len()) as u64, Ordering::Relaxed);
            self.digest(&files[taken % files.len()], &notices).await;
        }
    }

    async fn digest(&self, file: &CorpusFile, notices: &Notices) {
        let Some((content, expected)) = read(file.clone()).await else {
            // It was there when the corpus was made; it may be gone by now.
            return;
        };
        let begin = Instant::now();
        let answer: Result<DigestReply, _> = self
            .client
            .call_worker_typed(DIGEST, &content, Some(WORKERS))
            .await;
        let took = begin.elapsed();
        match answer {
            Ok(DigestReply { by, digest }) => {
                self.counters.record(&by, took);
                if digest != expected {
                    self.counters.wrong.fetch_add(1, Ordering::Relaxed);
                    let text = format!("wrong digest of {} by {by}", file.path().display());
                    notices.send(Notice::Note { text }).await;
                }
            }
            Err(error) => {
                self.counters.failed.fetch_add(1, Ordering::Relaxed);
                let text = format!("call for {} failed: {error}", file.path().display());
                notices.send(Notice::Note { text }).await;
            }
        }
    }

    async fn report_events(self: Arc<Self>, notices: Notices) {
        let mut events = self.node.workers().subscribe();
        let mut selectable = selectable_now(self.node.workers());
        while let Some(event) = events.recv().await {
            let kind = match &event {
                ClusterEvent::NodeJoined(_) => Some(EventKind::Joined),
                ClusterEvent::NodeLeft(_) => Some(EventKind::Left),
                ClusterEvent::NodeFailed(_) => Some(EventKind::Failed),
                ClusterEvent::NodeSuspect { .. } => Some(EventKind::Suspect),
                ClusterEvent::NodeRecovered(_) => Some(EventKind::Recovered),
                _ => None,
            };
            let node = event.node().map(|node| node.id.name.to_string());
            let now = selectable_now(self.node.workers());
            let dropped = selectable.difference(&now).cloned();
            let dropped = dropped.map(|node| (node, EventKind::Unselectable));
            for (node, kind) in node.zip(kind).into_iter().chain(dropped) {
                notices.send(Notice::Event { node, kind }).await;
            }
            selectable = now;
        }
    }

    async fn report_stats(self: Arc<Self>, notices: Notices) {
        let mut ticks = tokio::time::interval(STATS_INTERVAL);
        loop {
            ticks.tick().await;
            notices.try_send(Notice::Stats(self.snapshot()));
        }
    }

    fn snapshot(&self) -> Snapshot {
        let latencies = self.counters.workers.lock().clone();
        let mut all = Latencies::default();
        latencies.values().for_each(|one| all.merge(one));
        let statuses = self
            .node
            .workers()
            .workers(Some(WORKERS))
            .unwrap_or_default();
        let membership = self.node.membership();
        let mut members = membership.members();
        members.sort_by(|a, b| a.id.cmp(&b.id));
        let rows = members.into_iter().map(|member| {
            let name = member.id.name.to_string();
            let of_node = latencies.get(&name);
            let in_flight = statuses
                .iter()
                .filter(|status| *status.node.id.name == *name)
                .map(|status| u64::from(status.in_flight))
                .sum();
            let state = match member.draining && member.state.is_live() {
                true => "draining".to_owned(),
                false => format!("{:?}", member.state).to_lowercase(),
            };
            MemberRow {
                state,
                phi: membership.phi(&member.id),
                in_flight,
                calls: of_node.map_or(0, Latencies::calls),
                p50_us: of_node.map_or(0, Latencies::p50_us),
                p99_us: of_node.map_or(0, Latencies::p99_us),
                name,
            }
        });
        Snapshot {
            members: rows.collect(),
            rounds: self.counters.rounds.load(Ordering::Relaxed),
            calls_ok: all.calls(),
            calls_failed: self.counters.failed.load(Ordering::Relaxed),
            wrong_results: self.counters.wrong.load(Ordering::Relaxed),
            p50_us: all.p50_us(),
            p99_us: all.p99_us(),
        }
    }
}

/// The workers that a call may go to: the alive ones, and the suspect if none is alive.
fn selectable_now(workers: &WorkerRegistry) -> BTreeSet<String> {
    let statuses = workers.workers(Some(WORKERS)).unwrap_or_default();
    let named = |state: NodeState| -> BTreeSet<String> {
        let of_state = statuses.iter().filter(|status| status.node.state == state);
        of_state
            .map(|status| status.node.id.name.to_string())
            .collect()
    };
    let alive = named(NodeState::Alive);
    if alive.is_empty() {
        named(NodeState::Suspect)
    } else {
        alive
    }
}

/// A file and its digest, computed here.
async fn read(file: CorpusFile) -> Option<(Vec<u8>, FileDigest)> {
    let read = move || -> Result<_, SkipReason> {
        let content = file.read(FILE_BYTES_MAX)?;
        let digest = FileDigest::of(&content);
        Ok((content.to_vec(), digest))
    };
    tokio::task::spawn_blocking(read).await.ok()?.ok()
}

/// Filter of the workers that the director calls.
const WORKERS: &str = "role=worker";
const CALLS_IN_FLIGHT: usize = 8;
/// Half of what a message may have.
const FILE_BYTES_MAX: u64 = 8 << 20;
const SKIPPED_SHOWN_MAX: usize = 10;
const STATS_INTERVAL: Duration = Duration::from_millis(200);
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);
