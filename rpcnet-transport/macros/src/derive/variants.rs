//! Variants of an enum, as serde writes and reads them.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{DataEnum, Fields, Variant};

use super::{
    attributes::Attributes,
    fields::{MessageField, elements},
    rename_rule::RenameRule,
    tokens::{define_marked, names_calls},
};
use crate::{crate_path::CratePath, errors::Errors};

/// Variant with what its attributes say.
pub(super) struct MessageVariant<'a> {
    variant: &'a Variant,
    attributes: Attributes,
    fields: Vec<MessageField<'a>>,
}

impl<'a> MessageVariant<'a> {
    /// The variants, of which each was checked by itself.
    pub(super) fn all(data: &'a DataEnum) -> syn::Result<Vec<Self>> {
        let mut errors = Errors::default();
        let mut all = Vec::with_capacity(data.variants.len());
        for variant in &data.variants {
            match Self::new(variant) {
                Ok(variant) => all.push(variant),
                Err(error) => errors.add(error),
            }
        }
        errors.finish()?;
        Ok(all)
    }

    fn new(variant: &'a Variant) -> syn::Result<Self> {
        let attributes = Attributes::parse(&variant.attrs)?;
        attributes.check_supported("variant")?;
        let has_own_fields = attributes.mark.is_none() && !attributes.is_skipped();
        let fields = if has_own_fields {
            MessageField::all(&variant.fields)?
        } else {
            Vec::new()
        };
        Ok(Self {
            variant,
            attributes,
            fields,
        })
    }

    /// Expression of the `Variant` of the schema.
    pub(super) fn describe(&self, container: &Attributes, krate: &CratePath) -> TokenStream {
        let rules = container.rename_all;
        let names = self
            .attributes
            .names(&self.variant.ident, rules, RenameRule::variant);
        let (name, calls) = names_calls(&names);
        let content = self.content(container, krate);
        let other = self.attributes.is_other.then(|| quote!(.other()));
        quote!(#krate::schema::Variant::new(#name, #content) #calls #other)
    }

    fn content(&self, container: &Attributes, krate: &CratePath) -> TokenStream {
        let content = quote!(#krate::schema::VariantContent);
        if self.attributes.is_skipped() {
            return quote!(#content::Unit);
        }
        if let Some(mark) = self.attributes.mark {
            let name = self.variant.ident.to_string();
            let type_ref = define_marked(&quote!(Self), mark, krate, &name);
            return quote!(#content::Newtype(#type_ref));
        }
        match (&self.variant.fields, &self.fields[..]) {
            (Fields::Unit, _) => quote!(#content::Unit),
            (Fields::Unnamed(_), [field]) if field.attributes.is_skipped() => {
                quote!(#content::Unit)
            }
            (Fields::Unnamed(_), [field]) => {
                let type_ref = field.type_ref(krate);
                quote!(#content::Newtype(#type_ref))
            }
            (Fields::Unnamed(_), fields) => {
                let elements = elements(fields, krate);
                quote!(#content::Tuple(::std::vec![#(#elements),*]))
            }
            (Fields::Named(_), fields) => {
                let rules = self.attributes.rename_all.or(container.rename_all_fields);
                let kept = fields.iter().filter(|field| !field.attributes.is_skipped());
                let fields = kept.map(|field| field.named(krate, rules, false));
                quote!(#content::Struct(::std::vec![#(#fields),*]))
            }
        }
    }
}
