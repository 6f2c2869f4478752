//! Run of a call with an idempotency key, which goes on when its callers have left.

use std::{panic::AssertUnwindSafe, sync::Arc};

use bytes::Bytes;
use futures::FutureExt;
use parking_lot::Mutex;
use tokio::time::timeout;

use super::{
    cache::{CallKey, IdempotencyCache},
    detached_result::{DetachedResult, mark_unfinished},
};
use crate::{
    accounts::{InFlightGuard, PeerAccount},
    endpoint::ServedCalls,
    server::{
        CallContext,
        detached_call::DetachedCall,
        handler_future::{HandlerFuture, StartHandler},
    },
};

/// Whether a run counts as in flight by itself. While its first caller waits, the call of that
/// caller counts for both.
#[derive(Default)]
pub(super) struct RunInFlight(Mutex<InFlightState>);

#[derive(Default)]
struct InFlightState {
    has_ended: bool,
    guard: Option<InFlightGuard>,
}

/// The caller that started a run. When it leaves before the end, the run counts by itself.
pub(super) struct FirstCallerGuard {
    pub(super) served: Arc<ServedCalls>,
    pub(super) account: Arc<PeerAccount>,
    pub(super) run: Arc<RunInFlight>,
}

impl RunInFlight {
    fn end(&self) {
        let mut run = self.0.lock();
        run.has_ended = true;
        run.guard = None;
    }
}

impl Drop for FirstCallerGuard {
    fn drop(&mut self) {
        let mut run = self.run.0.lock();
        if !run.has_ended {
            run.guard = Some(self.account.begin_call(&self.served.in_flight).0);
        }
    }
}

/// A running call. However it ends, its waiters are told.
pub(super) struct DetachedRun {
    pub(super) cache: IdempotencyCache,
    pub(super) id: CallKey,
    pub(super) run_number: u64,
    pub(super) result: DetachedResult,
    pub(super) in_flight: Arc<RunInFlight>,
}

impl DetachedRun {
    pub(super) async fn serve(
        mut self,
        start: Arc<StartHandler>,
        cx: CallContext,
        body: Bytes,
        detached: DetachedCall,
    ) {
        let DetachedCall {
            mut permits,
            served,
            request_buffer: _reserved,
            ..
        } = detached;
        // A shutdown waits for the run, whether its caller is there or not.
        let _unacknowledged = served.unacknowledged.enter().0;
        let handled = cx.scope({
            let cx = cx.clone();
            async move {
                let mut started = HandlerFuture::default();
                start(cx, body, &mut started);
                started.finish().await
            }
        });
        let handled = AssertUnwindSafe(handled).catch_unwind();
        let ended = tokio::select! {
            biased;
            ended = timeout(self.cache.bounds.ttl, handled) => ended.ok(),
            () = served.cancel.cancelled() => None,
        };
        cx.end();
        self.result = match ended {
            Some(Ok(outcome)) => {
                permits.record(&outcome);
                DetachedResult::Returned(outcome.map_err(mark_unfinished))
            }
            Some(Err(_)) => DetachedResult::Panicked,
            None => DetachedResult::Cancelled,
        };
        drop(permits);
    }
}

impl Drop for DetachedRun {
    fn drop(&mut self) {
        self.in_flight.end();
        let result = std::mem::replace(&mut self.result, DetachedResult::Cancelled);
        let cacheable = result.cacheable();
        let now = self.cache.now();
        let waiters = self
            .cache
            .with(|keys| keys.complete(now, &self.id, self.run_number, cacheable));
        for waiter in waiters {
            let _ = waiter.send(result.clone());
        }
    }
}
