//! Methods of services: a name together with the types of its messages.

mod call;
mod channel;
mod error_type;
mod integer_request;
mod local_channel;
mod method_type;
mod options;
mod streams;
mod untyped;

use std::{fmt, marker::PhantomData};

pub use self::{
    channel::Channel,
    error_type::{CallError, ErrorType},
    integer_request::IntegerRequest,
    local_channel::LocalChannel,
    method_type::MethodType,
    options::MethodOptions,
    streams::{Replies, Requests},
    untyped::UntypedMethod,
};
pub(crate) use self::{
    streams::StreamError,
    untyped::{CalledMethod, MethodKey, TypedCall},
};
use crate::{
    Message, Status,
    schema::{MethodSchema, SchemaBuilder, TypeRef},
};

/// A method: its name, the types of its messages, and how its calls are made.
///
/// A type of the requests or the replies is a [`Message`], or a stream of messages: [`Requests`],
/// [`Replies`]. `E` is the error of the method: a message of its own, [`Status`] for none.
///
/// ```
/// use rpcnet_transport::{LocalChannel, Method, Router};
///
/// const SQUARE: Method<u64, u64> = Method::new("square");
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), rpcnet_transport::RpcError> {
/// let router = Router::new().method(SQUARE, |n| async move { n * n });
/// // Or an `RpcClient`, or the workers of a cluster.
/// let channel = LocalChannel::new(router);
/// assert_eq!(SQUARE.call(&channel, &12).await?, 144);
/// # Ok(())
/// # }
/// ```
pub struct Method<Req, Reply, E = Status> {
    untyped: UntypedMethod,
    options: MethodOptions,
    _types: PhantomData<fn(Req) -> Result<Reply, E>>,
}

impl<Req: RequestType, Reply: ReplyType, E: ErrorType> Method<Req, Reply, E> {
    /// A method of this name, which has 1 to 255 bytes. Names of services are `Service/method`.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        let method_type = MethodType::new(Req::IS_STREAM, Reply::IS_STREAM);
        let untyped = UntypedMethod::new(name, describe::<Req, Reply, E>, 0);
        Self::with_schema(untyped.with_type(method_type))
    }
}

impl<Req: 'static, Reply: 'static, E: ErrorType> Method<Req, Reply, E> {
    /// A method whose types have no schema, such as those of other crates. Caller and server are
    /// compatible if both name the same `since`: count it up with each change of the types, also
    /// from one message to a stream.
    #[must_use]
    pub const fn opaque(name: &'static str, since: u32) -> Self {
        Self::with_schema(UntypedMethod::new(name, describe_opaque::<E>, since))
    }
}

impl<Req, Reply, E> Method<Req, Reply, E> {
    const fn with_schema(untyped: UntypedMethod) -> Self {
        Self {
            untyped,
            options: MethodOptions::new(),
            _types: PhantomData,
        }
    }

    /// Sets how calls of the method are made, where a call says nothing else.
    #[must_use]
    pub const fn with_options(mut self, options: MethodOptions) -> Self {
        self.options = options;
        self
    }

    /// Sets the methods of the service that the method belongs to, this one included, so that
    /// callers can compare the [hash](UntypedMethod::service_hash) of the service with that which
    /// servers announce. The constants that [`service`](macro@crate::service) makes have it.
    ///
    /// ```
    /// use rpcnet_transport::{Method, UntypedMethod};
    ///
    /// const ADD: Method<(u64, u64), u64> = Method::new("Sums/add").in_service(sums);
    /// const TOTAL: Method<Vec<u64>, u64> = Method::new("Sums/total").in_service(sums);
    ///
    /// fn sums() -> &'static [UntypedMethod] {
    ///     const { &[ADD.untyped(), TOTAL.untyped()] }
    /// }
    ///
    /// assert_eq!(ADD.untyped().service_hash(), TOTAL.untyped().service_hash());
    /// ```
    #[must_use]
    pub const fn in_service(mut self, methods: fn() -> &'static [UntypedMethod]) -> Self {
        self.untyped = self.untyped.in_service(methods);
        self
    }

    /// Name of the method on the wire.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.untyped.name()
    }

    /// How calls of the method are made.
    #[must_use]
    pub const fn options(&self) -> MethodOptions {
        self.options
    }

    /// Schema of its messages, computed at the first use.
    #[must_use]
    pub fn schema(&self) -> &'static MethodSchema {
        self.untyped.schema()
    }

    /// The method without its types.
    #[must_use]
    pub const fn untyped(&self) -> UntypedMethod {
        self.untyped
    }
}

impl<Req, Reply, E> Clone for Method<Req, Reply, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<Req, Reply, E> Copy for Method<Req, Reply, E> {}

impl<Req, Reply, E> fmt::Debug for Method<Req, Reply, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Method").field(&self.name()).finish()
    }
}

/// Type of the requests of a method: a [`Message`], or [`Requests`] of messages.
pub trait RequestType: 'static {
    #[doc(hidden)]
    const IS_STREAM: bool;

    #[doc(hidden)]
    fn describe_request(schema: &mut SchemaBuilder) -> TypeRef;
}

/// Type of the replies of a method: a [`Message`], or [`Replies`] of messages.
pub trait ReplyType: 'static {
    #[doc(hidden)]
    const IS_STREAM: bool;

    #[doc(hidden)]
    fn describe_reply(schema: &mut SchemaBuilder) -> TypeRef;
}

impl<T: Message> RequestType for T {
    const IS_STREAM: bool = false;

    fn describe_request(schema: &mut SchemaBuilder) -> TypeRef {
        schema.add::<T>()
    }
}

impl<T: Message> RequestType for Requests<T> {
    const IS_STREAM: bool = true;

    fn describe_request(schema: &mut SchemaBuilder) -> TypeRef {
        schema.add::<T>()
    }
}

impl<T: Message> ReplyType for T {
    const IS_STREAM: bool = false;

    fn describe_reply(schema: &mut SchemaBuilder) -> TypeRef {
        schema.add::<T>()
    }
}

impl<T: Message> ReplyType for Replies<T> {
    const IS_STREAM: bool = true;

    fn describe_reply(schema: &mut SchemaBuilder) -> TypeRef {
        schema.add::<T>()
    }
}

fn describe<Req: RequestType, Reply: ReplyType, E: ErrorType>(_since: u32) -> MethodSchema {
    MethodSchema::of(Req::describe_request, Reply::describe_reply, E::describe)
}

fn describe_opaque<E: ErrorType>(since: u32) -> MethodSchema {
    struct OpaqueRequest;
    struct OpaqueReply;
    let opaque = || crate::schema::Shape::Opaque {
        name: String::new(),
        since,
    };
    MethodSchema::of(
        |schema| schema.define::<OpaqueRequest>("request", |_| opaque()),
        |schema| schema.define::<OpaqueReply>("reply", |_| opaque()),
        E::describe,
    )
}
