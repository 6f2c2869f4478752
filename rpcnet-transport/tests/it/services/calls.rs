//! Calls of a service over each channel, and its mock.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use rpcnet_testing::within;
use rpcnet_transport::{
    Channel, Code, LocalChannel, MemoryNetwork, Method, MethodOptions, Priority, Replies, Router,
    TransportConfig,
};
use serde_json::json;

use super::render::{
    Document, Foreign, Probe, Render, RenderClient, RenderError, RenderMethods, RenderMock,
    RenderServer, Renderer,
};
use crate::bind_in_memory;

/// What holds over any channel to a [`Renderer`].
async fn check<C: Channel>(render: &RenderClient<C>) {
    let probe = render.probe(7).await.unwrap();
    let caller = "Render/probe".to_owned();
    assert_eq!(probe, Probe { id: 7, caller });
    let refused = render.probe(13).await.unwrap_err();
    assert_eq!(refused.service(), Some(&RenderError::new("no such file")));
    render.ping().await.unwrap();
    assert_eq!(render.add(1, 2).await.unwrap(), 3);
    assert_eq!(render.foreign(Foreign(1)).await.unwrap(), Foreign(2));
    let json = render.json(json!({ "any": [1] }), 2).await.unwrap();
    assert_eq!(json, json!({ "value": { "any": [1] }, "depth": 2 }));
    check_streams(render).await;
}

async fn check_streams<C: Channel>(render: &RenderClient<C>) {
    let frames = render.frames("job".to_owned(), 3).await.unwrap();
    let frames: Vec<_> = frames.map(Result::unwrap).collect().await;
    assert_eq!(frames, [0, 1, 2]);
    let numbers = render.count(2).await.unwrap();
    assert_eq!(
        numbers.map(Result::unwrap).collect::<Vec<_>>().await,
        [0, 1]
    );
    assert_eq!(render.upload(stream::iter(0..5)).await.unwrap(), 10);
    let refused = render.upload(stream::iter([13])).await.unwrap_err();
    assert_eq!(refused.service(), Some(&RenderError::new("unlucky")));
    assert_eq!(render.total(stream::iter([1, 2])).await.unwrap(), 3);
    let ids = [Document(json!([1])), Document(json!({}))];
    let documents = render.documents(stream::iter(ids.clone())).await.unwrap();
    assert_eq!(documents.map(Result::unwrap).collect::<Vec<_>>().await, ids);
    let refused = match render.documents(stream::empty()).await {
        Ok(mut documents) => documents.message().await.unwrap_err().app(),
        Err(error) => error.service().cloned(),
    };
    assert_eq!(refused, Some(Document(json!(["none"]))));
    let said = stream::iter(["a", "b"].map(str::to_owned));
    let mut heard = render.chat(said).await.unwrap();
    for expected in [Some("A"), Some("B"), None] {
        assert_eq!(heard.message().await.unwrap().as_deref(), expected);
    }
}

#[tokio::test]
async fn a_client_calls_all_methods_over_a_connection() {
    let network = MemoryNetwork::new();
    let config = TransportConfig::lan();
    let router = Router::new().service(RenderServer::new(Renderer));
    let server = bind_in_memory(&network, "server", config.clone()).serve(router);
    let node = bind_in_memory(&network, "client", config);
    let client = node.connect(server.local_addr(), "server").await.unwrap();
    within(check(&RenderClient::new(client))).await;
}

#[tokio::test]
async fn a_client_calls_all_methods_without_a_network() {
    let server = RenderServer::from_arc(Arc::new(Renderer));
    let channel = LocalChannel::new(server.clone());
    within(check(&RenderClient::new(channel))).await;
}

#[test]
fn methods_have_the_names_and_options_of_the_trait() {
    let names: Vec<_> = RenderMethods::ALL.iter().map(|it| it.name()).collect();
    let expected = [
        "Render/probe",
        "Render/frames",
        "Render/upload",
        "Render/chat",
        "Render/ping",
        "Render/add",
        "Render/count",
        "Elsewhere/total",
        "Render/foreign",
        "Render/json",
        "Render/documents",
    ];
    assert_eq!(names, expected);
    let expected = MethodOptions::new()
        .with_idempotent(true)
        .with_replay_safe(true)
        .with_timeout(Duration::from_secs(2))
        .with_hedge_quantile(0.95);
    assert_eq!(RenderMethods::PROBE.options(), expected);
    let expected = MethodOptions::new()
        .with_priority(Priority::Sheddable)
        .with_isolated(true)
        .with_generated_keys(true)
        .with_attempt_timeout(Duration::from_millis(500));
    assert_eq!(RenderMethods::FRAMES.options(), expected);
    assert!(RenderMethods::JSON.schema().needs_named_encoding());
    assert!(!RenderMethods::FOREIGN.schema().needs_named_encoding());
    let text = RenderMethods::FRAMES.schema().to_string();
    assert!(text.contains("Render::frames"), "{text}");
}

#[test]
fn callers_servers_and_mocks_know_the_same_hash_of_a_service() {
    let served = Router::new().service(RenderServer::new(Renderer));
    let mocked = Router::new().service(RenderMock::new());
    let hashes: BTreeMap<&str, u64> = served.service_hashes().collect();
    assert_eq!(
        hashes.keys().copied().collect::<Vec<_>>(),
        ["Elsewhere", "Render"]
    );
    assert!(mocked.service_hashes().eq(served.service_hashes()));
    for method in RenderMethods::ALL {
        let own = method.service_hash();
        assert_eq!(own, hashes.get(method.service()).copied(), "{method:?}");
    }
    // Methods without a schema are in none, and a further method is a difference.
    let with_untyped = served.typed("Render/untyped", |n: u64| async move { n });
    let before: BTreeMap<&str, u64> = with_untyped.service_hashes().collect();
    assert_eq!(before, mocked.service_hashes().collect());
    let more = with_untyped.clone().method(MORE, |n| async move { n });
    let after: BTreeMap<&str, u64> = more.service_hashes().collect();
    assert_eq!(after["Elsewhere"], before["Elsewhere"]);
    assert_ne!(after["Render"], before["Render"]);
    assert_eq!(
        MORE.untyped().service_hash(),
        None,
        "the others are not known"
    );
}

const MORE: Method<u64, u64> = Method::new("Render/more");

#[tokio::test]
async fn a_mock_answers_by_closures_and_records_the_calls() {
    let mock = RenderMock::new();
    let render = mock.client();
    // Clones share what is set later.
    mock.on_probe(|id| match id {
        13 => Err(RenderError::new("unlucky")),
        id => Ok(Probe {
            id,
            caller: "mock".to_owned(),
        }),
    });
    assert_eq!(render.probe(7).await.unwrap().caller, "mock");
    let refused = render.probe(13).await.unwrap_err();
    assert_eq!(refused.service(), Some(&RenderError::new("unlucky")));
    assert_eq!(mock.probe_calls(), [7, 13]);
    assert_eq!(mock.probe_count(), 2);

    mock.on_frames(|_, quality| Ok(Replies::of([u64::from(quality)])));
    let frames = render.frames("job".to_owned(), 3).await.unwrap();
    assert_eq!(frames.map(Result::unwrap).collect::<Vec<_>>().await, [3]);
    assert_eq!(mock.frames_calls(), [("job".to_owned(), 3)]);

    mock.on_upload(|parts| async move { Ok(parts.count().await as u64) });
    assert_eq!(render.upload(stream::iter(0..5)).await.unwrap(), 5);
    assert_eq!(mock.upload_count(), 1);

    mock.on_foreign(Ok);
    assert_eq!(render.foreign(Foreign(1)).await.unwrap(), Foreign(1));
    mock.on_add(|first, second| first * second);
    assert_eq!(render.add(2, 3).await.unwrap(), 6);
    mock.on_ping(|| ());
    render.ping().await.unwrap();
    assert_eq!(mock.ping_count(), 1);
    assert_eq!(Render::add(&mock, 3, 4).await, 12);
}

#[tokio::test]
async fn a_method_without_a_closure_is_unimplemented() {
    let render = RenderMock::new().client();
    let error = render.probe(7).await.unwrap_err();
    let error = error.rpc().unwrap();
    assert_eq!(error.code(), Code::Unimplemented);
    assert_eq!(
        error.message(),
        "no closure was set for \"Render/probe\" of the mock"
    );
    assert_eq!(
        render.total(stream::empty()).await.unwrap_err().code(),
        Code::Unimplemented
    );
}

#[tokio::test]
#[should_panic(expected = "no closure was set: call `on_add` of the mock first")]
async fn a_mock_that_is_called_directly_panics_without_a_closure() {
    Render::add(&RenderMock::new(), 1, 2).await;
}

#[test]
fn options_of_a_client_go_before_those_that_were_set() {
    let options = |millis| MethodOptions::new().with_timeout(Duration::from_millis(millis));
    let render = RenderMock::new().client();
    let render = render.with_options(options(1)).with_options(options(2));
    let text = format!("{render:?}");
    assert!(text.contains("timeout: Some(2ms)"), "{text}");
}
