//! Types that describe their schema, and the type table that they build.

use std::{
    any::{TypeId, type_name},
    collections::HashMap,
};

use serde::{Serialize, de::DeserializeOwned};

use super::{Shape, TypeRef};

/// Type of requests, replies and service errors: a serde type whose schema is known.
///
/// Derived beside serde's traits. Types of the standard library that serde supports have it, except
/// those that own no data or whose encoding depends on the platform.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no schema: the trait `Message` is not implemented for it",
    label = "this type has no schema",
    note = "derive `rpcnet_transport::Message` beside serde's `Serialize` and `Deserialize`",
    note = "for a field of a type of another crate: mark it `#[message(since = 1)]`, and raise the \
            number whenever the encoding of that type changes"
)]
pub trait Message: Serialize + DeserializeOwned + 'static {
    /// Adds the type and the types that it is made of to a schema.
    fn describe(schema: &mut SchemaBuilder) -> TypeRef;
}

/// Type table under construction: types in the order of the first visit.
#[derive(Debug, Default)]
pub struct SchemaBuilder {
    visited: HashMap<TypeId, TypeRef>,
    /// `None` while the shape of the type is being built.
    types: Vec<(String, Option<Shape>)>,
}

impl SchemaBuilder {
    /// Adds type `T` unless it is there. `shape` runs at the first visit alone, so that a type may
    /// contain itself. `name` is for people, and is not part of the hash of a schema.
    ///
    /// # Panics
    ///
    /// If `T` is an option of itself, as `struct Count(Option<Box<Count>>)`: no encoding bounds how
    /// deep its values are, so that one of a peer overflows the stack.
    pub fn define<T: ?Sized + 'static>(
        &mut self,
        name: &str,
        shape: impl FnOnce(&mut Self) -> Shape,
    ) -> TypeRef {
        let id = TypeId::of::<T>();
        if let Some(known) = self.visited.get(&id) {
            return *known;
        }
        let index = self.types.len();
        let type_ref = TypeRef::new(index);
        self.visited.insert(id, type_ref);
        self.types.push((name.to_owned(), None));
        self.types[index].1 = Some(shape(self));
        let name = type_name::<T>();
        assert!(
            !self.is_option_of_itself(type_ref),
            "`{name}` is an option of itself"
        );
        type_ref
    }

    fn is_option_of_itself(&self, ty: TypeRef) -> bool {
        let mut inner = ty;
        while let Some((_, Some(Shape::Option(next)))) = self.types.get(inner.index()) {
            inner = *next;
            if inner == ty {
                return true;
            }
        }
        false
    }

    /// Adds a type and the types that it is made of; the same as `T::describe`.
    pub fn add<T: Message>(&mut self) -> TypeRef {
        T::describe(self)
    }

    /// Names and shapes of all types.
    pub(super) fn finish(self) -> (Vec<String>, Vec<Shape>) {
        let shape = |shape: Option<Shape>| shape.expect("`define` has returned for every type");
        let types = self.types.into_iter();
        types.map(|(name, built)| (name, shape(built))).unzip()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

    use serde::Deserialize;

    use super::*;
    use crate::schema::Field;

    #[derive(Serialize, Deserialize)]
    struct Tree {
        name: String,
        children: Vec<Self>,
    }

    impl Message for Tree {
        fn describe(schema: &mut SchemaBuilder) -> TypeRef {
            schema.define::<Self>("Tree", |schema| Shape::Struct {
                fields: vec![
                    Field::new("name", schema.add::<String>()),
                    Field::new("children", schema.add::<Vec<Self>>()),
                ],
                denies_unknown_fields: false,
            })
        }
    }

    fn table<T: Message>() -> (Vec<String>, Vec<Shape>) {
        let mut schema = SchemaBuilder::default();
        assert_eq!(schema.add::<T>(), TypeRef::new(0));
        schema.finish()
    }

    #[test]
    fn a_type_may_contain_itself() {
        let (names, types) = table::<Tree>();
        assert_eq!(names, ["Tree", "String", "Vec"]);
        assert_eq!(types[2], Shape::Sequence(TypeRef::new(0)));
    }

    #[test]
    #[should_panic(expected = "::Count>>` is an option of itself")]
    fn a_type_that_is_an_option_of_itself_is_rejected() {
        #[derive(Serialize, Deserialize)]
        struct Count(Option<Box<Self>>);
        impl Message for Count {
            fn describe(schema: &mut SchemaBuilder) -> TypeRef {
                schema.add::<Option<Box<Self>>>()
            }
        }
        table::<Vec<Count>>();
    }

    #[test]
    fn a_type_is_an_option_of_itself_only_if_nothing_is_between() {
        #[derive(Serialize, Deserialize)]
        struct Nested(Option<Vec<Self>>);
        impl Message for Nested {
            fn describe(schema: &mut SchemaBuilder) -> TypeRef {
                schema.add::<Option<Vec<Self>>>()
            }
        }
        assert_eq!(table::<Nested>().0, ["Option", "Vec"]);
        assert_eq!(table::<Option<Option<Option<()>>>>().0.len(), 4);
    }

    #[test]
    fn a_type_is_in_the_table_once() {
        assert_eq!(table::<(u8, Box<u8>, Option<u8>, [u8; 3])>().1.len(), 4);
        assert_eq!(table::<(Vec<u8>, VecDeque<u8>, BTreeSet<u8>)>().1.len(), 3);
        let maps = table::<(HashMap<String, u8>, BTreeMap<String, u8>)>();
        assert_eq!(maps.1.len(), 4);
    }
}
