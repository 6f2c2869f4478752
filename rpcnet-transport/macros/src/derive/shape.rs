//! Body of `describe`: the shape of a type as serde writes and reads it.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Data, DataEnum, DataStruct, DeriveInput, Fields};

use super::{
    attributes::Attributes,
    fields::{MessageField, elements},
    tokens::{define, mark_shape, schema_ident},
    type_text::type_text,
    variants::MessageVariant,
};
use crate::crate_path::CratePath;

/// Body of the function `describe` of a type.
pub(super) fn describe_body(
    input: &DeriveInput,
    krate: &CratePath,
    name: &str,
) -> syn::Result<TokenStream> {
    let attributes = Attributes::parse(&input.attrs)?;
    if let Some(mark) = attributes.mark {
        return Ok(define(name, &mark_shape(mark, krate, name)));
    }
    attributes.check_supported("type")?;
    if let Some(converted) = converted(&attributes, krate)? {
        return Ok(converted);
    }
    match &input.data {
        Data::Struct(data) => describe_struct(data, &attributes, krate, name),
        Data::Enum(data) => describe_enum(data, &attributes, krate, name),
        Data::Union(data) => Err(syn::Error::new_spanned(data.union_token, "a union")),
    }
}

/// The type in whose place another one is written and read.
fn converted(attributes: &Attributes, krate: &CratePath) -> syn::Result<Option<TokenStream>> {
    let schema = schema_ident();
    match (&attributes.from, &attributes.into) {
        (None, None) => Ok(None),
        (Some(from), Some(into)) if type_text(from) == type_text(into) => {
            Ok(Some(quote!(<#into as #krate::Message>::describe(#schema))))
        }
        (Some(ty), _) | (None, Some(ty)) => {
            let message = "what is written and what is read differ: name one type in `from` (or \
                           `try_from`) and in `into`, or mark the type `#[message(since = 1)]`";
            Err(syn::Error::new_spanned(ty, message))
        }
    }
}

fn describe_struct(
    data: &DataStruct,
    attributes: &Attributes,
    krate: &CratePath,
    name: &str,
) -> syn::Result<TokenStream> {
    let fields = MessageField::all(&data.fields)?;
    if attributes.is_transparent {
        return match fields.iter().find(|field| field.has_data()) {
            Some(field) => Ok(field.type_ref(krate)),
            None => Err(syn::Error::new_spanned(
                &data.fields,
                "a transparent type is one of its fields, and this one has none",
            )),
        };
    }
    if let (Fields::Unnamed(_), [field]) = (&data.fields, &fields[..]) {
        return match field.attributes.skip_span {
            None => Ok(field.type_ref(krate)),
            Some(span) => {
                let message = "serde writes a newtype struct as its field: it cannot be skipped";
                Err(syn::Error::new(span, message))
            }
        };
    }
    let shape = match &data.fields {
        Fields::Named(_) => {
            let rules = attributes.rename_all;
            let kept = fields.iter().filter(|field| !field.attributes.is_skipped());
            let fields = kept.map(|field| field.named(krate, rules, attributes.has_default));
            let denies = attributes.denies_unknown_fields;
            quote!(#krate::schema::Shape::Struct {
                fields: ::std::vec![#(#fields),*],
                denies_unknown_fields: #denies,
            })
        }
        Fields::Unnamed(_) | Fields::Unit => {
            let elements = elements(&fields, krate);
            quote!(#krate::schema::Shape::Tuple(::std::vec![#(#elements),*]))
        }
    };
    Ok(define(name, &shape))
}

fn describe_enum(
    data: &DataEnum,
    attributes: &Attributes,
    krate: &CratePath,
    name: &str,
) -> syn::Result<TokenStream> {
    let all = MessageVariant::all(data)?;
    let described = all
        .iter()
        .map(|variant| variant.describe(attributes, krate));
    let denies = attributes.denies_unknown_fields;
    let shape = quote!(#krate::schema::Shape::Enum {
        variants: ::std::vec![#(#described),*],
        denies_unknown_fields: #denies,
    });
    Ok(define(name, &shape))
}
