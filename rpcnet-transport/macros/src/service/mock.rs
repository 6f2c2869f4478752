//! Mock of a service: `RenderMock`.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote};
use syn::ext::IdentExt;

use super::{
    arguments::RequestArguments,
    bounds,
    model::{Service, ServiceMethod},
    server::add_function,
    wire_types::WireTypes,
};
use crate::crate_path::CratePath;

/// The type that answers calls by closures, and records them.
pub(super) fn expand(service: &Service<'_>, krate: &CratePath) -> TokenStream {
    let (ident, mock) = (service.ident(), &service.names.mock);
    let (visibility, conditions) = (service.visibility(), service.conditions());
    let state = format_ident!("__{mock}Methods");
    let methods = service
        .methods
        .iter()
        .map(|method| MockedMethod::new(method, krate));
    let methods: Vec<_> = methods.collect();
    let fields = methods.iter().map(MockedMethod::field);
    let functions = methods.iter().map(|method| method.functions(service));
    let handlers = methods.iter().map(MockedMethod::handler);
    let added = methods.iter().map(|method| method.add_to_router(service));
    let client = client(service, krate);
    let bounds = bounds::where_clause(service, krate);
    let [router, this] = ["router", "mock"].map(local);
    let doc = format!(
        "Mock of [`{ident}`] for unit tests: closures answer its methods, and calls are recorded. \
         A method without a closure is `Unimplemented` for callers, and panics where the trait is \
         called directly. Clones share the closures and the records."
    );
    quote! {
        #(#conditions)*
        #[doc = #doc]
        #[derive(::core::fmt::Debug, ::core::clone::Clone, ::core::default::Default)]
        #visibility struct #mock {
            methods: ::std::sync::Arc<#state>,
        }

        #(#conditions)*
        #[doc(hidden)]
        #[derive(::core::fmt::Debug, ::core::default::Default)]
        struct #state {
            #(#fields,)*
        }

        #(#conditions)*
        impl #mock {
            /// A mock that answers no method yet.
            #[must_use]
            pub fn new() -> Self {
                ::core::default::Default::default()
            }
        }

        #(#conditions)*
        impl #mock #bounds {
            #client
            #(#functions)*
        }

        #(#conditions)*
        impl #ident for #mock #bounds {
            #(#handlers)*
        }

        #(#conditions)*
        impl ::core::convert::From<#mock> for #krate::Router #bounds {
            #[inline]
            fn from(#this: #mock) -> Self {
                let #router = #krate::Router::new();
                #(#added)*
                #router
            }
        }
    }
}

/// The function that makes a client of the mock.
fn client(service: &Service<'_>, krate: &CratePath) -> TokenStream {
    let client = &service.names.client;
    quote! {
        /// A client whose calls the mock answers, in this process. Messages are encoded and decoded
        /// as on the network.
        #[inline]
        #[must_use]
        pub fn client(&self) -> #client<#krate::LocalChannel> {
            #client::new(#krate::LocalChannel::new(::core::clone::Clone::clone(self)))
        }
    }
}

/// Method with the tokens that its mock is made of.
struct MockedMethod<'a> {
    method: &'a ServiceMethod<'a>,
    krate: &'a CratePath,
    wire: WireTypes<'a>,
    /// Private function that finds the answer to a request.
    answer: Ident,
}

impl<'a> MockedMethod<'a> {
    fn new(method: &'a ServiceMethod<'a>, krate: &'a CratePath) -> Self {
        Self {
            method,
            krate,
            wire: WireTypes::new(method, krate),
            answer: format_ident!("__answer_{}", method.ident().unraw()),
        }
    }

    fn streams_requests(&self) -> bool {
        matches!(self.method.arguments.request, RequestArguments::Stream(..))
    }

    /// Type of the arguments of the closure.
    fn argument_types(&self) -> Vec<TokenStream> {
        let krate = self.krate;
        match &self.method.arguments.request {
            RequestArguments::Stream(_, item) => vec![quote!(#krate::Requests<#item>)],
            others => {
                let types = others.all().iter().map(|it| it.ty);
                types.map(|ty| quote!(#ty)).collect()
            }
        }
    }

    /// Type that the closure returns, as it is stored.
    fn answer_type(&self) -> TokenStream {
        let (krate, output) = (self.krate, self.method.output.whole);
        if self.streams_requests() {
            quote!(#krate::__private::BoxFuture<'static, #output>)
        } else {
            quote!(#output)
        }
    }

    fn field(&self) -> TokenStream {
        let (krate, ident, conditions) =
            (self.krate, self.method.ident(), self.method.conditions());
        let (request, types) = (self.wire.request(), self.argument_types());
        let answer = self.answer_type();
        quote! {
            #(#conditions)*
            #ident: #krate::__private::MockMethod<
                #request,
                dyn ::core::ops::Fn(#(#types),*) -> #answer
                    + ::core::marker::Send
                    + ::core::marker::Sync
            >
        }
    }

    /// The functions of the mock for the method.
    fn functions(&self, service: &Service<'_>) -> TokenStream {
        let (ident, conditions) = (self.method.ident(), self.method.conditions());
        let name = ident.unraw();
        let (count, doc) = (
            format_ident!("{name}_count"),
            format!("Number of the calls of `{name}` so far."),
        );
        let (setter, answer, calls) = (self.setter(service), self.answer_function(), self.calls());
        quote! {
            #setter

            #(#conditions)*
            #[doc = #doc]
            #[inline]
            #[must_use]
            pub fn #count(&self) -> usize {
                self.methods.#ident.count()
            }

            #calls
            #answer
        }
    }

    fn setter(&self, service: &Service<'_>) -> TokenStream {
        let (ident, conditions) = (self.method.ident(), self.method.conditions());
        let (setter, types) = (format_ident!("on_{}", ident.unraw()), self.argument_types());
        let (output, argument) = (self.method.output.whole, local("answer"));
        if self.streams_requests() {
            let future = &service.names.parameter;
            let doc = format!(
                "Sets the closure that answers `{}`. It returns a future, which may read the \
                 requests.",
                ident.unraw()
            );
            return quote! {
                #(#conditions)*
                #[doc = #doc]
                #[inline]
                pub fn #setter<#future>(
                    &self,
                    #argument: impl ::core::ops::Fn(#(#types),*) -> #future
                        + ::core::marker::Send
                        + ::core::marker::Sync
                        + 'static,
                ) where
                    #future: ::core::future::Future<Output = #output>
                        + ::core::marker::Send
                        + 'static,
                {
                    self.methods.#ident.set(::std::sync::Arc::new(move |requests| {
                        ::std::boxed::Box::pin(#argument(requests))
                    }));
                }
            };
        }
        let doc = format!("Sets the closure that answers `{}`.", ident.unraw());
        quote! {
            #(#conditions)*
            #[doc = #doc]
            #[inline]
            pub fn #setter(
                &self,
                #argument: impl ::core::ops::Fn(#(#types),*) -> #output
                    + ::core::marker::Send
                    + ::core::marker::Sync
                    + 'static,
            ) {
                self.methods.#ident.set(::std::sync::Arc::new(#argument));
            }
        }
    }

    /// The function that returns the arguments of the calls, if they can be recorded.
    fn calls(&self) -> Option<TokenStream> {
        let arguments = self.method.arguments.request.all();
        if self.streams_requests() || arguments.is_empty() {
            return None;
        }
        let (ident, conditions) = (self.method.ident(), self.method.conditions());
        let name = ident.unraw();
        let (calls, types) = (
            format_ident!("{name}_calls"),
            arguments.iter().map(|it| it.ty),
        );
        let (pattern, parts) = (self.wire.request_pattern(), self.wire.parts());
        let doc = format!("Arguments of the calls of `{name}` so far.");
        Some(quote! {
            #(#conditions)*
            #[doc = #doc]
            #[inline]
            #[must_use]
            pub fn #calls(&self) -> ::std::vec::Vec<(#(#types),*)> {
                let requests = self.methods.#ident.requests().into_iter();
                ::core::iter::Iterator::collect(
                    ::core::iter::Iterator::map(requests, |#pattern| (#(#parts),*)),
                )
            }
        })
    }

    /// The private function that records a call and answers it.
    fn answer_function(&self) -> TokenStream {
        let (ident, conditions) = (self.method.ident(), self.method.conditions());
        let (function, request, parts) = (&self.answer, self.wire.request(), self.wire.parts());
        let (answer_type, pattern) = (self.answer_type(), self.wire.request_pattern());
        let [argument, answer] = ["request", "answer"].map(local);
        let record = if self.streams_requests() {
            quote!(on_stream())
        } else {
            quote!(on_call(&#argument))
        };
        quote! {
            #(#conditions)*
            #[inline]
            fn #function(&self, #argument: #request) -> ::core::option::Option<#answer_type> {
                let #answer = self.methods.#ident.#record?;
                let #pattern = #argument;
                ::core::option::Option::Some(#answer(#(#parts),*))
            }
        }
    }

    /// The method of the trait.
    fn handler(&self) -> TokenStream {
        let (ident, conditions) = (self.method.ident(), self.method.conditions());
        let (krate, function, output) = (self.krate, &self.answer, self.method.output.whole);
        let context = self.method.arguments.has_context;
        let context = context.then(|| quote!(_: &#krate::CallContext,));
        let idents = self
            .method
            .arguments
            .request
            .all()
            .iter()
            .map(|it| it.ident);
        let types = self.argument_types();
        let request = self.wire.request_expression();
        let awaited = self.streams_requests().then(|| quote!(.await));
        let answer = local("answer");
        let message = format!(
            "no closure was set: call `on_{}` of the mock first",
            ident.unraw()
        );
        quote! {
            #(#conditions)*
            async fn #ident(&self, #context #(#idents: #types),*) -> #output {
                match self.#function(#request) {
                    ::core::option::Option::Some(#answer) => #answer #awaited,
                    ::core::option::Option::None => ::core::panic!(#message),
                }
            }
        }
    }

    /// Statement that adds the method to the router.
    fn add_to_router(&self, service: &Service<'_>) -> TokenStream {
        let (krate, wire, conditions) = (self.krate, &self.wire, self.method.conditions());
        let (request, reply, error) = (wire.request(), wire.reply(), wire.error());
        let (add, function, name) = (
            add_function(self.method),
            &self.answer,
            &self.method.wire_name,
        );
        let (constants, constant) = (&service.names.methods, &self.method.constant);
        let [router, this, argument, answer] = ["router", "mock", "request", "answer"].map(local);
        let typed = local("method");
        let awaited = self.streams_requests().then(|| quote!(.await));
        let result = wire.result(&quote!(#answer #awaited));
        let result = wire.map_reply(&quote!(::core::result::Result::map_err(
            #result,
            #krate::__private::MockError::Service,
        )));
        quote! {
            #(#conditions)*
            let #router = {
                let #this = ::core::clone::Clone::clone(&#this);
                let #typed = #krate::Method::<
                    #request,
                    #reply,
                    #krate::__private::MockError<#error>
                >::new(#name).with_options(#constants::#constant.options());
                #router.#add(#typed, move |_, #argument| {
                    let #this = ::core::clone::Clone::clone(&#this);
                    async move {
                        match #this.#function(#argument) {
                            ::core::option::Option::Some(#answer) => #result,
                            ::core::option::Option::None => ::core::result::Result::Err(
                                #krate::__private::MockError::Unset(#name),
                            ),
                        }
                    }
                })
            };
        }
    }
}

fn local(name: &str) -> Ident {
    Ident::new(name, Span::mixed_site())
}
