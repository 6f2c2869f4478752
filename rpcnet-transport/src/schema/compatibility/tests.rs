//! Tests of the comparison of schemas.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ffi::CString,
    marker::PhantomData,
};

use serde::{Deserialize, Serialize};

use super::*;
use crate::schema::{Message, SchemaBuilder};

type Describe<'a> = &'a dyn Fn(&mut SchemaBuilder) -> TypeRef;

fn request(describe: Describe<'_>) -> MethodSchema {
    MethodSchema::of(describe, <()>::describe, |_| None)
}

/// Error of a request that is written as the first and read as the second.
fn comparison(written: Describe<'_>, read: Describe<'_>) -> String {
    let compared = check(&request(written), &request(read));
    compared.map_or_else(|error| error.to_string(), |()| "compatible".to_owned())
}

fn compatible(written: Describe<'_>, read: Describe<'_>) {
    assert_eq!(comparison(written, read), "compatible");
}

fn different(written: Describe<'_>, read: Describe<'_>, texts: (&str, &str)) {
    let (written_text, read_text) = texts;
    assert_eq!(
        comparison(written, read),
        format!("request: the caller writes {written_text}, the server reads {read_text}")
    );
}

/// A type of this shape, which is another with each number.
fn shape<const N: usize>(
    shape: impl Fn(&mut SchemaBuilder) -> Shape,
) -> impl Fn(&mut SchemaBuilder) -> TypeRef {
    struct T<const N: usize>;
    move |schema| schema.define::<T<N>>("T", &shape)
}

fn fields(
    fields: impl Fn(&mut SchemaBuilder) -> Vec<Field>,
) -> impl Fn(&mut SchemaBuilder) -> TypeRef {
    shape::<0>(move |schema| Shape::Struct {
        fields: fields(schema),
        denies_unknown_fields: false,
    })
}

fn strict_fields(
    fields: impl Fn(&mut SchemaBuilder) -> Vec<Field>,
) -> impl Fn(&mut SchemaBuilder) -> TypeRef {
    shape::<0>(move |schema| Shape::Struct {
        fields: fields(schema),
        denies_unknown_fields: true,
    })
}

fn variants(
    variants: impl Fn(&mut SchemaBuilder) -> Vec<Variant>,
) -> impl Fn(&mut SchemaBuilder) -> TypeRef {
    shape::<0>(move |schema| Shape::Enum {
        variants: variants(schema),
        denies_unknown_fields: false,
    })
}

fn unit(name: &str) -> Variant {
    Variant::new(name, VariantContent::Unit)
}

#[test]
fn types_without_parts() {
    let integers: [(Describe<'_>, &str); 8] = [
        (&u8::describe, "u8"),
        (&u16::describe, "u16"),
        (&u32::describe, "u32"),
        (&u64::describe, "u64"),
        (&i8::describe, "i8"),
        (&i16::describe, "i16"),
        (&i32::describe, "i32"),
        (&i64::describe, "i64"),
    ];
    let others: [(Describe<'_>, &str); 9] = [
        (&u128::describe, "u128"),
        (&i128::describe, "i128"),
        (&f32::describe, "f32"),
        (&bool::describe, "bool"),
        (&char::describe, "char"),
        (&String::describe, "string"),
        (&CString::describe, "bytes"),
        (&<()>::describe, "()"),
        (&Vec::<u8>::describe, "[u8]"),
    ];
    for (written, text) in integers {
        for (read, _) in integers {
            compatible(written, read);
        }
        for (other, other_text) in others {
            different(written, other, (text, other_text));
            different(other, written, (other_text, text));
        }
    }
    for (index, (written, text)) in others.into_iter().enumerate() {
        for (position, (read, read_text)) in others.into_iter().enumerate() {
            if index == position {
                compatible(written, read);
            } else {
                different(written, read, (text, read_text));
            }
        }
    }
    compatible(&f32::describe, &f64::describe);
    compatible(&f64::describe, &f32::describe);
}

#[test]
fn options_sequences_maps_and_tuples() {
    compatible(&u8::describe, &Option::<u16>::describe);
    compatible(&Option::<u8>::describe, &u16::describe);
    compatible(&Vec::<u8>::describe, &Option::<Vec<Option<i64>>>::describe);
    compatible(&VecDeque::<u8>::describe, &BTreeSet::<u16>::describe);
    compatible(
        &BTreeMap::<u8, Vec<f32>>::describe,
        &BTreeMap::<i8, Vec<f64>>::describe,
    );
    compatible(&<(u8, bool)>::describe, &<(u16, Option<bool>)>::describe);
    compatible(&<[u8; 3]>::describe, &<(u16, u8, i64)>::describe);
    different(
        &PhantomData::<u8>::describe,
        &<()>::describe,
        ("unit struct", "()"),
    );
    // `()` and `None` have the same form.
    different(
        &<()>::describe,
        &Option::<u8>::describe,
        ("()", "option<u8>"),
    );
    different(
        &Option::<u8>::describe,
        &<()>::describe,
        ("option<u8>", "()"),
    );
    different(
        &<[u8; 3]>::describe,
        &<(u16, u8)>::describe,
        ("[u8; 3]", "(u16, u8)"),
    );
    different(&<(u8,)>::describe, &Vec::<u8>::describe, ("(u8)", "[u8]"));
    let read = BTreeMap::<String, Option<Vec<(u8, bool)>>>::describe;
    let place = "request{}[].1: the caller writes string, the server reads bool";
    let written = BTreeMap::<String, Vec<(u8, String)>>::describe;
    assert_eq!(comparison(&written, &read), place);
    let place = "request{key}: the caller writes u8, the server reads string";
    assert_eq!(comparison(&BTreeMap::<u8, u8>::describe, &read), place);
}

const WHY: &str = "an option of an option or of () needs equal types and postcard";

/// Types whose `Some` may be nil with names, and their texts.
fn options_of_nil() -> [(Describe<'static>, &'static str); 4] {
    #[derive(Serialize, Deserialize)]
    struct Newtype(Option<u8>);
    impl Message for Newtype {
        fn describe(schema: &mut SchemaBuilder) -> TypeRef {
            schema.add::<Option<u8>>()
        }
    }
    [
        (&Option::<Option<u8>>::describe, "option<option<u8>>"),
        (&Option::<Box<Option<u8>>>::describe, "option<option<u8>>"),
        (&Option::<Newtype>::describe, "option<option<u8>>"),
        (&Option::<()>::describe, "option<()>"),
    ]
}

#[test]
fn an_option_of_an_option_or_of_nil_needs_equal_types() {
    let small: Describe<'_> = &u8::describe;
    let option: Describe<'_> = &Option::<u8>::describe;
    for (describe, text) in options_of_nil() {
        compatible(describe, describe);
        for (other, other_text) in [(small, "u8"), (option, "option<u8>")] {
            assert_eq!(
                comparison(describe, other),
                format!(
                    "request: the caller writes {text}, the server reads {other_text}, and {WHY}"
                )
            );
            assert_eq!(
                comparison(other, describe),
                format!(
                    "request: the caller writes {other_text}, the server reads {text}, and {WHY}"
                )
            );
        }
    }
}

#[test]
fn an_option_of_nil_is_not_carried_beside_types_that_differ() {
    for (describe, text) in options_of_nil() {
        let with = |size: Describe<'static>, has_option: bool| {
            fields(move |schema| {
                let field = Field::new("a", describe(schema));
                let fields = vec![field.optional(), Field::new("b", size(schema))];
                fields.into_iter().skip(usize::from(!has_option)).collect()
            })
        };
        let (whole, without) = (with(&u8::describe, true), with(&u8::describe, false));
        compatible(&whole, &whole);
        assert_eq!(
            comparison(&whole, &with(&u16::describe, true)),
            format!("request.a: the caller writes {text}, the server reads {text}, and {WHY}")
        );
        // A field of one side alone is not carried.
        compatible(&whole, &without);
        compatible(&without, &whole);
        let beside = with(
            &|schema| shape::<1>(|_| Shape::SelfDescribing)(schema),
            true,
        );
        assert_eq!(
            comparison(&beside, &beside),
            format!("request.a: the caller writes {text}, the server reads {text}, and {WHY}")
        );
    }
}

#[test]
fn an_option_of_what_is_never_nil_is_carried() {
    for describe in [
        &Option::<PhantomData<u8>>::describe as Describe<'_>,
        &Option::<Vec<Option<u8>>>::describe,
        &Option::<(Option<u8>,)>::describe,
        &Vec::<Option<u8>>::describe,
        &Option::<Result<(), ()>>::describe,
        &shape::<0>(|schema| Shape::Option(shape::<1>(|_| Shape::SelfDescribing)(schema))),
    ] {
        let beside = |size: Describe<'static>| {
            shape::<2>(move |schema| Shape::Tuple(vec![describe(schema), size(schema)]))
        };
        compatible(&beside(&u8::describe), &beside(&u16::describe));
    }
}

#[test]
fn opaque_types_and_types_that_describe_themselves() {
    let opaque = |name: &'static str, since| {
        shape::<0>(move |_| Shape::Opaque {
            name: name.to_owned(),
            since,
        })
    };
    let uuid = opaque("Uuid", 1);
    compatible(&uuid, &opaque("Uuid", 1));
    let text = "opaque Uuid (since 1)";
    different(&uuid, &opaque("Uuid", 2), (text, "opaque Uuid (since 2)"));
    different(&uuid, &opaque("Id", 1), (text, "opaque Id (since 1)"));
    different(&uuid, &u128::describe, (text, "u128"));
    let any = shape::<0>(|_| Shape::SelfDescribing);
    compatible(&any, &any);
    compatible(&any, &uuid);
    compatible(&Vec::<u8>::describe, &any);
    compatible(&any, &Option::<String>::describe);
}

#[test]
fn fields_are_found_by_name_and_may_be_missing_if_optional() {
    let written = fields(|schema| {
        vec![
            Field::new("id", schema.add::<u32>()),
            Field::new("size", schema.add::<u8>()),
        ]
    });
    let comparison_with = |read: Describe<'_>| comparison(&written, read);
    let with = |field: fn(&mut SchemaBuilder) -> Field| {
        fields(move |schema| vec![field(schema), Field::new("id", schema.add::<u64>())])
    };
    compatible(
        &written,
        &with(|schema| Field::new("size", schema.add::<u8>())),
    );
    compatible(
        &written,
        &with(|schema| Field::new("new", schema.add::<u8>()).optional()),
    );
    compatible(
        &written,
        &with(|schema| Field::new("new", schema.add::<u8>()).with_read(&[])),
    );
    let renamed = with(|schema| Field::new("len", schema.add::<u8>()).with_read(&["len", "size"]));
    compatible(&written, &renamed);
    assert_eq!(
        comparison(&renamed, &written),
        "request.size: the caller does not write it, the server needs it"
    );
    assert_eq!(
        comparison_with(&with(
            |schema| Field::new("size", schema.add::<char>()).optional()
        )),
        "request.size: the caller writes u8, the server reads char"
    );
    let never_written = fields(|schema| {
        vec![
            Field::new("id", schema.add::<u32>()),
            Field::new("size", schema.add::<u32>()).with_written(None),
        ]
    });
    assert_eq!(
        comparison(&never_written, &written),
        "request.size: the caller does not write it, the server needs it"
    );
    let strict = strict_fields(|schema| vec![Field::new("id", schema.add::<u32>())]);
    assert_eq!(
        comparison_with(&strict),
        "request.size: the caller writes it, the server denies unknown fields"
    );
    compatible(
        &strict,
        &with(|schema| Field::new("a", schema.add::<u8>()).optional()),
    );
    let one =
        fields(|schema| vec![Field::new("id", schema.add::<u32>()).with_read(&["id", "size"])]);
    assert_eq!(
        comparison_with(&one),
        "request.size: the caller writes id, size, which are one field of the server"
    );
    different(&written, &u8::describe, ("struct T", "u8"));
}

/// An enum whose variant `Zip` has this content.
fn zip(
    content: impl Fn(&mut SchemaBuilder) -> VariantContent,
) -> impl Fn(&mut SchemaBuilder) -> TypeRef {
    variants(move |schema| vec![Variant::new("Zip", content(schema)), unit("Raw")])
}

#[test]
fn variants_are_found_by_name() {
    let written = zip(|schema| VariantContent::Newtype(schema.add::<u8>()));
    compatible(
        &written,
        &zip(|schema| VariantContent::Newtype(schema.add::<u64>())),
    );
    compatible(&written, &variants(|_| vec![unit("Raw"), unit("New")]));
    compatible(
        &written,
        &variants(|_| vec![unit("R").with_read(&["R", "Raw"])]),
    );
    compatible(&written, &variants(|_| vec![unit("None").other()]));
    compatible(&variants(|_| vec![]), &written);
    compatible(
        &variants(|_| vec![unit("Gif").with_written(None)]),
        &written,
    );
    assert_eq!(
        comparison(&written, &variants(|_| vec![unit("Gif"), unit("Png")])),
        "request: the caller writes the variants Zip, Raw, the server reads Gif, Png"
    );
    different(&written, &String::describe, ("enum T", "string"));
}

#[test]
fn contents_of_a_shared_variant_are_compared() {
    let written = zip(|schema| VariantContent::Newtype(schema.add::<u8>()));
    let unit = zip(|_| VariantContent::Unit);
    let tuple = zip(|schema| VariantContent::Tuple(vec![schema.add::<u8>(), schema.add::<bool>()]));
    let named = zip(|schema| {
        let level = Field::new("level", schema.add::<u8>());
        VariantContent::Struct(vec![level, Field::new("name", schema.add::<u8>())])
    });
    let contents: [(Describe<'_>, &str); 3] = [
        (&unit, "no content"),
        (&tuple, "(u8, bool)"),
        (&named, "{ level, name }"),
    ];
    for (content, text) in contents {
        assert_eq!(
            comparison(&written, content),
            format!("request::Zip: the caller writes (u8), the server reads {text}")
        );
        compatible(content, content);
    }
    assert_eq!(
        comparison(
            &written,
            &zip(|schema| VariantContent::Newtype(schema.add::<String>()))
        ),
        "request::Zip: the caller writes u8, the server reads string"
    );
    let longer = zip(|schema| VariantContent::Tuple(vec![schema.add::<u8>(); 3]));
    assert_eq!(
        comparison(&longer, &tuple),
        "request::Zip: the caller writes (u8, u8, u8), the server reads (u8, bool)"
    );
}

#[test]
fn struct_variants_deny_unknown_fields_as_their_enum_does() {
    let named = |names: &'static [&'static str], denies_unknown_fields| {
        shape::<0>(move |schema| {
            let field = |name: &&str| Field::new(name, schema.add::<u8>());
            let content = VariantContent::Struct(names.iter().map(field).collect());
            Shape::Enum {
                variants: vec![Variant::new("Named", content)],
                denies_unknown_fields,
            }
        })
    };
    compatible(&named(&["a", "b"], true), &named(&["a"], false));
    assert_eq!(
        comparison(&named(&["a", "b"], false), &named(&["a"], true)),
        "request::Named.b: the caller writes it, the server denies unknown fields"
    );
    assert_eq!(
        comparison(&named(&["a"], false), &named(&["a", "b"], false)),
        "request::Named.b: the caller does not write it, the server needs it"
    );
}

#[test]
fn each_part_is_compared_in_its_direction() {
    let schema = |request: Describe<'_>, reply: Describe<'_>, error: Describe<'_>| {
        MethodSchema::of(request, reply, |schema| Some(error(schema)))
    };
    let small = strict_fields(|schema| vec![Field::new("id", schema.add::<u32>())]);
    let large = shape::<1>(|schema| {
        let note = Field::new("note", schema.add::<u32>()).optional();
        Shape::Struct {
            fields: vec![Field::new("id", schema.add::<u32>()), note],
            denies_unknown_fields: true,
        }
    });
    let old = schema(&small, &large, &large);
    let new = schema(&large, &small, &small);
    assert_eq!(check(&old, &new), Ok(()));
    let error = check(&new, &old).unwrap_err();
    assert_eq!((error.part(), error.path()), ("request", "note"));
    assert_eq!((error.written(), error.read()), ("u32", "nothing"));
    let error = check(
        &schema(&small, &small, &small),
        &schema(&small, &large, &small),
    );
    assert_eq!(
        error.unwrap_err().to_string(),
        "reply.note: the server writes it, the caller denies unknown fields"
    );
    let error = check(
        &schema(&small, &small, &small),
        &schema(&small, &small, &large),
    );
    assert_eq!(error.unwrap_err().part(), "error");
    let without = MethodSchema::of(&small, &small, |_| None);
    assert_eq!(check(&without, &schema(&small, &small, &large)), Ok(()));
    assert_eq!(check(&schema(&small, &small, &large), &without), Ok(()));
}

#[test]
fn a_type_that_does_not_read_what_it_writes_is_compatible_only_without_names() {
    let renamed = fields(|schema| vec![Field::new("a", schema.add::<u8>()).with_read(&["b"])]);
    compatible(&renamed, &renamed);
    let one_way = fields(|schema| {
        let never = Field::new("c", schema.add::<u8>()).with_written(None);
        vec![
            Field::new("a", schema.add::<u8>()).with_read(&["b"]),
            never.optional(),
        ]
    });
    assert_eq!(
        comparison(&one_way, &one_way),
        "request.b: the caller does not write it, the server needs it"
    );
}

#[test]
fn types_that_contain_themselves_are_compared() {
    let list = |size: Describe<'static>| {
        shape::<0>(move |schema| {
            struct List;
            // The same type, which is known by then.
            let this = shape::<0>(|_| unreachable!())(schema);
            let next = schema.define::<List>("Next", |_| Shape::Option(this));
            Shape::Struct {
                fields: vec![
                    Field::new("next", next).optional(),
                    Field::new("size", size(schema)),
                ],
                denies_unknown_fields: false,
            }
        })
    };
    compatible(&list(&u8::describe), &list(&u64::describe));
    assert_eq!(
        comparison(&list(&u8::describe), &list(&char::describe)),
        "request.size: the caller writes u8, the server reads char"
    );
}

#[test]
fn comparisons_and_their_texts_are_bounded() {
    /// Sequences in each other, with this type inside.
    fn nested(levels: usize, inner: Shape) -> MethodSchema {
        let mut types: Vec<Shape> = (1..=levels)
            .map(|index| Shape::Sequence(TypeRef::new(index)))
            .collect();
        types.push(inner);
        let first = TypeRef::new(0);
        MethodSchema::of_types(types, first)
    }
    assert_eq!(
        check(&nested(4000, Shape::Bool), &nested(4000, Shape::Bool)),
        Ok(())
    );
    let error = check(&nested(4000, Shape::Bool), &nested(4000, Shape::Char)).unwrap_err();
    assert_eq!(error.path(), "[][][][][][][][] ... [][][][][][][][]");
    // Cycles of lengths without a common divisor: as many pairs as their product.
    let cycle = |len, size: u8| {
        let next = |index| TypeRef::new((index + 1) % len);
        let types = (0..len).map(|index| Shape::Struct {
            fields: vec![
                Field::new("n", next(index)),
                Field::new("s", TypeRef::new(len)),
            ],
            denies_unknown_fields: false,
        });
        let types = types.chain([Shape::Unsigned { bits: size }]);
        MethodSchema::of_types(types.collect(), TypeRef::new(0))
    };
    assert_eq!(check(&cycle(20, 8), &cycle(21, 16)), Ok(()));
    let error = check(&cycle(1023, 8), &cycle(1024, 16)).unwrap_err();
    assert_eq!(error.to_string(), "request: too many types to be compared");
}

#[test]
fn names_of_a_peer_are_escaped() {
    let hostile = fields(|schema| vec![Field::new("\u{1b}[31m", schema.add::<u32>())]);
    let error = comparison(&u8::describe, &hostile);
    assert_eq!(
        error,
        "request: the caller writes u8, the server reads struct T"
    );
    let error = comparison(&fields(|_| vec![]), &hostile);
    assert!(error.starts_with("request.\\u{1b}[31m: "), "{error}");
}
