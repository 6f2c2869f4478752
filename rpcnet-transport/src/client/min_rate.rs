//! Minimum rate of replies: bounds how long a server may take to send a reply that it has begun.

use std::{
    future::poll_fn,
    num::NonZeroU32,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep};

use crate::{
    TransportConfig,
    runtime::EndpointRuntime,
    stream::{MinRateTracker, ReadFailure, RecvHalf, time_at_rate},
    wire::Frame,
};

/// Minimum rate of replies, the counterpart of the server's rule for requests: see
/// [`TransportConfig::with_transfer_rate_min`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct MinReplyRate {
    stall_timeout: Duration,
    bytes_per_second_min: NonZeroU32,
}

/// Reader of the frames of one stream. A frame that has begun has to arrive at the minimum rate.
pub(crate) struct MinRateReader<'a> {
    rate: MinReplyRate,
    runtime: &'a EndpointRuntime,
    /// Set while a frame that has begun is waited for.
    watch: Option<RateWatch>,
}

struct RateWatch {
    since: Instant,
    /// Time limit of the frame: the longest time that all frames of the connection in progress
    /// needed.
    limit: Duration,
    /// Bytes that the streams of the connection have delivered.
    seen: u64,
    rate: MinRateTracker,
    timer: Pin<Box<Sleep>>,
}

impl MinReplyRate {
    pub(crate) fn of(config: &TransportConfig) -> Self {
        Self {
            stall_timeout: config.limits.stall_timeout,
            bytes_per_second_min: config.limits.transfer_rate_min,
        }
    }
}

impl<'a> MinRateReader<'a> {
    pub(crate) fn new(rate: MinReplyRate, runtime: &'a EndpointRuntime) -> Self {
        Self {
            rate,
            runtime,
            watch: None,
        }
    }

    /// See [`RecvHalf::poll_frame`].
    pub(crate) async fn frame(
        &mut self,
        recv: &mut RecvHalf,
    ) -> Result<Option<Frame>, ReadFailure> {
        poll_fn(|cx| self.poll_frame(recv, cx)).await
    }

    pub(crate) fn poll_frame(
        &mut self,
        recv: &mut RecvHalf,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Frame>, ReadFailure>> {
        if let Poll::Ready(frame) = recv.poll_frame(cx) {
            self.watch = None;
            return Poll::Ready(frame);
        }
        self.poll_below_rate(recv, cx).map(Err)
    }

    fn poll_below_rate(&mut self, recv: &mut RecvHalf, cx: &mut Context<'_>) -> Poll<ReadFailure> {
        // A server may take its time to start a reply, and is not to blame while this side has no
        // room for it.
        if !recv.is_inside_frame() || recv.budget().is_waiting() {
            self.watch = None;
            return Poll::Pending;
        }
        // Of large replies side by side some wait until the server has sent others, so progress is
        // measured over the connection.
        let (rate, bytes) = (self.rate, recv.budget().bytes_read_of_connection());
        let now = Instant::now();
        let watch = self.watch.get_or_insert_with(|| RateWatch {
            since: now,
            limit: rate.stall_timeout,
            seen: bytes,
            rate: MinRateTracker::new(rate.bytes_per_second_min, now),
            timer: Box::pin(self.runtime.sleep_until(now + rate.stall_timeout)),
        });
        let before = std::mem::replace(&mut watch.seen, bytes);
        watch.rate.record(bytes.saturating_sub(before), now);
        let body_bytes = recv.decoder().awaited_body_bytes().unwrap_or(0);
        let at_once = body_bytes.max(recv.budget().awaited_bytes_of_connection());
        let limit = rate.stall_timeout + time_at_rate(at_once as u64, rate.bytes_per_second_min);
        watch.limit = watch.limit.max(limit);
        let due = (watch.since + watch.limit).min(watch.rate.met_until() + rate.stall_timeout);
        if due <= now {
            let took = now - watch.since;
            return Poll::Ready(ReadFailure::TooSlow { body_bytes, took });
        }
        let timer = &mut watch.timer;
        // It may fire early, and is set again then: not with each packet.
        if timer.is_elapsed() || timer.deadline() > due {
            timer.as_mut().reset(due);
        }
        let fired = self.runtime.poll_in_runtime(|| timer.as_mut().poll(cx));
        if matches!(fired, Poll::Ready(Ok(()))) {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}
