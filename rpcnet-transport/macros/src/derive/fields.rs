//! Fields of a struct or of a variant, as serde writes and reads them.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Field, Fields, Type};

use super::{
    attributes::{Attributes, Directions},
    rename_rule::RenameRule,
    tokens::{define_marked, names_calls, schema_ident},
    type_text::type_text,
};
use crate::{crate_path::CratePath, errors::Errors};

/// Field with what its attributes say.
pub(super) struct MessageField<'a> {
    field: &'a Field,
    pub(super) attributes: Attributes,
}

impl<'a> MessageField<'a> {
    /// The fields, of which each was checked by itself.
    pub(super) fn all(fields: &'a Fields) -> syn::Result<Vec<Self>> {
        let mut errors = Errors::default();
        let mut all = Vec::with_capacity(fields.len());
        for field in fields {
            match Attributes::parse(&field.attrs) {
                Ok(attributes) => {
                    let field = Self { field, attributes };
                    field.check(&mut errors);
                    all.push(field);
                }
                Err(error) => errors.add(error),
            }
        }
        errors.finish()?;
        Ok(all)
    }

    fn check(&self, errors: &mut Errors) {
        let attributes = &self.attributes;
        if let Err(error) = attributes.check_supported("field") {
            errors.add(error);
        }
        let is_one_way = attributes.skipped.written != attributes.skipped.read;
        if let Some(span) = attributes
            .skip_span
            .filter(|_| is_one_way && self.field.ident.is_none())
        {
            let message = "an element of a tuple that is written and not read, or the reverse, \
                           moves those behind it: write `skip`, or name the fields";
            errors.add(syn::Error::new(span, message));
        }
    }

    /// Whether the field has data that is written and read, as one field of a transparent type has.
    pub(super) fn has_data(&self) -> bool {
        !self.attributes.is_skipped() && !last_segment_is(&self.field.ty, "PhantomData")
    }

    /// Expression of the `TypeRef` of the field.
    pub(super) fn type_ref(&self, krate: &CratePath) -> TokenStream {
        let (ty, schema) = (&self.field.ty, schema_ident());
        match self.attributes.mark {
            None => quote!(<#ty as #krate::Message>::describe(#schema)),
            Some(mark) => define_marked(ty, mark, krate, &type_text(ty)),
        }
    }

    /// Expression of the `Field` of the schema.
    pub(super) fn named(
        &self,
        krate: &CratePath,
        rules: Directions<Option<RenameRule>>,
        container_has_default: bool,
    ) -> TokenStream {
        let ident = self.field.ident.as_ref().expect("the fields are named");
        let names = self.attributes.names(ident, rules, RenameRule::field);
        let type_ref = self.type_ref(krate);
        let (name, calls) = names_calls(&names);
        let has_default = self.attributes.has_default || container_has_default;
        // Without an own function, serde reads a missing `Option` as `None`.
        let is_option =
            self.attributes.custom.is_none() && last_segment_is(&self.field.ty, "Option");
        let optional = (has_default || is_option).then(|| quote!(.optional()));
        quote!(#krate::schema::Field::new(#name, #type_ref) #calls #optional)
    }
}

/// Expressions of the types of the elements of a tuple.
pub(super) fn elements(fields: &[MessageField<'_>], krate: &CratePath) -> Vec<TokenStream> {
    let kept = fields.iter().filter(|field| !field.attributes.is_skipped());
    kept.map(|field| field.type_ref(krate)).collect()
}

/// Whether a type is written as a path that ends with this name.
fn last_segment_is(ty: &Type, name: &str) -> bool {
    let ty = match ty {
        Type::Group(group) => &group.elem,
        other => other,
    };
    let Type::Path(path) = ty else {
        return false;
    };
    let last = path.path.segments.last();
    last.is_some_and(|segment| segment.ident == name)
}
