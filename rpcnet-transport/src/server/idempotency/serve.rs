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
    server::{CallContext, handler::StartHandler, handler_result::HandlerResult},
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
        let lookup = self.with(|keys| keys.begin(self.now(), call, sender, is_gone));
        let mut waits = None;
        let is_first = match lookup {
            KeyLookup::Completed(result) => {
                counters.keys_answered.add_one();
                return result.into_repeat_result();
            }
            KeyLookup::BodyMismatch => {
                counters.invalid_requests.add_one();
                let message = "the idempotency key was used before with a different request body";
                // Another server would run what the caller has mistaken for a repeat.
                return Err(Status::invalid_request(message)
                    .not_processed()
                    .do_not_retry());
            }
            KeyLookup::Full => {
                counters.calls_refused_overloaded.add_one();
                return Err(Status::overloaded(
                    "the limit of concurrent calls with idempotency keys is reached",
                ));
            }
            // It waits without the permits that it came with.
            KeyLookup::Join => {
                counters.keys_joined.add_one();
                drop(detached);
                false
            }
            KeyLookup::Run(number) => {
                let count = Arc::<RunInFlight>::default();
                waits = Some(FirstCallerGuard {
                    served: Arc::clone(&detached.served),
                    account: Arc::clone(&detached.account),
                    run: Arc::clone(&count),
                });
                let end = Instant::now().checked_add(self.bounds.ttl);
                let run = DetachedRun {
                    cache: self,
                    id,
                    run_number: number,
                    result: DetachedResult::Cancelled,
                    in_flight: count,
                };
                tokio::spawn(run.serve(start, cx.detached_with_deadline(end), body, *detached));
                true
            }
        };
        let result = receiver.await.unwrap_or(DetachedResult::Cancelled);
        drop(waits);
        match result {
            // As if it had panicked here: the task that serves the call counts the panic.
            DetachedResult::Panicked if is_first => resume_unwind(Box::new("the handler panicked")),
            // The task that serves the call ends it for the same reason, and counts it as
            // cancelled.
            DetachedResult::Cancelled if stopping.is_cancelled() => pending().await,
            result => result.into_repeat_result(),
        }
    }
}

fn body_hash(body: &Bytes) -> u64 {
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    hasher.finish()
}
