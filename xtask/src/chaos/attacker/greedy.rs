//! Attacker that exhausts resources: slow request bodies, replies and streams that it does not
//! read, idle connections.

use quinn::{Connection, RecvStream, SendStream};
use rpcnet_transport::wire::RequestFlags;
use tokio::time::timeout;

use super::{Attack, AttackedWorker, STEP_TIMEOUT, raw_quic::request};
use crate::chaos::node::{ENDLESS_STREAM, LARGE_REPLY};

/// Resources of one worker that the attacker holds.
#[derive(Debug)]
pub(super) struct Greedy {
    peer: AttackedWorker,
    idle: Vec<Connection>,
    bodies: Streams,
    replies: Streams,
    endless: Streams,
}

/// A connection and streams on it that are kept open.
#[derive(Debug, Default)]
struct Streams {
    connection: Option<Connection>,
    open: Vec<(SendStream, RecvStream)>,
}

impl Greedy {
    pub(super) fn new(peer: AttackedWorker) -> Self {
        Self {
            peer,
            idle: Vec::new(),
            bodies: Streams::default(),
            replies: Streams::default(),
            endless: Streams::default(),
        }
    }

    async fn hold_connections(&mut self) {
        self.idle.retain(|it| it.close_reason().is_none());
        while self.idle.len() < CONNECTIONS_MAX {
            match self.peer.connect().await {
                Some(connection) => self.idle.push(connection),
                None => break,
            }
        }
    }
}

impl Attack for Greedy {
    async fn round(&mut self) {
        let peer = &self.peer;
        let body = request(LARGE_REPLY, RequestFlags::default(), None, BODY_BYTES);
        self.bodies.send_a_little().await;
        self.bodies.fill(peer, &body, false).await;
        let large = request(LARGE_REPLY, RequestFlags::default(), None, 0);
        self.replies.fill(peer, &large, true).await;
        let streams = RequestFlags {
            streams_replies: true,
            ..RequestFlags::default()
        };
        let endless = request(ENDLESS_STREAM, streams, None, 0);
        self.endless.fill(peer, &endless, true).await;
        self.hold_connections().await;
    }
}

impl Streams {
    /// Opens as many as the worker lets.
    async fn fill(&mut self, peer: &AttackedWorker, bytes: &[u8], is_whole: bool) {
        let Some(connection) = peer.connected(&mut self.connection).await else {
            self.open.clear();
            return;
        };
        while self.open.len() < STREAMS_MAX {
            let Some((mut send, recv)) = peer.open_stream(&connection, bytes).await else {
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
        let mut open = Vec::new();
        for (mut send, recv) in self.open.drain(..) {
            let written = timeout(STEP_TIMEOUT, send.write_all(&DRIP)).await;
            if !matches!(written, Ok(Err(_))) {
                open.push((send, recv));
            }
        }
        self.open = open;
    }
}

/// Announced size of a body, of which a few bytes are sent in each round.
const BODY_BYTES: usize = 1 << 20;
const DRIP: [u8; 8] = [0; 8];
/// Most streams of each kind at each worker.
const STREAMS_MAX: usize = 64;
const CONNECTIONS_MAX: usize = 96;
