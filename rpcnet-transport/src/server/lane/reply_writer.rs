//! Writer of the replies of a lane: the outbox, its stall timeout, and the charges to the peer.

use std::{
    num::NonZeroU32,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

use crate::{
    accounts::{BufferReservation, PeerAccount},
    metadata::CallHeaders,
    outbox::Outbox,
    stream::{MinRateTracker, ResetCode},
    wire::{self, LoadReport, ReplyHeader},
};

/// Send half of a lane, with the replies that the caller has not read.
pub(super) struct ReplyWriter {
    outbox: Outbox,
    /// While the caller has not read everything: the bytes that had left, and whether it reads fast
    /// enough.
    stall_rate: Option<(u64, MinRateTracker)>,
    /// Charges to the peer for replies that it does not read.
    reservations: Vec<BufferReservation>,
}

/// The caller does not read its replies.
#[derive(Debug)]
pub(super) struct RepliesNotRead;

impl ReplyWriter {
    pub(super) fn new(outbox: Outbox) -> Self {
        Self {
            outbox,
            stall_rate: None,
            reservations: Vec::new(),
        }
    }

    /// Whether so many replies are unread that no more requests are read.
    pub(super) fn is_full(&self) -> bool {
        self.outbox.len() >= OUTBOX_BYTES_MAX
    }

    pub(super) fn is_empty(&self) -> bool {
        self.outbox.is_empty()
    }

    /// Index of the stream of the lane.
    pub(super) fn stream_index(&self) -> u64 {
        self.outbox.stream_index()
    }

    /// Writes the headers of the reply that comes next.
    pub(super) fn write_headers(&mut self, id: u32, headers: &CallHeaders) {
        let bytes = headers.encoded_len();
        let out = self.outbox.reserve(FRAME_BYTES_MAX + bytes);
        wire::encode_lane_headers(out, id, headers.flags(), bytes);
        headers.encode(out);
    }

    /// Writes the reply of a call.
    pub(super) fn write_reply(&mut self, id: u32, load: LoadReport, body: &Bytes) {
        let out = self.outbox.reserve(FRAME_BYTES_MAX + body.len());
        wire::encode_lane_reply(out, id, load, body);
    }

    /// Writes the status of a call.
    pub(super) fn write_failure(&mut self, id: u32, header: &ReplyHeader, details: &Bytes) {
        let bytes = FRAME_BYTES_MAX + header.message.len() + details.len();
        wire::encode_lane_failure(self.outbox.reserve(bytes), id, header, details);
    }

    /// Charges the peer for a reply of so many bytes if it has left too many unread. Returns
    /// whether it may have the reply.
    pub(super) fn charge(&mut self, peer: &Arc<PeerAccount>, bytes: usize) -> bool {
        let charged = OUTBOX_BYTES_MAX + self.reservations.len() * CHARGE_BYTES;
        if self.outbox.len() + bytes <= charged {
            return true;
        }
        let reserved = peer.reserve_reply(CHARGE_BYTES);
        let is_reserved = reserved.is_some();
        self.reservations.extend(reserved);
        is_reserved
    }

    /// Gives QUIC the queued replies, and records whether the caller reads fast enough.
    pub(super) fn poll_flush(
        &mut self,
        now: Instant,
        rate_min: NonZeroU32,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), RepliesNotRead>> {
        match self.poll_send(cx) {
            Poll::Ready(flushed) => {
                self.stall_rate = None;
                self.reservations.clear();
                Poll::Ready(flushed)
            }
            Poll::Pending => {
                let written = self.outbox.bytes_written();
                let stall = self
                    .stall_rate
                    .get_or_insert_with(|| (written, MinRateTracker::new(rate_min, now)));
                let before = std::mem::replace(&mut stall.0, written);
                stall.1.record(written - before, now);
                if !self.is_full() {
                    self.reservations.clear();
                }
                Poll::Pending
            }
        }
    }

    /// Gives QUIC the queued replies.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), RepliesNotRead>> {
        let flushed = self.outbox.poll_flush(cx);
        flushed.map(|flushed| flushed.map_err(|_| RepliesNotRead))
    }

    /// When the caller counts as stalled, unless it reads; `None` if it has read everything.
    pub(super) fn stalled_at(&self, stall_timeout: Duration) -> Option<Instant> {
        self.stall_rate
            .map(|(_, rate)| rate.met_until() + stall_timeout)
    }

    /// Resets the stream of the lane.
    pub(super) fn reset(&mut self, why: ResetCode) {
        self.outbox.reset(why);
    }

    /// Ends the stream of the lane.
    pub(super) fn finish(&mut self) {
        self.outbox.finish();
    }

    /// Completes when the caller has everything that was written.
    pub(super) fn acknowledged(&self) -> impl Future<Output = ()> + Send + '_ {
        self.outbox.acknowledged()
    }
}

/// Bytes of unread replies above which no more requests are read.
const OUTBOX_BYTES_MAX: usize = 1024 * 1024;

/// Bytes that a peer is charged for at a time beyond that.
const CHARGE_BYTES: usize = 256 * 1024;

/// More than the header of any frame that a server writes.
const FRAME_BYTES_MAX: usize = 32;
