//! Bounds of the impls that are made: the types of the methods are messages.
//!
//! A type that is none would be an error in every function that is made. As a bound of the impls it
//! is one error, at the type in the trait.

use std::collections::HashSet;

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::{Type, spanned::Spanned};

use super::{
    arguments::RequestArguments,
    model::{Service, ServiceMethod},
};
use crate::crate_path::CratePath;

/// The `where` of the impls.
pub(super) fn where_clause(service: &Service<'_>, krate: &CratePath) -> TokenStream {
    let mut known = HashSet::new();
    let mut bounds = TokenStream::new();
    // A bound has no condition of compilation.
    let methods = service
        .methods
        .iter()
        .filter(|it| it.conditions().is_empty());
    for (ty, is_error) in methods.flat_map(bounded_types) {
        if known.insert((ty.to_token_stream().to_string(), is_error)) {
            bounds.extend(bound(ty, is_error, krate));
        }
    }
    quote!(where #bounds)
}

/// Types of a method that need a bound, and whether each is its error.
fn bounded_types<'a>(method: &ServiceMethod<'a>) -> Vec<(&'a Type, bool)> {
    let mut types = Vec::new();
    if method.options.mark.is_none() {
        types.push((method.output.reply, false));
        match &method.arguments.request {
            RequestArguments::None => {}
            RequestArguments::One(one) => types.push((one.ty, false)),
            RequestArguments::Stream(_, item) => types.push((*item, false)),
            // Their struct has an impl of its own.
            RequestArguments::Several(_) => {}
        }
    }
    types.extend(method.output.error.map(|error| (error, true)));
    types.retain(|(ty, _)| !is_known(ty));
    types
}

/// Whether a type is a message in every crate: the documentation of the impls is the shorter.
fn is_known(ty: &Type) -> bool {
    let known = [
        "bool", "char", "f32", "f64", "i8", "i16", "i32", "i64", "i128", "u8", "u16", "u32", "u64",
        "u128", "String",
    ];
    match ty {
        Type::Tuple(tuple) => tuple.elems.is_empty(),
        Type::Path(path) => known.iter().any(|name| path.path.is_ident(name)),
        _ => false,
    }
}

/// The bound of a type, all of it at the type.
fn bound(ty: &Type, is_error: bool, krate: &CratePath) -> TokenStream {
    let span = ty.span();
    let krate = at(krate.to_token_stream(), span);
    if is_error {
        quote_spanned!(span=> #ty: #krate::ErrorType,)
    } else {
        quote_spanned!(span=> #ty: #krate::Message + ::core::marker::Send + ::core::marker::Sync,)
    }
}

fn at(tokens: TokenStream, span: Span) -> TokenStream {
    let respanned = tokens.into_iter().map(|mut token| {
        token.set_span(span);
        token
    });
    respanned.collect()
}
