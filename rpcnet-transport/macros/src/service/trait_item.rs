//! The trait itself: async functions become functions that return a future that is `Send`.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote_spanned};
use syn::{
    Attribute, FnArg, ItemTrait, ReturnType, TraitItem, TraitItemFn, parse_quote, spanned::Spanned,
};

use super::{arguments::is_helper, model::Service};

/// The trait as it is compiled.
pub(super) fn expand(service: &Service<'_>) -> TokenStream {
    let mut item = without_helpers(service.item);
    item.colon_token.get_or_insert_default();
    for bound in [
        parse_quote!(::core::marker::Send),
        parse_quote!(::core::marker::Sync),
        parse_quote!('static),
    ] {
        item.supertraits.push(bound);
    }
    for method in item.items.iter_mut().filter_map(as_fn_mut) {
        let ReturnType::Type(arrow, output) = &method.sig.output else {
            continue;
        };
        method.sig.asyncness = None;
        // The span is that of the type, where an implementation with another one is reported.
        let span = output.span();
        let future = quote_spanned! {span=>
            impl ::core::future::Future<Output = #output> + ::core::marker::Send
        };
        let future = syn::Type::Verbatim(future);
        method.sig.output = ReturnType::Type(*arrow, Box::new(future));
    }
    item.into_token_stream()
}

/// The trait without the attributes that are for this macro.
pub(super) fn without_helpers(item: &ItemTrait) -> ItemTrait {
    let mut item = item.clone();
    for method in item.items.iter_mut().filter_map(as_fn_mut) {
        method.attrs.retain(|it| !it.path().is_ident("rpc"));
        for input in &mut method.sig.inputs {
            if let FnArg::Typed(typed) = input {
                typed.attrs.retain(|it: &Attribute| !is_helper(it));
            }
        }
    }
    item
}

fn as_fn_mut(item: &mut TraitItem) -> Option<&mut TraitItemFn> {
    match item {
        TraitItem::Fn(item) => Some(item),
        _ => None,
    }
}
