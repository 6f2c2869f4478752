//! Call that was sent on a lane, for callers that do more than make it.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    CallOptions, RpcClient, agreements::Agreement, lanes::LaneCallRequest, reply,
    typed_calls::called,
};
use crate::{
    IntegerRequest, LoadReport, RpcError, UntypedMethod,
    codec::Encoding,
    deadline::is_expired,
    method::{CalledMethod, TypedCall},
};

/// Small unary call, as [`RpcClient::try_send`] sends it.
#[derive(Debug, Clone, Copy)]
pub struct SmallCall<'a> {
    /// The method.
    pub method: SmallCallMethod<'a>,
    /// The request, as [`Encode::encode`](crate::Encode::encode) makes it.
    pub body: &'a Bytes,
    /// Options of the call. Those that were [resolved](CallOptions::resolved) are taken as they
    /// are; others are resolved when the call is sent, with the default timeout of unary calls.
    pub options: &'a CallOptions,
    /// The present instant. A caller that sends many calls, or measures them, looks at the clock
    /// once for all. It tells the server how much time is left, so an earlier instant gives the
    /// server a later deadline than the caller has.
    pub now: std::time::Instant,
}

/// Method of a small call.
#[derive(Debug, Clone, Copy)]
pub enum SmallCallMethod<'a> {
    /// A name, and the type of the request if it is an integer.
    Named(&'a str, Option<IntegerRequest>),
    /// A typed method, whose request is encoded with postcard.
    Typed(UntypedMethod),
}

/// Call whose request was sent; completes with the bytes of the reply, which
/// [`Decode::decode`](crate::Decode::decode) reads. Dropped before, it cancels the call.
///
/// It holds its connection and the slot of the reply, and nothing else.
///
/// # Errors
///
/// As of [`RpcClient::call`]. The own error of a typed method is in it, as
/// [`CallError::from`](crate::CallError) or [`RpcError::app`] reads it. A
/// [`Code::Incompatible`](crate::Code::Incompatible) of a typed method may mean that the server has
/// other types, which [`RpcClient::call_encoded_again`] can bridge.
///
/// # Panics
///
/// When it is polled again after it has completed.
#[must_use = "dropping it cancels the call"]
pub struct SentCall {
    client: RpcClient,
    lane: usize,
    /// `None` once the reply was taken.
    id: Option<u32>,
    is_typed: bool,
}

impl RpcClient {
    /// Sends a small call at once, if a lane accepts it; gives the client back if it needs another
    /// form of call, which also has the error of one that cannot be made at all. Then nothing was
    /// sent.
    ///
    /// The task of `waker` is woken if the reply comes before the [`SentCall`] is polled; from then
    /// on it is the task that polled last. A caller that polls right away may pass [`Waker::noop`].
    ///
    /// # Errors
    ///
    /// The client, if nothing was sent:
    ///
    /// - the request is large, or its options ask for a [stream of its
    ///   own](CallOptions::with_isolated),
    /// - the connection is saturated, drains, is closed, is not established or has
    ///   [layers](crate::ClientLayer),
    /// - the method is called in the named encoding, or its name is too long or empty,
    /// - the deadline has passed, or is more than 70 minutes away.
    ///
    /// # Examples
    ///
    /// Many calls in flight, without a task or a box for each:
    ///
    /// ```
    /// use std::{task::Waker, time::{Duration, Instant}};
    ///
    /// use rpcnet_transport::{
    ///     CallError, CallOptions, Decode, Encode, Message, Method, RpcClient, SmallCall,
    ///     SmallCallMethod,
    /// };
    ///
    /// #[derive(Debug, serde::Serialize, serde::Deserialize, Message)]
    /// struct TooLarge;
    ///
    /// const SQUARE: Method<u32, u32, TooLarge> = Method::new("square");
    ///
    /// /// Squares that fit in 32 bits, by 64 calls at a time.
    /// async fn squares(client: &RpcClient) -> Result<Vec<u32>, Box<dyn std::error::Error>> {
    ///     let now = Instant::now();
    ///     let options = CallOptions::new().resolved(now, Some(Duration::from_secs(2)));
    ///     let method = SmallCallMethod::Typed(SQUARE.untyped());
    ///     let mut sent = Vec::new();
    ///     for n in (0..64).map(|n: u32| n * 5_000) {
    ///         let body = n.encode()?;
    ///         let call = SmallCall { method, body: &body, options: &options, now };
    ///         sent.push((n, client.clone().try_send(&call, Waker::noop())));
    ///     }
    ///     let mut squares = Vec::new();
    ///     for (n, sent) in sent {
    ///         let square = match sent {
    ///             Ok(call) => match call.await {
    ///                 Ok(reply) => Ok(u32::decode(reply)?),
    ///                 Err(error) => Err(CallError::from(error)),
    ///             },
    ///             // The other form waits for room, or says why the call cannot be made.
    ///             Err(client) => SQUARE.call(&client, &n).await,
    ///         };
    ///         match square {
    ///             Ok(square) => squares.push(square),
    ///             Err(CallError::Service(TooLarge)) => {}
    ///             Err(CallError::Rpc(error)) => return Err(error.into()),
    ///         }
    ///     }
    ///     Ok(squares)
    /// }
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use rpcnet_transport::{DevCa, Endpoint, Router, TransportConfig};
    /// # let (ca, any) = (DevCa::new("example"), "127.0.0.1:0".parse()?);
    /// # let square = |n: u32| async move { n.checked_mul(n).ok_or(TooLarge) };
    /// # let server = Endpoint::bind(any, TransportConfig::lan(), ca.issue("server")?)?
    /// #     .serve(Router::new().method(SQUARE, square));
    /// # let caller = Endpoint::bind(any, TransportConfig::lan(), ca.issue("caller")?)?;
    /// # let client = caller.connect(server.local_addr(), "server").await?;
    /// # assert_eq!(squares(&client).await?.len(), 14);
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn try_send(self, call: &SmallCall<'_>, waker: &Waker) -> Result<SentCall, Self> {
        if !call.options.is_resolved() {
            return self.resolve_and_send(call, waker);
        }
        let (now, deadline) = (
            Instant::from_std(call.now),
            call.options.resolved_deadline(),
        );
        let inner = &*self.0;
        let fits = inner.early.is_none()
            && self.layers_for(call.options).is_none()
            && self.fits_lane(call.body, call.options, now, deadline)
            && !self.is_draining()
            && !is_expired(deadline, now)
            && !inner.lanes.has_waiting_calls();
        let Some(method) = self.small_call_method(call.method).filter(|_| fits) else {
            return Err(self);
        };
        if inner.limits.check_request(method.name, call.body).is_err() {
            return Err(self);
        }
        let request = LaneCallRequest {
            method,
            body: call.body,
            options: call.options,
            now,
            deadline,
        };
        match inner.lanes.start_indexed_call(&request, waker) {
            Ok((lane, id)) => Ok(SentCall {
                client: self,
                lane,
                id: Some(id),
                is_typed: matches!(call.method, SmallCallMethod::Typed(_)),
            }),
            Err(_) => Err(self),
        }
    }

    #[cold]
    fn resolve_and_send(self, call: &SmallCall<'_>, waker: &Waker) -> Result<SentCall, Self> {
        let mut options = *call.options;
        options.resolve(call.now.into(), Some(self.0.limits.call_timeout));
        let call = SmallCall {
            options: &options,
            ..*call
        };
        self.try_send(&call, waker)
    }

    #[inline]
    fn small_call_method<'a>(&self, method: SmallCallMethod<'a>) -> Option<CalledMethod<'a>> {
        match method {
            SmallCallMethod::Named(name, integer) => Some(IntegerRequest::called(integer, name)),
            SmallCallMethod::Typed(method) => {
                let agreement = self.0.agreements.get(method);
                let is_postcard =
                    matches!(agreement, None | Some(Agreement::Equal(Encoding::Postcard)));
                is_postcard.then(|| called(TypedCall::unchecked(method, Encoding::Postcard)))
            }
        }
    }
}

impl SentCall {
    /// The connection of the call.
    #[must_use]
    pub fn client(&self) -> &RpcClient {
        &self.client
    }

    /// Time from the [creation](RpcClient::created_at) of the connection to the last reply that
    /// was read on it. Replies that come together are read at one instant, so a caller that times
    /// many calls need not look at the clock for each: once the reply of this call was taken, this
    /// is the time at which it was read, or a later one. Other reads have other times.
    #[must_use]
    #[inline]
    pub fn read_after(&self) -> Duration {
        self.client.0.shared.replied_after()
    }

    /// Load report of the last reply on the connection, as of [`RpcClient::load`].
    #[must_use]
    #[inline]
    pub fn load(&self) -> Option<LoadReport> {
        self.client.0.shared.load()
    }
}

impl Future for SentCall {
    type Output = Result<Bytes, RpcError>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let id = this.id.expect("polled after the reply");
        let lanes = &this.client.0.lanes;
        lanes.poll_reply(this.lane, id, cx).map(|reply| {
            this.id = None;
            match reply {
                // A typed reply is decoded at once.
                Ok(bytes) if this.is_typed => Ok(bytes),
                Ok(bytes) => Ok(reply::detached(bytes)),
                Err(error) => Err(this.client.with_peer_context(error)),
            }
        })
    }
}

impl Drop for SentCall {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            self.client.0.lanes.cancel(self.lane, id);
        }
    }
}

impl fmt::Debug for SentCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SentCall")
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}
