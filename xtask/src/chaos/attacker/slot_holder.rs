//! Attacker that holds the slots of handlers: calls with idempotency keys, more than there are
//! slots, which it cancels; each handler runs on without it.
//!
//! It is a node of its own, since a peer that leaves its replies unread is not served further
//! calls. It begins when the director calls, as in a cluster in use: a caller that is alone may
//! have every slot, and a second one then waits for the first handler that ends (see
//! `rpcnet_transport::Admission`).

use std::time::Duration;

use quinn::{Connection, VarInt};
use rpcnet_transport::wire::RequestFlags;
use tokio::time::sleep;

use super::{Attack, AttackedWorker, raw_quic::request};
use crate::chaos::node::LONG_CALL;

/// The calls at one worker.
#[derive(Debug)]
pub(super) struct SlotHolder {
    peer: AttackedWorker,
    connection: Option<Connection>,
    /// Key of the last call.
    key: u128,
}

impl SlotHolder {
    pub(super) fn new(peer: AttackedWorker) -> Self {
        Self {
            peer,
            connection: None,
            key: 0,
        }
    }
}

impl Attack for SlotHolder {
    async fn round(&mut self) {
        let Some(connection) = self.peer.connected(&mut self.connection).await else {
            return;
        };
        let mut calls = Vec::new();
        while calls.len() < CALLS_MAX {
            self.key += 1;
            let bytes = request(LONG_CALL, RequestFlags::default(), Some(self.key), 0);
            match self.peer.open_stream(&connection, &bytes).await {
                Some((mut send, recv)) => {
                    let _ = send.finish();
                    calls.push(recv);
                }
                None => break,
            }
        }
        sleep(BEGUN_AFTER).await;
        for mut call in calls {
            let _ = call.stop(VarInt::from_u32(0));
        }
    }
}

const CALLS_MAX: usize = 64;
/// Time after which a call has begun.
const BEGUN_AFTER: Duration = Duration::from_millis(20);
