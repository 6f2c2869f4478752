//! Constants of the methods: `RenderMethods`.

use proc_macro2::TokenStream;
use quote::quote;

use super::{
    bounds,
    model::{Service, ServiceMethod},
    wire_types::WireTypes,
};
use crate::crate_path::CratePath;

/// The type that has the constants.
pub(super) fn expand(service: &Service<'_>, krate: &CratePath) -> TokenStream {
    let (visibility, ident) = (service.visibility(), &service.names.methods);
    let conditions = service.conditions();
    let bounds = bounds::where_clause(service, krate);
    let constants = service.methods.iter().map(|method| constant(method, krate));
    let all = service.methods.iter().map(|method| {
        let (conditions, constant) = (method.conditions(), &method.constant);
        quote!(#(#conditions)* Self::#constant.untyped())
    });
    let doc = format!("Methods of [`{}`].", service.ident());
    quote! {
        #(#conditions)*
        #[doc = #doc]
        #[derive(::core::fmt::Debug, ::core::clone::Clone, ::core::marker::Copy)]
        #visibility struct #ident;

        #(#conditions)*
        impl #ident #bounds {
            #(#constants)*

            /// All methods without their types: for their names and schemas.
            pub const ALL: &'static [#krate::UntypedMethod] = &[#(#all),*];

            #[inline]
            fn __all() -> &'static [#krate::UntypedMethod] {
                Self::ALL
            }
        }
    }
}

fn constant(method: &ServiceMethod<'_>, krate: &CratePath) -> TokenStream {
    let wire = WireTypes::new(method, krate);
    let (request, reply, error) = (wire.request(), wire.reply(), wire.error());
    let (conditions, constant) = (method.conditions(), &method.constant);
    let (name, options) = (&method.wire_name, method.options.expression(krate));
    let doc = format!("`{name}`.");
    quote! {
        #(#conditions)*
        #[doc = #doc]
        pub const #constant: #krate::Method<#request, #reply, #error> =
            #krate::Method::new(#name).with_options(#options).in_service(Self::__all);
    }
}
