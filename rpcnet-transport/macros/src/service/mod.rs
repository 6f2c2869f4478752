//! `#[service]`: a server, a client, a mock and constants for the methods of a trait.

mod arguments;
mod bounds;
mod check;
mod client;
mod duration;
mod hidden_requests;
mod methods;
mod mock;
mod model;
mod names;
mod output_type;
mod rpc_options;
mod server;
mod service_options;
mod trait_item;
mod type_names;
mod wire_types;

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Item, ItemTrait};

use self::{model::Service, service_options::ServiceOptions};
use crate::crate_path::CratePath;

/// The trait with all that is made for it, or the trait with the errors that were found.
pub(crate) fn expand(arguments: TokenStream, item: TokenStream, krate: &CratePath) -> TokenStream {
    let parsed = match parse_trait(item.clone()) {
        Ok(parsed) => parsed,
        Err(error) => {
            let error = error.to_compile_error();
            return quote!(#item #error);
        }
    };
    match ServiceOptions::parse(arguments).and_then(|it| Service::new(&parsed, &it)) {
        Ok(service) => output(&service, krate),
        Err(error) => {
            // The trait as it is, so that its users get no errors of their own.
            let (item, error) = (
                trait_item::without_helpers(&parsed),
                error.to_compile_error(),
            );
            quote!(#item #error)
        }
    }
}

fn parse_trait(item: TokenStream) -> syn::Result<ItemTrait> {
    match syn::parse2(item)? {
        Item::Trait(item) => Ok(item),
        other => {
            let message = "`#[service]` is for a trait, whose methods are those of the service";
            Err(syn::Error::new_spanned(other, message))
        }
    }
}

fn output(service: &Service<'_>, krate: &CratePath) -> TokenStream {
    let item = trait_item::expand(service);
    let hidden_requests = hidden_requests::expand(service, krate);
    let methods = methods::expand(service, krate);
    let server = server::expand(service, krate);
    let client = client::expand(service, krate);
    let mock = mock::expand(service, krate);
    quote! {
        #item
        #hidden_requests
        #methods
        #server
        #client
        #mock
    }
}
