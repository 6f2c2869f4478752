//! Open streams of the peer that breaks the protocol, and operations on them.

use std::time::Duration;

use bytes::BytesMut;
use quinn::{RecvStream, SendStream, VarInt};
use rpcnet_transport::wire::{Preface, StreamKind};
use tokio::time::timeout;

use super::script::Script;

/// Open streams.
#[derive(Default)]
pub(super) struct Open {
    pub(super) sends: Vec<SendStream>,
    pub(super) recvs: Vec<RecvStream>,
}

impl Open {
    /// Begins a stream, mostly with its preface.
    pub(super) async fn begin(
        &mut self,
        mut send: SendStream,
        kind: StreamKind,
        script: &mut Script<'_>,
    ) {
        if script.byte() < 240 {
            let _ = moment(send.write_all(&Preface { kind }.encode())).await;
        }
        self.sends.push(send);
    }

    /// Writes the bytes that the script says to one of the streams.
    pub(super) async fn write(&mut self, script: &mut Script<'_>) {
        let at = script.below(self.sends.len());
        let mut bytes = BytesMut::new();
        script.write(&mut bytes);
        if let Some(send) = self.sends.get_mut(at) {
            let _ = moment(send.write_all(&bytes)).await;
        }
    }

    /// Finishes or resets one of the streams.
    pub(super) fn end(&mut self, script: &mut Script<'_>) {
        let (at, how) = (script.below(self.sends.len()), script.byte());
        if let Some(send) = self.sends.get_mut(at) {
            let _ = match how & 1 {
                0 => send.finish(),
                _ => send.reset(code(how)),
            };
        }
    }

    /// Stops one of the streams.
    pub(super) fn stop(&mut self, at: usize, how: u8) {
        if let Some(recv) = self.recvs.get_mut(at) {
            let _ = recv.stop(code(how));
        }
    }

    /// Reads a little from one of the streams.
    pub(super) async fn read(&mut self, at: usize) {
        if let Some(recv) = self.recvs.get_mut(at) {
            let _ = moment(recv.read_chunk(100, true)).await;
        }
    }
}

fn code(how: u8) -> VarInt {
    VarInt::from_u32(u32::from(how) % 8)
}

/// Waits a moment for the other side to read or write; `None` if it does not.
pub(super) async fn moment<F: Future>(future: F) -> Option<F::Output> {
    timeout(Duration::from_millis(2), future).await.ok()
}
