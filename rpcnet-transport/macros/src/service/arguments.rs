//! Arguments of a method: the context of the call, and what its request is made of.

use proc_macro2::Ident;
use syn::{Attribute, FnArg, Pat, PatIdent, PatType, Signature, Type};

use super::type_names::{argument_of, is_named};
use crate::errors::Errors;

/// Arguments of a method without `&self`.
pub(super) struct Arguments<'a> {
    /// Whether the first one is the context of the call.
    pub(super) has_context: bool,
    pub(super) request: RequestArguments<'a>,
}

/// Arguments that the request of a method is made of.
pub(super) enum RequestArguments<'a> {
    None,
    /// The argument is the request.
    One(Argument<'a>),
    /// The arguments are the fields of the request.
    Several(Vec<Argument<'a>>),
    /// The requests are a stream of this type.
    Stream(Argument<'a>, &'a Type),
}

/// Argument with a name.
pub(super) struct Argument<'a> {
    pub(super) ident: &'a Ident,
    pub(super) ty: &'a Type,
    /// Attributes of serde and of the derive of `Message`.
    pub(super) attributes: Vec<&'a Attribute>,
}

impl<'a> Arguments<'a> {
    /// The arguments of a signature.
    pub(super) fn new(signature: &'a Signature) -> syn::Result<Self> {
        let mut errors = Errors::default();
        let mut typed = signature.inputs.iter().filter_map(|input| match input {
            FnArg::Typed(typed) => Some(typed),
            FnArg::Receiver(_) => None,
        });
        let first = typed.clone().next();
        let has_context = first.is_some_and(|first| is_context(&first.ty));
        if has_context {
            typed.next();
        }
        let mut all = Vec::new();
        for argument in typed {
            match Argument::new(argument) {
                Ok(argument) => all.push(argument),
                Err(error) => errors.add(error),
            }
        }
        check_streams(&all, &mut errors);
        errors.finish()?;
        let request = RequestArguments::new(all)?;
        Ok(Self {
            has_context,
            request,
        })
    }
}

impl<'a> RequestArguments<'a> {
    fn new(mut all: Vec<Argument<'a>>) -> syn::Result<Self> {
        if all.len() > 1 {
            return Ok(Self::Several(all));
        }
        let Some(one) = all.pop() else {
            return Ok(Self::None);
        };
        if let Some(attribute) = one.attributes.first() {
            let message = "a single argument is the request itself, not a field of it: put the \
                           attribute on the type, or on a field of a struct";
            return Err(syn::Error::new_spanned(attribute, message));
        }
        Ok(match argument_of(one.ty, "Requests") {
            Some(item) => Self::Stream(one, item),
            None => Self::One(one),
        })
    }

    /// The arguments with their types.
    pub(super) fn all(&self) -> &[Argument<'a>] {
        match self {
            Self::None => &[],
            Self::One(one) | Self::Stream(one, _) => std::slice::from_ref(one),
            Self::Several(several) => several,
        }
    }
}

impl<'a> Argument<'a> {
    fn new(argument: &'a PatType) -> syn::Result<Self> {
        let ident = match &*argument.pat {
            Pat::Ident(PatIdent {
                by_ref: None,
                mutability: None,
                subpat: None,
                ident,
                ..
            }) => ident,
            other => {
                let message = "the argument is a field of the request: give it a name";
                return Err(syn::Error::new_spanned(other, message));
            }
        };
        let ty = &*argument.ty;
        let message = match ty {
            Type::Reference(_) if is_context(ty) => "the context comes first, after `&self`",
            Type::Reference(_) => {
                "arguments are sent and owned: write `String` in place of `&str`, `Vec` in place \
                 of a slice"
            }
            Type::ImplTrait(_) => "the request of a method has one type: name it",
            ty if is_named(ty, "CallContext") => {
                "the context is borrowed, and comes first: write `cx: &CallContext`"
            }
            ty if is_named(ty, "Replies") => {
                "a handler reads `Requests`: `Replies` are what it returns"
            }
            _ => {
                let attributes = argument.attrs.iter().filter(|it| is_helper(it)).collect();
                return Ok(Self {
                    ident,
                    ty,
                    attributes,
                });
            }
        };
        Err(syn::Error::new_spanned(ty, message))
    }

    fn is_stream(&self) -> bool {
        is_named(self.ty, "Requests")
    }
}

/// Whether an attribute of an argument is for the field that the argument becomes.
pub(super) fn is_helper(attribute: &Attribute) -> bool {
    attribute.path().is_ident("serde") || attribute.path().is_ident("message")
}

fn is_context(ty: &Type) -> bool {
    match ty {
        Type::Reference(reference) => {
            reference.mutability.is_none() && is_named(&reference.elem, "CallContext")
        }
        _ => false,
    }
}

/// A stream of requests is the only argument.
fn check_streams(all: &[Argument<'_>], errors: &mut Errors) {
    let mut streams = all.iter().filter(|argument| argument.is_stream());
    let Some(first) = streams.next() else {
        return;
    };
    let more = streams.next();
    for stream in more.into_iter().chain(streams) {
        errors.add_at(stream.ty, "a call has one stream of requests");
    }
    if more.is_none() && all.len() > 1 {
        let message = "a stream of requests is the only argument: send what belongs to all of \
                       them as the first request";
        errors.add_at(first.ty, message);
    }
    if all.len() == 1 && argument_of(first.ty, "Requests").is_none() {
        errors.add_at(first.ty, "name the type of the requests: `Requests<T>`");
    }
}
