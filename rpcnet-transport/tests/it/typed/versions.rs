//! Callers and servers whose types are other versions: what works, and what is rejected before the
//! handler runs.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use futures::stream;
use rpcnet_testing::within;
use rpcnet_transport::{
    Channel, Code, Message, Method, MethodOptions, Processed, Replies, Requests, Router, RpcError,
};

use super::{connected, messages::rows};

/// Methods whose requests are messages of a version, by the four types of calls.
struct Asking<T>(std::marker::PhantomData<T>);

/// Methods whose replies are messages of a version.
struct Answering<T>(std::marker::PhantomData<T>);

impl<T: Message + Send + Sync + Clone> Asking<T> {
    const UNARY: Method<T, u32> = Method::new("ask/unary");
    const SERVER: Method<T, Replies<u32>> = Method::new("ask/server");
    const CLIENT: Method<Requests<T>, u32> = Method::new("ask/client");
    const BOTH: Method<Requests<T>, Replies<u32>> = Method::new("ask/both");

    fn router(runs: &Arc<AtomicUsize>) -> Router {
        let run = || {
            let runs = Arc::clone(runs);
            move || runs.fetch_add(1, SeqCst)
        };
        let (unary, server, client, both) = (run(), run(), run(), run());
        Router::new()
            .method(Self::UNARY, move |_| {
                unary();
                async { 1 }
            })
            .server_streaming_method(Self::SERVER, move |_, _| {
                server();
                async { Ok(Replies::of([1])) }
            })
            .client_streaming_method(Self::CLIENT, move |_, mut requests: Requests<T>| {
                client();
                async move {
                    let first = requests.message().await?;
                    Ok::<_, rpcnet_transport::Status>(u32::from(first.is_some()))
                }
            })
            .streaming_method(Self::BOTH, move |_, mut requests: Requests<T>| {
                both();
                async move {
                    let first = requests.message().await?;
                    Ok(Replies::of([u32::from(first.is_some())]))
                }
            })
    }

    async fn call_all(client: &impl Channel, value: &T) -> Vec<Result<u32, RpcError>> {
        let (none, one) = (MethodOptions::new, || stream::iter([value.clone()]));
        let server = Self::SERVER
            .call_server_streaming(client, value, none())
            .await;
        let both = Self::BOTH.call_streaming(client, one(), none()).await;
        vec![
            Self::UNARY.call(client, value).await,
            first(server).await,
            Self::CLIENT
                .call_client_streaming(client, one(), none())
                .await,
            first(both).await,
        ]
    }
}

impl<T: Message + Send + Sync + Clone> Answering<T> {
    const UNARY: Method<u32, T> = Method::new("answer/unary");
    const SERVER: Method<u32, Replies<T>> = Method::new("answer/server");
    const CLIENT: Method<Requests<u32>, T> = Method::new("answer/client");
    const BOTH: Method<Requests<u32>, Replies<T>> = Method::new("answer/both");

    fn router(runs: &Arc<AtomicUsize>, value: &T) -> Router {
        let run = || {
            let (runs, value) = (Arc::clone(runs), value.clone());
            move || {
                runs.fetch_add(1, SeqCst);
                value.clone()
            }
        };
        let (unary, server, client, both) = (run(), run(), run(), run());
        Router::new()
            .method(Self::UNARY, move |_| std::future::ready(unary()))
            .server_streaming_method(Self::SERVER, move |_, _| {
                std::future::ready(Ok(Replies::of([server()])))
            })
            .client_streaming_method(Self::CLIENT, move |_, _| std::future::ready(client()))
            .streaming_method(Self::BOTH, move |_, _| {
                std::future::ready(Ok(Replies::of([both()])))
            })
    }

    async fn call_all(client: &impl Channel) -> Vec<Result<T, RpcError>> {
        let (none, one) = (MethodOptions::new, || stream::iter([1]));
        let server = Self::SERVER.call_server_streaming(client, &1, none()).await;
        let both = Self::BOTH.call_streaming(client, one(), none()).await;
        vec![
            Self::UNARY.call(client, &1).await,
            first(server).await,
            Self::CLIENT
                .call_client_streaming(client, one(), none())
                .await,
            first(both).await,
        ]
    }
}

async fn first<T: Message>(opened: Result<Replies<T>, RpcError>) -> Result<T, RpcError> {
    let mut replies = opened?;
    Ok(replies.message().await?.expect("a reply"))
}

/// Checks calls of all types, twice each: the second call goes by what the first has found.
fn check<T>(row: &str, outcomes: Vec<Result<T, RpcError>>, runs: &AtomicUsize, works: bool) {
    let succeeded = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    for error in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
        assert!(!works, "{row}: {error}");
        assert_eq!(error.code(), Code::Incompatible, "{row}: {error}");
        assert_eq!(error.processed(), Processed::No, "{row}: {error}");
    }
    assert_eq!(runs.swap(0, SeqCst), succeeded, "{row}: runs");
    assert_eq!(succeeded == outcomes.len(), works, "{row}");
}

/// A caller with one version calls a server with the other, in both roles.
pub(super) async fn check_versions<Caller, Server>(
    row: &str,
    caller: &Caller,
    server: &Server,
    (request_works, reply_works): (bool, bool),
) where
    Caller: Message + Send + Sync + Clone,
    Server: Message + Send + Sync + Clone,
{
    let runs = Arc::<AtomicUsize>::default();
    let router = Asking::<Server>::router(&runs).merge(Answering::router(&runs, server));
    let (_server, client) = connected(router).await;
    for _ in 0..2 {
        let asked = Asking::call_all(&client, caller).await;
        check(&format!("{row}, request"), asked, &runs, request_works);
        let answered = Answering::<Caller>::call_all(&client).await;
        check(&format!("{row}, reply"), answered, &runs, reply_works);
    }
}

#[tokio::test]
async fn compatible_changes_work_for_all_types_of_calls() {
    within(rows::check_compatible_changes()).await;
}

#[tokio::test]
async fn incompatible_changes_are_rejected_before_a_handler_runs() {
    within(rows::check_incompatible_changes()).await;
}
