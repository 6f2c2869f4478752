//! Mistakes in a trait and in the signatures of its methods.

use syn::{FnArg, GenericParam, ItemTrait, ReceiverKind, Signature, TraitItem, TraitItemFn};

use super::names::is_reserved;
use crate::errors::Errors;

/// Mistakes of the trait apart from its methods.
pub(super) fn check_trait(item: &ItemTrait, errors: &mut Errors) {
    if let Some(unsafety) = &item.unsafety {
        errors.add_at(unsafety, "a service is not unsafe: remove the word");
    }
    if !item.generics.params.is_empty() {
        let message =
            "a service has no parameters, as its messages have one schema: name the types";
        errors.add_at(&item.generics, message);
    }
    if let Some(bounds) = &item.generics.where_clause {
        errors.add_at(
            bounds,
            "a service has no bounds: put them on the implementation",
        );
    }
    for other in &item.items {
        let message = match other {
            TraitItem::Fn(_) => continue,
            TraitItem::Type(_) => "a service has no associated types: name the type in the methods",
            TraitItem::Const(_) => "a service has no constants: put it beside the trait",
            _ => "a service has methods alone",
        };
        errors.add_at(other, message);
    }
}

/// Mistakes of a method apart from its arguments and its return type.
pub(super) fn check_method(method: &TraitItemFn, errors: &mut Errors) {
    let signature = &method.sig;
    check_words(signature, errors);
    check_receiver(signature, errors);
    for parameter in &signature.generics.params {
        let message = match parameter {
            GenericParam::Lifetime(_) => {
                "a method of a service has no lifetimes: its messages are owned"
            }
            _ => "a method of a service has no type parameters, as its messages have one schema",
        };
        errors.add_at(parameter, message);
    }
    if let Some(bounds) = &signature.generics.where_clause {
        errors.add_at(bounds, "a method of a service has no bounds");
    }
    if let Some(body) = &method.default {
        let message = "the implementation has the body: write `;` in its place";
        errors.add_at(body, message);
    }
    if is_reserved(&signature.ident) {
        let message = format!(
            "the client has a `{0}` of its own: rename the method, and keep its name on the wire \
             with `#[rpc(name = \"Service/{0}\")]`",
            signature.ident
        );
        errors.add_at(&signature.ident, &message);
    }
}

fn check_words(signature: &Signature, errors: &mut Errors) {
    if signature.asyncness.is_none() {
        let message = "calls take time: write `async fn`";
        errors.add_at(signature.fn_token, message);
    }
    if let Some(constness) = &signature.constness {
        errors.add_at(constness, "a method of a service is not const");
    }
    if let syn::Safety::Unsafe(unsafety) = &signature.safety {
        errors.add_at(unsafety, "a method of a service is not unsafe");
    }
    if let Some(abi) = &signature.abi {
        errors.add_at(abi, "a method of a service is not extern");
    }
}

fn check_receiver(signature: &Signature, errors: &mut Errors) {
    let message = "calls are served at the same time: take `&self`, and keep what changes behind a \
                   lock or in an atomic";
    match signature.inputs.first() {
        Some(FnArg::Receiver(receiver)) => match &receiver.kind {
            ReceiverKind::Reference(_, None, None) => {}
            ReceiverKind::Reference(_, Some(lifetime), None) => {
                errors.add_at(lifetime, "a method of a service has no lifetimes");
            }
            _ => errors.add_at(receiver, message),
        },
        Some(FnArg::Typed(_)) | None => {
            errors.add_at(&signature.ident, "a method of a service takes `&self`");
        }
    }
}
