//! Inheritance: deadline and priority of the calls that a handler makes.

use rpcnet_transport::{CallOptions, Code, Priority, Processed, RpcError, inherited};
use tokio::sync::OnceCell;

use super::*;

/// Priority and remaining time of the call being served, as its context reports them.
fn report(cx: &CallContext) -> (u8, bool) {
    let priority = Priority::ALL.iter().position(|p| *p == cx.priority());
    let is_short = cx.remaining().is_some_and(|left| left < TEST_TIMEOUT);
    (priority.unwrap() as u8, is_short)
}

/// Methods that report the call that arrives, directly or on a stream.
fn reporting() -> Router {
    Router::new()
        .typed_with(
            "report",
            |cx: CallContext, (): ()| async move { report(&cx) },
        )
        .server_streaming(
            "report stream",
            |cx: CallContext, (): (), mut out: Sender<(u8, bool)>| async move {
                out.send(report(&cx)).await?;
                Ok(())
            },
        )
}

/// Client of the `reporting` server, for the handlers of another one.
static REPORTING: OnceCell<RpcClient> = OnceCell::const_new();

async fn ask(options: CallOptions) -> Result<(u8, bool), RpcError> {
    let client = REPORTING.get().expect("it is set");
    client.call_typed_with("report", &(), options).await
}

async fn ask_stream(options: CallOptions) -> Result<(u8, bool), RpcError> {
    let client = REPORTING.get().expect("it is set");
    let mut stream = client
        .call_server_streaming_with::<_, (u8, bool)>("report stream", &(), options)
        .await?;
    let first = stream.message().await?;
    first.ok_or_else(|| RpcError::new(Code::Internal, Processed::Yes, "no message"))
}

/// Options of nested calls, with a later deadline than that of the call being served.
fn far() -> CallOptions {
    CallOptions::new().with_timeout(10 * TEST_TIMEOUT)
}

/// Methods whose nested calls inherit from the call being served.
fn inheriting() -> Router {
    Router::new()
        .typed("inline", |(): ()| ask(far()))
        .typed("later", |(): ()| async move {
            tokio::task::yield_now().await;
            ask(far()).await
        })
        .typed("joined", |(): ()| async move {
            let (both, _) = tokio::join!(ask(far()), ask(far()));
            both
        })
        .typed("forever", |(): ()| {
            ask(CallOptions::new().without_deadline())
        })
        .typed_with("carried", |cx: CallContext, (): ()| async move {
            tokio::spawn(cx.scope(ask(far()))).await.expect("no panic")
        })
        .typed("stream", |(): ()| ask_stream(far()))
        .server_streaming(
            "from a stream",
            |_cx, (): (), mut out: Sender<(u8, bool)>| async move {
                out.send(ask(far()).await?).await?;
                Ok(())
            },
        )
}

/// Methods whose nested calls do not inherit everything.
fn not_inheriting() -> Router {
    Router::new()
        .typed("opted out", |(): ()| ask(far().without_inheritance()))
        .typed("own", |(): ()| {
            ask(far().with_priority(Priority::CriticalPlus))
        })
        .typed("spawned", |(): ()| async move {
            assert!(inherited().deadline().is_some());
            tokio::spawn(ask(far())).await.expect("no panic")
        })
}

#[tokio::test]
async fn nested_calls_inherit_deadline_and_priority() {
    let (_reporting, client) = pair(reporting()).await;
    assert!(REPORTING.set(client).is_ok());
    let (_server, client) = pair(inheriting().merge(not_inheriting())).await;
    let near = CallOptions::new()
        .with_timeout(TEST_TIMEOUT / 2)
        .with_priority(Priority::Sheddable);
    let table = [
        ("inline", (3, true)),
        ("later", (3, true)),
        ("joined", (3, true)),
        ("forever", (3, true)),
        ("opted out", (1, false)),
        ("own", (0, true)),
        ("spawned", (1, false)),
        ("carried", (3, true)),
        ("stream", (3, true)),
    ];
    for isolated in [false, true] {
        for (method, expected) in table {
            let options = near.with_isolated(isolated);
            let told: (u8, bool) = within(client.call_typed_with(method, &(), options))
                .await
                .expect("a reply");
            assert_eq!(told, expected, "{method}");
        }
        // Outside of handlers nothing is inherited.
        assert_eq!(inherited(), rpcnet_transport::Inherited::default());
    }
    let mut stream = client
        .call_server_streaming_with::<_, (u8, bool)>("from a stream", &(), near)
        .await
        .expect("a stream");
    assert_eq!(within(stream.message()).await.unwrap(), Some((3, true)));
}
