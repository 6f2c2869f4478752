//! Requests of methods with several arguments: structs with the arguments as fields.

use proc_macro2::TokenStream;
use quote::quote;
use syn::DeriveInput;

use super::{
    arguments::{Argument, RequestArguments},
    model::{Service, ServiceMethod},
};
use crate::{
    crate_path::CratePath,
    derive::{self, Mark},
};

/// The structs, with the impls of serde's traits and of `Message`.
pub(super) fn expand(service: &Service<'_>, krate: &CratePath) -> TokenStream {
    let requests = service
        .methods
        .iter()
        .filter_map(|method| match &method.arguments.request {
            RequestArguments::Several(fields) => {
                Some(hidden_request(service, method, fields, krate))
            }
            _ => None,
        });
    requests.collect()
}

fn hidden_request(
    service: &Service<'_>,
    method: &ServiceMethod<'_>,
    fields: &[Argument<'_>],
    krate: &CratePath,
) -> TokenStream {
    let (ident, visibility) = (&method.hidden_request, service.visibility());
    let conditions: Vec<_> = service.conditions();
    let method_conditions = method.conditions();
    let serde = krate.text() + "::__private::serde";
    let mark = method.options.mark.map(|mark| match mark {
        Mark::Since(since) => quote!(#[message(since = #since)]),
        Mark::SelfDescribing => quote!(#[message(self_describing)]),
    });
    let attributes = fields.iter().map(|field| &field.attributes);
    let names = fields.iter().map(|field| field.ident);
    let types = fields.iter().map(|field| field.ty);
    let fields = quote!(#(#(#attributes)* #names: #types),*);
    let name = format!("{}::{}", service.ident(), method.ident());
    let input: DeriveInput = syn::parse_quote!(#mark struct #ident { #fields });
    let message = derive::implement(&input, krate, &name).unwrap_or_else(|e| e.to_compile_error());
    // Helper attributes of the derive have been read: serde's derives would not know them.
    let helpers = without_message_attributes(&input);
    quote! {
        #(#conditions)*
        #(#method_conditions)*
        #[doc(hidden)]
        #[derive(#krate::__private::serde::Serialize, #krate::__private::serde::Deserialize)]
        #[serde(crate = #serde)]
        #visibility struct #ident { #(#helpers),* }

        #(#conditions)*
        #(#method_conditions)*
        #message

        #(#conditions)*
        #(#method_conditions)*
        impl ::core::fmt::Debug for #ident {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                f.debug_struct(#name).finish_non_exhaustive()
            }
        }
    }
}

fn without_message_attributes(input: &DeriveInput) -> Vec<syn::Field> {
    let syn::Data::Struct(data) = &input.data else {
        return Vec::new();
    };
    let fields = data.fields.iter().cloned();
    let fields = fields.map(|mut field| {
        field.attrs.retain(|it| !it.path().is_ident("message"));
        field
    });
    fields.collect()
}
