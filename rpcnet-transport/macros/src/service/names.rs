//! Names of what is made for a service.

use proc_macro2::Ident;
use quote::{ToTokens, format_ident};
use syn::{ItemTrait, ext::IdentExt};

/// Names that a client, or the constants of the methods, have already.
const RESERVED: [&str; 4] = ["new", "with_options", "channel", "all"];

/// Names of the types that are made for a service.
pub(super) struct Names {
    pub(super) server: Ident,
    pub(super) client: Ident,
    pub(super) mock: Ident,
    pub(super) methods: Ident,
    /// Type parameter that no type of the trait is called by.
    pub(super) parameter: Ident,
}

impl Names {
    /// Names for the types of this trait.
    pub(super) fn new(item: &ItemTrait) -> Self {
        let ident = item.ident.unraw();
        let of = |what: &str| Ident::new(&format!("{ident}{what}"), item.ident.span());
        let words = item.to_token_stream().to_string();
        let mut parameter = "C".to_owned();
        while words
            .split(|it: char| !it.is_alphanumeric() && it != '_')
            .any(|word| word == parameter)
        {
            parameter.push('_');
        }
        Self {
            server: of("Server"),
            client: of("Client"),
            mock: of("Mock"),
            methods: of("Methods"),
            parameter: format_ident!("{parameter}"),
        }
    }
}

/// Whether a method of this name would take the place of what a client has already.
pub(super) fn is_reserved(method: &Ident) -> bool {
    RESERVED.iter().any(|name| method.unraw() == name)
}

/// Name of the constant of a method.
pub(super) fn constant(method: &Ident) -> Ident {
    let name = method.unraw().to_string().to_uppercase();
    Ident::new(&name, method.span())
}

/// Name of the request of a method with several arguments.
pub(super) fn hidden_request(service: &Ident, method: &Ident) -> Ident {
    let words = method.unraw().to_string();
    let words = words.split('_').map(|word| {
        let mut letters = word.chars();
        let first = letters.next().map(|it| it.to_ascii_uppercase());
        first.into_iter().chain(letters).collect::<String>()
    });
    let method_name: String = words.collect();
    format_ident!(
        "__{}{method_name}Request",
        service.unraw(),
        span = method.span()
    )
}
