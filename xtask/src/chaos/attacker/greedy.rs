//! Attacker that exhausts resources: slow request bodies, replies and streams that it does not
//! read, idle connections.

use std::time::Duration;

use quinn::{Connection, RecvStream, SendStream};
use rpcnet_transport::wire::RequestFlags;
use tokio::time::timeout;

use super::{AttackedWorker, STEP_TIMEOUT, raw_quic::request};
use crate::chaos::node::{ENDLESS_STREAM, LARGE_REPLY};

/// Holds as much of a worker as it lets.
pub(super) async fn hold_resources(mut worker: AttackedWorker) {
    let plain = RequestFlags::default();
    let streams = RequestFlags {
        streams_replies: true,
        ..plain
    };
    let body = request(LARGE_REPLY, plain, None, BODY_BYTES);
    let large = request(LARGE_REPLY, plain, None, 0);
    let endless = request(ENDLESS_STREAM, streams, None, 0);
    let mut idle = Vec::<Connection>::new();
    let [mut bodies, mut replies, mut items] = [(); 3].map(|()| Streams::default());
    loop {
        bodies.send_a_little().await;
        bodies.fill(&worker, &body, false).await;
        replies.fill(&worker, &large, true).await;
        items.fill(&worker, &endless, true).await;
        idle.retain(|it| it.close_reason().is_none());
        while idle.len() < CONNECTIONS_MAX
            && let Some(connection) = worker.connect().await
        {
            idle.push(connection);
        }
        worker.end_round(ROUND_INTERVAL).await;
    }
}

/// A connection and streams on it that are kept open.
#[derive(Default)]
struct Streams {
    connection: Option<Connection>,
    open: Vec<(SendStream, RecvStream)>,
}

impl Streams {
    /// Opens as many as the worker lets.
    async fn fill(&mut self, worker: &AttackedWorker, bytes: &[u8], is_whole: bool) {
        let Some(connection) = worker.connected(&mut self.connection).await else {
            self.open.clear();
            return;
        };
        while self.open.len() < STREAMS_MAX {
            let Some((mut send, recv)) = worker.open_stream(&connection, bytes).await else {
                return;
            };
            if is_whole {
                let _ = send.finish();
            }
            self.open.push((send, recv));
        }
    }

    /// Sends a few bytes more on each, and lets go of those that the worker has cut.
    async fn send_a_little(&mut self) {
        for (mut send, recv) in std::mem::take(&mut self.open) {
            let written = timeout(STEP_TIMEOUT, send.write_all(&DRIP)).await;
            if !matches!(written, Ok(Err(_))) {
                self.open.push((send, recv));
            }
        }
    }
}

/// Announced size of a body, of which a few bytes are sent in each round.
const BODY_BYTES: usize = 1 << 20;
const DRIP: [u8; 8] = [0; 8];
/// Most streams of each kind at each worker.
const STREAMS_MAX: usize = 64;
const CONNECTIONS_MAX: usize = 96;
const ROUND_INTERVAL: Duration = Duration::from_secs(1);
