//! Server of a service: `RenderServer`.

use proc_macro2::{Ident, Span, TokenStream};
use quote::quote;

use super::{
    arguments::RequestArguments,
    bounds,
    model::{Service, ServiceMethod},
    wire_types::WireTypes,
};
use crate::crate_path::CratePath;

/// The type that makes a router of an implementation of the trait.
pub(super) fn expand(service: &Service<'_>, krate: &CratePath) -> TokenStream {
    let (visibility, server) = (service.visibility(), &service.names.server);
    let (ident, parameter) = (service.ident(), &service.names.parameter);
    let conditions = service.conditions();
    let added = service
        .methods
        .iter()
        .map(|method| add_method(service, method, krate));
    let bounds = bounds::where_clause(service, krate);
    let (router, this) = (local("router"), local("service"));
    let doc = format!("Server of [`{ident}`]: the methods of an implementation, for a router.");
    quote! {
        #(#conditions)*
        #[doc = #doc]
        #visibility struct #server<#parameter> {
            service: ::std::sync::Arc<#parameter>,
        }

        #(#conditions)*
        impl<#parameter: #ident> #server<#parameter> {
            /// A server of this implementation.
            #[must_use]
            pub fn new(service: #parameter) -> Self {
                Self::from_arc(::std::sync::Arc::new(service))
            }

            /// A server of an implementation that is used elsewhere, too.
            #[must_use]
            pub fn from_arc(service: ::std::sync::Arc<#parameter>) -> Self {
                Self { service }
            }
        }

        #(#conditions)*
        // A method of the user may be deprecated.
        #[allow(deprecated)]
        impl<#parameter: #ident> #server<#parameter> #bounds {
            /// Router of the methods.
            #[must_use]
            pub fn into_router(self) -> #krate::Router {
                let #this = self.service;
                let #router = #krate::Router::new();
                #(#added)*
                #router
            }
        }

        #(#conditions)*
        impl<#parameter: #ident> ::core::convert::From<#server<#parameter>> for #krate::Router
        #bounds {
            fn from(server: #server<#parameter>) -> Self {
                server.into_router()
            }
        }

        #(#conditions)*
        impl<#parameter> ::core::clone::Clone for #server<#parameter> {
            fn clone(&self) -> Self {
                Self { service: ::std::sync::Arc::clone(&self.service) }
            }
        }

        #(#conditions)*
        impl<#parameter> ::core::fmt::Debug for #server<#parameter> {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                f.debug_struct(::core::stringify!(#server)).finish_non_exhaustive()
            }
        }
    }
}

/// Statement that adds a method to the router.
fn add_method(service: &Service<'_>, method: &ServiceMethod<'_>, krate: &CratePath) -> TokenStream {
    let wire = WireTypes::new(method, krate);
    let [router, this, cx] = ["router", "service", "cx"].map(local);
    let (constants, constant) = (&service.names.methods, &method.constant);
    let (trait_ident, parameter) = (service.ident(), &service.names.parameter);
    let (ident, conditions) = (method.ident(), method.conditions());
    let (add, pattern, parts) = (add_function(method), wire.request_pattern(), wire.parts());
    let context = method.arguments.has_context.then(|| quote!(&#cx,));
    let called = quote! {
        <#parameter as #trait_ident>::#ident(&*#this, #context #(#parts),*).await
    };
    let result = wire.handler_result(&called);
    quote! {
        #(#conditions)*
        let #router = {
            let #this = ::std::sync::Arc::clone(&#this);
            #router.#add(#constants::#constant, move |#cx, #pattern| {
                let _ = &#cx;
                let #this = ::std::sync::Arc::clone(&#this);
                async move { #result }
            })
        };
    }
}

/// The function of a router that adds a method of this type.
pub(super) fn add_function(method: &ServiceMethod<'_>) -> TokenStream {
    let streams_requests = matches!(method.arguments.request, RequestArguments::Stream(..));
    match (streams_requests, method.output.is_stream) {
        (false, false) => quote!(method_with),
        (false, true) => quote!(server_streaming_method),
        (true, false) => quote!(client_streaming_method),
        (true, true) => quote!(streaming_method),
    }
}

fn local(name: &str) -> Ident {
    Ident::new(name, Span::mixed_site())
}
