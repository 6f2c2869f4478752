//! Lookup of the key of a call: the call runs, waits for a run, or is answered from the cache.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    panic::resume_unwind,
    sync::Arc,
};

use bytes::Bytes;
use futures::future::pending;
use tokio::{sync::oneshot, time::Instant};

use super::{
    cache::{CallKey, IdempotencyCache},
    detached_result::DetachedResult,
    detached_run::{DetachedRun, FirstCallerGuard, RunInFlight},
    key_table::{KeyLookup, KeyedCall},
};
use crate::{
    Status,
    server::{
        CallContext, detached_call::DetachedCall, handler_future::StartHandler,
        handler_result::HandlerResult,
    },
    stats::Counters,
};

impl IdempotencyCache {
    /// Serves a call: runs it if it is the first of its key.
    pub(in crate::server) async fn serve(
        self,
        start: Arc<StartHandler>,
        cx: CallContext,
        body: Bytes,
        key: u128,
    ) -> HandlerResult {
        let Some(detached) = cx.take_detached() else {
            return Err(Status::internal(
                "the call with an idempotency key was not prepared",
            ));
        };
        let counters = Arc::clone(&detached.counters);
        let stopping = detached.served.cancel.clone();
        let id = CallKey {
            peer: cx.peer().shared_name(),
            method: cx.shared_method(),
            key,
        };
        let (sender, receiver) = oneshot::channel();
        let call = KeyedCall {
            owner: Arc::clone(&id.peer),
            key: id.clone(),
            body_hash: body_hash(&body),
        };
        let is_gone = oneshot::Sender::is_closed;
        let lookup = self.with(|keys| keys.look_up(self.now(), call, sender, is_gone));
        let first_caller = match lookup {
            KeyLookup::Completed(result) => {
                counters.keys_answered.add_one();
                return result.into_repeat_result();
            }
            KeyLookup::BodyMismatch => return Err(body_mismatch_status(&counters)),
            KeyLookup::Full => return Err(too_many_runs_status(&counters)),
            // It waits without the permits that it came with.
            KeyLookup::Join => {
                counters.keys_joined.add_one();
                drop(detached);
                None
            }
            KeyLookup::Run(number) => Some(self.spawn_run(id, number, start, &cx, body, *detached)),
        };
        let result = receiver.await.unwrap_or(DetachedResult::Cancelled);
        let is_first = first_caller.is_some();
        drop(first_caller);
        match result {
            // As if it had panicked here: the task that serves the call counts the panic.
            DetachedResult::Panicked if is_first => resume_unwind(Box::new("the handler panicked")),
            // The task that serves the call ends it for the same reason, and counts it as
            // cancelled.
            DetachedResult::Cancelled if stopping.is_cancelled() => pending().await,
            result => result.into_repeat_result(),
        }
    }

    /// Runs the first call of a key in a task of its own. The guard is to be kept while the caller
    /// waits.
    fn spawn_run(
        self,
        id: CallKey,
        run_number: u64,
        start: Arc<StartHandler>,
        cx: &CallContext,
        body: Bytes,
        detached: DetachedCall,
    ) -> FirstCallerGuard {
        let in_flight = Arc::<RunInFlight>::default();
        let first_caller = FirstCallerGuard {
            served: Arc::clone(&detached.served),
            account: Arc::clone(&detached.account),
            run: Arc::clone(&in_flight),
        };
        let deadline = Instant::now().checked_add(self.bounds.ttl);
        let run = DetachedRun {
            cache: self,
            id,
            run_number,
            result: DetachedResult::Cancelled,
            in_flight,
        };
        tokio::spawn(run.serve(start, cx.detached_with_deadline(deadline), body, detached));
        first_caller
    }
}

/// Status of a call whose key was used with another body.
fn body_mismatch_status(counters: &Counters) -> Status {
    counters.invalid_requests.add_one();
    let message = "the idempotency key was used before with a different request body";
    // Another server would run what the caller has mistaken for a repeat.
    Status::invalid_request(message)
        .not_processed()
        .do_not_retry()
}

/// Status of a call that would run, while too many run.
fn too_many_runs_status(counters: &Counters) -> Status {
    counters.calls_rejected_overloaded.add_one();
    Status::overloaded("the limit of concurrent calls with idempotency keys is reached")
}

fn body_hash(body: &Bytes) -> u64 {
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    hasher.finish()
}
