//! Options of a method: `#[rpc(..)]`.

use std::time::Duration;

use proc_macro2::{Ident, TokenStream};
use quote::{ToTokens, quote};
use syn::{Attribute, Lit, LitInt, LitStr, meta::ParseNestedMeta};

use super::duration;
use crate::{crate_path::CratePath, derive::Mark};

/// Options of a method.
#[derive(Default)]
pub(super) struct RpcOptions {
    idempotent: bool,
    replay_safe: bool,
    isolated: bool,
    generated_keys: bool,
    timeout: Option<Duration>,
    attempt_timeout: Option<Duration>,
    priority: Option<PriorityName>,
    hedge: Option<f64>,
    /// The word `hedge`, where an error about it points.
    pub(super) hedge_ident: Option<Ident>,
    /// Argument that the sticky key is made of.
    pub(super) sticky: Option<Ident>,
    /// Name on the wire, with the service.
    pub(super) name: Option<LitStr>,
    pub(super) mark: Option<Mark>,
    /// The word `since` or `self_describing`, where an error about it points.
    pub(super) mark_ident: Option<Ident>,
    seen: Vec<String>,
}

/// Priority on an overloaded server, by the name of its variant.
#[derive(Debug, Clone, Copy)]
struct PriorityName(&'static str);

const PRIORITIES: [(&str, PriorityName); 4] = [
    ("critical_plus", PriorityName("CriticalPlus")),
    ("critical", PriorityName("Critical")),
    ("sheddable_plus", PriorityName("SheddablePlus")),
    ("sheddable", PriorityName("Sheddable")),
];

impl RpcOptions {
    /// Reads all `#[rpc(..)]` of a method.
    pub(super) fn parse(attributes: &[Attribute]) -> syn::Result<Self> {
        let mut options = Self::default();
        for attribute in attributes.iter().filter(|it| it.path().is_ident("rpc")) {
            attribute.parse_nested_meta(|meta| options.read(&meta))?;
        }
        Ok(options)
    }

    fn read(&mut self, meta: &ParseNestedMeta<'_>) -> syn::Result<()> {
        let Some(ident) = meta.path.get_ident() else {
            return Err(unknown(meta));
        };
        let name = ident.to_string();
        match name.as_str() {
            "idempotent" => self.idempotent = true,
            "replay_safe" => self.replay_safe = true,
            "isolated" => self.isolated = true,
            "key" => self.generated_keys = true,
            "timeout" => self.timeout = Some(duration::parse(&meta.value()?.parse()?)?),
            "attempt_timeout" => {
                self.attempt_timeout = Some(duration::parse(&meta.value()?.parse()?)?);
            }
            "hedge" => {
                self.hedge = Some(quantile(&meta.value()?.parse()?)?);
                self.hedge_ident = Some(ident.clone());
            }
            "priority" => self.priority = Some(priority(&meta.value()?.parse()?)?),
            "sticky" => self.sticky = Some(meta.value()?.parse()?),
            "name" => self.name = Some(meta.value()?.parse()?),
            "since" | "self_describing" if self.mark.is_some() => {
                return Err(meta.error("one of `since` and `self_describing` is enough"));
            }
            "since" => {
                let since = meta.value()?.parse::<LitInt>()?;
                self.mark = Some(Mark::Since(since.base10_parse()?));
                self.mark_ident = Some(ident.clone());
            }
            "self_describing" => {
                self.mark = Some(Mark::SelfDescribing);
                self.mark_ident = Some(ident.clone());
            }
            _ => return Err(unknown(meta)),
        }
        if self.seen.contains(&name) {
            return Err(meta.error(format!("`{name}` is there twice")));
        }
        self.seen.push(name);
        Ok(())
    }

    /// Expression of the options in a constant.
    pub(super) fn expression(&self, krate: &CratePath) -> TokenStream {
        let mut calls = TokenStream::new();
        let flags = [
            (self.idempotent, quote!(with_idempotent)),
            (self.replay_safe, quote!(with_replay_safe)),
            (self.isolated, quote!(with_isolated)),
            (self.generated_keys, quote!(with_generated_keys)),
        ];
        for (_, call) in flags.iter().filter(|(is_set, _)| *is_set) {
            calls.extend(quote!(.#call(true)));
        }
        let times = [
            (self.timeout, quote!(with_timeout)),
            (self.attempt_timeout, quote!(with_attempt_timeout)),
        ];
        for (time, call) in times {
            let time = time.map(duration_tokens);
            calls.extend(time.map(|time| quote!(.#call(#time))));
        }
        if let Some(PriorityName(name)) = self.priority {
            let variant = Ident::new(name, proc_macro2::Span::call_site());
            calls.extend(quote!(.with_priority(#krate::Priority::#variant)));
        }
        if let Some(quantile) = self.hedge {
            calls.extend(quote!(.with_hedge_quantile(#quantile)));
        }
        quote!(#krate::MethodOptions::new() #calls)
    }
}

fn duration_tokens(duration: Duration) -> TokenStream {
    let (seconds, nanoseconds) = (duration.as_secs(), duration.subsec_nanos());
    quote!(::core::time::Duration::new(#seconds, #nanoseconds))
}

fn unknown(meta: &ParseNestedMeta<'_>) -> syn::Error {
    meta.error(
        "unknown option of a method: there are idempotent, replay_safe, timeout, attempt_timeout, \
         hedge, priority, isolated, key, sticky, name, since and self_describing",
    )
}

fn priority(name: &Ident) -> syn::Result<PriorityName> {
    let found = PRIORITIES.iter().find(|(known, _)| name == known);
    found.map(|(_, priority)| *priority).ok_or_else(|| {
        let message = "unknown priority: there are critical_plus, critical, sheddable_plus and \
                       sheddable";
        syn::Error::new_spanned(name, message)
    })
}

fn quantile(literal: &Lit) -> syn::Result<f64> {
    let quantile = match literal {
        Lit::Float(float) => float.base10_parse().ok(),
        _ => None,
    };
    quantile.filter(|it| *it > 0.0 && *it < 1.0).ok_or_else(|| {
        let message = format!(
            "{} is no quantile: write a number above 0 and below 1, such as 0.95",
            literal.to_token_stream()
        );
        syn::Error::new_spanned(literal, message)
    })
}
