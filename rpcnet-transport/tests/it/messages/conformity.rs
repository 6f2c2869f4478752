//! Check of a derived schema: it says what serde does with values of the type.

use rpcnet_transport::{
    Message,
    schema::{Field, MethodSchema, Shape, TypeRef, Variant, VariantContent},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};

/// Types of a message, as its schema lists them.
pub(super) struct Types {
    types: Vec<Shape>,
    root: TypeRef,
}

/// Encoded form of a schema, without the names for people.
#[derive(Deserialize)]
struct Table {
    types: Vec<Shape>,
    request: TypeRef,
    _reply: TypeRef,
    _error: Option<TypeRef>,
}

impl Types {
    pub(super) fn of<T: Message>() -> Self {
        let schema = MethodSchema::of(T::describe, |schema| schema.add::<()>(), |_| None);
        let bytes = schema.encode().expect("a small schema");
        let (table, _) = postcard::take_from_bytes::<Table>(&bytes).unwrap();
        Self {
            types: table.types,
            root: table.request,
        }
    }

    pub(super) fn root(&self) -> &Shape {
        self.shape(self.root)
    }

    pub(super) fn shape(&self, ty: TypeRef) -> &Shape {
        let index = serde_json::to_value(ty).unwrap();
        &self.types[usize::try_from(index.as_u64().unwrap()).unwrap()]
    }

    /// Fields of the root, which is a struct.
    pub(super) fn fields(&self) -> &[Field] {
        match self.root() {
            Shape::Struct { fields, .. } => fields,
            other => panic!("no struct: {other:?}"),
        }
    }

    /// Variants of the root, which is an enum.
    pub(super) fn variants(&self) -> &[Variant] {
        match self.root() {
            Shape::Enum { variants, .. } => variants,
            other => panic!("no enum: {other:?}"),
        }
    }
}

/// Checks that the schema of `T` says how serde writes and reads these values.
pub(super) fn check<T: Message>(values: &[T]) {
    let types = Types::of::<T>();
    for value in values {
        let written = serde_json::to_value(value).unwrap();
        check_written(&types, types.root(), &written);
        check_read::<T>(&types, types.root(), &written, &|inner| inner);
    }
}

/// What was written has the shape.
fn check_written(types: &Types, shape: &Shape, value: &Value) {
    match (shape, value) {
        (Shape::Bool, Value::Bool(_))
        | (Shape::Unsigned { .. } | Shape::Signed { .. } | Shape::Float { .. }, Value::Number(_))
        | (Shape::Char | Shape::String, Value::String(_))
        | (Shape::Unit | Shape::Option(_), Value::Null)
        | (Shape::Opaque { .. } | Shape::SelfDescribing, _) => {}
        // JSON has no unit structs: it writes them as it writes `()`.
        (Shape::Tuple(elements), Value::Null) => assert!(elements.is_empty()),
        (Shape::Option(inner), some) => check_written(types, types.shape(*inner), some),
        (Shape::Sequence(inner), Value::Array(items)) => {
            for item in items {
                check_written(types, types.shape(*inner), item);
            }
        }
        (Shape::Map { value: inner, .. }, Value::Object(entries)) => {
            for entry in entries.values() {
                check_written(types, types.shape(*inner), entry);
            }
        }
        (Shape::Tuple(elements), value) => check_tuple(types, elements, value),
        (Shape::Struct { fields, .. }, value) => check_fields(types, fields, value),
        (Shape::Enum { variants, .. }, value) => check_variant(types, variants, value),
        (shape, value) => panic!("{shape:?} was written as {value}"),
    }
}

fn check_tuple(types: &Types, elements: &[TypeRef], value: &Value) {
    let items = value.as_array().expect("an array");
    assert_eq!(elements.len(), items.len(), "{value}");
    for (element, item) in elements.iter().zip(items) {
        check_written(types, types.shape(*element), item);
    }
}

fn check_fields(types: &Types, fields: &[Field], value: &Value) {
    let object = value.as_object().expect("an object");
    let mut names: Vec<_> = fields.iter().filter_map(|it| it.written.clone()).collect();
    for field in fields {
        if let Some(name) = &field.written {
            check_written(types, types.shape(field.ty), &object[name]);
        }
    }
    names.sort_unstable();
    let mut keys: Vec<_> = object.keys().cloned().collect();
    keys.sort_unstable();
    assert_eq!(names, keys, "the fields that are written");
}

fn check_variant(types: &Types, variants: &[Variant], value: &Value) {
    let (variant, content) = written_variant(variants, value);
    match &variant.content {
        VariantContent::Unit => assert_eq!(*content, Value::Null),
        VariantContent::Newtype(inner) => check_written(types, types.shape(*inner), content),
        VariantContent::Tuple(elements) => check_tuple(types, elements, content),
        VariantContent::Struct(fields) => check_fields(types, fields, content),
    }
}

/// The variant that was written, and its content; null if it is a name alone.
fn written_variant<'a>(variants: &'a [Variant], value: &'a Value) -> (&'a Variant, &'a Value) {
    let (name, content) = match value {
        Value::String(name) => (name, &Value::Null),
        Value::Object(one) => one.iter().next().expect("a variant"),
        other => panic!("{other} is no variant"),
    };
    let mut found = variants
        .iter()
        .filter(|it| it.written.as_ref() == Some(name));
    (found.next().expect("a variant of this name"), content)
}

/// Serde reads each name that the schema has, does without optional fields alone, and refuses
/// unknown fields if the schema says so. `whole` makes a value of `T` of one of the shape.
fn check_read<T: DeserializeOwned>(
    types: &Types,
    shape: &Shape,
    value: &Value,
    whole: &dyn Fn(Value) -> Value,
) {
    match shape {
        Shape::Struct {
            fields,
            denies_unknown_fields,
        } => {
            let object = value.as_object().unwrap();
            check_fields_read::<T>(types, fields, object, *denies_unknown_fields, whole);
        }
        Shape::Enum {
            variants,
            denies_unknown_fields,
        } => {
            let (variant, content) = written_variant(variants, value);
            let content = value.is_object().then_some(content);
            for read in &variant.read {
                let renamed = content.map_or_else(|| read.as_str().into(), |it| tagged(read, it));
                assert!(is_read::<T>(whole(renamed)), "variant {read} of {value}");
            }
            if let (VariantContent::Struct(fields), Some(content)) = (&variant.content, content) {
                let Some(read) = variant.read.first() else {
                    return;
                };
                let whole = |inner: Value| whole(tagged(read, &inner));
                let object = content.as_object().unwrap();
                check_fields_read::<T>(types, fields, object, *denies_unknown_fields, &whole);
            }
        }
        _ => assert!(is_read::<T>(whole(value.clone())), "{value}"),
    }
}

/// A value of the fields for a reader: each by one of its names.
fn check_fields_read<T: DeserializeOwned>(
    types: &Types,
    fields: &[Field],
    written: &Map<String, Value>,
    denies_unknown_fields: bool,
    whole: &dyn Fn(Value) -> Value,
) {
    let read = |object: &Map<String, Value>| is_read::<T>(whole(object.clone().into()));
    let mut complete = Map::new();
    for field in fields {
        let value = field.written.as_ref().map(|name| &written[name]);
        if let (Some(name), Some(value)) = (field.read.first(), value) {
            complete.insert(name.clone(), value.clone());
        }
    }
    let lacks_one = |field: &&Field| field.written.is_none() && !field.is_optional;
    if fields.iter().any(|field| lacks_one(&field)) {
        assert!(!read(&complete), "a required field is not there");
        return;
    }
    assert!(read(&complete), "{complete:?} is read");
    for field in fields {
        let Some((name, aliases)) = field.read.split_first() else {
            continue;
        };
        let mut without = complete.clone();
        let Some(value) = without.remove(name) else {
            continue;
        };
        assert_eq!(read(&without), field.is_optional, "without {name}");
        for alias in aliases {
            let mut renamed = without.clone();
            renamed.insert(alias.clone(), value.clone());
            assert!(read(&renamed), "{name} as {alias}");
        }
        // A value that serde would not read shows that the name is read at all.
        let mut wrong = without.clone();
        wrong.insert(name.clone(), serde_json::json!([[["wrong"]]]));
        let takes_all = *types.shape(field.ty) == Shape::SelfDescribing;
        assert_eq!(read(&wrong), takes_all, "{name} is not ignored");
    }
    let mut more = complete.clone();
    more.insert("a field that no type has".into(), Value::Null);
    assert_eq!(read(&more), !denies_unknown_fields, "an unknown field");
}

fn is_read<T: DeserializeOwned>(value: Value) -> bool {
    serde_json::from_value::<T>(value).is_ok()
}

fn tagged(name: &str, content: &Value) -> Value {
    Value::Object([(name.to_owned(), content.clone())].into_iter().collect())
}
