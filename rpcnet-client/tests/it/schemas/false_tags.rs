//! Workers that announce the types of others and reject calls harm no other worker.

use rpcnet_client::{
    CallMetadataExt, Code, IncomingCall, Metadata, Method, ServerLayer, Status,
    registry::{schema_tag_key, schema_tag_value},
};

use super::{
    services::{first, second, third},
    *,
};

/// A worker that serves one version and announces another one.
async fn start_with_false_tag(
    cluster: &TestCluster,
    name: &'static str,
    (serves, announces): (VersionRouter, VersionRouter),
) -> Worker {
    let [worker] = start(cluster, [name], serves)
        .await
        .try_into()
        .ok()
        .expect("one worker");
    let announced = announces(&Arc::default());
    let hash = announced
        .service_hashes()
        .find(|(name, _)| *name == "Render");
    let value = schema_tag_value(hash.expect("a service").1);
    let node = worker.0.node();
    let set = node.membership().set_tag(&schema_tag_key("Render"), &value);
    set.expect("a small tag");
    worker
}

/// Calls of the third version, one a second; the number of those that failed.
async fn failed_calls(caller: &TestNode, count: u32) -> u32 {
    let mut failed = 0;
    for _ in 0..count {
        failed += u32::from(third::call(caller).await.is_err());
        tokio::time::sleep(SECOND).await;
    }
    failed
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_announces_the_callers_types_and_rejects_them_fails_no_call() {
    let cluster = TestCluster::seeded(41);
    let honest = start(&cluster, ["h-0", "h-1", "h-2"], third::router).await;
    let versions: (VersionRouter, VersionRouter) = (first::router, third::router);
    let mistagged = start_with_false_tag(&cluster, "mistagged", versions).await;
    let caller = caller(&cluster).await;
    assert_eq!(failed_calls(&caller, 100).await, 0);
    assert_eq!(served(&honest), 100);
    // It is asked again ever later, as each worker that rejects a method.
    let extra = caller.client().stats().extra_attempts();
    assert!((1..=6).contains(&extra), "{extra} extra attempts");
    assert_eq!(served(&[mistagged]), 0);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_announces_the_callers_types_takes_no_calls_from_the_others() {
    let cluster = TestCluster::seeded(42);
    let honest = start(&cluster, ["h-0", "h-1", "h-2"], third::router).await;
    // It announces nothing, and would have all calls if the hash of the others were held to be
    // incompatible.
    let untagged = start(&cluster, ["untagged"], third::router).await;
    let node = untagged[0].0.node();
    node.membership().remove_tag(&schema_tag_key("Render"));
    let versions: (VersionRouter, VersionRouter) = (first::router, third::router);
    let _mistagged = start_with_false_tag(&cluster, "mistagged", versions).await;
    let caller = caller(&cluster).await;
    assert_eq!(failed_calls(&caller, 200).await, 0);
    let (honest, untagged) = (served(&honest), served(&untagged));
    assert!(
        honest > 100,
        "the three served {honest}, the untagged one {untagged}"
    );
}

#[tokio::test(start_paused = true)]
async fn types_that_a_mistagged_worker_rejected_are_called_after_a_check_of_another_worker() {
    let cluster = TestCluster::seeded(44);
    let _same = start(&cluster, ["same"], second::router).await;
    let versions: (VersionRouter, VersionRouter) = (third::router, first::router);
    let mistagged = start_with_false_tag(&cluster, "mistagged", versions).await;
    let caller = caller(&cluster).await;
    // The first check of the hash asks the only worker that announces it.
    let is_rejected = async || {
        second::call(&caller)
            .await
            .map_err(|error| error.to_string())?;
        match rejections(std::slice::from_ref(&mistagged)) {
            0 => Err("no check has come".to_owned()),
            _ => Ok(()),
        }
    };
    cluster.eventually_ok(is_rejected).await;
    let old = start(&cluster, ["old-0", "old-1"], first::router).await;
    cluster.eventually(|| cluster.has_converged()).await;
    for _ in 0..20 {
        second::call(&caller).await.expect("the one of its version");
        tokio::time::sleep(SECOND).await;
    }
    assert_eq!(served(&old), 0, "they announce what the mistagged one does");
    for _ in 0..60 {
        second::call(&caller).await.expect("the one of its version");
        tokio::time::sleep(SECOND).await;
    }
    let before = served(&old);
    assert!(before > 0, "a check has found that they fit");
    for _ in 0..600 {
        second::call(&caller)
            .await
            .expect("all but the mistagged one fit");
        tokio::time::sleep(SECOND).await;
    }
    let share = served(&old) - before;
    assert!(share > 200, "{share} of 600 calls");
    assert_eq!(served(&[mistagged]), 0);
}

#[tokio::test(start_paused = true)]
async fn types_that_a_mistagged_worker_rejected_are_called_if_no_others_are_left() {
    let cluster = TestCluster::seeded(45);
    let same = start(&cluster, ["same"], second::router).await;
    let versions: (VersionRouter, VersionRouter) = (third::router, first::router);
    let mistagged = start_with_false_tag(&cluster, "mistagged", versions).await;
    let caller = caller(&cluster).await;
    let is_rejected = async || {
        let called = second::stream(&caller).await;
        called.map_err(|error| error.to_string())?;
        match rejections(std::slice::from_ref(&mistagged)) {
            0 => Err("no check has come".to_owned()),
            _ => Ok(()),
        }
    };
    cluster.eventually_ok(is_rejected).await;
    let old = start(&cluster, ["old-0", "old-1"], first::router).await;
    cluster.eventually(|| cluster.has_converged()).await;
    same[0].0.kill();
    // None is left but those whose types are known not to fit: they are asked in rotation.
    for _ in 0..10 {
        let _ = second::stream(&caller).await;
        tokio::time::sleep(SECOND).await;
    }
    let before = served(&old);
    for _ in 0..50 {
        second::stream(&caller).await.expect("two of them fit");
        tokio::time::sleep(SECOND).await;
    }
    assert_eq!(served(&old), before + 50);
}

/// Calls another method before each call with a token, and rejects the call with what the other
/// method's server has said: that the types do not fit.
struct ForwardsRejection;

const ACCOUNT: Method<u64, u64> = Method::new("Accounts/of");

impl ServerLayer for ForwardsRejection {
    fn before(&self, call: &mut IncomingCall) -> Result<(), Status> {
        if call.metadata().get("token").is_none() {
            return Ok(());
        }
        let schema = ACCOUNT.schema().encode().expect("a small schema");
        Err(Status::new(Code::Incompatible, "of another method").with_details(schema))
    }
}

fn forwarding(served: &Arc<AtomicU64>) -> Router {
    third::router(served).layer(ForwardsRejection)
}

#[tokio::test(start_paused = true)]
async fn a_layer_that_forwards_a_rejection_of_other_types_fails_no_later_call() {
    let cluster = TestCluster::seeded(43);
    let workers = start(&cluster, ["h-0", "h-1", "h-2"], forwarding).await;
    let caller = caller(&cluster).await;
    third::call(&caller).await.expect("they are the same");
    let token = || Metadata::new().with("token", "t").expect("a valid key");
    for _ in 0..10 {
        let call = third::call(&caller).with_metadata(token());
        let error = call.await.expect_err("the layer rejects it");
        assert_eq!(error.code(), Code::Incompatible, "{error}");
    }
    assert_eq!(failed_calls(&caller, 100).await, 0);
    assert_eq!(served(&workers), 101);
    assert_eq!(rejections(&workers), 0, "their types are the same");
}
