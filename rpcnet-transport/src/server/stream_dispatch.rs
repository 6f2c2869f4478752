//! Dispatch of the streams of a connection: calls and lanes, by the preface.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU8,
            Ordering::{Relaxed, SeqCst},
        },
    },
    task::Poll,
};

use bytes::{Bytes, BytesMut};
use quinn::VarInt;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::{
    admission::CallerQuota, call, connection_replies::ConnectionReplies,
    early_data::HandshakeState, lane,
};
use crate::{
    Peer,
    accounts::{ConnectionAccount, ConnectionGuard, StreamBudget},
    connections::RegisteredConnection,
    endpoint::EndpointShared,
    gauge::{Gauge, GaugeGuard},
    outbox::Outbox,
    stream::{RecvHalf, ResetCode, SendHalf, WriteTurns},
    wire::{Decoder, PREFACE_BYTES, Preface, StreamKind},
};

/// The caller at the other end of an accepted connection.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) connection: quinn::Connection,
    pub(super) peer: Peer,
    registration: RegisteredConnection,
    /// Buffered bytes of the connection.
    pub(super) account: Arc<ConnectionAccount>,
    /// Admission quota of its node, if calls of the server are limited.
    pub(super) admission: Option<Arc<CallerQuota>>,
    /// Counts the connection for its peer; `None` if that has as many as it may.
    connection_guard: Option<ConnectionGuard>,
    lanes: AtomicU8,
    /// Streams that are being served.
    pub(super) streams: Gauge,
    /// Streams that carry one call each.
    calls: Gauge,
    /// Replies with streams of their own.
    pub(super) replies: ConnectionReplies,
    /// Turns in which its streams write large messages.
    pub(super) write_turns: Arc<WriteTurns>,
    /// Cancelled when the tasks of the streams are to end.
    aborted: CancellationToken,
    /// Whether the tasks are to end, for those that are woken often.
    is_aborted: AtomicBool,
}

/// Reason for which a stream is rejected.
enum StreamRejection {
    BadPreface,
    /// The stream ended, or its connection did.
    Ended,
    HeaderTimeout,
}

impl Caller {
    pub(super) fn new(shared: &EndpointShared, connection: quinn::Connection, peer: Peer) -> Self {
        let account = shared.accounts.account(peer.shared_name());
        let counted = account.connect(connection.clone());
        let name = peer.shared_name();
        let registered = shared.registry.register(name, Some(connection.clone()));
        Self {
            replies: ConnectionReplies::new(&shared.config, connection.clone()),
            account: ConnectionAccount::new(account, Some(connection.clone())),
            connection,
            registration: registered,
            admission: shared
                .admission
                .as_ref()
                .map(|gate| gate.quota_of(peer.shared_name())),
            peer,
            connection_guard: counted,
            lanes: AtomicU8::new(0),
            streams: Gauge::default(),
            calls: Gauge::default(),
            write_turns: Arc::default(),
            aborted: CancellationToken::new(),
            is_aborted: AtomicBool::new(false),
        }
    }

    /// Whether its node may have the connection.
    pub(super) fn is_counted(&self) -> bool {
        self.connection_guard.is_some()
    }

    /// Completes when the node is to be disconnected.
    pub(super) async fn disconnected(&self) {
        self.registration.disconnected().await;
    }

    /// Drops all calls that are served on the connection.
    pub(super) fn abort(&self) {
        self.is_aborted.store(true, SeqCst);
        self.aborted.cancel();
    }

    fn is_aborted(&self) -> bool {
        self.is_aborted.load(SeqCst)
    }

    /// Polls a future until the streams are aborted. The token is polled only once, which is enough
    /// to be woken by it: it has a lock.
    async fn until_aborted(&self, future: impl Future<Output = ()>) {
        let mut cut = pin!(self.aborted.cancelled());
        let mut future = pin!(future);
        let mut is_registered = false;
        poll_fn(|cx| {
            if !std::mem::replace(&mut is_registered, true) && cut.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            if self.is_aborted() {
                return Poll::Ready(());
            }
            future.as_mut().poll(cx)
        })
        .await;
    }

    /// Counts one more stream that carries a call, for as long as the guard lives.
    fn begin_call(&self) -> GaugeGuard {
        let (guard, calls) = self.calls.enter();
        if let Some(counted) = &self.connection_guard {
            counted.note_calls(calls);
        }
        guard
    }

    /// Counts one more lane for as long as the guard lives. `None` if there are as many as the
    /// hello announced.
    fn try_add_lane(self: &Arc<Self>, lanes_max: u8) -> Option<LaneGuard> {
        let more = |lanes| (lanes < lanes_max).then(|| lanes + 1);
        let taken = self.lanes.fetch_update(Relaxed, Relaxed, more);
        taken.is_ok().then(|| LaneGuard(Arc::clone(self)))
    }
}

/// A counted lane of a caller.
struct LaneGuard(Arc<Caller>);

impl Drop for LaneGuard {
    fn drop(&mut self) {
        self.0.lanes.fetch_sub(1, Relaxed);
    }
}

/// Serves a stream of the caller in a task of its own.
pub(super) fn spawn_stream(
    shared: &Arc<EndpointShared>,
    caller: &Arc<Caller>,
    (send, recv): (quinn::SendStream, quinn::RecvStream),
    early: Option<HandshakeState>,
) {
    let (guard, _) = caller.streams.enter();
    let caller = Arc::clone(caller);
    let serve = serve_stream(Arc::clone(shared), Arc::clone(&caller), send, recv, early);
    shared.calls.spawn(async move {
        let _guard = guard;
        caller.until_aborted(serve).await;
    });
}

async fn serve_stream(
    shared: Arc<EndpointShared>,
    caller: Arc<Caller>,
    send: quinn::SendStream,
    mut recv: quinn::RecvStream,
    early: Option<HandshakeState>,
) {
    let arrived = Instant::now();
    let patience = arrived + shared.config.header_timeout;
    let first = timeout_at(patience, read_preface(&mut recv)).await;
    let counters = &shared.counters;
    let why = match first.unwrap_or(Err(StreamRejection::HeaderTimeout)) {
        Ok((StreamKind::Call, rest)) => {
            let _call = caller.begin_call();
            let mut decoder = Decoder::replies(shared.config.message_bytes_max);
            decoder.push(rest);
            let room = StreamBudget::charged_to(Arc::clone(&caller.account));
            let send = SendHalf::new(send, Arc::clone(&caller.write_turns));
            let recv = RecvHalf::new(recv, decoder, room);
            return call::serve(shared, caller, send, recv, arrived, early).await;
        }
        // Each call is checked for a replay-safe method, which lanes do not do.
        Ok((StreamKind::Lane, _)) if early.is_some() => {
            counters.malformed_frames.add_one();
            ResetCode::Malformed
        }
        Ok((StreamKind::Lane, rest)) => {
            if let Some(_taken) = caller.try_add_lane(shared.config.lanes.get()) {
                let outbox = Outbox::new(send, caller.connection.clone());
                return lane::serve(shared, caller, outbox, recv, rest).await;
            }
            counters.malformed_frames.add_one();
            ResetCode::Malformed
        }
        Ok(_) | Err(StreamRejection::BadPreface) => {
            counters.bad_prefaces.add_one();
            ResetCode::Malformed
        }
        Err(StreamRejection::Ended) => {
            counters.malformed_frames.add_one();
            ResetCode::Malformed
        }
        Err(StreamRejection::HeaderTimeout) => {
            counters.header_timeouts.add_one();
            ResetCode::HeaderTimeout
        }
    };
    SendHalf::new(send, Arc::clone(&caller.write_turns)).reset(why);
    // Fails only if the stream has ended before.
    let _ = recv.stop(VarInt::from_u32(why as u32));
}

/// Reads a preface, and returns the bytes that came after it.
async fn read_preface(
    recv: &mut quinn::RecvStream,
) -> Result<(StreamKind, Bytes), StreamRejection> {
    let mut begun = BytesMut::new();
    loop {
        let chunk = recv.read_chunk(usize::MAX, true).await;
        let Ok(Some(chunk)) = chunk else {
            return Err(StreamRejection::Ended);
        };
        let mut rest = chunk.bytes;
        let missing = (PREFACE_BYTES - begun.len()).min(rest.len());
        begun.extend_from_slice(&rest.split_to(missing));
        if let Ok(preface) = <[u8; PREFACE_BYTES]>::try_from(&begun[..]) {
            let preface = Preface::decode(preface).map_err(|_| StreamRejection::BadPreface)?;
            return Ok((preface.kind, rest));
        }
    }
}
