//! `#[derive(Message)]`: the schema of what serde's derives make of a type.

mod attributes;
mod fields;
mod message_impl;
mod rename_rule;
mod shape;
mod tokens;
mod type_text;
mod variants;

use proc_macro2::TokenStream;
use syn::{Data, DeriveInput};

pub(crate) use self::attributes::Mark;
use crate::{crate_path::CratePath, errors::Errors};

/// The impl of `Message`, or the errors of the input.
pub(crate) fn expand(input: &DeriveInput, krate: &CratePath) -> TokenStream {
    implement(input, krate, &input.ident.to_string()).unwrap_or_else(|e| e.to_compile_error())
}

/// The impl of `Message` for a type that people know by this name.
pub(crate) fn implement(
    input: &DeriveInput,
    krate: &CratePath,
    name: &str,
) -> syn::Result<TokenStream> {
    check(input)?;
    let body = shape::describe_body(input, krate, name)?;
    Ok(message_impl::message_impl(input, krate, &body))
}

fn check(input: &DeriveInput) -> syn::Result<()> {
    let mut errors = Errors::default();
    if let Data::Union(union) = &input.data {
        let message = "serde has no unions: use an enum";
        errors.add_at(union.union_token, message);
    }
    for lifetime in input.generics.lifetimes() {
        let message = "a message owns its data, as it is decoded from bytes that are freed: use \
                       `String` in place of `&str`, `Vec` in place of a slice";
        errors.add_at(&lifetime.lifetime, message);
    }
    errors.finish()
}
