//! A stream of messages to the server, and its one reply.

use std::fmt;

use super::calls::decode;
use crate::{Decode, Encode, Peer, RpcError, Sender, stream::UntypedReceiver};

/// A call that sends a stream and gets one reply.
///
/// Dropping it without [`finish`](Self::finish) cancels the call.
pub struct Upload<Req, Resp> {
    send: Sender<Req>,
    recv: UntypedReceiver,
    _reply: std::marker::PhantomData<fn() -> Resp>,
}

impl<Req: Encode, Resp: Decode> Upload<Req, Resp> {
    pub(crate) fn new(send: Sender<Req>, recv: UntypedReceiver) -> Self {
        Self {
            send,
            recv,
            _reply: std::marker::PhantomData,
        }
    }

    /// Sends one message, when there is room for it.
    ///
    /// # Errors
    ///
    /// As of [`Sender::send`]. After [`Code::Cancelled`](crate::Code::Cancelled), [`finish`](Self::finish) says why
    /// the server wants no more.
    pub async fn send(&mut self, message: Req) -> Result<(), RpcError> {
        self.send.send(message).await
    }

    /// Says that no message follows, and waits for the reply.
    ///
    /// # Errors
    ///
    /// [`RpcError`] as of a call without streams.
    pub async fn finish(mut self) -> Result<Resp, RpcError> {
        self.send.finish();
        let peer: Peer = self.recv.peer.clone();
        let reply = self.recv.reply().await?;
        decode(reply).map_err(|e| e.with_peer(peer))
    }
}

impl<Req, Resp> fmt::Debug for Upload<Req, Resp> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload")
            .field("peer", &self.recv.peer)
            .finish_non_exhaustive()
    }
}
