//! The impl of `Message` around the body of its function.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{DeriveInput, parse_quote};

use super::tokens::schema_ident;
use crate::crate_path::CratePath;

/// `impl Message for Type`, with a bound `Message` on each type parameter.
pub(super) fn message_impl(
    input: &DeriveInput,
    krate: &CratePath,
    body: &TokenStream,
) -> TokenStream {
    let mut generics = input.generics.clone();
    for parameter in generics.type_params_mut() {
        parameter.bounds.push(parse_quote!(#krate::Message));
    }
    let (parameters, _, bounds) = generics.split_for_impl();
    let (_, arguments, _) = input.generics.split_for_impl();
    let (ident, schema) = (&input.ident, schema_ident());
    quote! {
        #[automatically_derived]
        // A type or a field of the user may be deprecated.
        #[allow(deprecated)]
        impl #parameters #krate::Message for #ident #arguments #bounds {
            fn describe(
                #schema: &mut #krate::schema::SchemaBuilder,
            ) -> #krate::schema::TypeRef {
                #body
            }
        }
    }
}
