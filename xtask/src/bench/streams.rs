//! Streams of rpcnet for `bench rpc --streaming` and the floods.

use std::time::{Duration, Instant};

use rpcnet_transport::{
    CallContext, CallOptions, Raw, Receiver, Router, RpcClient, Sender, Status,
};
use xtask_load::{Body, Direction, Failure, Load, Report};

/// The methods: `send_items` sends items of so many bytes until its caller goes; `check_items`
/// takes such items, checks that they are the right ones, and returns their number;
/// `discard_items` takes anything.
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
    let options = CallOptions::new().without_deadline();
    let mut items = Body::new(0, load.body_bytes);
    let mut window = StreamWindow::new(load);
    match direction {
        Direction::Down => {
            let bytes = u32::try_from(load.body_bytes)?;
            let mut stream = client
                .call_server_streaming_with::<_, Raw>("send_items", &bytes, options)
                .await?;
            while !window.is_over() {
                let item = stream.message().await?.ok_or("the stream has ended")?;
                items.advance();
                items.check(&item.0)?;
                window.total += 1;
            }
        }
        Direction::Up => {
            let mut stream = client
                .call_client_streaming_with::<Raw, u64>("check_items", options)
                .await?;
            while !window.is_over() {
                stream.send(Raw(items.advance())).await?;
                window.total += 1;
            }
            // Windows bound how far the sending was ahead of it.
            let arrived = stream.finish().await?;
            if arrived != window.total {
                return Err(format!("{arrived} items arrived of {}", window.total).into());
            }
        }
    }
    let items = window.total - window.begun.map_or(0, |(total, _)| total);
    Ok(Report {
        count: items,
        seconds: window.took.as_secs_f64(),
        bulk_bytes: items * load.body_bytes as u64,
        ..Report::default()
    })
}

/// Counts items, and those within the time that is measured.
struct StreamWindow {
    total: u64,
    /// Total and time when it began.
    begun: Option<(u64, Instant)>,
    begins: Instant,
    length: Duration,
    took: Duration,
}

impl StreamWindow {
    fn new(load: Load) -> Self {
        Self {
            total: 0,
            begun: None,
            begins: Instant::now() + load.warm_up,
            length: load.window,
            took: Duration::ZERO,
        }
    }

    fn is_over(&mut self) -> bool {
        // Not for each item: a look at the clock costs as much as a small one.
        if !self.total.is_multiple_of(16) {
            return false;
        }
        let now = Instant::now();
        match self.begun {
            None if now >= self.begins => self.begun = Some((self.total, now)),
            None => {}
            Some((_, begun)) => self.took = now - begun,
        }
        self.took >= self.length
    }
}
