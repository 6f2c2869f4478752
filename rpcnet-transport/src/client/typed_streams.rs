//! Typed calls that stream: the agreement on their method first, then the stream.

use std::{fmt, marker::PhantomData, pin::pin};

use bytes::Bytes;
use futures::{
    Stream, StreamExt,
    future::{Either, select},
};
use tokio::time::Instant;

use super::{
    CallOptions, RpcClient,
    calls::{BOTH_STREAM, CLIENT_STREAMS, SERVER_STREAMS},
    typed::{decode_as, encode_error},
};
use crate::{
    Encode, Message, Processed, Receiver, RpcError, Sender, UntypedMethod,
    codec::Encoding,
    method::{CalledMethod, Replies},
    stream::{UntypedReceiver, UntypedSender},
    wire::RequestFlags,
};

impl RpcClient {
    /// Server-streaming call of a typed method, for clients that make several attempts.
    ///
    /// # Errors
    ///
    /// As for [`call_server_streaming`](Self::call_server_streaming);
    /// [`Code::Incompatible`](crate::Code::Incompatible) if the types of the server do not fit.
    pub async fn open_server_streaming<Req: Message, T: Message + Send>(
        &self,
        method: UntypedMethod,
        request: &Req,
        options: CallOptions,
    ) -> Result<Replies<T>, RpcError> {
        let encode = |encoding| request.encode_as(encoding).map_err(encode_error);
        let opened = self
            .open_typed(method, SERVER_STREAMS, encode, options)
            .await;
        let (mut send, recv, encoding) = opened?;
        send.finish();
        Ok(Replies::remote(Receiver::new(recv, encoding)))
    }

    /// Client-streaming call of a typed method: opens it, for clients that make several attempts.
    ///
    /// # Errors
    ///
    /// As for [`open_server_streaming`](Self::open_server_streaming).
    pub async fn open_client_streaming<T: Message + Send, Reply: Message>(
        &self,
        method: UntypedMethod,
        options: CallOptions,
    ) -> Result<TypedUpload<T, Reply>, RpcError> {
        let no_body = |_| Ok(Bytes::new());
        let opened = self
            .open_typed(method, CLIENT_STREAMS, no_body, options)
            .await;
        let (send, recv, encoding) = opened?;
        Ok(TypedUpload {
            requests: Sender::new(send, encoding),
            reply: recv,
            encoding,
            _reply: PhantomData,
        })
    }

    /// Bidirectional streaming call of a typed method: opens it, for clients that make several
    /// attempts.
    ///
    /// # Errors
    ///
    /// As for [`open_server_streaming`](Self::open_server_streaming).
    pub async fn open_bidirectional_streaming<T: Message + Send, U: Message + Send>(
        &self,
        method: UntypedMethod,
        options: CallOptions,
    ) -> Result<TypedConversation<T, U>, RpcError> {
        let no_body = |_| Ok(Bytes::new());
        let opened = self.open_typed(method, BOTH_STREAM, no_body, options).await;
        let (send, recv, encoding) = opened?;
        Ok(TypedConversation {
            requests: Sender::new(send, encoding),
            replies: Receiver::new(recv, encoding),
        })
    }

    async fn open_typed(
        &self,
        method: UntypedMethod,
        flags: RequestFlags,
        encode: impl FnOnce(Encoding) -> Result<Bytes, RpcError>,
        options: CallOptions,
    ) -> Result<(UntypedSender, UntypedReceiver, Encoding), RpcError> {
        if let Some(early) = &self.0.early {
            let timeout = Instant::now().checked_add(self.0.limits.call_timeout);
            let client = self.wait_for_handshake(early, timeout).await;
            let client = client.map_err(|e| self.with_peer_context(e))?;
            return Box::pin(client.open_typed(method, flags, encode, options)).await;
        }
        let call = self.agree(method, flags, options).await?;
        let body = encode(call.encoding).map_err(|e| self.with_peer_context(e))?;
        let called = CalledMethod {
            name: method.name(),
            typed: Some(call),
        };
        let (send, recv) = self.open_streaming(called, body, flags, options).await?;
        Ok((send, recv, call.encoding))
    }
}

/// Client-streaming call that was opened.
pub struct TypedUpload<T, Reply> {
    requests: Sender<T>,
    reply: UntypedReceiver,
    encoding: Encoding,
    _reply: PhantomData<fn() -> Reply>,
}

/// Bidirectional streaming call that was opened.
#[derive(Debug)]
pub struct TypedConversation<T, U> {
    requests: Sender<T>,
    replies: Receiver<U>,
}

impl<T, Reply> fmt::Debug for TypedUpload<T, Reply> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedUpload")
            .field("peer", &self.reply.peer)
            .finish_non_exhaustive()
    }
}

impl<T: Message + Send, Reply: Message> TypedUpload<T, Reply> {
    /// Sends the requests, and waits for the reply, which may come before all are sent.
    ///
    /// # Errors
    ///
    /// As for a unary call.
    pub async fn send_all(self, requests: impl Stream<Item = T> + Send) -> Result<Reply, RpcError> {
        let Self {
            requests: sender,
            mut reply,
            encoding,
            ..
        } = self;
        let peer = reply.peer.clone();
        let reply = {
            let sending = pin!(send_all(sender, requests));
            match select(pin!(reply.reply()), sending).await {
                Either::Left((reply, _)) => reply,
                Either::Right((sent, reply)) => {
                    sent?;
                    reply.await
                }
            }
        };
        let reply = reply.map_err(|error| error.with_details_encoding(encoding))?;
        decode_as(reply, encoding).map_err(|error| error.with_peer(peer))
    }
}

impl<T: Message + Send, U: Message + Send> TypedConversation<T, U> {
    /// The replies; the requests are sent as they are read.
    pub fn converse(self, requests: impl Stream<Item = T> + Send + 'static) -> Replies<U> {
        let sending = send_all(self.requests, requests);
        Replies::remote(self.replies).with_sending(sending)
    }
}

/// Sends all requests, until the server takes no more: it says why with its reply.
///
/// # Errors
///
/// Those of a request that cannot be sent to any server.
async fn send_all<T: Encode>(
    mut sender: Sender<T>,
    requests: impl Stream<Item = T>,
) -> Result<(), RpcError> {
    let mut requests = pin!(requests);
    while let Some(request) = requests.next().await {
        match sender.send(request).await {
            Ok(()) => {}
            Err(error) if error.processed() == Processed::No => return Err(error),
            Err(_) => return Ok(()),
        }
    }
    sender.finish();
    Ok(())
}
