//! Schemas and their types as text.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fmt::{self, Write},
};

use super::{Field, MethodSchema, Shape, TypeRef, Variant, VariantContent};
use crate::printable::Printable;

/// Nested types without a name that one line shows. Deeper ones are shown on their own.
const INLINE_DEPTH_MAX: u8 = 3;

/// Fields of a tuple that one line shows.
const INLINE_FIELDS_MAX: usize = 4;

/// Names of a list that an error shows.
const LIST_LEN_MAX: usize = 16;

/// Length after which the text of a schema leaves types out: a peer's may repeat them very often.
const TEXT_BYTES_MAX: usize = 256 * 1024;

/// The types as text: what is written and read by the method, then each type that has a name. The
/// text is stable, but not meant to be parsed.
impl fmt::Display for MethodSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_schema(f, self)
    }
}

fn write_schema(f: &mut fmt::Formatter<'_>, schema: &MethodSchema) -> fmt::Result {
    let mut printer = TypePrinter::new(schema);
    let table = schema.table();
    let roots = [
        ("request", Some(table.request)),
        ("reply", Some(table.reply)),
        ("error", table.error),
    ];
    for (part, root) in roots {
        if let Some(root) = root {
            write!(printer.text, "{part}: ")?;
            printer.mention(root, 0)?;
            printer.text.push('\n');
        }
    }
    while let Some(ty) = printer.pending.pop_front() {
        printer.text.push('\n');
        if printer.text.len() > TEXT_BYTES_MAX {
            printer.text.push_str("...\n");
            break;
        }
        printer.define(ty)?;
    }
    f.write_str(&printer.text)
}

/// One type in a few words: `u32`, `[string]`, `struct Job`.
pub(super) fn type_text(schema: &MethodSchema, ty: TypeRef) -> String {
    let mut printer = TypePrinter::new(schema);
    let keyword = match schema.table().shape(ty) {
        Shape::Struct { .. } => "struct ",
        Shape::Enum { .. } => "enum ",
        _ => "",
    };
    printer.text.push_str(keyword);
    let written = printer.mention(ty, 0);
    written.expect("a string takes any text");
    printer.text
}

/// Content of a variant in a few words: `no content`, `(u8, bool)`, `{ size, name }`.
pub(super) fn content_text(schema: &MethodSchema, content: &VariantContent) -> String {
    let mut printer = TypePrinter::new(schema);
    let written = match content {
        VariantContent::Unit => return "no content".to_owned(),
        VariantContent::Newtype(inner) => printer.list(&[*inner], 0),
        VariantContent::Tuple(fields) => printer.list(fields, 0),
        VariantContent::Struct(fields) => {
            let names = fields.iter().filter_map(|field| {
                let read = || field.read.first().map(String::as_str);
                field.written.as_deref().or_else(read)
            });
            return format!("{{ {} }}", name_list(names));
        }
    };
    written.expect("a string takes any text");
    printer.text
}

/// Names with commas, of which the first few are shown.
pub(super) fn name_list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut text = String::new();
    for (index, name) in names.enumerate() {
        if index > 0 {
            text.push_str(", ");
        }
        if index == LIST_LEN_MAX {
            text.push_str("...");
            break;
        }
        text.push_str(&Printable(name).to_string());
    }
    text
}

struct TypePrinter<'a> {
    schema: &'a MethodSchema,
    text: String,
    /// Types that were mentioned by name, and have a definition.
    named: HashSet<TypeRef>,
    /// Those of them that are still to be defined.
    pending: VecDeque<TypeRef>,
    /// How many types of a name came before.
    name_numbers: HashMap<TypeRef, usize>,
}

impl<'a> TypePrinter<'a> {
    fn new(schema: &'a MethodSchema) -> Self {
        let mut counts: HashMap<&str, usize> = HashMap::new();
        let mut name_numbers = HashMap::new();
        for (index, name) in schema.names().iter().enumerate() {
            let ty = TypeRef::new(index);
            if has_name(schema.table().shape(ty)) {
                let count = counts.entry(name).or_default();
                *count += 1;
                name_numbers.insert(ty, *count);
            }
        }
        Self {
            schema,
            text: String::new(),
            named: HashSet::new(),
            pending: VecDeque::new(),
            name_numbers,
        }
    }

    /// A type where it is used.
    fn mention(&mut self, ty: TypeRef, depth: u8) -> fmt::Result {
        if self.text.len() > TEXT_BYTES_MAX {
            return self.text.write_str("...");
        }
        let shape = self.schema.table().shape(ty);
        if has_name(shape) || is_long(shape) || (depth >= INLINE_DEPTH_MAX && has_parts(shape)) {
            if self.named.insert(ty) {
                self.pending.push_back(ty);
            }
            return self.name(ty);
        }
        self.structure(shape, depth)
    }

    fn name(&mut self, ty: TypeRef) -> fmt::Result {
        let index = ty.index();
        match self.name_numbers.get(&ty) {
            None => write!(self.text, "type#{index}"),
            Some(number) => {
                let name = &self.schema.names()[index];
                write!(self.text, "{}", Printable(name))?;
                if *number > 1 {
                    write!(self.text, "#{number}")?;
                }
                Ok(())
            }
        }
    }

    /// A type without a name.
    fn structure(&mut self, shape: &Shape, depth: u8) -> fmt::Result {
        match shape {
            Shape::Bool => self.text.write_str("bool"),
            Shape::Unsigned { bits } => write!(self.text, "u{bits}"),
            Shape::Signed { bits } => write!(self.text, "i{bits}"),
            Shape::Float { bits } => write!(self.text, "f{bits}"),
            Shape::Char => self.text.write_str("char"),
            Shape::String => self.text.write_str("string"),
            Shape::Bytes => self.text.write_str("bytes"),
            Shape::Unit => self.text.write_str("()"),
            Shape::SelfDescribing => self.text.write_str("any"),
            Shape::Option(inner) => {
                self.text.write_str("option<")?;
                self.mention(*inner, depth + 1)?;
                self.text.write_char('>')
            }
            Shape::Sequence(inner) => {
                self.text.write_char('[')?;
                self.mention(*inner, depth + 1)?;
                self.text.write_char(']')
            }
            Shape::Map { key, value } => {
                self.text.write_char('{')?;
                self.mention(*key, depth + 1)?;
                self.text.write_str(": ")?;
                self.mention(*value, depth + 1)?;
                self.text.write_char('}')
            }
            Shape::Tuple(fields) if fields.is_empty() => self.text.write_str("unit struct"),
            Shape::Tuple(fields) => self.tuple(fields, depth + 1),
            Shape::Opaque { name, since } => {
                write!(self.text, "opaque {} (since {since})", Printable(name))
            }
            Shape::Struct { fields, .. } => self.fields(fields, "    "),
            Shape::Enum { variants, .. } => self.variants(variants),
        }
    }

    fn tuple(&mut self, fields: &[TypeRef], depth: u8) -> fmt::Result {
        if is_array(fields) {
            self.text.write_char('[')?;
            self.mention(fields[0], depth)?;
            return write!(self.text, "; {}]", fields.len());
        }
        self.list(fields, depth)
    }

    /// Fields without names, in parentheses.
    fn list(&mut self, fields: &[TypeRef], depth: u8) -> fmt::Result {
        self.text.write_char('(')?;
        for (index, field) in fields.iter().enumerate() {
            if index > 0 {
                self.text.write_str(", ")?;
            }
            self.mention(*field, depth)?;
        }
        self.text.write_char(')')
    }

    /// Definition of a type that was mentioned by name.
    fn define(&mut self, ty: TypeRef) -> fmt::Result {
        let shape = self.schema.table().shape(ty);
        let (keyword, denies) = match shape {
            Shape::Struct {
                denies_unknown_fields,
                ..
            } => ("struct ", *denies_unknown_fields),
            Shape::Enum {
                denies_unknown_fields,
                ..
            } => ("enum ", *denies_unknown_fields),
            _ => ("", false),
        };
        self.text.write_str(keyword)?;
        self.name(ty)?;
        if denies {
            self.text.write_str(" denies unknown fields")?;
        }
        let separator = if has_name(shape) { " " } else { " = " };
        self.text.write_str(separator)?;
        self.structure(shape, 0)?;
        self.text.write_char('\n')
    }

    fn fields(&mut self, fields: &[Field], indent: &str) -> fmt::Result {
        self.text.write_str("{\n")?;
        for field in fields {
            self.text.write_str(indent)?;
            self.names(field.written.as_deref(), &field.read)?;
            if field.is_optional {
                self.text.write_char('?')?;
            }
            self.text.write_str(": ")?;
            self.mention(field.ty, 0)?;
            self.text.write_str(",\n")?;
        }
        self.text.write_str(&indent[4..])?;
        self.text.write_char('}')
    }

    fn variants(&mut self, variants: &[Variant]) -> fmt::Result {
        self.text.write_str("{\n")?;
        for variant in variants {
            self.text.write_str("    ")?;
            self.names(variant.written.as_deref(), &variant.read)?;
            if variant.is_other {
                self.text.write_str(" (other)")?;
            }
            match &variant.content {
                VariantContent::Unit => {}
                VariantContent::Newtype(inner) => self.list(&[*inner], 0)?,
                VariantContent::Tuple(fields) => self.list(fields, 0)?,
                VariantContent::Struct(fields) => {
                    self.text.write_char(' ')?;
                    self.fields(fields, "        ")?;
                }
            }
            self.text.write_str(",\n")?;
        }
        self.text.write_char('}')
    }

    /// Name that is written, and those that are read if there are others: `size|len`,
    /// `size (read as len)`, `size (never read)`.
    fn names(&mut self, written: Option<&str>, read: &[String]) -> fmt::Result {
        let Some(written) = written else {
            self.alternatives(read)?;
            return self.text.write_str(" (never written)");
        };
        match read {
            [] => write!(self.text, "{} (never read)", Printable(written)),
            [first, ..] if first == written => self.alternatives(read),
            _ => {
                write!(self.text, "{} (read as ", Printable(written))?;
                self.alternatives(read)?;
                self.text.write_char(')')
            }
        }
    }

    fn alternatives(&mut self, names: &[String]) -> fmt::Result {
        for (index, name) in names.iter().enumerate() {
            let separator = if index > 0 { "|" } else { "" };
            write!(self.text, "{separator}{}", Printable(name))?;
        }
        Ok(())
    }
}

/// Whether a type is mentioned by its name.
fn has_name(shape: &Shape) -> bool {
    matches!(shape, Shape::Struct { .. } | Shape::Enum { .. })
}

/// Whether a type without a name is too long for one line.
fn is_long(shape: &Shape) -> bool {
    let Shape::Tuple(fields) = shape else {
        return false;
    };
    fields.len() > INLINE_FIELDS_MAX && !is_array(fields)
}

fn is_array(fields: &[TypeRef]) -> bool {
    fields.len() > 1 && fields.iter().all(|field| *field == fields[0])
}

/// Whether a type is made of others.
fn has_parts(shape: &Shape) -> bool {
    matches!(
        shape,
        Shape::Option(_) | Shape::Sequence(_) | Shape::Map { .. } | Shape::Tuple(_)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{Message, SchemaBuilder};

    fn job(schema: &mut SchemaBuilder) -> TypeRef {
        struct Job;
        schema.define::<Job>("Job", |schema| Shape::Struct {
            fields: vec![
                Field::new("id", schema.add::<u64>()),
                Field::new("codec", codec(schema)).optional(),
                Field::new("size", schema.add::<[u32; 2]>()).with_read(&["size", "len"]),
                Field::new(
                    "tags",
                    schema.add::<std::collections::BTreeMap<String, u8>>(),
                ),
                Field::new("parts", schema.add::<Vec<Option<(u8, f32)>>>()),
                Field::new("parent", schema.define::<Job>("Job", |_| unreachable!())),
                Field::new("old", schema.add::<char>()).with_written(None),
                Field::new("new", schema.add::<bool>()).with_read(&[]),
                Field::new("deep", schema.add::<Option<Vec<Option<Vec<()>>>>>()),
            ],
            denies_unknown_fields: true,
        })
    }

    fn codec(schema: &mut SchemaBuilder) -> TypeRef {
        struct Codec;
        struct Named;
        schema.define::<Codec>("Codec", |schema| Shape::Enum {
            variants: vec![
                Variant::new("Raw", VariantContent::Unit),
                Variant::new("Zip", VariantContent::Newtype(schema.add::<u8>())),
                Variant::new(
                    "Pair",
                    VariantContent::Tuple(vec![schema.add::<u8>(), schema.add::<i16>()]),
                ),
                Variant::new(
                    "Named",
                    VariantContent::Struct(vec![Field::new(
                        "name",
                        schema.define::<Named>("Codec", |_| Shape::Opaque {
                            name: "codecs::Name".to_owned(),
                            since: 3,
                        }),
                    )]),
                )
                .with_written(Some("named")),
                Variant::new("Other", VariantContent::Unit).other(),
            ],
            denies_unknown_fields: false,
        })
    }

    #[test]
    fn the_text_of_a_schema_shows_every_type_once() {
        let schema = MethodSchema::of(job, u32::describe, |schema| Some(codec(schema)));
        let lines = [
            "request: Job",
            "reply: u32",
            "error: Codec",
            "",
            "struct Job denies unknown fields {",
            "    id: u64,",
            "    codec?: Codec,",
            "    size|len: [u32; 2],",
            "    tags: {string: u8},",
            "    parts: [option<(u8, f32)>],",
            "    parent: Job,",
            "    old (never written): char,",
            "    new (never read): bool,",
            "    deep: option<[option<type#19>]>,",
            "}",
            "",
            "enum Codec {",
            "    Raw,",
            "    Zip(u8),",
            "    Pair(u8, i16),",
            "    named (read as Named) {",
            "        name: opaque codecs::Name (since 3),",
            "    },",
            "    Other (other),",
            "}",
            "",
            "type#19 = [()]",
            "",
        ];
        let text = lines.join("\n");
        assert_eq!(schema.to_string(), text);
        let decoded = MethodSchema::decode(&schema.encode().unwrap()).unwrap();
        assert_eq!(decoded.to_string(), text);
    }

    #[test]
    fn types_of_one_name_are_told_apart() {
        struct A;
        struct B;
        let fields = |schema: &mut SchemaBuilder| Shape::Struct {
            fields: vec![Field::new("a\n", schema.add::<u8>())],
            denies_unknown_fields: false,
        };
        let schema = MethodSchema::of(
            |schema| schema.define::<A>("Same", fields),
            |schema| schema.define::<B>("Same", fields),
            |_| None,
        );
        let text = "request: Same\nreply: Same#2\n\n\
            struct Same {\n    a\\n: u8,\n}\n\nstruct Same#2 {\n    a\\n: u8,\n}\n";
        assert_eq!(schema.to_string(), text);
    }
}
