//! Client-streaming call: a stream of requests and one reply.

use std::fmt;

use super::typed::decode;
use crate::{Decode, Encode, Peer, RpcError, Sender, stream::UntypedReceiver};

/// Client-streaming call in progress: sends messages and gets one reply.
///
/// Dropping it without [`finish`](Self::finish) cancels the call.
#[must_use = "dropping it cancels the call"]
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

    /// Sends one message, when flow control has room for it.
    ///
    /// # Errors
    ///
    /// As for [`Sender::send`]. After [`Code::Cancelled`](crate::Code::Cancelled),
    /// [`finish`](Self::finish) returns the server's reason.
    pub async fn send(&mut self, message: Req) -> Result<(), RpcError> {
        self.send.send(message).await
    }

    /// Ends the stream of requests and waits for the reply.
    ///
    /// # Errors
    ///
    /// [`RpcError`] as for a unary call.
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
