//! Write buffer of a lane: frames are batched until QUIC takes them.

use std::{
    fmt,
    pin::pin,
    slice,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use quinn::{VarInt, WriteError};
use tokio::time::Instant;

use crate::{send_priority::LaneSendRate, stream::ResetCode};

/// Sending half of a lane. Dropped without [`finish`](Self::finish), it resets the stream: a clean
/// end would claim success.
pub(crate) struct Outbox {
    stream: quinn::SendStream,
    connection: quinn::Connection,
    send_rate: LaneSendRate,
    /// Complete frames that were not handed to QUIC yet.
    queued: BytesMut,
    /// Memory to allocate for them next time.
    buffer_bytes: usize,
    /// Frames being handed to QUIC.
    writing: Bytes,
    /// Bytes that QUIC has accepted.
    bytes_written: u64,
    open: bool,
}

impl Outbox {
    pub(crate) fn new(stream: quinn::SendStream, connection: quinn::Connection) -> Self {
        let send_rate = LaneSendRate::new(Instant::now());
        // Fails only if the stream has ended.
        let _ = stream.set_priority(send_rate.priority());
        Self {
            stream,
            connection,
            send_rate,
            queued: BytesMut::new(),
            buffer_bytes: BUFFER_BYTES_MIN,
            writing: Bytes::new(),
            bytes_written: 0,
            open: true,
        }
    }

    /// Buffer to which a frame of at most this many bytes can be appended. It is allocated for many
    /// frames at a time, and doubles each time, so that a lane with little load holds little
    /// memory.
    pub(crate) fn reserve(&mut self, bytes: usize) -> &mut BytesMut {
        if self.queued.capacity() - self.queued.len() < bytes {
            self.queued.reserve(bytes.max(self.buffer_bytes));
            self.buffer_bytes = (2 * self.buffer_bytes).min(BUFFER_BYTES_MAX);
        }
        &mut self.queued
    }

    /// Bytes that QUIC has not accepted.
    pub(crate) fn len(&self) -> usize {
        self.queued.len() + self.writing.len()
    }

    /// Bytes that QUIC has accepted so far.
    pub(crate) fn bytes_written(&self) -> u64 {
        self.bytes_written
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Hands all frames to QUIC in as few writes as flow control allows.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WriteError>> {
        loop {
            if self.writing.is_empty() {
                if self.queued.is_empty() {
                    return Poll::Ready(Ok(()));
                }
                self.writing = self.queued.split().freeze();
            }
            let write = self.stream.write_chunks(slice::from_mut(&mut self.writing));
            let written = ready!(pin!(write).poll(cx))?;
            self.bytes_written += written.bytes as u64;
            if self.send_rate.record(written.bytes) {
                self.update_priority();
            }
        }
    }

    #[cold]
    fn update_priority(&mut self) {
        let connection = &self.connection;
        let path = || {
            let path = connection.stats().path;
            (path.cwnd, path.rtt)
        };
        if self.send_rate.sample(Instant::now(), path) {
            // Fails only if the stream has ended.
            let _ = self.stream.set_priority(self.send_rate.priority());
        }
    }

    /// Ends the stream. Everything has to be flushed before.
    pub(crate) fn finish(&mut self) {
        debug_assert!(self.is_empty(), "flushed first");
        if std::mem::replace(&mut self.open, false) {
            // Fails only if the peer stopped the stream before, and does not wait for its end.
            let _ = self.stream.finish();
        }
    }

    /// Waits until the peer has acknowledged everything, has stopped the stream, or is gone.
    pub(crate) fn acknowledged(&self) -> impl Future<Output = ()> + Send + 'static {
        let stopped = self.stream.stopped();
        async move {
            let _ = stopped.await;
        }
    }

    pub(crate) fn reset(&mut self, why: ResetCode) {
        if std::mem::replace(&mut self.open, false) {
            // Fails only if it was reset before.
            let _ = self.stream.reset(VarInt::from_u32(why as u32));
        }
    }

    pub(crate) fn stream_index(&self) -> u64 {
        self.stream.id().index()
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.reset(ResetCode::Cancelled);
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox")
            .field("stream", &self.stream.id())
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

const BUFFER_BYTES_MIN: usize = 512;

/// Room for frames of some hundred small calls.
const BUFFER_BYTES_MAX: usize = 16 * 1024;
