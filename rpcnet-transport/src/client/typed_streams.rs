//! Typed calls that stream: the agreement on their method first, then the stream.

use std::{fmt, pin::pin};

use bytes::Bytes;
use futures::{
    Stream, StreamExt,
    future::{Either, select},
};
use tokio::time::Instant;

use super::{
    CallOptions, EncodedRequest, RpcClient,
    calls::{BOTH_STREAM, CLIENT_STREAMS, SERVER_STREAMS},
    typed::decode_as,
};
use crate::{
    Encode, Message, Processed, Receiver, RpcError, Sender, UntypedMethod,
    codec::Encoding,
    method::{CalledMethod, Replies},
    stream::{UntypedReceiver, UntypedSender},
    wire::RequestFlags,
};

impl RpcClient {
    /// Opens a server-streaming call of a typed method, for clients that make several attempts.
    ///
    /// # Errors
    ///
    /// As for [`call_server_streaming`](Self::call_server_streaming);
    /// [`Code::Incompatible`](crate::Code::Incompatible) if the types of the server do not fit.
    pub async fn open_server_streaming(
        &self,
        method: UntypedMethod,
        request: EncodedRequest<'_>,
        options: CallOptions,
    ) -> Result<OpenedStream, RpcError> {
        let opened = self.open_typed(method, SERVER_STREAMS, Some(request), options);
        let mut opened = opened.await?;
        opened.send.finish();
        Ok(opened)
    }

    /// Opens a client-streaming call of a typed method, for clients that make several attempts.
    ///
    /// # Errors
    ///
    /// As for [`open_server_streaming`](Self::open_server_streaming).
    pub async fn open_client_streaming(
        &self,
        method: UntypedMethod,
        options: CallOptions,
    ) -> Result<OpenedStream, RpcError> {
        self.open_typed(method, CLIENT_STREAMS, None, options).await
    }

    /// Opens a bidirectional streaming call of a typed method, for clients that make several
    /// attempts.
    ///
    /// # Errors
    ///
    /// As for [`open_server_streaming`](Self::open_server_streaming).
    pub async fn open_bidirectional_streaming(
        &self,
        method: UntypedMethod,
        options: CallOptions,
    ) -> Result<OpenedStream, RpcError> {
        self.open_typed(method, BOTH_STREAM, None, options).await
    }

    async fn open_typed(
        &self,
        method: UntypedMethod,
        flags: RequestFlags,
        request: Option<EncodedRequest<'_>>,
        options: CallOptions,
    ) -> Result<OpenedStream, RpcError> {
        if let Some(early) = &self.0.early {
            let timeout = Instant::now().checked_add(self.0.limits.call_timeout);
            let client = self.wait_for_handshake(early, timeout).await;
            let client = client.map_err(|e| self.with_peer_context(e))?;
            return Box::pin(client.open_typed(method, flags, request, options)).await;
        }
        let call = self.agree(method, flags, options).await?;
        let encoding = call.encoding;
        let mut body = Bytes::new();
        if let Some(request) = request {
            let encoded = request.in_encoding(encoding);
            body = encoded.map_err(|e| self.with_peer_context(e))?;
            self.check_request(call, &body, flags, options).await?;
        }
        let called = CalledMethod {
            name: method.name(),
            typed: Some(call),
        };
        let (send, recv) = self.open_streaming(called, body, flags, options).await?;
        Ok(OpenedStream {
            send,
            recv,
            encoding,
        })
    }
}

/// Streaming call of a typed method that was opened, without its types.
pub struct OpenedStream {
    send: UntypedSender,
    recv: UntypedReceiver,
    encoding: Encoding,
}

impl fmt::Debug for OpenedStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenedStream")
            .field("peer", &self.recv.peer)
            .field("encoding", &self.encoding)
            .finish_non_exhaustive()
    }
}

impl OpenedStream {
    /// The replies of a server-streaming call.
    #[must_use]
    pub fn into_replies<T: Message + Send>(self) -> Replies<T> {
        Replies::remote(Receiver::new(self.recv, self.encoding))
    }

    /// Sends the requests of a client-streaming call, and waits for the reply, which may come
    /// before all are sent.
    ///
    /// # Errors
    ///
    /// As for a unary call.
    pub async fn send_all<T: Message + Send, Reply: Message>(
        self,
        requests: impl Stream<Item = T> + Send,
    ) -> Result<Reply, RpcError> {
        let Self {
            send,
            mut recv,
            encoding,
        } = self;
        let peer = recv.peer.clone();
        let reply = {
            let sending = pin!(send_all(Sender::new(send, encoding), requests));
            match select(pin!(recv.reply()), sending).await {
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

    /// The replies of a bidirectional streaming call; the requests are sent as they are read.
    pub fn converse<T: Message + Send, U: Message + Send>(
        self,
        requests: impl Stream<Item = T> + Send + 'static,
    ) -> Replies<U> {
        let sending = send_all(Sender::new(self.send, self.encoding), requests);
        Replies::remote(Receiver::new(self.recv, self.encoding)).with_sending(sending)
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
