//! Attacker that holds the slots of handlers: calls with idempotency keys, more than there are
//! slots, which it cancels; each handler runs on without it.
//!
//! It is a node of its own, since a peer that leaves its replies unread is not served further
//! calls. It begins when the director calls, as in a cluster in use: a caller that is alone may
//! have every slot, and a second one then waits for the first handler that ends (see
//! `rpcnet_transport::Admission`).

use std::time::Duration;

use quinn::VarInt;
use rpcnet_transport::wire::RequestFlags;
use tokio::time::sleep;

use super::{AttackedWorker, raw_quic::request};
use crate::chaos::node::LONG_CALL;

/// Holds the slots of a worker's handlers.
pub(super) async fn hold_slots(mut worker: AttackedWorker) {
    let mut place = None;
    let mut keys = 1..;
    loop {
        if let Some(connection) = worker.connected(&mut place).await {
            let mut calls = Vec::new();
            while calls.len() < CALLS_MAX {
                let bytes = request(LONG_CALL, RequestFlags::default(), keys.next(), 0);
                let Some((mut send, recv)) = worker.open_stream(&connection, &bytes).await else {
                    break;
                };
                let _ = send.finish();
                calls.push(recv);
            }
            sleep(BEGUN_AFTER).await;
            for mut call in calls {
                let _ = call.stop(VarInt::from_u32(0));
            }
        }
        worker.end_round(ROUND_INTERVAL).await;
    }
}

const CALLS_MAX: usize = 64;
/// Time after which a call has begun.
const BEGUN_AFTER: Duration = Duration::from_millis(20);
const ROUND_INTERVAL: Duration = Duration::from_secs(1);
