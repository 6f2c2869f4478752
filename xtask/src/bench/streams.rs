//! Streams of rpcnet for `bench rpc --streaming` and the floods.

use rpcnet_transport::{
    CallContext, CallOptions, Raw, Receiver, Router, RpcClient, Sender, Status,
};
use xtask_load::{Body, Direction, Failure, Load, Report, StreamWindow};

/// The methods: `send_items` sends items of so many bytes until its caller goes; `check_items`
/// takes such items, checks that they are the right ones, and returns their number; `echo_items`
/// sends each item back; `discard_items` takes anything.
pub(crate) fn router() -> Router {
    Router::new()
        .server_streaming(
            "send_items",
            |_cx: CallContext, bytes: u32, mut out: Sender<Raw>| async move {
                let mut items = Body::new(0, bytes as usize);
                loop {
                    out.send(Raw(items.advance())).await?;
                }
            },
        )
        .client_streaming(
            "check_items",
            |_cx: CallContext, mut items: Receiver<Raw>| async move {
                let mut expected: Option<Body> = None;
                let mut count = 0u64;
                while let Some(Raw(item)) = items.message().await? {
                    let expected = expected.get_or_insert_with(|| Body::new(0, item.len()));
                    expected.advance();
                    expected.check(&item).map_err(Status::invalid_request)?;
                    count += 1;
                }
                Ok::<_, Status>(count)
            },
        )
        .streaming(
            "echo_items",
            |_cx: CallContext, mut items: Receiver<Raw>, mut out: Sender<Raw>| async move {
                while let Some(item) = items.message().await? {
                    out.send(item).await?;
                }
                Ok(())
            },
        )
        .client_streaming(
            "discard_items",
            |_cx: CallContext, mut items: Receiver<Raw>| async move {
                let mut count = 0u64;
                while items.message().await?.is_some() {
                    count += 1;
                }
                Ok::<_, Status>(count)
            },
        )
}

/// Items through one stream, for as long as the load says.
pub(crate) async fn run(
    client: &RpcClient,
    load: Load,
    direction: Direction,
) -> Result<Report, Failure> {
    match direction {
        Direction::Down => receive_items(client, load).await,
        Direction::Up => send_items(client, load).await,
        Direction::Both => echo_items(client, load).await,
    }
}

async fn receive_items(client: &RpcClient, load: Load) -> Result<Report, Failure> {
    let bytes = u32::try_from(load.body_bytes)?;
    let mut stream = client
        .call_server_streaming_with::<_, Raw>("send_items", &bytes, options())
        .await?;
    let mut items = Body::new(0, load.body_bytes);
    let mut window = StreamWindow::new(load);
    while !window.is_over() {
        let item = stream.message().await?.ok_or(ENDED)?;
        items.advance();
        items.check(&item.0)?;
        window.count();
    }
    Ok(window.report(1))
}

async fn send_items(client: &RpcClient, load: Load) -> Result<Report, Failure> {
    let mut stream = client
        .call_client_streaming_with::<Raw, u64>("check_items", options())
        .await?;
    let mut items = Body::new(0, load.body_bytes);
    let mut window = StreamWindow::new(load);
    while !window.is_over() {
        stream.send(Raw(items.advance())).await?;
        window.count();
    }
    // Windows bound how far the sending was ahead of it.
    let arrived = stream.finish().await?;
    if arrived != window.total() {
        return Err(format!("{arrived} items arrived of {}", window.total()).into());
    }
    Ok(window.report(1))
}

async fn echo_items(client: &RpcClient, load: Load) -> Result<Report, Failure> {
    let (mut send, mut receive) = client
        .call_streaming_with::<Raw, Raw>("echo_items", options())
        .await?;
    let mut sent = Body::new(0, load.body_bytes);
    let sender = tokio::spawn(async move { while send.send(Raw(sent.advance())).await.is_ok() {} });
    let mut items = Body::new(0, load.body_bytes);
    let mut window = StreamWindow::new(load);
    while !window.is_over() {
        let item = receive.message().await?.ok_or(ENDED)?;
        items.advance();
        items.check(&item.0)?;
        window.count();
    }
    sender.abort();
    Ok(window.report(2))
}

fn options() -> CallOptions {
    CallOptions::new().without_deadline()
}

const ENDED: &str = "the stream has ended";
