//! Tags with the schema hashes of a node.

use rpcnet_client::{
    Method,
    registry::{SCHEMA_TAG_PREFIX, schema_tag_key, schema_tag_value},
};
use rpcnet_testing::LogCapture;
use tracing::Level;

use super::{
    services::{first, second, third},
    *,
};

const SQUARE: Method<u64, u64> = Method::new("square");

/// What `observer` knows of the schema tag of a node.
fn announced(observer: &TestNode, of: &TestNode, service: &str) -> Option<String> {
    let node = observer.node().nodes().snapshot().node(of.name())?.clone();
    node.tags.value(&schema_tag_key(service)).map(str::to_owned)
}

fn hash_of(router: &Router, service: &str) -> Option<String> {
    let found = router.service_hashes().find(|(name, _)| *name == service);
    found.map(|(_, hash)| schema_tag_value(hash))
}

#[tokio::test(start_paused = true)]
async fn an_upgraded_node_announces_other_types_and_gets_the_calls_of_new_callers() {
    let cluster = TestCluster::seeded(21);
    let workers = start(&cluster, ["a", "b"], first::router).await;
    let caller = caller(&cluster).await;
    let served_by = |router: Router| hash_of(&router, "Render").expect("a service");
    let count = Arc::default();
    let (before, after) = (
        served_by(first::router(&count)),
        served_by(third::router(&count)),
    );
    assert_ne!(before, after);
    assert_eq!(announced(&caller, &workers[0].0, "Render"), Some(before));
    first::call(&caller).await.expect("of its version");
    third::call(&caller).await.expect_err("both are old");
    workers[0]
        .0
        .upgrade(serving(third::router, &workers[0].1))
        .await;
    let upgraded = || announced(&caller, &workers[0].0, "Render") == Some(after.clone());
    cluster.eventually(upgraded).await;
    cluster.eventually(|| cluster.has_converged()).await;
    let before = served(&workers[..1]);
    for _ in 0..10 {
        third::call(&caller).await.expect("the upgraded one");
        first::call(&caller).await.expect("the other one");
    }
    assert_eq!(served(&workers[..1]), before + 10);
    workers[1]
        .0
        .upgrade(serving(third::router, &workers[1].1))
        .await;
    cluster.eventually(|| cluster.has_converged()).await;
    for _ in 0..10 {
        third::call(&caller).await.expect("both are new");
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_serves_more_announces_it() {
    let cluster = TestCluster::seeded(22);
    let worker = cluster.start("worker", |builder| builder).await;
    let caller = caller(&cluster).await;
    assert_eq!(announced(&caller, &worker, "Render"), None);
    let served = Arc::default();
    let router = second::router(&served);
    worker.node().serve(router.clone());
    let known = || announced(&caller, &worker, "Render") == hash_of(&router, "Render");
    cluster.eventually(known).await;
    let more = Router::new().method(SQUARE, |n| async move { n * n });
    worker.node().serve(more.clone());
    let known = || announced(&caller, &worker, "square") == hash_of(&more, "square");
    cluster.eventually(known).await;
    assert_eq!(
        announced(&caller, &worker, "Render"),
        hash_of(&router, "Render")
    );
    // A further method of the service is another service.
    const MORE: Method<u64, u64> = Method::new("Render/more");
    let more = Router::new().method(MORE, |n| async move { n });
    worker.node().serve(more.clone());
    let all = hash_of(&router.merge(more), "Render");
    cluster
        .eventually(|| announced(&caller, &worker, "Render") == all)
        .await;
    let workers = caller.client().workers(None);
    assert_eq!(MORE.call(&workers, &3).await.expect("it is served"), 3);
    assert_eq!(SQUARE.call(&workers, &3).await.expect("it is served"), 9);
}

/// Methods that are a service each.
fn methods(count: usize) -> impl Iterator<Item = Method<u64, u64>> {
    let names = (0..count).map(|number| &*format!("method number {number:02}").leak());
    names.map(Method::new)
}

#[tokio::test(start_paused = true)]
async fn services_whose_hashes_do_not_fit_are_served_and_warned_of_once() {
    let cluster = TestCluster::seeded(23);
    let log = LogCapture::start(Level::WARN);
    let all = methods(40).fold(Router::new(), |router, method| {
        router.method(method, |n| async move { n + 1 })
    });
    let worker = cluster
        .start("worker", move |builder| builder.serve(all.clone()))
        .await;
    let tags = worker.node().membership().local_member().tags;
    let hashes = tags
        .iter()
        .filter(|(key, _)| key.starts_with(SCHEMA_TAG_PREFIX));
    assert_eq!(hashes.count(), 11, "{tags:?}");
    let lines: Vec<_> = log.take().into_iter().map(|line| line.text).collect();
    let warnings = lines
        .iter()
        .filter(|line| line.contains("no room in the tags"));
    assert_eq!(warnings.count(), 1, "{lines:?}");
    // There is room for tags of the program.
    let value = "v".repeat(200);
    let set = worker.node().membership().set_tag("later", &value);
    set.expect("half of the room is left");
    let caller = caller(&cluster).await;
    for method in methods(40) {
        let workers = caller.client().workers(None);
        assert_eq!(method.call(&workers, &1).await.expect("it is served"), 2);
    }
    assert_eq!(caller.client().stats().schema_mismatches, 0);
}
