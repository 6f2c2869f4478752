//! The four kinds of calls, when all goes well.

use bytes::Bytes;
use futures::TryStreamExt;
use rpcnet_transport::Raw;
use serde::{Deserialize, Serialize};

use super::*;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Job {
    name: String,
    sizes: Vec<u64>,
}

fn job() -> Job {
    Job {
        name: "sum".to_owned(),
        sizes: vec![1, 2, 3],
    }
}

fn router() -> Router {
    Router::new()
        .raw("echo", |_cx: CallContext, body| async move { Ok(body) })
        .typed(
            "sum",
            |job: Job| async move { job.sizes.iter().sum::<u64>() },
        )
        .typed("divide", |(a, b): (u32, u32)| async move {
            a.checked_div(b)
                .ok_or_else(|| Status::invalid_request("division by zero"))
        })
        .server_streaming("count", |_cx, upto: u32, mut out: Sender<u32>| async move {
            for n in 0..upto {
                out.send(n).await?;
            }
            Ok(())
        })
        .client_streaming("total", |_cx, numbers: Receiver<u64>| async move {
            numbers
                .try_fold(0, |sum, n| async move { Ok(sum + n) })
                .await
        })
        .streaming(
            "upper",
            |_cx, mut texts: Receiver<String>, mut out: Sender<String>| async move {
                while let Some(text) = texts.message().await? {
                    out.send(text.to_uppercase()).await?;
                }
                Ok(())
            },
        )
        .streaming(
            "reflect",
            |_cx, mut bytes: Receiver<Raw>, mut out: Sender<Raw>| async move {
                while let Some(item) = bytes.message().await? {
                    out.send(item).await?;
                }
                Ok(())
            },
        )
}

#[tokio::test]
async fn unary_calls_carry_bytes_of_any_size() {
    let (_server, client) = pair(router()).await;
    for size in [0, 1, 1_000, 100_000, 3_000_000] {
        let body: Bytes = (0..size)
            .map(|i| (i % 251) as u8)
            .collect::<Vec<_>>()
            .into();
        let reply = within(client.call("echo", body.clone())).await.unwrap();
        assert_eq!(reply, body, "{size} bytes");
    }
}

#[tokio::test]
async fn unary_calls_carry_values() {
    let (server, client) = pair(router()).await;
    let sum: u64 = within(client.call_typed("sum", &job())).await.unwrap();
    assert_eq!(sum, 6);
    assert_eq!(client.peer().name(), SERVER);
    counts(&server, "completed calls", 1, |s| s.calls_completed).await;
}
