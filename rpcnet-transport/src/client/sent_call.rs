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
    /// The request.
    pub body: &'a Bytes,
    /// Options that were [resolved](CallOptions::resolved) when the call was made.
    pub options: &'a CallOptions,
    /// The present instant.
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

/// Call whose request was sent; completes with the reply. Dropped before, it cancels the call.
///
/// It holds its connection and the place of the reply, and nothing else.
#[must_use = "dropping it cancels the call"]
pub struct SentCall {
    client: RpcClient,
    lane: usize,
    /// `None` once the reply was taken.
    id: Option<u32>,
    is_typed: bool,
}

impl RpcClient {
    /// Sends a small call at once, if nothing stands in its way; gives the client back if it needs
    /// another form of call, which also says what is wrong if it cannot be made at all. Then
    /// nothing was sent. The task of `waker` is woken when the reply is there.
    ///
    /// # Errors
    ///
    /// The client, if nothing was sent: the request is large, the connection is saturated, drains,
    /// is not established or has [layers](crate::ClientLayer), the method is called in the named
    /// encoding, or the deadline has passed.
    #[inline]
    pub fn try_send(self, call: &SmallCall<'_>, waker: &Waker) -> Result<SentCall, Self> {
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
