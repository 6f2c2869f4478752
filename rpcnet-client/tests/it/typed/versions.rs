//! Calls between callers and workers whose messages are of different versions: each change of a
//! message, in both directions, over all types of calls.

use std::{collections::HashMap, sync::Arc};

use futures::{StreamExt, TryStreamExt, future::BoxFuture, future::join_all, stream};
use parking_lot::Mutex;
use rpcnet_client::{
    ClusterClient, LoadBalancingStrategy, Method, MethodOptions, Replies, Requests, RetryBudget,
    Router, RpcError, RpcServer, Status, WorkerChannel,
};
use rpcnet_testing::within;

use super::{
    TestCluster,
    messages::{
        InOption, Narrow, Numbered, OneVariant, Plain, ReadsNewName, Renamed, Reordered,
        SecondVariant, Text, TwoVariants, WithDefault, WithRequired,
    },
};

/// What becomes of calls to workers of the other version.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    /// They are served.
    Served,
    /// They go to a worker of the version of the caller.
    Elsewhere,
    /// They go there if the value in the request is new. A stream of requests is opened before its
    /// values are known.
    ElsewhereByValue,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum CallType {
    Unary,
    ServerStreaming,
    ClientStreaming,
    Bidirectional,
}

use CallType::{Bidirectional, ClientStreaming, ServerStreaming, Unary};
use Fate::{Elsewhere, ElsewhereByValue, Served};

/// One change of a message.
struct Change {
    what: &'static str,
    old: Version,
    new: Version,
    /// Of calls from new callers to old workers.
    forward: Fate,
    /// Of calls from old callers to new workers.
    backward: Fate,
}

/// The methods of a change with the types of one version.
struct Version {
    serve: fn(Router, Names, &Runs, &'static str) -> Router,
    call: for<'a> fn(&'a WorkerChannel, Names, CallType, u64) -> Called<'a>,
}

/// Names of the methods of a change, one for each type of calls.
type Names = [&'static str; 4];

/// The numbers in the replies.
type Called<'a> = BoxFuture<'a, Result<Vec<u64>, RpcError>>;

/// Which workers have run the handler of each call.
type Runs = Arc<Mutex<HashMap<u64, Vec<&'static str>>>>;

fn changes() -> [Change; 13] {
    fn change<OldReq, OldReply, NewReq, NewReply>(
        what: &'static str,
        forward: Fate,
        backward: Fate,
    ) -> Change
    where
        OldReq: Numbered,
        OldReply: Numbered,
        NewReq: Numbered,
        NewReply: Numbered,
    {
        Change {
            what,
            old: version::<OldReq, OldReply>(),
            new: version::<NewReq, NewReply>(),
            forward,
            backward,
        }
    }
    [
        change::<Plain, Plain, Plain, Plain>("none", Served, Served),
        change::<Plain, Plain, WithDefault, WithDefault>("default added", Served, Served),
        change::<WithDefault, WithDefault, Plain, Plain>("default removed", Served, Served),
        change::<WithRequired, WithRequired, Reordered, Reordered>("reordered", Served, Served),
        change::<Narrow, Narrow, Plain, Plain>("widened", Served, Served),
        change::<Plain, Plain, InOption, InOption>("made optional", Served, Served),
        change::<ReadsNewName, ReadsNewName, Renamed, Renamed>("renamed", Served, Served),
        change::<OneVariant, OneVariant, TwoVariants, TwoVariants>("variant", Served, Served),
        change::<OneVariant, u64, SecondVariant, u64>("new variant", ElsewhereByValue, Served),
        change::<Plain, u64, WithRequired, u64>("required in request", Served, Elsewhere),
        change::<u64, Plain, u64, WithRequired>("required in reply", Elsewhere, Served),
        change::<Plain, u64, Text, u64>("type in request", Elsewhere, Elsewhere),
        change::<u64, Plain, u64, Text>("type in reply", Elsewhere, Elsewhere),
    ]
}

fn version<Req: Numbered, Reply: Numbered>() -> Version {
    Version {
        serve: serve::<Req, Reply>,
        call: |channel, names, call_type, id| {
            Box::pin(call::<Req, Reply>(channel, names, call_type, id))
        },
    }
}

fn serve<Req: Numbered, Reply: Numbered>(
    router: Router,
    names: Names,
    runs: &Runs,
    worker: &'static str,
) -> Router {
    let runs = Arc::clone(runs);
    let run = move |id| {
        runs.lock().entry(id).or_default().push(worker);
        Reply::of(id)
    };
    let [unary, server, client, both] = names;
    let (on_unary, on_server, on_client) = (run.clone(), run.clone(), run.clone());
    let first = |mut requests: Requests<Req>| async move {
        let request = requests.message().await?.expect("a request");
        Ok::<_, Status>((request.id(), requests))
    };
    router
        .method(Method::<Req, Reply>::new(unary), move |request: Req| {
            let reply = on_unary(request.id());
            async move { reply }
        })
        .server_streaming_method(
            Method::<Req, Replies<Reply>>::new(server),
            move |_, request: Req| {
                let reply = on_server(request.id());
                async move { Ok(Replies::of([reply.clone(), reply])) }
            },
        )
        .client_streaming_method(
            Method::<Requests<Req>, Reply>::new(client),
            move |_, requests| {
                let run = on_client.clone();
                async move {
                    let (id, requests) = first(requests).await?;
                    let rest: Vec<Req> = requests.try_collect().await?;
                    assert_eq!(rest.len(), 1);
                    Ok::<_, Status>(run(id))
                }
            },
        )
        .streaming_method(
            Method::<Requests<Req>, Replies<Reply>>::new(both),
            move |_, requests| {
                let run = run.clone();
                async move {
                    let (id, requests) = first(requests).await?;
                    let reply = run(id);
                    let rest = requests.map_ok(|request| Reply::of(request.id()));
                    let replies = stream::iter([Ok(reply)]).chain(rest);
                    Ok(Replies::forwarded(replies))
                }
            },
        )
}

async fn call<Req: Numbered, Reply: Numbered>(
    channel: &WorkerChannel,
    [unary, server, client, both]: Names,
    call_type: CallType,
    id: u64,
) -> Result<Vec<u64>, RpcError> {
    let (request, options) = (Req::of(id), MethodOptions::new());
    let requests = stream::iter([request.clone(), request.clone()]);
    let ids = |replies: Vec<Reply>| replies.iter().map(Numbered::id).collect();
    match call_type {
        Unary => {
            let method = Method::<Req, Reply>::new(unary);
            Ok(vec![method.call(channel, &request).await?.id()])
        }
        ServerStreaming => {
            let method = Method::<Req, Replies<Reply>>::new(server);
            let replies = method.call_server_streaming(channel, &request, options);
            replies.await?.try_collect().await.map(ids)
        }
        ClientStreaming => {
            let method = Method::<Requests<Req>, Reply>::new(client);
            let reply = method.call_client_streaming(channel, requests, options);
            Ok(vec![reply.await?.id()])
        }
        Bidirectional => {
            let method = Method::<Requests<Req>, Replies<Reply>>::new(both);
            let replies = method.call_streaming(channel, requests, options);
            replies.await?.try_collect().await.map(ids)
        }
    }
}

/// Names of the methods of each change.
fn names(change: &Change) -> Names {
    let name = |call_type| format!("{}/{call_type}", change.what).leak() as &'static str;
    ["unary", "server", "client", "both"].map(name)
}

/// Five workers, some of them old, which serve all changes, and callers of both versions.
struct MixedCluster {
    /// Each change with the names of its methods.
    changes: [(Names, Change); 13],
    runs: Runs,
    /// Calls that were made.
    calls: u64,
    _workers: Vec<RpcServer>,
}

const OLD: [&str; 5] = ["old-1", "old-2", "old-3", "old-4", "old-5"];
const NEW: [&str; 5] = ["new-1", "new-2", "new-3", "new-4", "new-5"];

impl MixedCluster {
    fn new(cluster: &TestCluster, old_workers: usize, announces: bool) -> Self {
        let changes = changes().map(|change| (names(&change), change));
        let runs = Runs::default();
        let workers = OLD[..old_workers].iter().chain(&NEW[old_workers..]);
        let workers = workers.map(|&name| {
            let add = |router, (names, change): &(Names, Change)| {
                let version = match name.starts_with("old") {
                    true => &change.old,
                    false => &change.new,
                };
                (version.serve)(router, *names, &runs, name)
            };
            let router = changes.iter().fold(Router::new(), add);
            match announces {
                true => cluster.announcing_worker(name, router),
                false => cluster.worker(name, router),
            }
        });
        let workers = workers.collect();
        Self {
            changes,
            runs,
            calls: 0,
            _workers: workers,
        }
    }

    /// Calls each method some times, several at a time: all calls succeed, run once, and run where
    /// they should. Returns how many of them ran on workers of the other version.
    async fn check(&mut self, client: &Arc<ClusterClient>, own: &str) -> usize {
        let workers = client.workers(Some("role=worker"));
        let mut abroad = 0;
        for (names, change) in &self.changes {
            let (version, fate) = match own {
                "old" => (&change.old, change.backward),
                _ => (&change.new, change.forward),
            };
            for call_type in [Unary, ServerStreaming, ClientStreaming, Bidirectional] {
                let streams_requests = matches!(call_type, ClientStreaming | Bidirectional);
                if fate == ElsewhereByValue && streams_requests {
                    continue;
                }
                let ids = self.calls..self.calls + AT_ONCE;
                self.calls += AT_ONCE;
                let calls = ids
                    .clone()
                    .map(|id| (version.call)(&workers, *names, call_type, id));
                let replies = within(join_all(calls)).await;
                for (id, reply) in ids.zip(replies) {
                    let what = format!("{own} caller, {}, {call_type:?}", change.what);
                    let reply = reply.unwrap_or_else(|error| panic!("{what}: {error}"));
                    let replies = match call_type {
                        Unary | ClientStreaming => 1,
                        ServerStreaming | Bidirectional => 2,
                    };
                    assert_eq!(reply, vec![id; replies], "{what}");
                    let ran = self.runs.lock().remove(&id).unwrap_or_default();
                    assert_eq!(ran.len(), 1, "{what} ran on {ran:?}");
                    let is_abroad = !ran[0].starts_with(own);
                    assert!(fate == Served || !is_abroad, "{what} ran on {ran:?}");
                    abroad += usize::from(is_abroad);
                }
            }
        }
        assert!(self.runs.lock().is_empty(), "other calls ran");
        abroad
    }
}

/// Calls of a method under way at the same time.
const AT_ONCE: u64 = 6;

/// All calls of callers of both versions, in clusters of one and of two old workers, which announce
/// their types or do not.
async fn check_all(strategy: LoadBalancingStrategy) {
    for (old_workers, announces) in [(1, false), (2, false), (1, true), (2, true)] {
        let cluster = TestCluster::new();
        let mut mixed = MixedCluster::new(&cluster, old_workers, announces);
        for own in ["old", "new"] {
            // A call that took of the budget would fail.
            let budget = RetryBudget::new().with_cap(0.0).with_reserve_per_s(0.0);
            let client = cluster.caller_with(own, strategy.balancer(), |config| {
                config.with_retry_budget(budget)
            });
            let client = client.await;
            let abroad = mixed.check(&client, own).await + mixed.check(&client, own).await;
            assert!(abroad > 0, "{own} callers");
            let stats = client.stats();
            assert!(stats.retries_transparent > 0, "{stats:?}");
            assert_eq!(
                stats.retries_transparent,
                stats.extra_attempts(),
                "{stats:?}"
            );
            assert_eq!(stats.budget_exhausted, 0, "{stats:?}");
            assert_eq!(stats.schema_mismatches > 0, announces, "{stats:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn calls_between_versions_are_served_or_go_elsewhere_under_peak_ewma() {
    assert_eq!(
        LoadBalancingStrategy::default(),
        LoadBalancingStrategy::PeakEwma
    );
    check_all(LoadBalancingStrategy::PeakEwma).await;
}

#[tokio::test(start_paused = true)]
async fn calls_between_versions_are_served_or_go_elsewhere_under_least_connections() {
    check_all(LoadBalancingStrategy::LeastConnections).await;
}

#[tokio::test(start_paused = true)]
async fn calls_between_versions_are_served_or_go_elsewhere_under_round_robin() {
    check_all(LoadBalancingStrategy::RoundRobin).await;
}
