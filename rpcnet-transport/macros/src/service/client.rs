//! Client of a service: `RenderClient`.

use proc_macro2::{Ident, Span, TokenStream};
use quote::quote;

use super::{
    arguments::RequestArguments,
    bounds,
    model::{Service, ServiceMethod},
    wire_types::WireTypes,
};
use crate::crate_path::CratePath;

/// The type with a function for each method.
pub(super) fn expand(service: &Service<'_>, krate: &CratePath) -> TokenStream {
    let (visibility, client) = (service.visibility(), &service.names.client);
    let parameter = &service.names.parameter;
    let conditions = service.conditions();
    let calls = service
        .methods
        .iter()
        .map(|method| call(service, method, krate));
    let bounds = bounds::where_clause(service, krate);
    let doc = format!(
        "Client of [`{}`] over any channel. Cheap to clone.",
        service.ident()
    );
    quote! {
        #(#conditions)*
        #[doc = #doc]
        #[derive(::core::fmt::Debug, ::core::clone::Clone)]
        #visibility struct #client<#parameter> {
            channel: #parameter,
            options: #krate::MethodOptions,
        }

        #(#conditions)*
        impl<#parameter: #krate::Channel> #client<#parameter> {
            /// A client that calls over this channel.
            #[must_use]
            pub fn new(channel: #parameter) -> Self {
                Self { channel, options: #krate::MethodOptions::new() }
            }

            /// Sets options of the calls, which go before those of their methods and before those
            /// that were set.
            #[must_use]
            pub fn with_options(mut self, options: #krate::MethodOptions) -> Self {
                self.options = options.or(self.options);
                self
            }

            /// The channel.
            pub fn channel(&self) -> &#parameter {
                &self.channel
            }
        }

        #(#conditions)*
        impl<#parameter: #krate::Channel> #client<#parameter> #bounds {
            #(#calls)*
        }
    }
}

fn call(service: &Service<'_>, method: &ServiceMethod<'_>, krate: &CratePath) -> TokenStream {
    let wire = WireTypes::new(method, krate);
    let (reply, error) = (wire.client_reply(), wire.error());
    let (ident, attributes) = (method.ident(), method.caller_attributes());
    let doc = (!method.has_docs()).then(|| {
        let doc = format!("Calls `{}`.", method.wire_name);
        quote!(#[doc = #doc])
    });
    let arguments = arguments(method, krate);
    let called = called(service, method, &wire);
    let result = wire.unmap_reply(&called);
    let options = Ident::new("options", Span::mixed_site());
    let sticky = method.options.sticky.as_ref().map(|argument| {
        quote! {
            let #options = #options.or(
                #krate::MethodOptions::new()
                    .with_sticky_key(#krate::__private::sticky_key(&#argument))
            );
        }
    });
    quote! {
        #(#attributes)*
        #doc
        // As many as the method of the user has.
        #[allow(clippy::too_many_arguments)]
        pub async fn #ident(
            &self,
            #arguments
        ) -> ::core::result::Result<#reply, <#error as #krate::ErrorType>::ClientError> {
            let #options = self.options;
            #sticky
            #result
        }
    }
}

fn arguments(method: &ServiceMethod<'_>, krate: &CratePath) -> TokenStream {
    if let RequestArguments::Stream(argument, item) = &method.arguments.request {
        let ident = argument.ident;
        return quote! {
            #ident: impl #krate::__private::Stream<Item = #item> + ::core::marker::Send + 'static
        };
    }
    let all = method.arguments.request.all();
    let (idents, types) = (all.iter().map(|it| it.ident), all.iter().map(|it| it.ty));
    quote!(#(#idents: #types),*)
}

/// Expression of the result of the call.
fn called(service: &Service<'_>, method: &ServiceMethod<'_>, wire: &WireTypes<'_>) -> TokenStream {
    let (constants, constant) = (&service.names.methods, &method.constant);
    let request = wire.request_expression();
    let options = Ident::new("options", Span::mixed_site());
    let streams_requests = matches!(method.arguments.request, RequestArguments::Stream(..));
    let (call, request) = match (streams_requests, method.output.is_stream) {
        (false, false) => (quote!(call_with), quote!(&#request)),
        (false, true) => (quote!(call_server_streaming), quote!(&#request)),
        (true, false) => (quote!(call_client_streaming), request),
        (true, true) => (quote!(call_streaming), request),
    };
    quote!(#constants::#constant.#call(&self.channel, #request, #options).await)
}
