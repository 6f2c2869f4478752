//! Control stream, on which the server announces its limits and whether it drains.

use bytes::{Buf, BytesMut};
use quinn::WriteError;
use tokio::time::{Instant, timeout};

use crate::{
    client::DRAINING_INTERVAL_MIN,
    endpoint::EndpointShared,
    send_priority,
    wire::{self, Hello, Preface, StreamKind},
};

/// Stream on which the server announces its state to a connection.
pub(super) struct ControlStream {
    stream: quinn::SendStream,
    /// The draining state that the other side knows.
    announced_draining: bool,
    /// The rest of an announcement that is being sent.
    unsent: BytesMut,
    /// When the next announcement may be sent.
    announce_from: Instant,
}

impl ControlStream {
    /// Sends the hello: the caller is accepted, and with which limits. `None` if the connection is
    /// lost, or the hello is not sent in time.
    pub(super) async fn open(
        shared: &EndpointShared,
        connection: &quinn::Connection,
    ) -> Option<Self> {
        let draining = shared.lifecycle.is_draining();
        let mut hello = BytesMut::new();
        hello.extend_from_slice(
            &Preface {
                kind: StreamKind::Control,
            }
            .encode(),
        );
        wire::encode_hello(
            &mut hello,
            &Hello {
                draining,
                message_bytes_max: u32::try_from(shared.config.message_bytes_max)
                    .unwrap_or(u32::MAX),
                streams_max: shared.config.quic.streams_max.get(),
                lanes_max: shared
                    .config
                    .lanes_max(shared.config.quic.streams_max.get()),
                lane_calls_max: u16::try_from(shared.config.lane.lane_calls_max.get())
                    .unwrap_or(u16::MAX),
                lane_body_bytes_max: u16::try_from(shared.config.lane.lane_body_bytes_max)
                    .unwrap_or(u16::MAX),
                has_schemas: true,
                has_headers: true,
            },
        );
        let sent = timeout(shared.config.connect_timeout, async {
            let mut stream = connection.open_uni().await.ok()?;

            stream.set_priority(send_priority::CONTROL).ok()?;
            stream.write_all(&hello).await.ok()?;
            Some(Self {
                stream,
                announced_draining: draining,
                unsent: BytesMut::new(),
                announce_from: Instant::now(),
            })
        });
        sent.await.ok().flatten()
    }

    /// Begins the announcement of a change, if it is time for it. Returns whether a change has to
    /// wait until [`announce_from`](Self::announce_from).
    ///
    /// One frame at a time is sent: if the state changes faster than that, the last state counts.
    pub(super) fn update(&mut self, is_draining: bool) -> bool {
        if self.is_sending() || self.announced_draining == is_draining {
            return false;
        }
        if self.announce_from > Instant::now() {
            return true;
        }
        self.announced_draining = is_draining;
        wire::encode_draining(&mut self.unsent, is_draining);
        self.announce_from = Instant::now() + DRAINING_INTERVAL_MIN;
        false
    }

    /// When the next announcement may be sent.
    pub(super) fn announce_from(&self) -> Instant {
        self.announce_from
    }

    /// Whether an announcement is being sent.
    pub(super) fn is_sending(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Sends a part of the announcement. Cancel-safe.
    ///
    /// # Errors
    ///
    /// If the stream does not take it. The announcement is dropped then.
    pub(super) async fn send(&mut self) -> Result<(), WriteError> {
        match self.stream.write(&self.unsent).await {
            Ok(bytes) => self.unsent.advance(bytes),
            Err(error) => {
                self.unsent.clear();
                return Err(error);
            }
        }
        Ok(())
    }
}
