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
/// See the documentation of `rpcnet_transport::service`.
#[proc_macro_attribute]
pub fn service(arguments: TokenStream, item: TokenStream) -> TokenStream {
    service::expand(arguments.into(), item.into(), &CratePath::transport()).into()
}

/// [`service`](macro@service) for crates that depend on `rpcnet-client`, which exports it under that
/// name.
#[proc_macro_attribute]
pub fn client_service(arguments: TokenStream, item: TokenStream) -> TokenStream {
    service::expand(arguments.into(), item.into(), &CratePath::client()).into()
}
