//! Director of the demo: has the workers digest every file and checks each answer.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rpcnet_client::{
    Node,
    cluster::ClusterEvent,
    registry::{NodeState, WorkerRegistry},
};
use tokio::task::JoinSet;
use xtask_harness::{NodeSetup, node_builder};
use xtask_report::Latencies;

use crate::{
    corpus::{Corpus, CorpusFile},
    digest::FileDigest,
    live_view::{CallFigures, MemberRow, Snapshot},
    node::{DIGEST, DigestReply, Link},
    protocol::{Notice, Order},
};

type Notices = xtask_harness::Notices<Notice>;

/// Runs the director until it is told to finish.
pub(crate) async fn run_director(
    link: &mut Link,
    setup: &NodeSetup,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let node = node_builder("demo", setup)?
        .tag("role", "director")
        // A digest may be computed twice.
        .client_config(|config| config.with_idempotent([DIGEST]))
        .start()
        .await?;
    let notices = link.notices();
    notices.send(Notice::Ready { addr: node.addr() }).await;
    let director = Arc::new(Director {
        node,
        counters: Mutex::default(),
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
                    let (director, corpus) = (Arc::clone(&director), Arc::clone(&corpus));
                    calling.spawn(director.digest_all(corpus, notices.clone()));
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
    counters: Mutex<CallCounters>,
    /// Set when no new calls are to begin.
    stop: AtomicBool,
}

/// Outcomes of the calls.
#[derive(Default)]
struct CallCounters {
    /// Files taken so far, over all rounds.
    files_taken: usize,
    rounds: u64,
    failed: u64,
    wrong: u64,
    workers: BTreeMap<String, Latencies>,
}

impl Director {
    /// Takes file after file, round after round, until told to stop.
    async fn digest_all(self: Arc<Self>, corpus: Arc<Corpus>, notices: Notices) {
        while !self.stop.load(Ordering::Relaxed) {
            let file = self.next_file(corpus.files());
            if let Some(text) = self.digest(file).await {
                notices.send(Notice::Note { text }).await;
            }
        }
    }

    fn next_file<'a>(&self, files: &'a [CorpusFile]) -> &'a CorpusFile {
        let mut counters = self.counters.lock();
        let taken = counters.files_taken;
        counters.files_taken += 1;
        counters.rounds = (taken / files.len()) as u64;
        &files[taken % files.len()]
    }

    /// Has a file digested; what is wrong with the answer, if something is.
    async fn digest(&self, file: &CorpusFile) -> Option<String> {
        // It was there when the corpus was made; it may be gone by now.
        let (content, expected) = read(file.clone()).await?;
        let begin = Instant::now();
        let client = self.node.client();
        let answer = client.call_worker_typed(DIGEST, &content, Some(WORKERS));
        let answer: Result<DigestReply, _> = answer.await;
        let took = begin.elapsed();
        let path = file.path().display();
        let mut counters = self.counters.lock();
        match answer {
            Ok(DigestReply { by, digest }) => {
                let of_worker = counters.workers.entry(by.clone());
                of_worker.or_default().record(took);
                counters.wrong += u64::from(digest != expected);
                (digest != expected).then(|| format!("wrong digest of {path} by {by}"))
            }
            Err(error) => {
                counters.failed += 1;
                Some(format!("call for {path} failed: {error}"))
            }
        }
    }

    async fn report_events(self: Arc<Self>, notices: Notices) {
        let mut events = self.node.workers().subscribe();
        let mut selectable = selectable_now(self.node.workers());
        while let Some(event) = events.recv().await {
            let text = match &event {
                ClusterEvent::NodeJoined(_) => Some("joined"),
                ClusterEvent::NodeLeft(_) => Some("left"),
                ClusterEvent::NodeFailed(_) => Some("failed"),
                ClusterEvent::NodeSuspect { .. } => Some("is suspect"),
                ClusterEvent::NodeRecovered(_) => Some("recovered"),
                _ => None,
            };
            if let (Some(text), Some(node)) = (text, event.node()) {
                let (node, text) = (node.id.name.to_string(), text.to_owned());
                notices.send(Notice::Event { node, text }).await;
            }
            let now = selectable_now(self.node.workers());
            for node in selectable.difference(&now).cloned() {
                notices.send(Notice::Unselectable { node }).await;
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
        let workers = self.node.workers().workers(Some(WORKERS));
        let workers = workers.unwrap_or_default();
        let membership = self.node.membership();
        let mut members = membership.members();
        members.sort_by(|a, b| a.id.cmp(&b.id));
        let counters = self.counters.lock();
        let rows = members.into_iter().map(|member| {
            let name = member.id.name.to_string();
            let latencies = counters.workers.get(&name);
            let of_member = workers.iter().filter(|it| *it.node.id.name == *name);
            let state = match member.draining && member.state.is_live() {
                true => "draining".to_owned(),
                false => format!("{:?}", member.state).to_lowercase(),
            };
            MemberRow {
                state,
                phi: membership.phi(&member.id),
                in_flight: of_member.map(|it| u64::from(it.in_flight)).sum(),
                calls: latencies.map_or(0, Latencies::calls),
                p50_us: latencies.map_or(0, Latencies::p50_us),
                p99_us: latencies.map_or(0, Latencies::p99_us),
                name,
            }
        });
        let mut all = Latencies::default();
        counters.workers.values().for_each(|one| all.merge(one));
        Snapshot {
            members: rows.collect(),
            rounds: counters.rounds,
            calls: CallFigures {
                calls_ok: all.calls(),
                calls_failed: counters.failed,
                wrong_results: counters.wrong,
                p50_us: all.p50_us(),
                p99_us: all.p99_us(),
            },
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
    let read = move || -> Result<_, String> {
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
