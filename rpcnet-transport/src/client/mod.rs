//! The calling side: one connection to one node, and calls on it.

pub(crate) mod answer;
mod close;
mod options;
mod upload;

pub use self::{close::CloseReason, options::CallOptions, upload::Upload};

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use crate::{
    Code, ConnectError, Decode, Encode, Endpoint, Peer, Processed, Receiver, RpcError, Sender, Tls,
    TransportConfig,
    gauge::{Gauge, GaugeGuard},
    stream::{RecvCore, RecvHalf, SendCore, SendHalf, WriteFailure},
    wire::{self, Decoder, Flags, Frame, RequestHeader},
};

/// One connection to one node, for any number of calls at a time. Cheap to clone.
///
/// The connection ends with its last clone, with [`close`](Self::close), or when the other side or the network ends it; it
/// does not come back by itself. Dropping the future of a call cancels its handler on the server.
#[derive(Clone)]
pub struct RpcClient(Arc<Inner>);

struct Inner {
    connection: quinn::Connection,
    peer: Peer,
    /// Smaller of our limit and the server's.
    request_bytes_max: usize,
    answer_bytes_max: usize,
    call_timeout: Duration,
    server_draining: bool,
    in_flight: Gauge,
    /// Calls of all connections of the endpoint.
    outgoing: Gauge,
    /// Of a client that opened an endpoint for itself.
    _endpoint: Option<Endpoint>,
}

/// What a client takes over from the endpoint that made its connection.
pub(crate) struct Opened {
    pub(crate) connection: quinn::Connection,
    pub(crate) peer: Peer,
    pub(crate) hello: wire::Hello,
    pub(crate) outgoing: Gauge,
}

impl RpcClient {
    /// Connects to the node `name` at `addr` from a port of its own, with default settings. A program that also
    /// serves, or makes several connections, calls [`Endpoint::connect`] instead.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] as of [`Endpoint::connect`], and [`ConnectError::Bind`].
    pub async fn connect(addr: SocketAddr, name: &str, tls: &Tls) -> Result<Self, ConnectError> {
        let any: SocketAddr = if addr.is_ipv6() {
            (std::net::Ipv6Addr::UNSPECIFIED, 0).into()
        } else {
            (std::net::Ipv4Addr::UNSPECIFIED, 0).into()
        };
        let endpoint = Endpoint::bind(any, TransportConfig::default(), tls.clone())
            .map_err(|e| ConnectError::Bind(Arc::new(e)))?;
        let opened = endpoint.open(addr, name).await?;
        Ok(Self::new(
            opened,
            &endpoint.config().clone(),
            Some(endpoint),
        ))
    }

    pub(crate) fn new(
        opened: Opened,
        config: &TransportConfig,
        endpoint: Option<Endpoint>,
    ) -> Self {
        let Opened {
            connection,
            peer,
            hello,
            outgoing,
        } = opened;
        Self(Arc::new(Inner {
            connection,
            peer,
            request_bytes_max: config
                .message_bytes_max
                .min(hello.message_bytes_max as usize),
            answer_bytes_max: config.message_bytes_max,
            call_timeout: config.call_timeout,
            server_draining: hello.draining,
            in_flight: Gauge::default(),
            outgoing,
            _endpoint: endpoint,
        }))
    }

    /// Calls a method with bytes, which get bytes back.
    ///
    /// # Errors
    ///
    /// [`RpcError`] says what happened and whether the handler has seen the request.
    pub async fn call(&self, method: &str, body: impl Into<Bytes>) -> Result<Bytes, RpcError> {
        self.call_with(method, body, CallOptions::new()).await
    }

    /// Like [`call`](Self::call), with a timeout of its own and more.
    ///
    /// # Errors
    ///
    /// As of [`call`](Self::call).
    pub async fn call_with(
        &self,
        method: &str,
        body: impl Into<Bytes>,
        options: CallOptions,
    ) -> Result<Bytes, RpcError> {
        let deadline = options.deadline(self.0.call_timeout);
        let mut sent = false;
        let call = self.exchange(method, body.into(), &options, deadline, &mut sent);
        let outcome = match deadline {
            Some(at) => timeout_at(at, call)
                .await
                .unwrap_or_else(|_| Err(out_of_time(sent))),
            None => call.await,
        };
        outcome.map_err(|e| self.of_peer(e))
    }

    /// Calls a method with a value, which gets a value back, both encoded with postcard.
    ///
    /// # Errors
    ///
    /// As of [`call`](Self::call), and [`Code::Internal`] if a value does not encode or decode.
    pub async fn call_typed<Req, Resp>(&self, method: &str, request: &Req) -> Result<Resp, RpcError>
    where
        Req: Encode + ?Sized,
        Resp: Decode,
    {
        self.call_typed_with(method, request, CallOptions::new())
            .await
    }

    /// Like [`call_typed`](Self::call_typed), with a timeout of its own and more.
    ///
    /// # Errors
    ///
    /// As of [`call_typed`](Self::call_typed).
    pub async fn call_typed_with<Req, Resp>(
        &self,
        method: &str,
        request: &Req,
        options: CallOptions,
    ) -> Result<Resp, RpcError>
    where
        Req: Encode + ?Sized,
        Resp: Decode,
    {
        let body = encode(request).map_err(|e| self.of_peer(e))?;
        let reply = self.call_with(method, body, options).await?;
        decode(reply).map_err(|e| self.of_peer(e))
    }

    /// Calls a method that answers one request with a stream.
    ///
    /// # Errors
    ///
    /// [`RpcError`] if the request could not be sent; what the handler says comes with the stream.
    pub async fn call_server_streaming<Req, Resp>(
        &self,
        method: &str,
        request: &Req,
    ) -> Result<Receiver<Resp>, RpcError>
    where
        Req: Encode + ?Sized,
        Resp: Decode,
    {
        self.call_server_streaming_with(method, request, CallOptions::new())
            .await
    }

    /// Like [`call_server_streaming`](Self::call_server_streaming), with a timeout of its own and more.
    ///
    /// # Errors
    ///
    /// As of [`call_server_streaming`](Self::call_server_streaming).
    pub async fn call_server_streaming_with<Req, Resp>(
        &self,
        method: &str,
        request: &Req,
        options: CallOptions,
    ) -> Result<Receiver<Resp>, RpcError>
    where
        Req: Encode + ?Sized,
        Resp: Decode,
    {
        let body = encode(request).map_err(|e| self.of_peer(e))?;
        let flags = Flags {
            streams_replies: true,
            ..Flags::default()
        };
        let (mut send, recv) = self.begin(method, body, flags, options).await?;
        send.finish();
        Ok(Receiver::new(recv))
    }

    /// Calls a method that answers a stream with one reply.
    ///
    /// # Errors
    ///
    /// [`RpcError`] if the call could not be begun.
    pub async fn call_client_streaming<Req, Resp>(
        &self,
        method: &str,
    ) -> Result<Upload<Req, Resp>, RpcError>
    where
        Req: Encode,
        Resp: Decode,
    {
        self.call_client_streaming_with(method, CallOptions::new())
            .await
    }

    /// Like [`call_client_streaming`](Self::call_client_streaming), with a timeout of its own and more.
    ///
    /// # Errors
    ///
    /// As of [`call_client_streaming`](Self::call_client_streaming).
    pub async fn call_client_streaming_with<Req, Resp>(
        &self,
        method: &str,
        options: CallOptions,
    ) -> Result<Upload<Req, Resp>, RpcError>
    where
        Req: Encode,
        Resp: Decode,
    {
        let flags = Flags {
            streams_requests: true,
            ..Flags::default()
        };
        let (send, recv) = self.begin(method, Bytes::new(), flags, options).await?;
        Ok(Upload::new(Sender::new(send), recv))
    }

    /// Calls a method that answers a stream with a stream.
    ///
    /// # Errors
    ///
    /// [`RpcError`] if the call could not be begun; what the handler says comes with the stream.
    pub async fn call_streaming<Req, Resp>(
        &self,
        method: &str,
    ) -> Result<(Sender<Req>, Receiver<Resp>), RpcError>
    where
        Req: Encode,
        Resp: Decode,
    {
        self.call_streaming_with(method, CallOptions::new()).await
    }

    /// Like [`call_streaming`](Self::call_streaming), with a timeout of its own and more.
    ///
    /// # Errors
    ///
    /// As of [`call_streaming`](Self::call_streaming).
    pub async fn call_streaming_with<Req, Resp>(
        &self,
        method: &str,
        options: CallOptions,
    ) -> Result<(Sender<Req>, Receiver<Resp>), RpcError>
    where
        Req: Encode,
        Resp: Decode,
    {
        let flags = Flags {
            streams_requests: true,
            streams_replies: true,
            ..Flags::default()
        };
        let (send, recv) = self.begin(method, Bytes::new(), flags, options).await?;
        Ok((Sender::new(send), Receiver::new(recv)))
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &Peer {
        &self.0.peer
    }

    /// Calls under way on this connection, streams until both of their ends are dropped.
    pub fn in_flight(&self) -> usize {
        self.0.in_flight.count()
    }

    /// Round-trip time as QUIC estimates it.
    pub fn rtt(&self) -> Duration {
        self.0.connection.rtt()
    }

    /// Whether the server said, when the connection was made, that it takes no calls at the moment.
    pub fn was_draining(&self) -> bool {
        self.0.server_draining
    }

    /// Whether the connection is gone, so that every call fails.
    pub fn is_closed(&self) -> bool {
        self.0.connection.close_reason().is_some()
    }

    /// Why the connection is gone; `None` while it stands.
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.0
            .connection
            .close_reason()
            .map(|e| CloseReason::of(&e))
    }

    /// Waits until the connection is gone.
    pub async fn closed(&self) -> CloseReason {
        CloseReason::of(&self.0.connection.closed().await)
    }

    /// Closes the connection. Calls under way fail; the other side learns the reason.
    pub fn close(&self, reason: &str) {
        self.0
            .connection
            .close(answer::CLOSE_DONE, reason.as_bytes());
    }

    /// One call without streams. Tells by `sent` whether all of the request was handed over.
    async fn exchange(
        &self,
        method: &str,
        body: Bytes,
        options: &CallOptions,
        deadline: Option<Instant>,
        sent: &mut bool,
    ) -> Result<Bytes, RpcError> {
        let _in_flight = self.enter();
        let header = self.header(method, &body, options, Flags::default())?;
        let (mut send, mut recv) = self.open_stream().await?;
        self.send_request(&mut send, header, body, deadline).await?;
        send.finish();
        *sent = true;
        match std::future::poll_fn(|cx| recv.poll_frame(cx)).await {
            Ok(Some(Frame::Reply(header, body))) => {
                recv.note_end();
                answer::of_reply(header, body)
            }
            other => Err(answer::unreadable(other, send.index())),
        }
    }

    /// Begins a call with streams. What it returns carries the deadline on.
    async fn begin(
        &self,
        method: &str,
        body: Bytes,
        flags: Flags,
        options: CallOptions,
    ) -> Result<(SendCore, RecvCore), RpcError> {
        let deadline = options.deadline(self.0.call_timeout);
        let in_flight = Arc::new(self.enter());
        let beginning = async {
            let header = self.header(method, &body, &options, flags)?;
            let (mut send, recv) = self.open_stream().await?;
            self.send_request(&mut send, header, body, deadline).await?;
            Ok((send, recv))
        };
        let begun = match deadline {
            Some(at) => timeout_at(at, beginning)
                .await
                .unwrap_or_else(|_| Err(out_of_time(false))),
            None => beginning.await,
        };
        let (send, recv) = begun.map_err(|e| self.of_peer(e))?;
        let index = send.index();
        let recv = RecvCore::of_caller(
            recv,
            self.0.peer.clone(),
            deadline,
            index,
            Arc::clone(&in_flight),
        );
        let send = SendCore::of_caller(
            send,
            self.0.peer.clone(),
            self.0.request_bytes_max,
            deadline,
            in_flight,
        );
        Ok((send, recv))
    }

    fn header(
        &self,
        method: &str,
        body: &Bytes,
        options: &CallOptions,
        flags: Flags,
    ) -> Result<RequestHeader, RpcError> {
        if method.is_empty() || method.len() > wire::METHOD_BYTES_MAX {
            return Err(RpcError::new(
                Code::InvalidRequest,
                Processed::No,
                "a method name has 1 to 255 bytes",
            ));
        }
        if body.len() > self.0.request_bytes_max {
            return Err(crate::stream::too_large(
                body.len(),
                self.0.request_bytes_max,
            ));
        }
        Ok(RequestHeader {
            method: method.to_owned(),
            attempt: options.attempt,
            flags: Flags {
                idempotent: options.idempotent,
                ..flags
            },
            deadline: None,
        })
    }

    async fn open_stream(&self) -> Result<(SendHalf, RecvHalf), RpcError> {
        let (send, recv) = self
            .0
            .connection
            .open_bi()
            .await
            .map_err(answer::lost_before_sending)?;
        let decoder = Decoder::answers(self.0.answer_bytes_max);
        Ok((SendHalf::new(send), RecvHalf::new(recv, decoder)))
    }

    async fn send_request(
        &self,
        send: &mut SendHalf,
        mut header: RequestHeader,
        body: Bytes,
        deadline: Option<Instant>,
    ) -> Result<(), RpcError> {
        // What is left when the bytes leave, so that waiting for a stream is not counted twice.
        header.deadline = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        let head = crate::stream::begin_call(&header, body.len());
        match send.write(head, body, None).await {
            // A server that stops a request has answered it: the reason is there to be read.
            Ok(()) | Err(WriteFailure::Stopped) => Ok(()),
            Err(WriteFailure::Lost(e)) => Err(answer::lost_before_sending(e)),
            Err(WriteFailure::Stalled | WriteFailure::Closed) => {
                unreachable!("a new stream without a limit on waiting")
            }
        }
    }

    fn enter(&self) -> [GaugeGuard; 2] {
        [self.0.in_flight.enter().0, self.0.outgoing.enter().0]
    }

    fn of_peer(&self, error: RpcError) -> RpcError {
        error.with_peer(self.0.peer.clone())
    }
}

impl fmt::Debug for RpcClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RpcClient")
            .field("peer", &self.0.peer)
            .field("in_flight", &self.in_flight())
            .field("closed", &self.close_reason())
            .finish()
    }
}

fn encode<Req: Encode + ?Sized>(request: &Req) -> Result<Bytes, RpcError> {
    request.encode().map_err(|e| {
        RpcError::new(Code::Internal, Processed::No, "the request did not encode").with_source(e)
    })
}

fn decode<Resp: Decode>(reply: Bytes) -> Result<Resp, RpcError> {
    Resp::decode(reply).map_err(|e| {
        RpcError::new(Code::Internal, Processed::Yes, "the reply did not decode").with_source(e)
    })
}

fn out_of_time(sent: bool) -> RpcError {
    if sent {
        RpcError::new(Code::DeadlineExceeded, Processed::Maybe, "no reply in time")
    } else {
        RpcError::new(
            Code::DeadlineExceeded,
            Processed::No,
            "the request could not be sent in time",
        )
    }
}
