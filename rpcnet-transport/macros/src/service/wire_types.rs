//! Types and values of a method on the wire, and what they are in the trait.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, format_ident, quote};

use super::{arguments::RequestArguments, model::ServiceMethod};
use crate::{crate_path::CratePath, derive::Mark};

/// Tokens for one method.
pub(super) struct WireTypes<'a> {
    method: &'a ServiceMethod<'a>,
    krate: &'a CratePath,
}

impl<'a> WireTypes<'a> {
    pub(super) fn new(method: &'a ServiceMethod<'a>, krate: &'a CratePath) -> Self {
        Self { method, krate }
    }

    /// Type of the requests.
    pub(super) fn request(&self) -> TokenStream {
        let krate = self.krate;
        match &self.method.arguments.request {
            RequestArguments::None => quote!(()),
            RequestArguments::One(one) => self.marked_type(one.ty),
            RequestArguments::Several(_) => self.method.hidden_request.to_token_stream(),
            RequestArguments::Stream(_, item) => quote!(#krate::Requests<#item>),
        }
    }

    /// Type of the replies.
    pub(super) fn reply(&self) -> TokenStream {
        let (krate, reply) = (self.krate, self.method.output.reply);
        if self.method.output.is_stream {
            quote!(#krate::Replies<#reply>)
        } else {
            self.marked_type(reply)
        }
    }

    /// Type of the replies as a client returns them.
    pub(super) fn client_reply(&self) -> TokenStream {
        let (krate, reply) = (self.krate, self.method.output.reply);
        if self.method.output.is_stream {
            quote!(#krate::Replies<#reply>)
        } else {
            reply.to_token_stream()
        }
    }

    /// Type of the error.
    pub(super) fn error(&self) -> TokenStream {
        match self.method.output.error {
            Some(error) => error.to_token_stream(),
            None => quote!(::core::convert::Infallible),
        }
    }

    /// Names for the parts of a request.
    pub(super) fn parts(&self) -> Vec<Ident> {
        let count = self.method.arguments.request.all().len();
        let part = |index| format_ident!("argument{index}", span = Span::mixed_site());
        (0..count).map(part).collect()
    }

    /// Pattern that takes a request apart into [`parts`](Self::parts).
    pub(super) fn request_pattern(&self) -> TokenStream {
        let parts = self.parts();
        match &self.method.arguments.request {
            RequestArguments::None => quote!(()),
            RequestArguments::One(_) => self.marked(&parts[0]),
            RequestArguments::Stream(..) => parts[0].to_token_stream(),
            RequestArguments::Several(several) => {
                let (hidden, names) = (
                    &self.method.hidden_request,
                    several.iter().map(|it| it.ident),
                );
                quote!(#hidden { #(#names: #parts),* })
            }
        }
    }

    /// Expression of a request of the arguments by their names.
    pub(super) fn request_expression(&self) -> TokenStream {
        match &self.method.arguments.request {
            RequestArguments::None => quote!(()),
            RequestArguments::One(one) => self.marked(one.ident),
            RequestArguments::Stream(one, _) => one.ident.to_token_stream(),
            RequestArguments::Several(several) => {
                let (hidden, names) = (
                    &self.method.hidden_request,
                    several.iter().map(|it| it.ident),
                );
                quote!(#hidden { #(#names),* })
            }
        }
    }

    /// Expression of what a handler returns, from what the implementation returned.
    pub(super) fn handler_result(&self, returned: &TokenStream) -> TokenStream {
        let output = &self.method.output;
        match (output.error, output.is_stream) {
            (Some(_), false) => self.map_reply(returned),
            (Some(_), true) => returned.clone(),
            (None, false) => self.marked(returned),
            (None, true) => infallible(returned),
        }
    }

    /// Expression of a result, from what the implementation returned.
    pub(super) fn result(&self, returned: &TokenStream) -> TokenStream {
        match self.method.output.error {
            Some(_) => returned.clone(),
            None => infallible(returned),
        }
    }

    /// Expression of a result whose reply is one of the wire.
    pub(super) fn map_reply(&self, result: &TokenStream) -> TokenStream {
        match self.mark_path() {
            Some(mark) if !self.method.output.is_stream => {
                quote!(::core::result::Result::map(#result, #mark))
            }
            _ => result.clone(),
        }
    }

    /// Expression of a result whose reply is that of the trait.
    pub(super) fn unmap_reply(&self, result: &TokenStream) -> TokenStream {
        match self.mark_path() {
            Some(_) if !self.method.output.is_stream => {
                let reply = Ident::new("reply", Span::mixed_site());
                quote!(::core::result::Result::map(#result, |#reply| #reply.0))
            }
            _ => result.clone(),
        }
    }

    fn marked_type(&self, ty: &impl ToTokens) -> TokenStream {
        let krate = self.krate;
        match self.method.options.mark {
            None => ty.to_token_stream(),
            Some(Mark::Since(since)) => quote!(#krate::__private::Opaque<#ty, #since>),
            Some(Mark::SelfDescribing) => quote!(#krate::__private::SelfDescribing<#ty>),
        }
    }

    /// Expression or pattern of a marked value.
    fn marked(&self, value: &impl ToTokens) -> TokenStream {
        match self.mark_path() {
            None => value.to_token_stream(),
            Some(mark) => quote!(#mark(#value)),
        }
    }

    /// Constructor of marked values.
    fn mark_path(&self) -> Option<TokenStream> {
        let krate = self.krate;
        self.method.options.mark.map(|mark| match mark {
            Mark::Since(_) => quote!(#krate::__private::Opaque),
            Mark::SelfDescribing => quote!(#krate::__private::SelfDescribing),
        })
    }
}

fn infallible(value: &TokenStream) -> TokenStream {
    quote!(::core::result::Result::Ok::<_, ::core::convert::Infallible>(#value))
}
