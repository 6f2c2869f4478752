//! The first bytes of a stream, which say what it carries.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering::Relaxed},
};

use bytes::{Bytes, BytesMut};
use quinn::VarInt;
use tokio::time::{Instant, timeout_at};

use super::{call, early::Handshake, lane};
use crate::{
    Peer,
    accounts::{Accounts, ConnectionAccount, ConnectionGuard, Room},
    endpoint::Shared,
    outbox::Outbox,
    stream::{Cut, RecvHalf, SendHalf},
    wire::{Decoder, PREFACE_BYTES, Preface, StreamKind},
};

/// Who makes the calls of a connection.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) connection: quinn::Connection,
    pub(super) peer: Peer,
    /// What is held of what the connection sends.
    pub(super) account: Arc<ConnectionAccount>,
    /// Counts the connection for its peer.
    _counted: ConnectionGuard,
    lanes: AtomicU8,
}

/// Why a stream carries nothing.
enum Useless {
    Preface,
    /// It ended, or its connection did.
    Ended,
    Late,
}

impl Caller {
    /// `None` if the peer has as many connections as it may.
    pub(super) fn new(
        accounts: &Accounts,
        connection: quinn::Connection,
        peer: Peer,
    ) -> Option<Self> {
        let account = accounts.of(peer.shared_name());
        let counted = account.connect()?;
        Some(Self {
            connection,
            peer,
            account: ConnectionAccount::new(account),
            _counted: counted,
            lanes: AtomicU8::new(0),
        })
    }

    /// Counts one more lane for as long as the guard lives, unless there are as many as were announced.
    fn take_lane(self: &Arc<Self>, lanes_max: u8) -> Option<LaneGuard> {
        let more = |lanes| (lanes < lanes_max).then(|| lanes + 1);
        let taken = self.lanes.fetch_update(Relaxed, Relaxed, more);
        taken.is_ok().then(|| LaneGuard(Arc::clone(self)))
    }
}

/// One of the lanes of a caller.
struct LaneGuard(Arc<Caller>);

impl Drop for LaneGuard {
    fn drop(&mut self) {
        self.0.lanes.fetch_sub(1, Relaxed);
    }
}

/// Serves a stream that somebody opened.
pub(super) async fn serve_stream(
    shared: Arc<Shared>,
    caller: Arc<Caller>,
    send: quinn::SendStream,
    mut recv: quinn::RecvStream,
    early: Option<Handshake>,
) {
    let arrived = Instant::now();
    let patience = arrived + shared.config.header_timeout;
    let first = timeout_at(patience, read_preface(&mut recv)).await;
    let counters = &shared.counters;
    let why = match first.unwrap_or(Err(Useless::Late)) {
        Ok((StreamKind::Call, rest)) => {
            let mut decoder = Decoder::answers(shared.config.message_bytes_max);
            decoder.push(rest);
            let room = Room::of(Arc::clone(&caller.account));
            let (send, recv) = (SendHalf::new(send), RecvHalf::new(recv, decoder, room));
            return call::serve(shared, caller, send, recv, arrived, early).await;
        }
        // Whether a method is replay-safe is asked for each call, which lanes do not.
        Ok((StreamKind::Lane, _)) if early.is_some() => {
            counters.malformed_frames.add_one();
            Cut::Malformed
        }
        Ok((StreamKind::Lane, rest)) => {
            if let Some(_taken) = caller.take_lane(shared.config.lanes.get()) {
                let outbox = Outbox::new(send, caller.connection.clone());
                return lane::serve(shared, caller, outbox, recv, rest).await;
            }
            counters.malformed_frames.add_one();
            Cut::Malformed
        }
        Ok(_) | Err(Useless::Preface) => {
            counters.bad_prefaces.add_one();
            Cut::Malformed
        }
        Err(Useless::Ended) => {
            counters.malformed_frames.add_one();
            Cut::Malformed
        }
        Err(Useless::Late) => {
            counters.header_timeouts.add_one();
            Cut::HeaderTimeout
        }
    };
    SendHalf::new(send).cut(why);
    // Fails only if it has ended before.
    let _ = recv.stop(VarInt::from_u32(why as u32));
}

/// Reads a preface, and what came along with it.
async fn read_preface(recv: &mut quinn::RecvStream) -> Result<(StreamKind, Bytes), Useless> {
    let mut begun = BytesMut::new();
    loop {
        let chunk = recv.read_chunk(usize::MAX, true).await;
        let Ok(Some(chunk)) = chunk else {
            return Err(Useless::Ended);
        };
        let mut rest = chunk.bytes;
        let missing = (PREFACE_BYTES - begun.len()).min(rest.len());
        begun.extend_from_slice(&rest.split_to(missing));
        if let Ok(preface) = <[u8; PREFACE_BYTES]>::try_from(&begun[..]) {
            let preface = Preface::decode(preface).map_err(|_| Useless::Preface)?;
            return Ok((preface.kind, rest));
        }
    }
}
