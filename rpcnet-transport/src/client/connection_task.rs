//! Task of a connection: control frames, large replies of lanes, and the end of the connection.

use std::{collections::HashSet, future::poll_fn, sync::Arc, task::Poll, time::Duration};

use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use parking_lot::Mutex;
use quinn::ConnectionError;
use tokio::time::{Instant, sleep_until};

use super::{
    ConnectionEvent, MinRateReader, MinReplyRate, connection_shared::ConnectionShared,
    lanes::Lanes, reply,
};
use crate::{
    accounts::{ConnectionAccount, StreamBudget},
    close::{CLOSE_DISCONNECTED, CLOSE_DONE, close_at_once},
    connections::RegisteredConnection,
    gauge::Gauge,
    runtime::CloseOnRuntimeEnd,
    stream::{RecvHalf, ResetCode},
    wire::{Decoder, Frame, StreamKind},
};

/// Task of a connection, with the state that it shares with its client.
pub(super) struct ConnectionTask {
    pub(super) lanes: Arc<Lanes>,
    pub(super) shared: Arc<ConnectionShared>,
    /// Calls with streams of their own.
    pub(super) in_flight: Gauge,
    /// Account of the bytes held of what the server sends.
    pub(super) account: Arc<ConnectionAccount>,
    pub(super) reply_rate: MinReplyRate,
}

impl ConnectionTask {
    /// Runs until the connection ends: reads the server's drain state and the replies that are too
    /// large for a lane. Closes the connection when the client and the last of its streams are
    /// gone.
    pub(super) async fn run(
        self,
        mut guard: CloseOnRuntimeEnd,
        registered: Arc<RegisteredConnection>,
        mut control: RecvHalf,
        message_bytes_max: usize,
    ) {
        let Self {
            lanes,
            shared,
            in_flight,
            account,
            reply_rate,
        } = self;
        let connection = guard.connection().clone();
        let in_progress = Mutex::default();
        let mut replies = FuturesUnordered::new();
        let mut control_is_open = true;
        // Until then no further drain state is read: that bounds the work that a server causes.
        let mut paused_until = None;
        let end = loop {
            tokio::select! {
                biased;
                // The end of a connection is reported also if its client was dropped before this
                // task ran.
                () = shared.client_dropped.cancelled() => break connection.close_reason(),
                () = registered.disconnected() => {
                    close_at_once(&connection, CLOSE_DISCONNECTED, b"");
                    break Some(ConnectionError::LocallyClosed);
                }
                () = sleep_until(paused_until.unwrap_or_else(Instant::now)), if paused_until.is_some() => paused_until = None,
                frame = poll_fn(|cx| control.poll_frame(cx)), if control_is_open && paused_until.is_none() => match frame {
                    Ok(Some(Frame::Draining(first))) => {
                        shared.set_draining(latest_draining(&mut control, first));
                        paused_until = Some(Instant::now() + DRAINING_INTERVAL_MIN);
                    }
                    // The stream ended, or a later version wrote a frame that this one does not
                    // know. The rest of the connection works on.
                    _ => control_is_open = false,
                },
                stream = connection.accept_uni() => match stream {
                    // QUIC bounds the number of these streams.
                    Ok(stream) => {
                        let budget = StreamBudget::charged_to(Arc::clone(&account));
                        let recv = reply_stream(stream, budget, message_bytes_max);
                        replies.push(read_reply(recv, reply_rate, &lanes, &shared, &in_progress));
                    }
                    // Replies that have arrived completely are still delivered.
                    Err(error) => break Some(error),
                },
                Some(()) = replies.next() => {}
            }
        };
        if let Some(end) = end {
            shared
                .events()
                .notify(ConnectionEvent::Closed(shared.close_reason(&end)));
            replies.collect::<()>().await;
        } else {
            drop(replies);
            tokio::select! {
                biased;
                () = in_flight.wait_for_zero() => {}
                () = registered.disconnected() => {
                    close_at_once(&connection, CLOSE_DISCONNECTED, b"");
                }
                _ = connection.closed() => {}
            }
            close_at_once(&connection, CLOSE_DONE, b"");
        }
        guard.disarm();
    }
}

/// Latest drain state that has arrived, after the first was read. A frame of another kind is left
/// for the next read.
fn latest_draining(control: &mut RecvHalf, first: bool) -> bool {
    let mut latest = first;
    for _ in 0..DRAINING_FRAMES_MAX {
        match poll_fn(|cx| control.poll_frame(cx)).now_or_never() {
            Some(Ok(Some(Frame::Draining(draining)))) => latest = draining,
            // The next read returns the end or the error again.
            _ => break,
        }
    }
    latest
}

/// Calls whose replies are being read, by lane and call id.
type RepliesInProgress = Mutex<HashSet<(u64, u32)>>;

fn reply_stream(
    stream: quinn::RecvStream,
    budget: StreamBudget,
    message_bytes_max: usize,
) -> (u64, RecvHalf) {
    let index = stream.id().index();
    let decoder = Decoder::new(StreamKind::LaneReply, message_bytes_max);
    (index, RecvHalf::new(stream, decoder, budget))
}

/// Reads a reply that came on a stream of its own, if its call still waits and no other stream
/// replies to it.
async fn read_reply(
    (index, mut stream): (u64, RecvHalf),
    rate: MinReplyRate,
    lanes: &Lanes,
    shared: &ConnectionShared,
    in_progress: &RepliesInProgress,
) {
    let mut reader = MinRateReader::new(rate, &shared.runtime);
    let to = reader.frame(&mut stream).await;
    let Ok(Some(Frame::ReplyTo { lane, id })) = to else {
        // It is not known which call it replies to. The server says on the lane that the reply was
        // not delivered.
        return stream.stop(ResetCode::Malformed);
    };
    if !lanes.is_waiting(lane, id) || !in_progress.lock().insert((lane, id)) {
        return stream.stop(ResetCode::Cancelled);
    }
    let mut checked_at = Instant::now();
    let frame = poll_fn(|cx| {
        if let Poll::Ready(frame) = reader.poll_frame(&mut stream, cx) {
            return Poll::Ready(Some(frame));
        }
        // The server is told of a cancelled call, and may go on sending all the same.
        let now = Instant::now();
        if now.duration_since(checked_at) >= PENDING_CHECK_INTERVAL {
            checked_at = now;
            if !lanes.is_waiting(lane, id) {
                return Poll::Ready(None);
            }
        }
        Poll::Pending
    });
    let frame = frame.await;
    in_progress.lock().remove(&(lane, id));
    let Some(frame) = frame else {
        return stream.stop(ResetCode::Cancelled);
    };
    let headers = stream.take_headers();
    let outcome = match frame {
        Ok(Some(Frame::Reply(header, body))) => {
            stream.record_end();
            shared.record_reply(header.load, Instant::now());
            reply::into_result(header, body)
        }
        other => Err(reply::read_error(other, index)),
    };
    lanes.complete(lane, id, outcome, headers.map(|headers| headers.metadata));
}

/// Shortest time between two changes of the drain state, as a server sends them and as a caller
/// reads them.
pub(crate) const DRAINING_INTERVAL_MIN: Duration = Duration::from_millis(10);

/// Time between two checks whether the call of a reply that is being read still waits.
const PENDING_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Drain states that are read at once: 16 KiB of them.
const DRAINING_FRAMES_MAX: usize = 4_096;
