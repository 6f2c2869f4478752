//! Streams of the messages of a typed call.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{
    Stream, StreamExt, TryStreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};

use super::ErrorType;
use crate::{Decode, Receiver, RpcError, Status, client, codec::Encoding};

/// Requests of a call that streams them, as its handler reads them. It is a [`Stream`]; it ends
/// after the last request.
pub struct Requests<T>(Source<T>);

/// Replies of a call that streams them: what a handler returns, and what its caller reads. It is a
/// [`Stream`] that ends after the last reply, or after an error. Dropping it cancels the call.
pub struct Replies<T> {
    source: Source<T>,
    /// Sends the requests of a call that streams both.
    sending: Option<BoxFuture<'static, Result<(), RpcError>>>,
}

enum Source<T> {
    Remote(Box<Receiver<T>>),
    Ended,
    Stream(BoxStream<'static, Result<T, StreamError>>),
}

/// Error that ends a stream.
pub(crate) enum StreamError {
    Rpc(RpcError),
    /// The error of a method, which is encoded like the messages of the call.
    Service(Box<dyn FnOnce(Encoding) -> Status + Send>),
}

impl StreamError {
    /// The status that ends the call of a handler.
    pub(crate) fn into_status(self, encoding: Encoding) -> Status {
        match self {
            Self::Rpc(error) => error.into(),
            Self::Service(into_status) => into_status(encoding),
        }
    }

    fn into_rpc_error(self) -> RpcError {
        match self {
            Self::Rpc(error) => error,
            Self::Service(into_status) => RpcError::of_status(into_status(Encoding::Postcard)),
        }
    }
}

impl<T: Send + 'static> Requests<T> {
    /// Requests from a stream, for a handler that is called without a network.
    #[must_use]
    pub fn new(requests: impl Stream<Item = T> + Send + 'static) -> Self {
        Self(Source::Stream(requests.map(Ok).boxed()))
    }

    pub(crate) fn remote(receiver: Receiver<T>) -> Self {
        Self(Source::Remote(Box::new(receiver)))
    }

    /// Requests of a call in this process.
    pub(crate) fn encoded(
        requests: impl Stream<Item = Result<Bytes, RpcError>> + Send + 'static,
        encoding: Encoding,
    ) -> Self
    where
        T: Decode,
    {
        Self(Source::Stream(decoded(requests, encoding).boxed()))
    }
}

impl<T: Decode> Requests<T> {
    /// The next request, or `None` after the last; see [`Receiver::message`].
    ///
    /// # Errors
    ///
    /// Those of [`Receiver::message`] for a handler.
    pub async fn message(&mut self) -> Result<Option<T>, RpcError> {
        self.0.message().await
    }
}

impl<T: Send + 'static> Replies<T> {
    /// Replies from a stream.
    #[must_use]
    pub fn new(replies: impl Stream<Item = T> + Send + 'static) -> Self {
        Self::from_stream(replies.map(Ok))
    }

    /// Replies from a stream that may end with the error of the method, or with a [`Status`].
    #[must_use]
    pub fn try_new<E: ErrorType>(
        replies: impl Stream<Item = Result<T, E>> + Send + 'static,
    ) -> Self {
        Self::from_stream(replies.map_err(|error| {
            StreamError::Service(Box::new(move |encoding| error.into_status(encoding)))
        }))
    }

    /// Replies of an iterator, which makes each one when it is sent: it may be endless. Items that
    /// are borrowed are collected first; an iterator that blocks or computes for long holds up the
    /// thread that sends, for which [`new`](Self::new) with a stream is better.
    #[must_use]
    pub fn of(replies: impl IntoIterator<Item = T, IntoIter: Send + 'static>) -> Self {
        Self::new(stream::iter(replies))
    }

    /// Replies that come from the stream of another call, with its error.
    #[must_use]
    pub fn forwarded(replies: impl Stream<Item = Result<T, RpcError>> + Send + 'static) -> Self {
        Self::from_stream(replies.map_err(StreamError::Rpc))
    }

    /// Replies of a call in this process.
    pub(crate) fn encoded(
        replies: impl Stream<Item = Result<Bytes, RpcError>> + Send + 'static,
        encoding: Encoding,
    ) -> Self
    where
        T: Decode,
    {
        Self::from_stream(decoded(replies, encoding))
    }

    fn from_stream(replies: impl Stream<Item = Result<T, StreamError>> + Send + 'static) -> Self {
        Self {
            source: Source::Stream(replies.boxed()),
            sending: None,
        }
    }

    pub(crate) fn remote(receiver: Receiver<T>) -> Self {
        Self {
            source: Source::Remote(Box::new(receiver)),
            sending: None,
        }
    }

    /// Replies of a call whose requests are sent as the replies are read.
    pub(crate) fn with_sending(
        self,
        sending: impl Future<Output = Result<(), RpcError>> + Send + 'static,
    ) -> Self {
        let sending: Option<BoxFuture<'static, _>> = Some(Box::pin(sending));
        Self { sending, ..self }
    }
}

impl<T: Decode> Replies<T> {
    /// The next reply, or `None` after the last. Cancel-safe.
    ///
    /// # Errors
    ///
    /// Those of [`Receiver::message`] for a caller. After an error there are no more replies.
    pub async fn message(&mut self) -> Result<Option<T>, RpcError> {
        self.next().await.transpose()
    }

    /// The next reply for the caller of a handler.
    pub(crate) async fn next_reply(&mut self) -> Option<Result<T, StreamError>> {
        poll_fn(|cx| self.poll_reply(cx)).await
    }

    fn poll_reply(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, StreamError>>> {
        if let Some(sending) = &mut self.sending
            && let Poll::Ready(sent) = sending.as_mut().poll(cx)
        {
            self.sending = None;
            if let Err(error) = sent {
                self.source = Source::Ended;
                return Poll::Ready(Some(Err(StreamError::Rpc(error))));
            }
        }
        let next = self.source.poll_message(cx);
        if matches!(next, Poll::Ready(None | Some(Err(_)))) {
            self.sending = None;
        }
        next
    }
}

impl<T: Decode> Source<T> {
    async fn message(&mut self) -> Result<Option<T>, RpcError> {
        match self {
            // The wait for one message ends with its future.
            Self::Remote(receiver) => receiver.message().await,
            Self::Ended => Ok(None),
            Self::Stream(stream) => stream
                .next()
                .await
                .transpose()
                .map_err(StreamError::into_rpc_error),
        }
    }

    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, StreamError>>> {
        match self {
            Self::Remote(receiver) => {
                let next = Pin::new(&mut **receiver).poll_next(cx);
                next.map(|next| next.map(|message| message.map_err(StreamError::Rpc)))
            }
            Self::Ended => Poll::Ready(None),
            Self::Stream(stream) => stream.as_mut().poll_next(cx),
        }
    }
}

fn decoded<T: Decode>(
    messages: impl Stream<Item = Result<Bytes, RpcError>>,
    encoding: Encoding,
) -> impl Stream<Item = Result<T, StreamError>> {
    let decode = move |bytes| client::decode_reply(bytes, encoding);
    messages.map(move |message| message.and_then(decode).map_err(StreamError::Rpc))
}

impl<T: Decode> Stream for Requests<T> {
    type Item = Result<T, RpcError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = self.0.poll_message(cx);
        next.map(|next| next.map(|message| message.map_err(StreamError::into_rpc_error)))
    }
}

impl<T: Decode> Stream for Replies<T> {
    type Item = Result<T, RpcError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = self.poll_reply(cx);
        next.map(|next| next.map(|message| message.map_err(StreamError::into_rpc_error)))
    }
}

impl<T> Unpin for Source<T> {}

impl<T> fmt::Debug for Requests<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Requests").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Replies<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replies").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn replies_of_an_iterator_are_made_when_they_are_read() {
        let mut replies = Replies::of((0..u64::MAX / 2).map(|n| n * 2));
        for expected in [0, 2, 4] {
            let next = replies.message().await.expect("no error");
            assert_eq!(next, Some(expected));
        }
    }
}
