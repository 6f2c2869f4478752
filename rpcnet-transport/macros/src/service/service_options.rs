//! Options of a service: `#[service(name = "..")]`.

use proc_macro2::TokenStream;
use syn::{LitStr, parse::Parser};

/// Options of a service.
#[derive(Default)]
pub(super) struct ServiceOptions {
    /// Name on the wire, if it is not that of the trait.
    pub(super) name: Option<LitStr>,
}

impl ServiceOptions {
    /// Reads the arguments of the attribute.
    pub(super) fn parse(arguments: TokenStream) -> syn::Result<Self> {
        let mut options = Self::default();
        let parser = syn::meta::parser(|meta| {
            if meta.path.is_ident("name") {
                options.name = Some(meta.value()?.parse()?);
                Ok(())
            } else {
                Err(meta.error("unknown option of a service: there is `name = \"..\"`"))
            }
        });
        parser.parse2(arguments)?;
        Ok(options)
    }
}
