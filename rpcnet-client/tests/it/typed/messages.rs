//! Messages of two versions of a service, with their schemas.

use rpcnet_client::{
    Message,
    transport::schema::{Field, SchemaBuilder, Shape, TypeRef, Variant, VariantContent},
};
use serde::{Deserialize, Serialize};

/// A message that holds the number of its call.
pub(super) trait Numbered: Message + Clone + Send + Sync {
    fn of(id: u64) -> Self;

    fn id(&self) -> u64;
}

/// A message by its constructor, its number, and its schema.
macro_rules! message {
    ($type:ty, $of:expr, $id:expr, $describe:expr) => {
        impl Numbered for $type {
            fn of(id: u64) -> Self {
                let of: fn(u64) -> Self = $of;
                of(id)
            }

            fn id(&self) -> u64 {
                let id: fn(&Self) -> u64 = $id;
                id(self)
            }
        }

        impl Message for $type {
            fn describe(schema: &mut SchemaBuilder) -> TypeRef {
                let describe: fn(&mut SchemaBuilder) -> Shape = $describe;
                schema.define::<Self>(stringify!($type), describe)
            }
        }
    };
}

fn fields<const N: usize>(fields: [Field; N]) -> Shape {
    Shape::Struct {
        fields: fields.into(),
        denies_unknown_fields: false,
    }
}

fn id<T: Message>(schema: &mut SchemaBuilder) -> Field {
    Field::new("id", schema.add::<T>())
}

impl Numbered for u64 {
    fn of(id: u64) -> Self {
        id
    }

    fn id(&self) -> u64 {
        *self
    }
}

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Plain {
    id: u64,
}
message!(Plain, |id| Self { id }, |it| it.id, |s| fields([
    id::<u64>(s)
]));

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct WithDefault {
    #[serde(default)]
    quality: String,
    id: u64,
}
message!(
    WithDefault,
    |id| Self {
        quality: "high".to_owned(),
        id,
    },
    |it| it.id,
    |s| fields([
        Field::new("quality", s.add::<String>()).optional(),
        id::<u64>(s)
    ])
);

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct WithRequired {
    quality: String,
    id: u64,
}
message!(
    WithRequired,
    |id| Self {
        quality: "high".to_owned(),
        id,
    },
    |it| it.id,
    |s| fields([Field::new("quality", s.add::<String>()), id::<u64>(s)])
);

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Reordered {
    id: u64,
    quality: String,
}
message!(
    Reordered,
    |id| Self {
        id,
        quality: "high".to_owned(),
    },
    |it| it.id,
    |s| fields([id::<u64>(s), Field::new("quality", s.add::<String>())])
);

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Narrow {
    id: u32,
}
message!(
    Narrow,
    |id| Self { id: id as u32 },
    |it| it.id.into(),
    |s| fields([id::<u32>(s)])
);

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct InOption {
    id: Option<u64>,
}
message!(
    InOption,
    |id| Self { id: Some(id) },
    |it| it.id.expect("a number"),
    |s| fields([id::<Option<u64>>(s).optional()])
);

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Text {
    id: String,
}
message!(
    Text,
    |id| Self { id: id.to_string() },
    |it| it.id.parse().expect("a number"),
    |s| fields([id::<String>(s)])
);

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct ReadsNewName {
    #[serde(alias = "number")]
    id: u64,
}
message!(ReadsNewName, |id| Self { id }, |it| it.id, |s| {
    fields([id::<u64>(s).with_read(&["id", "number"])])
});

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Renamed {
    #[serde(rename = "number", alias = "id")]
    id: u64,
}
message!(Renamed, |id| Self { id }, |it| it.id, |s| {
    fields([Field::new("number", s.add::<u64>()).with_read(&["number", "id"])])
});

#[derive(Clone, Serialize, Deserialize)]
pub(super) enum OneVariant {
    Quick(u64),
}
message!(
    OneVariant,
    Self::Quick,
    |Self::Quick(id)| *id,
    |s| variants(s, &["Quick"])
);

#[derive(Clone, Serialize, Deserialize)]
pub(super) enum TwoVariants {
    Quick(u64),
    Slow(u64),
}
message!(
    TwoVariants,
    Self::Quick,
    |(Self::Quick(id) | Self::Slow(id))| *id,
    |s| variants(s, &["Quick", "Slow"])
);

/// The same as [`TwoVariants`], whose second variant is used.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename = "TwoVariants")]
pub(super) enum SecondVariant {
    Quick(u64),
    Slow(u64),
}
message!(
    SecondVariant,
    Self::Slow,
    |(Self::Quick(id) | Self::Slow(id))| *id,
    |s| variants(s, &["Quick", "Slow"])
);

fn variants(schema: &mut SchemaBuilder, names: &[&str]) -> Shape {
    let number = schema.add::<u64>();
    let variant = |name: &&str| Variant::new(name, VariantContent::Newtype(number));
    Shape::Enum {
        variants: names.iter().map(variant).collect(),
        denies_unknown_fields: false,
    }
}
