//! Path of the transport in the crate that uses a macro.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};

/// Path that generated code begins with, to reach the transport.
#[derive(Debug, Clone)]
pub(crate) struct CratePath {
    tokens: TokenStream,
}

impl CratePath {
    /// For crates that depend on `rpcnet-transport`.
    pub(crate) fn transport() -> Self {
        let tokens = quote!(::rpcnet_transport);
        Self { tokens }
    }

    /// For crates that depend on `rpcnet-client`, which re-exports the transport.
    pub(crate) fn client() -> Self {
        let tokens = quote!(::rpcnet_client::transport);
        Self { tokens }
    }
}

impl ToTokens for CratePath {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        self.tokens.to_tokens(tokens);
    }
}
