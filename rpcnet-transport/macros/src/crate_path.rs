//! Path of the transport in the crate that uses a macro.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, quote};

/// Path that generated code begins with, to reach the transport.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CratePath {
    segments: &'static [&'static str],
}

impl CratePath {
    /// For crates that depend on `rpcnet-transport`.
    pub(crate) fn transport() -> Self {
        let segments = &["rpcnet_transport"];
        Self { segments }
    }

    /// For crates that depend on `rpcnet-client`, which re-exports the transport.
    pub(crate) fn client() -> Self {
        let segments = &["rpcnet_client", "transport"];
        Self { segments }
    }

    /// The path as text, for attributes that take one.
    pub(crate) fn text(&self) -> String {
        format!("::{}", self.segments.join("::"))
    }
}

impl ToTokens for CratePath {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        let segments = self.segments.iter();
        let segments = segments.map(|name| Ident::new(name, Span::call_site()));
        tokens.extend(quote!(#(::#segments)*));
    }
}
