#![doc = include_str!("../README.md")]

mod crate_path;
mod derive;
mod errors;
mod service;

use proc_macro::TokenStream;
use syn::parse_macro_input;

use crate::crate_path::CratePath;

/// Derives `rpcnet_transport::Message`: describes what serde's derives make of the type.
///
/// It reads the `#[serde(..)]` attributes, and two of its own, on a type, a field or a variant:
///
/// - `#[message(since = 3)]`: the encoding is the user's, and has been the same since version 3 of
///   the user's choice. It is compatible with the same name and number alone.
/// - `#[message(self_describing)]`: the value is decoded by what the bytes say. It is always sent
///   with names, and is compatible with every type.
#[proc_macro_derive(Message, attributes(message, serde))]
pub fn derive_message(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as syn::DeriveInput);
    derive::expand(&input, &CratePath::transport()).into()
}

/// [`Message`](macro@Message) for crates that depend on `rpcnet-client`, which exports it under
/// that name.
#[proc_macro_derive(ClientMessage, attributes(message, serde))]
pub fn derive_client_message(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as syn::DeriveInput);
    derive::expand(&input, &CratePath::client()).into()
}

/// Makes a server, a client, a mock and constants for the methods of a trait.
///
/// ```
/// use rpcnet_transport::{CallContext, LocalChannel, Message, Replies, Requests, Router, service};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, Serialize, Deserialize, Message)]
/// pub struct TooLarge {
///     pub limit: u64,
/// }
///
/// /// Arithmetic, as a service.
/// #[service]
/// pub trait Maths {
///     /// The square of a number.
///     #[rpc(idempotent, timeout = "10s", attempt_timeout = "1s")]
///     async fn square(&self, cx: &CallContext, n: u64) -> Result<u64, TooLarge>;
///     async fn add(&self, first: u64, #[serde(default)] second: u64) -> u64;
///     async fn count(&self, to: u64) -> Result<Replies<u64>, TooLarge>;
///     async fn sum(&self, numbers: Requests<u64>) -> Result<u64, TooLarge>;
/// }
///
/// struct Calculator;
///
/// impl Maths for Calculator {
///     async fn square(&self, _cx: &CallContext, n: u64) -> Result<u64, TooLarge> {
///         n.checked_mul(n).ok_or(TooLarge { limit: u64::MAX })
///     }
///
///     async fn add(&self, first: u64, second: u64) -> u64 {
///         first.saturating_add(second)
///     }
///
///     async fn count(&self, to: u64) -> Result<Replies<u64>, TooLarge> {
///         Ok(Replies::of(0..to))
///     }
///
///     async fn sum(&self, mut numbers: Requests<u64>) -> Result<u64, TooLarge> {
///         let mut sum = 0;
///         while let Ok(Some(number)) = numbers.message().await {
///             sum += number;
///         }
///         Ok(sum)
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let router = Router::new().service(MathsServer::new(Calculator));
/// // Or an `RpcClient`, or the workers of a cluster.
/// let maths = MathsClient::new(LocalChannel::new(router));
/// assert_eq!(maths.square(12).await.unwrap(), 144);
/// assert_eq!(maths.add(1, 2).await?, 3);
///
/// // In the unit test of a caller:
/// let mock = MathsMock::new();
/// mock.on_square(|n| match n {
///     7 => Ok(49),
///     _ => Err(TooLarge { limit: 7 }),
/// });
/// let error = mock.client().square(8).await.unwrap_err();
/// assert_eq!(error.service().unwrap().limit, 7);
/// assert_eq!(mock.square_calls(), [8]);
/// # Ok(())
/// # }
/// ```
///
/// # Methods
///
/// A method is an `async fn` with `&self`, then the context of the call (`cx: &CallContext`) if the
/// handler wants it, then the arguments. It returns `Result<Reply, E>`, where `E` is a message or
/// `Status`, or a reply alone if it cannot fail by itself. `Replies<T>` is a stream of replies;
/// `Requests<T>` as the only argument is a stream of requests. All types are messages: they derive
/// [`Message`](macro@Message) beside serde's traits.
///
/// A single argument is the request itself. Several ones are the fields of a struct, which may have
/// attributes of serde: an argument with `#[serde(default)]` can be added while old callers run.
///
/// # Options
///
/// `#[service(name = "Render2")]` sets the first part of the names on the wire, `Render2/probe`.
/// The options of a method are in `#[rpc(..)]`:
///
/// - `idempotent`, `replay_safe`, `isolated`, `timeout = "2s"`, `attempt_timeout = "500ms"`,
///   `hedge = 0.95`, `priority = sheddable` (`sheddable_plus`, `critical`, `critical_plus`): as in
///   `MethodOptions`. Units of time are ns, us, ms, s, m and h.
/// - `key`: each call has an idempotency key of its own.
/// - `sticky = id`: calls with equal `id`, an argument, go to the same worker, if the balancer can.
/// - `name = "Other/name"`: the name on the wire.
/// - `since = 3`: for types without `Message`, such as those of other crates. Caller and server are
///   compatible if both name the same number: raise it with each change of the types.
/// - `self_describing`: for types without `Message` that postcard cannot carry.
///
/// # Generated types
///
/// For a trait `Render`, with its visibility:
///
/// - `RenderServer<T>`: makes a `Router` of an implementation.
/// - `RenderClient<C>`: a function for each method, over any `Channel`. Arguments are taken by
///   value, a stream of requests is any `Stream`. Errors are `CallError<E>` for a message `E`, and
///   `RpcError` otherwise.
/// - `RenderMethods`: a constant for each method, `RenderMethods::PROBE`, and `ALL`.
/// - `RenderMock`: `on_probe` sets the closure that answers, `probe_calls` returns the arguments of
///   the calls, `probe_count` their number. A closure for a stream of requests returns a future.
#[proc_macro_attribute]
pub fn service(arguments: TokenStream, item: TokenStream) -> TokenStream {
    service::expand(arguments.into(), item.into(), &CratePath::transport()).into()
}

/// [`service`](macro@service) for crates that depend on `rpcnet-client`, which exports it under
/// that name.
#[proc_macro_attribute]
pub fn client_service(arguments: TokenStream, item: TokenStream) -> TokenStream {
    service::expand(arguments.into(), item.into(), &CratePath::client()).into()
}
