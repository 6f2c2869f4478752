//! Tokens that the expressions of a schema are made of.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, quote};

use super::attributes::{Directions, Mark};
use crate::crate_path::CratePath;

/// Parameter of `describe`, which no name of the user's can be mistaken for.
pub(super) fn schema_ident() -> Ident {
    Ident::new("schema", Span::mixed_site())
}

/// Expression that adds `Self` to the schema.
pub(super) fn define(name: &str, shape: &TokenStream) -> TokenStream {
    let schema = schema_ident();
    quote!(#schema.define::<Self>(#name, |#schema| #shape))
}

/// Expression that adds a type whose shape is not derived. The type is one of its own for each
/// place: the mark is that of a field or variant, not of its type.
pub(super) fn define_marked(
    ty: &impl ToTokens,
    mark: Mark,
    krate: &CratePath,
    name: &str,
) -> TokenStream {
    let (shape, schema) = (mark_shape(mark, krate, name), schema_ident());
    quote!({
        // It is there for its identity alone.
        #[allow(dead_code)]
        struct Marked<T: ?::core::marker::Sized>(::core::marker::PhantomData<fn() -> *const T>);
        #schema.define::<Marked<#ty>>(#name, |_| #shape)
    })
}

/// Expression of the shape of a marked type or field.
pub(super) fn mark_shape(mark: Mark, krate: &CratePath, name: &str) -> TokenStream {
    match mark {
        Mark::SelfDescribing => quote!(#krate::schema::Shape::SelfDescribing),
        Mark::Since(since) => quote!(#krate::schema::Shape::Opaque {
            name: ::std::string::String::from(#name),
            since: #since,
        }),
    }
}

/// The name for the constructor of a field or variant, and the calls that correct it.
pub(super) fn names_calls(names: &Directions<Vec<String>>) -> (String, TokenStream) {
    let (written, read) = (&names.written, &names.read);
    let name = written.first().or_else(|| read.first());
    let name = name.cloned().unwrap_or_default();
    let mut calls = TokenStream::new();
    if written.is_empty() {
        calls.extend(quote!(.with_written(::core::option::Option::None)));
    }
    if *read != [name.as_str()] {
        calls.extend(quote!(.with_read(&[#(#read),*])));
    }
    (name, calls)
}
