//! End of a lane: at once, or after its calls in a shutdown.

use std::{
    future::poll_fn,
    task::{Context, Poll},
};

use tokio::time::timeout;

use super::{LaneServer, RepliesNotRead};
use crate::{server::call_status, stream::ResetCode};

impl LaneServer {
    /// Ends the lane at once, without answers to its calls.
    pub(super) fn abort(&mut self, why: ResetCode) {
        self.replies.reset(why);
        self.requests.stop(why);
        let is_stopping = self.shared.served.cancel.is_cancelled();
        for call in self.pending.drain() {
            if !call.is_delivered() {
                self.shared.counters.calls_cancelled.add_one();
                if is_stopping {
                    call.count_cancelled_by_shutdown(&self.shared);
                }
            }
            call.end();
        }
    }

    /// Ends the lane in a shutdown: answers the calls in progress, rejects further ones, and
    /// finishes the stream.
    pub(super) async fn shut_down(mut self) {
        let cancel = self.shared.served.cancel.clone();
        let drained = tokio::select! {
            biased;
            drained = poll_fn(|cx| self.poll_drain(cx)) => drained,
            () = cancel.cancelled() => {
                self.cancel_all();
                let stall = self.shared.config.limits.stall_timeout;
                let flushed = timeout(stall, poll_fn(|cx| self.replies.poll_send(cx))).await;
                if matches!(flushed, Ok(Ok(()))) { Ok(()) } else { Err(RepliesNotRead) }
            }
        };
        if drained.is_err() {
            return self.abort(ResetCode::Stalled);
        }
        // Further requests are not read, and the end of the replies says so.
        self.requests.stop(ResetCode::Cancelled);
        self.replies.finish();
        // Older replies were acknowledged, or the connection is as good as lost.
        if self.last_active.elapsed() < self.shared.config.quic.idle_timeout {
            let _ = timeout(
                self.shared.config.limits.stall_timeout,
                self.replies.acknowledged(),
            )
            .await;
        }
    }

    /// Serves until all calls in progress are answered. New calls are rejected, since the server
    /// drains.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), RepliesNotRead>> {
        match self.poll_serve(cx) {
            Poll::Ready(_) => Poll::Ready(Err(RepliesNotRead)),
            Poll::Pending if self.pending.is_empty() && self.replies.is_empty() => {
                Poll::Ready(Ok(()))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// Cancels all calls, because the deadline of a shutdown has passed.
    fn cancel_all(&mut self) {
        let calls: Vec<_> = self.pending.drain().collect();
        for call in calls {
            if !call.is_delivered() {
                self.shared.counters.calls_cancelled.add_one();
                call.count_cancelled_by_shutdown(&self.shared);
            }
            let status = if call.cancel_before_start() {
                call_status::not_started_in_shutdown()
            } else {
                call_status::cancelled_in_shutdown()
            };
            self.write_failure(call.id, status);
            call.end();
        }
    }
}
