//! Schemas of the types of the standard library.

use std::{
    borrow::Cow,
    cmp::Reverse,
    collections::{
        BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet, LinkedList, VecDeque, hash_map,
    },
    ffi::CString,
    hash::{BuildHasher, Hash},
    marker::PhantomData,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
    num::{NonZero, Wrapping},
    ops::{Bound, Range, RangeFrom, RangeInclusive, RangeTo},
    path::PathBuf,
    time::{Duration, SystemTime},
};

use serde::{Serialize, de::DeserializeOwned};

use super::{Field, Message, SchemaBuilder, Shape, TypeRef, Variant, VariantContent};

macro_rules! leaves {
    ($($ty:ty => $name:literal, $shape:expr;)*) => {$(
        impl Message for $ty {
            fn describe(schema: &mut SchemaBuilder) -> TypeRef {
                schema.define::<$ty>($name, |_| $shape)
            }
        }
    )*};
}

leaves! {
    bool => "bool", Shape::Bool;
    u8 => "u8", Shape::Unsigned { bits: 8 };
    u16 => "u16", Shape::Unsigned { bits: 16 };
    u32 => "u32", Shape::Unsigned { bits: 32 };
    u64 => "u64", Shape::Unsigned { bits: 64 };
    u128 => "u128", Shape::Unsigned { bits: 128 };
    i8 => "i8", Shape::Signed { bits: 8 };
    i16 => "i16", Shape::Signed { bits: 16 };
    i32 => "i32", Shape::Signed { bits: 32 };
    i64 => "i64", Shape::Signed { bits: 64 };
    i128 => "i128", Shape::Signed { bits: 128 };
    f32 => "f32", Shape::Float { bits: 32 };
    f64 => "f64", Shape::Float { bits: 64 };
    char => "char", Shape::Char;
    String => "String", Shape::String;
    CString => "CString", Shape::Bytes;
    () => "()", Shape::Unit;
}

/// Types that are written exactly as another one.
macro_rules! same_as {
    ($(<$($param:ident),*> $ty:ty => $inner:ty;)*) => {$(
        impl<$($param: Message),*> Message for $ty {
            fn describe(schema: &mut SchemaBuilder) -> TypeRef {
                schema.add::<$inner>()
            }
        }
    )*};
}

same_as! {
    <> usize => u64;
    <> isize => i64;
    <> Box<str> => String;
    <> PathBuf => String;
    <> Box<std::path::Path> => String;
    <> NonZero<u8> => u8;
    <> NonZero<u16> => u16;
    <> NonZero<u32> => u32;
    <> NonZero<u64> => u64;
    <> NonZero<u128> => u128;
    <> NonZero<usize> => u64;
    <> NonZero<i8> => i8;
    <> NonZero<i16> => i16;
    <> NonZero<i32> => i32;
    <> NonZero<i64> => i64;
    <> NonZero<i128> => i128;
    <> NonZero<isize> => i64;
    <T> Box<T> => T;
    <T> Box<[T]> => Vec<T>;
    <T> Wrapping<T> => T;
    <T> Reverse<T> => T;
    <T> VecDeque<T> => Vec<T>;
    <T> LinkedList<T> => Vec<T>;
}

impl<T: ?Sized + Serialize + ToOwned + 'static> Message for Cow<'static, T>
where
    T::Owned: Message,
{
    fn describe(schema: &mut SchemaBuilder) -> TypeRef {
        schema.add::<T::Owned>()
    }
}

impl<T: Message> Message for Option<T> {
    fn describe(schema: &mut SchemaBuilder) -> TypeRef {
        schema.define::<Self>("Option", |schema| Shape::Option(schema.add::<T>()))
    }
}

impl<T: Message> Message for Vec<T> {
    fn describe(schema: &mut SchemaBuilder) -> TypeRef {
        schema.define::<Self>("Vec", |schema| Shape::Sequence(schema.add::<T>()))
    }
}

impl<T: Message + Ord> Message for BTreeSet<T> {
    fn describe(schema: &mut SchemaBuilder) -> TypeRef {
        schema.add::<Vec<T>>()
    }
}

impl<T: Message + Ord> Message for BinaryHeap<T> {
    fn describe(schema: &mut SchemaBuilder) -> TypeRef {
        schema.add::<Vec<T>>()
    }
}

impl<T, S> Message for HashSet<T, S>
where
    T: Message + Eq + Hash,
    S: BuildHasher + Default + 'static,
{
    fn describe(schema: &mut SchemaBuilder) -> TypeRef {
        schema.add::<Vec<T>>()
    }
}

impl<K: Message + Ord, V: Message> Message for BTreeMap<K, V> {
    fn describe(schema: &mut SchemaBuilder) -> TypeRef {
        map::<K, V>(schema)
    }
}

impl<K, V, S> Message for HashMap<K, V, S>
where
    K: Message + Eq + Hash,
    V: Message,
    S: BuildHasher + Default + 'static,
{
    fn describe(schema: &mut SchemaBuilder) -> TypeRef {
        map::<K, V>(schema)
    }
}

fn map<K: Message, V: Message>(schema: &mut SchemaBuilder) -> TypeRef {
    // Of all maps, the one that asks nothing of its keys.
    schema.define::<hash_map::IntoIter<K, V>>("Map", |schema| Shape::Map {
        key: schema.add::<K>(),
        value: schema.add::<V>(),
    })
}

impl<T: ?Sized + 'static> Message for PhantomData<T> {
    fn describe(schema: &mut SchemaBuilder) -> TypeRef {
        schema.define::<PhantomData<()>>("PhantomData", |_| Shape::Tuple(Vec::new()))
    }
}

macro_rules! tuples {
    ($(($($param:ident)+))*) => {$(
        impl<$($param: Message),+> Message for ($($param,)+) {
            fn describe(schema: &mut SchemaBuilder) -> TypeRef {
                schema.define::<Self>("tuple", |schema| {
                    Shape::Tuple(vec![$(schema.add::<$param>()),+])
                })
            }
        }
    )*};
}

tuples! {
    (A)
    (A B)
    (A B C)
    (A B C D)
    (A B C D E)
    (A B C D E F)
    (A B C D E F G)
    (A B C D E F G H)
    (A B C D E F G H I)
    (A B C D E F G H I J)
    (A B C D E F G H I J K)
    (A B C D E F G H I J K L)
    (A B C D E F G H I J K L M)
    (A B C D E F G H I J K L M N)
    (A B C D E F G H I J K L M N O)
    (A B C D E F G H I J K L M N O P)
}

impl<T: 'static, const N: usize> Message for [T; N]
where
    T: Message,
    Self: Serialize + DeserializeOwned,
{
    fn describe(schema: &mut SchemaBuilder) -> TypeRef {
        schema.define::<Self>("array", |schema| Shape::Tuple(vec![schema.add::<T>(); N]))
    }
}

impl<T: Message, E: Message> Message for Result<T, E> {
    fn describe(schema: &mut SchemaBuilder) -> TypeRef {
        schema.define::<Self>("Result", |schema| Shape::Enum {
            variants: vec![
                Variant::new("Ok", VariantContent::Newtype(schema.add::<T>())),
                Variant::new("Err", VariantContent::Newtype(schema.add::<E>())),
            ],
            denies_unknown_fields: false,
        })
    }
}

impl<T: Message> Message for Bound<T> {
    fn describe(schema: &mut SchemaBuilder) -> TypeRef {
        schema.define::<Self>("Bound", |schema| {
            let value = schema.add::<T>();
            Shape::Enum {
                variants: vec![
                    Variant::new("Unbounded", VariantContent::Unit),
                    Variant::new("Included", VariantContent::Newtype(value)),
                    Variant::new("Excluded", VariantContent::Newtype(value)),
                ],
                denies_unknown_fields: false,
            }
        })
    }
}

/// Structs of the standard library: serde's code for them denies unknown fields.
macro_rules! structs {
    ($(<$($param:ident)?> $ty:ty => $name:literal { $($field:literal: $field_ty:ty),+ };)*) => {$(
        impl<$($param: Message)?> Message for $ty {
            fn describe(schema: &mut SchemaBuilder) -> TypeRef {
                schema.define::<Self>($name, |schema| Shape::Struct {
                    fields: vec![$(Field::new($field, schema.add::<$field_ty>())),+],
                    denies_unknown_fields: true,
                })
            }
        }
    )*};
}

structs! {
    <> Duration => "Duration" { "secs": u64, "nanos": u32 };
    <> SystemTime => "SystemTime" { "secs_since_epoch": u64, "nanos_since_epoch": u32 };
    <T> Range<T> => "Range" { "start": T, "end": T };
    <T> RangeInclusive<T> => "RangeInclusive" { "start": T, "end": T };
    <T> RangeFrom<T> => "RangeFrom" { "start": T };
    <T> RangeTo<T> => "RangeTo" { "end": T };
}

same_as! {
    <> Ipv4Addr => [u8; 4];
    <> Ipv6Addr => [u8; 16];
    <> SocketAddrV4 => (Ipv4Addr, u16);
    <> SocketAddrV6 => (Ipv6Addr, u16);
}

impl Message for IpAddr {
    fn describe(schema: &mut SchemaBuilder) -> TypeRef {
        schema.define::<Self>("IpAddr", address::<Ipv4Addr, Ipv6Addr>)
    }
}

impl Message for SocketAddr {
    fn describe(schema: &mut SchemaBuilder) -> TypeRef {
        schema.define::<Self>("SocketAddr", address::<SocketAddrV4, SocketAddrV6>)
    }
}

fn address<V4: Message, V6: Message>(schema: &mut SchemaBuilder) -> Shape {
    Shape::Enum {
        variants: vec![
            Variant::new("V4", VariantContent::Newtype(schema.add::<V4>())),
            Variant::new("V6", VariantContent::Newtype(schema.add::<V6>())),
        ],
        denies_unknown_fields: false,
    }
}
