//! Attributes of a type, a variant or a field: serde's, and those of the derive itself.

use proc_macro2::{Ident, Span, TokenTree};
use syn::{
    Attribute, Expr, LitInt, LitStr, Token, Type, ext::IdentExt, meta::ParseNestedMeta, token,
};

use super::rename_rule::RenameRule;

/// Facts that the attributes of a type, a variant or a field state.
#[derive(Default)]
pub(crate) struct Attributes {
    /// Name, with what it is for each direction. When read there may be several.
    pub(crate) written_name: Option<String>,
    pub(crate) read_names: Vec<String>,
    pub(crate) aliases: Vec<String>,
    pub(crate) rename_all: Directions<Option<RenameRule>>,
    pub(crate) rename_all_fields: Directions<Option<RenameRule>>,
    pub(crate) has_default: bool,
    pub(crate) denies_unknown_fields: bool,
    pub(crate) is_transparent: bool,
    pub(crate) is_other: bool,
    pub(crate) skipped: Directions<bool>,
    pub(crate) skip_span: Option<Span>,
    pub(crate) from: Option<Type>,
    pub(crate) into: Option<Type>,
    /// The attribute that gives the encoding to the user's own code.
    pub(crate) custom: Option<Ident>,
    /// The first attribute that postcard cannot carry.
    pub(crate) unsupported: Option<Ident>,
    pub(crate) mark: Option<Mark>,
}

/// A fact about each direction: what is written, and what is read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Directions<T> {
    pub(crate) written: T,
    pub(crate) read: T,
}

/// `#[message(..)]`: a type or field whose shape is not derived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// The encoding is the user's, unchanged since this version.
    Since(u32),
    /// Sent with names, and decoded by what the bytes say.
    SelfDescribing,
}

impl Attributes {
    /// Reads `#[serde(..)]` and `#[message(..)]`.
    pub(crate) fn parse(attributes: &[Attribute]) -> syn::Result<Self> {
        let mut found = Self::default();
        for attribute in attributes {
            if attribute.path().is_ident("serde") {
                attribute.parse_nested_meta(|meta| found.read_serde(&meta))?;
            } else if attribute.path().is_ident("message") {
                attribute.parse_nested_meta(|meta| found.read_message(&meta))?;
            }
        }
        Ok(found)
    }

    fn read_message(&mut self, meta: &ParseNestedMeta<'_>) -> syn::Result<()> {
        let mark = if meta.path.is_ident("since") {
            Mark::Since(meta.value()?.parse::<LitInt>()?.base10_parse()?)
        } else if meta.path.is_ident("self_describing") {
            Mark::SelfDescribing
        } else {
            return Err(meta.error("expected `since = N` or `self_describing`"));
        };
        if self.mark.replace(mark).is_some() {
            return Err(meta.error("one of `since` and `self_describing`, and once, is enough"));
        }
        Ok(())
    }

    fn read_serde(&mut self, meta: &ParseNestedMeta<'_>) -> syn::Result<()> {
        let Some(name) = meta.path.get_ident() else {
            return Err(meta.error("serde has no such attribute"));
        };
        match name.to_string().as_str() {
            "rename" => self.read_rename(meta)?,
            "rename_all" => read_rules(&mut self.rename_all, meta)?,
            "rename_all_fields" => read_rules(&mut self.rename_all_fields, meta)?,
            "alias" => self.aliases.push(text(meta)?),
            "default" => {
                self.has_default = true;
                skip_value(meta)?;
            }
            "deny_unknown_fields" => self.denies_unknown_fields = true,
            "transparent" => self.is_transparent = true,
            "other" => self.is_other = true,
            "skip" => self.skip(name, true, true),
            "skip_serializing" => self.skip(name, true, false),
            "skip_deserializing" => self.skip(name, false, true),
            "from" | "try_from" => self.from = Some(meta.value()?.parse::<LitStr>()?.parse()?),
            "into" => self.into = Some(meta.value()?.parse::<LitStr>()?.parse()?),
            "with" | "serialize_with" | "deserialize_with" => {
                self.custom.get_or_insert_with(|| name.clone());
                skip_value(meta)?;
            }
            "untagged"
            | "tag"
            | "content"
            | "flatten"
            | "skip_serializing_if"
            | "getter"
            | "remote"
            | "field_identifier"
            | "variant_identifier" => {
                self.unsupported.get_or_insert_with(|| name.clone());
                skip_value(meta)?;
            }
            "bound" | "crate" | "borrow" | "expecting" | "non_exhaustive" => skip_value(meta)?,
            other => {
                let message = format!(
                    "the derive of `Message` does not know `{other}` of serde: mark the type \
                     `#[message(self_describing)]`"
                );
                return Err(meta.error(message));
            }
        }
        Ok(())
    }

    fn skip(&mut self, name: &Ident, written: bool, read: bool) {
        self.skipped.written |= written;
        self.skipped.read |= read;
        self.skip_span = Some(name.span());
    }

    /// `rename = ".."`, or `rename(serialize = "..", deserialize = "..")`.
    fn read_rename(&mut self, meta: &ParseNestedMeta<'_>) -> syn::Result<()> {
        if meta.input.peek(Token![=]) {
            let name = text(meta)?;
            self.written_name = Some(name.clone());
            self.read_names.push(name);
            return Ok(());
        }
        meta.parse_nested_meta(|meta| {
            if meta.path.is_ident("serialize") {
                self.written_name = Some(text(&meta)?);
            } else if meta.path.is_ident("deserialize") {
                self.read_names.push(text(&meta)?);
            } else {
                return Err(meta.error("expected `serialize` or `deserialize`"));
            }
            Ok(())
        })
    }

    /// Names by which a field or variant is written and read. `rename` is the rule for all that
    /// have no name of their own, applied to the name in the source.
    pub(crate) fn names(
        &self,
        ident: &Ident,
        rules: Directions<Option<RenameRule>>,
        rename: fn(RenameRule, &str) -> String,
    ) -> Directions<Vec<String>> {
        let ident = ident.unraw().to_string();
        let by_rule =
            |rule: Option<RenameRule>| rule.map_or_else(|| ident.clone(), |it| rename(it, &ident));
        let own = self.written_name.clone();
        let written = own.unwrap_or_else(|| by_rule(rules.written));
        let mut read = self.read_names.clone();
        if read.is_empty() {
            read.push(by_rule(rules.read));
        }
        read.extend(self.aliases.iter().cloned());
        let mut distinct = Vec::with_capacity(read.len());
        for name in read {
            if !distinct.contains(&name) {
                distinct.push(name);
            }
        }
        Directions {
            written: if self.skipped.written {
                vec![]
            } else {
                vec![written]
            },
            read: if self.skipped.read { vec![] } else { distinct },
        }
    }

    /// Checks that postcard can carry a type, field or variant (`place`), and that the changes of
    /// its encoding are seen.
    pub(crate) fn check_supported(&self, place: &str) -> syn::Result<()> {
        let (attribute, message) = match (&self.unsupported, &self.custom, self.mark) {
            (Some(name), _, _) => (
                name,
                format!(
                    "postcard cannot carry `{name}`: mark the type \
                     `#[message(self_describing)]`, and it is always sent with names"
                ),
            ),
            (None, Some(name), None) => (
                name,
                format!(
                    "changes of the encoding are unseen with `{name}`: mark the {place} \
                     `#[message(since = 1)]`, and raise the number with each change"
                ),
            ),
            (None, None, _) | (None, Some(_), Some(_)) => return Ok(()),
        };
        Err(syn::Error::new_spanned(attribute, message))
    }

    /// Whether serde neither writes nor reads it.
    pub(crate) fn is_skipped(&self) -> bool {
        self.skipped.written && self.skipped.read
    }
}

impl Directions<Option<RenameRule>> {
    /// These rules, and the others where there is none.
    pub(crate) fn or(self, others: Self) -> Self {
        Self {
            written: self.written.or(others.written),
            read: self.read.or(others.read),
        }
    }
}

/// `rename_all = ".."`, or `rename_all(serialize = "..", deserialize = "..")`.
fn read_rules(
    rules: &mut Directions<Option<RenameRule>>,
    meta: &ParseNestedMeta<'_>,
) -> syn::Result<()> {
    if meta.input.peek(Token![=]) {
        let rule = Some(RenameRule::parse(&meta.value()?.parse()?)?);
        *rules = Directions {
            written: rule,
            read: rule,
        };
        return Ok(());
    }
    meta.parse_nested_meta(|meta| {
        let rule = Some(RenameRule::parse(&meta.value()?.parse()?)?);
        if meta.path.is_ident("serialize") {
            rules.written = rule;
        } else if meta.path.is_ident("deserialize") {
            rules.read = rule;
        } else {
            return Err(meta.error("expected `serialize` or `deserialize`"));
        }
        Ok(())
    })
}

fn text(meta: &ParseNestedMeta<'_>) -> syn::Result<String> {
    Ok(meta.value()?.parse::<LitStr>()?.value())
}

/// Reads over `= value` or `(..)`, if there is one.
fn skip_value(meta: &ParseNestedMeta<'_>) -> syn::Result<()> {
    if meta.input.peek(Token![=]) {
        meta.value()?.parse::<Expr>()?;
    } else if meta.input.peek(token::Paren) {
        meta.input.parse::<TokenTree>()?;
    }
    Ok(())
}
