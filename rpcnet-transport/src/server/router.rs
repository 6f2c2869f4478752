//! Methods and their handlers.

use std::{collections::HashMap, fmt, sync::Arc};

use bytes::Bytes;
use futures::future::BoxFuture;

use super::{CallContext, IntoReply};
use crate::{
    Decode, Encode, Receiver, Sender, Status,
    stream::{RecvCore, SendCore},
    wire,
};

/// The methods of a server and their handlers. Cheap to clone: clones share the handlers.
///
/// A handler is a function that returns a future. It runs in a task of its own; it may panic without harm to others, and
/// is dropped at its next await when nobody waits for its reply any more.
///
/// Two methods of one name are a mistake of the program, not of its input: adding the second panics, at the line that
/// adds it. Where names come from outside, ask [`has`](Self::has) first.
///
/// ```
/// use rpcnet_transport::{CallContext, Router, Status};
///
/// let router = Router::new()
///     .raw("echo", |_cx: CallContext, body| async move { Ok(body) })
///     .typed("double", |n: u32| async move { n * 2 })
///     .typed("divide", |(a, b): (u32, u32)| async move {
///         a.checked_div(b).ok_or_else(|| Status::invalid_request("division by zero"))
///     })
///     .typed_with("greet", |cx: CallContext, name: String| async move {
///         format!("{name}, you are {}", cx.peer().name())
///     });
/// assert!(router.has("divide"));
/// ```
#[derive(Clone, Default)]
pub struct Router {
    handlers: HashMap<Arc<str>, Handler>,
}

#[derive(Clone)]
pub(crate) struct Handler {
    pub(crate) streams_requests: bool,
    pub(crate) streams_replies: bool,
    pub(crate) serve:
        Arc<dyn Fn(CallContext, Arguments) -> BoxFuture<'static, Outcome> + Send + Sync>,
}

/// What a handler works on. The two options are there exactly if the method streams in that direction.
pub(crate) struct Arguments {
    pub(crate) body: Bytes,
    pub(crate) requests: Option<RecvCore>,
    pub(crate) replies: Option<SendCore>,
}

type Outcome = Result<Bytes, Status>;

impl Router {
    /// No methods.
    pub fn new() -> Self {
        Self::default()
    }

    /// A method that takes bytes and replies with bytes.
    ///
    /// # Panics
    ///
    /// If there is a method of this name already, or the name does not have 1 to 255 bytes; so do all that add one.
    #[must_use]
    #[track_caller]
    pub fn raw<F, Fut>(self, name: &str, handler: F) -> Self
    where
        F: Fn(CallContext, Bytes) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Bytes, Status>> + Send + 'static,
    {
        self.with(name, (false, false), move |cx, arguments| {
            Box::pin(handler(cx, arguments.body))
        })
    }

    /// A method that takes a value and replies with a value, both encoded with postcard. The handler returns the value
    /// or a `Result` of it and anything that becomes a [`Status`].
    ///
    /// # Panics
    ///
    /// As of [`raw`](Self::raw).
    #[must_use]
    #[track_caller]
    pub fn typed<Req, Fut, By, F>(self, name: &str, handler: F) -> Self
    where
        F: Fn(Req) -> Fut + Send + Sync + 'static,
        Fut: Future + Send + 'static,
        Fut::Output: IntoReply<By>,
        Req: Decode + 'static,
    {
        self.typed_with(name, move |_, request| handler(request))
    }

    /// Like [`typed`](Self::typed), for a handler that wants to know about the call.
    ///
    /// # Panics
    ///
    /// As of [`raw`](Self::raw).
    #[must_use]
    #[track_caller]
    pub fn typed_with<Req, Fut, By, F>(self, name: &str, handler: F) -> Self
    where
        F: Fn(CallContext, Req) -> Fut + Send + Sync + 'static,
        Fut: Future + Send + 'static,
        Fut::Output: IntoReply<By>,
        Req: Decode + 'static,
    {
        self.with(name, (false, false), move |cx, arguments| {
            match decode(arguments.body) {
                Ok(request) => {
                    let reply = handler(cx, request);
                    Box::pin(async move { reply.await.into_reply() })
                }
                Err(status) => Box::pin(async move { Err(status) }),
            }
        })
    }

    /// A method that answers one request with a stream. The stream ends when the handler has returned and its sender
    /// is dropped. For messages as they are, take or send [`Raw`](crate::Raw).
    ///
    /// # Panics
    ///
    /// As of [`raw`](Self::raw).
    #[must_use]
    #[track_caller]
    pub fn server_streaming<Req, Resp, Fut, F>(self, name: &str, handler: F) -> Self
    where
        F: Fn(CallContext, Req, Sender<Resp>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Status>> + Send + 'static,
        Req: Decode + 'static,
        Resp: Encode + 'static,
    {
        self.with(name, (false, true), move |cx, arguments| {
            let replies = Sender::new(arguments.replies.expect("the method streams its replies"));
            match decode(arguments.body) {
                Ok(request) => empty_reply(handler(cx, request, replies)),
                Err(status) => Box::pin(async move {
                    drop(replies);
                    Err(status)
                }),
            }
        })
    }

    /// A method that answers a stream with one reply.
    ///
    /// # Panics
    ///
    /// As of [`raw`](Self::raw).
    #[must_use]
    #[track_caller]
    pub fn client_streaming<Req, Fut, By, F>(self, name: &str, handler: F) -> Self
    where
        F: Fn(CallContext, Receiver<Req>) -> Fut + Send + Sync + 'static,
        Fut: Future + Send + 'static,
        Fut::Output: IntoReply<By>,
        Req: Decode + 'static,
    {
        self.with(name, (true, false), move |cx, arguments| {
            let requests = Receiver::new(arguments.requests.expect("the method takes a stream"));
            let reply = handler(cx, requests);
            Box::pin(async move { reply.await.into_reply() })
        })
    }

    /// A method that answers a stream with a stream. The answering stream ends when the handler has returned and its
    /// sender is dropped.
    ///
    /// # Panics
    ///
    /// As of [`raw`](Self::raw).
    #[must_use]
    #[track_caller]
    pub fn streaming<Req, Resp, Fut, F>(self, name: &str, handler: F) -> Self
    where
        F: Fn(CallContext, Receiver<Req>, Sender<Resp>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Status>> + Send + 'static,
        Req: Decode + 'static,
        Resp: Encode + 'static,
    {
        self.with(name, (true, true), move |cx, arguments| {
            let requests = Receiver::new(arguments.requests.expect("the method takes a stream"));
            let replies = Sender::new(arguments.replies.expect("the method streams its replies"));
            empty_reply(handler(cx, requests, replies))
        })
    }

    /// All methods of both.
    ///
    /// # Panics
    ///
    /// If both have a method of the same name.
    #[must_use]
    #[track_caller]
    pub fn merge(mut self, other: Self) -> Self {
        for (name, handler) in other.handlers {
            self.insert(name, handler);
        }
        self
    }

    /// Whether there is a method of this name.
    pub fn has(&self, name: &str) -> bool {
        self.handlers.contains_key(name)
    }

    /// Names of the methods, in no order.
    pub fn methods(&self) -> impl Iterator<Item = &str> {
        self.handlers.keys().map(|name| &**name)
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Handler> {
        self.handlers.get(name)
    }

    #[track_caller]
    fn with(
        mut self,
        name: &str,
        (streams_requests, streams_replies): (bool, bool),
        serve: impl Fn(CallContext, Arguments) -> BoxFuture<'static, Outcome> + Send + Sync + 'static,
    ) -> Self {
        assert!(
            (1..=wire::METHOD_BYTES_MAX).contains(&name.len()),
            "a method name has 1 to 255 bytes"
        );
        self.insert(
            name.into(),
            Handler {
                streams_requests,
                streams_replies,
                serve: Arc::new(serve),
            },
        );
        self
    }

    #[track_caller]
    fn insert(&mut self, name: Arc<str>, handler: Handler) {
        let replaced = self.handlers.insert(Arc::clone(&name), handler);
        assert!(replaced.is_none(), "there is a method {name:?} already");
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.handlers.keys()).finish()
    }
}

fn decode<Req: Decode>(body: Bytes) -> Result<Req, Status> {
    Req::decode(body).map_err(|e| {
        Status::invalid_request(format!("the request did not decode: {e}")).not_processed()
    })
}

fn empty_reply(
    handler: impl Future<Output = Result<(), Status>> + Send + 'static,
) -> BoxFuture<'static, Outcome> {
    Box::pin(async move { handler.await.map(|()| Bytes::new()) })
}

#[cfg(test)]
mod tests {
    use std::{panic, sync::mpsc, thread};

    use super::*;

    #[test]
    fn a_second_method_of_one_name_panics_where_it_is_added() {
        let (tell, told) = mpsc::channel();
        let (ours, others) = (thread::current().id(), panic::take_hook());
        panic::set_hook(Box::new(move |info| {
            if thread::current().id() != ours {
                return others(info);
            }
            let place = info.location().map(|at| (at.file().to_owned(), at.line()));
            let _ = tell.send((place, info.to_string()));
        }));
        let router = Router::new().typed("twice", |n: u32| async move { n });
        let line = line!() + 2;
        let added = panic::catch_unwind(panic::AssertUnwindSafe(|| {
            drop(router.typed("twice", |n: u32| async move { n }));
        }));
        drop(panic::take_hook());
        assert!(added.is_err());
        let (place, message) = told.recv().unwrap();
        assert_eq!(place, Some((file!().to_owned(), line)));
        assert!(message.contains("there is a method \"twice\" already"));
    }
}
