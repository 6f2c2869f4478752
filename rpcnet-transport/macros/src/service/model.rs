//! Model of a service: what the trait says, without mistakes.

use std::collections::HashMap;

use proc_macro2::Ident;
use syn::{Attribute, ItemTrait, LitStr, TraitItem, TraitItemFn, Visibility, ext::IdentExt};

use super::{
    arguments::{Arguments, RequestArguments},
    check::{check_method, check_trait},
    names::{self, Names},
    output_type::OutputType,
    rpc_options::RpcOptions,
    service_options::ServiceOptions,
};
use crate::errors::Errors;

/// A service.
pub(super) struct Service<'a> {
    pub(super) item: &'a ItemTrait,
    pub(super) names: Names,
    pub(super) methods: Vec<ServiceMethod<'a>>,
}

/// A method of a service.
pub(super) struct ServiceMethod<'a> {
    pub(super) item: &'a TraitItemFn,
    pub(super) wire_name: String,
    pub(super) options: RpcOptions,
    pub(super) arguments: Arguments<'a>,
    pub(super) output: OutputType<'a>,
    /// Name of its constant.
    pub(super) constant: Ident,
    /// Name of its request, if it has several arguments.
    pub(super) hidden_request: Ident,
}

impl<'a> Service<'a> {
    /// The service of a trait.
    pub(super) fn new(item: &'a ItemTrait, options: &ServiceOptions) -> syn::Result<Self> {
        let mut errors = Errors::default();
        check_trait(item, &mut errors);
        let name = options.name.as_ref().map(LitStr::value);
        let name = name.unwrap_or_else(|| item.ident.unraw().to_string());
        let mut methods = Vec::new();
        for item_fn in item.items.iter().filter_map(as_fn) {
            check_method(item_fn, &mut errors);
            match ServiceMethod::new(item_fn, &item.ident, &name) {
                Ok(method) => {
                    method.check_options(&mut errors);
                    methods.push(method);
                }
                Err(error) => errors.add(error),
            }
        }
        check_wire_names(&methods, &mut errors);
        errors.finish()?;
        Ok(Self {
            item,
            names: Names::new(item),
            methods,
        })
    }

    /// Name of the trait.
    pub(super) fn ident(&self) -> &'a Ident {
        &self.item.ident
    }

    /// Visibility of the trait, which all that is made for it has.
    pub(super) fn visibility(&self) -> &'a Visibility {
        &self.item.vis
    }

    /// Conditions of compilation of the trait.
    pub(super) fn conditions(&self) -> Vec<&'a Attribute> {
        conditions(&self.item.attrs)
    }
}

impl<'a> ServiceMethod<'a> {
    fn new(item: &'a TraitItemFn, service: &Ident, service_name: &str) -> syn::Result<Self> {
        let ident = &item.sig.ident;
        let options = RpcOptions::parse(&item.attrs)?;
        let name = options.name.as_ref().map(LitStr::value);
        Ok(Self {
            item,
            wire_name: name.unwrap_or_else(|| format!("{service_name}/{}", ident.unraw())),
            options,
            arguments: Arguments::new(&item.sig)?,
            output: OutputType::new(&item.sig)?,
            constant: names::constant(ident),
            hidden_request: names::hidden_request(service, ident),
        })
    }

    fn check_options(&self, errors: &mut Errors) {
        let streams_requests = matches!(self.arguments.request, RequestArguments::Stream(..));
        let streams = streams_requests || self.output.is_stream;
        if let Some(hedge) = self.options.hedge_ident.as_ref().filter(|_| streams) {
            let message = "a call that streams is not hedged: remove the option";
            errors.add_at(hedge, message);
        }
        if let Some(mark) = self.options.mark_ident.as_ref().filter(|_| streams) {
            let message = "for methods without streams: mark the type of the stream's messages, \
                           `#[message(..)]`";
            errors.add_at(mark, message);
        }
        if let Some(sticky) = &self.options.sticky {
            let arguments = self.arguments.request.all().iter();
            let is_argument = arguments.map(|it| it.ident).any(|it| it == sticky);
            if streams_requests || !is_argument {
                errors.add_at(sticky, "no argument of the request has this name");
            }
        }
        let bytes = self.wire_name.len();
        if bytes == 0 || bytes > 255 {
            let message = format!("the name on the wire has {bytes} bytes: 1 to 255 are possible");
            errors.add_at(&self.item.sig.ident, &message);
        }
    }

    /// Name of the method.
    pub(super) fn ident(&self) -> &'a Ident {
        &self.item.sig.ident
    }

    /// Conditions of compilation of the method.
    pub(super) fn conditions(&self) -> Vec<&'a Attribute> {
        conditions(&self.item.attrs)
    }

    /// Attributes that a method has which calls this one.
    pub(super) fn caller_attributes(&self) -> Vec<&'a Attribute> {
        let kept = ["cfg", "doc", "deprecated", "must_use", "allow"];
        let is_kept = |it: &&Attribute| kept.iter().any(|name| it.path().is_ident(name));
        self.item.attrs.iter().filter(is_kept).collect()
    }

    /// Whether the method is documented.
    pub(super) fn has_docs(&self) -> bool {
        self.item.attrs.iter().any(|it| it.path().is_ident("doc"))
    }
}

fn as_fn(item: &TraitItem) -> Option<&TraitItemFn> {
    match item {
        TraitItem::Fn(item) => Some(item),
        _ => None,
    }
}

fn conditions(attributes: &[Attribute]) -> Vec<&Attribute> {
    let conditions = attributes.iter().filter(|it| it.path().is_ident("cfg"));
    conditions.collect()
}

/// Each name on the wire is that of one method. Methods with conditions may share one.
fn check_wire_names(methods: &[ServiceMethod<'_>], errors: &mut Errors) {
    let mut first_by_name = HashMap::new();
    let unconditional = methods.iter().filter(|it| it.conditions().is_empty());
    for method in unconditional {
        let name = method.wire_name.as_str();
        let Some(first) = first_by_name.insert(name, method.ident()) else {
            continue;
        };
        let message =
            format!("two methods are called {name:?} on the wire: this one and `{first}`");
        match &method.options.name {
            Some(literal) => errors.add_at(literal, &message),
            None => errors.add_at(method.ident(), &message),
        }
    }
}
