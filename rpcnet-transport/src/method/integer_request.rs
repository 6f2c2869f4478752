//! Integers as requests of methods that go by their names alone: both sides compare their types.

use std::{any::type_name, sync::OnceLock};

use super::{CalledMethod, TypedCall, UntypedMethod};
use crate::{
    Code, Message, Status,
    codec::Encoding,
    schema::{MethodSchema, SchemaBuilder, Shape},
};

/// Integer type of the request of a method that goes by its name alone, as
/// [`RpcClient::call_typed`](crate::RpcClient::call_typed) calls and
/// [`Router::typed`](crate::Router::typed) serves it.
///
/// Postcard writes integers of some types as other numbers than those of other types, and a literal
/// whose type is not written is an `i32`. So the type travels as the schema of a typed method does,
/// once where calls share a stream, and a handler of a type that reads another number rejects the
/// call before it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IntegerRequest(usize);

/// How postcard writes an integer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IntegerEncoding {
    /// One byte.
    Byte,
    /// One byte, in two's complement.
    SignedByte,
    /// Seven bits a byte.
    Varint,
    /// Seven bits a byte, where the lowest bit is the sign.
    ZigzagVarint,
}

use IntegerEncoding::{Byte, SignedByte, Varint, ZigzagVarint};

struct IntegerType {
    name: &'static str,
    encoding: IntegerEncoding,
    /// The shape that its schema has.
    shape: Shape,
    method: UntypedMethod,
}

macro_rules! integers {
    ($($number:literal $ty:ident: $shape:ident $bits:literal $encoding:expr,)*) => {
        const INTEGERS: &[IntegerType] = &[$(IntegerType {
            name: stringify!($ty),
            encoding: $encoding,
            shape: Shape::$shape { bits: $bits },
            method: UntypedMethod::new("", describe::<$ty>, 0),
        }),*];

        /// Number of the type of this name.
        #[inline(always)]
        fn number_of(name: &str) -> Option<usize> {
            match name {
                $(stringify!($ty) => Some($number),)*
                _ => None,
            }
        }
    };
}

integers! {
    0 u8: Unsigned 8 Byte,
    1 u16: Unsigned 16 Varint,
    2 u32: Unsigned 32 Varint,
    3 u64: Unsigned 64 Varint,
    4 u128: Unsigned 128 Varint,
    5 i8: Signed 8 SignedByte,
    6 i16: Signed 16 ZigzagVarint,
    7 i32: Signed 32 ZigzagVarint,
    8 i64: Signed 64 ZigzagVarint,
    9 i128: Signed 128 ZigzagVarint,
}

impl IntegerRequest {
    /// The integer type that `Req` is, if it is one.
    #[must_use]
    #[inline]
    pub fn of<Req: ?Sized>() -> Option<Self> {
        // The name of a type of the user has a path. All of this is known to the compiler.
        let name = match type_name::<Req>() {
            "usize" => "u64",
            "isize" => "i64",
            name => name,
        };
        number_of(name).map(Self)
    }

    /// The integer type that the request of a typed method is, if it is one.
    pub(crate) fn of_schema(schema: &MethodSchema) -> Option<Self> {
        let shape = schema.request_shape();
        INTEGERS.iter().position(|it| it.shape == *shape).map(Self)
    }

    /// The integer type whose schema has this hash.
    pub(crate) fn of_hash(hash: u64) -> Option<Self> {
        static HASHES: OnceLock<Vec<u64>> = OnceLock::new();
        let hashes = HASHES.get_or_init(|| {
            let hashes = INTEGERS.iter().map(|it| it.method.schema().hash());
            hashes.collect()
        });
        hashes.iter().position(|it| *it == hash).map(Self)
    }

    /// How a call of this name is made, whose request is this if it is an integer.
    pub(crate) fn called(request: Option<Self>, name: &str) -> CalledMethod<'_> {
        let typed = |it: Self| TypedCall::unchecked(INTEGERS[it.0].method, Encoding::Postcard);
        CalledMethod {
            name,
            typed: request.map(typed),
        }
    }

    /// Checks that a handler which reads `self` reads the number that a caller of this type writes.
    ///
    /// # Errors
    ///
    /// The status of all calls with this type.
    pub(crate) fn check(self, caller: Self) -> Result<(), Status> {
        let (server, caller) = (&INTEGERS[self.0], &INTEGERS[caller.0]);
        if server.encoding == caller.encoding {
            return Ok(());
        }
        let message = format!(
            "the request is of type {0}, and the method takes {1}: a literal needs its type, as in \
             `1{1}`",
            caller.name, server.name
        );
        Err(Status::new(Code::Incompatible, message).not_processed())
    }
}

/// Schema of a method whose request is an integer and whose reply is not known.
fn describe<T: Message>(_since: u32) -> MethodSchema {
    struct UnknownReply;
    let unknown = || Shape::Opaque {
        name: "by name alone".to_owned(),
        since: 0,
    };
    MethodSchema::of(
        |schema: &mut SchemaBuilder| schema.add::<T>(),
        |schema| schema.define::<UnknownReply>("reply", |_| unknown()),
        |_| None,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Method;

    #[test]
    fn integers_alone_have_a_type() {
        let name = |it: Option<IntegerRequest>| it.map(|it| INTEGERS[it.0].name);
        assert_eq!(name(IntegerRequest::of::<u32>()), Some("u32"));
        assert_eq!(name(IntegerRequest::of::<i128>()), Some("i128"));
        assert_eq!(name(IntegerRequest::of::<usize>()), Some("u64"));
        assert_eq!(IntegerRequest::of::<(u32,)>(), None);
        assert_eq!(IntegerRequest::of::<str>(), None);
        assert_eq!(IntegerRequest::of::<f32>(), None);
        for (number, integer) in INTEGERS.iter().enumerate() {
            assert_eq!(number_of(integer.name), Some(number));
        }
    }

    #[test]
    fn the_schema_of_each_type_is_found_by_its_hash_and_by_its_request() {
        for (number, known) in INTEGERS.iter().enumerate() {
            let (integer, schema) = (IntegerRequest(number), known.method.schema());
            assert_eq!(IntegerRequest::of_hash(schema.hash()), Some(integer));
            assert_eq!(IntegerRequest::of_schema(schema), Some(integer));
        }
        const SQUARE: Method<u64, u64> = Method::new("square");
        let schema = SQUARE.schema();
        assert_eq!(IntegerRequest::of_hash(schema.hash()), None);
        assert_eq!(
            IntegerRequest::of_schema(schema),
            IntegerRequest::of::<u64>()
        );
        const LENGTH: Method<String, u64> = Method::new("length");
        assert_eq!(IntegerRequest::of_schema(LENGTH.schema()), None);
    }

    /// Every pair of types that reads another number than was written is rejected, and no other.
    #[test]
    fn types_that_read_what_the_other_writes_pass() {
        macro_rules! check_pairs {
            ($writer:ty => $($reader:ty),*) => {$(
                let bytes = crate::codec::to_postcard(&(100 as $writer)).unwrap();
                let read = crate::codec::from_postcard::<$reader>(&bytes);
                let is_read = read.is_ok_and(|read| read as i128 == 100);
                let (server, caller) = (
                    IntegerRequest::of::<$reader>().unwrap(),
                    IntegerRequest::of::<$writer>().unwrap(),
                );
                let passes = server.check(caller).is_ok();
                let pair = concat!(stringify!($writer), " as ", stringify!($reader));
                assert!(is_read || !passes, "{pair} reads another number");
            )*};
        }
        check_pairs!(u8 => u8, u16, u32, u64, u128, i8, i16, i32, i64, i128);
        check_pairs!(u16 => u8, u16, u32, u64, u128, i8, i16, i32, i64, i128);
        check_pairs!(u32 => u8, u16, u32, u64, u128, i8, i16, i32, i64, i128);
        check_pairs!(u64 => u8, u16, u32, u64, u128, i8, i16, i32, i64, i128);
        check_pairs!(u128 => u8, u16, u32, u64, u128, i8, i16, i32, i64, i128);
        check_pairs!(i8 => u8, u16, u32, u64, u128, i8, i16, i32, i64, i128);
        check_pairs!(i16 => u8, u16, u32, u64, u128, i8, i16, i32, i64, i128);
        check_pairs!(i32 => u8, u16, u32, u64, u128, i8, i16, i32, i64, i128);
        check_pairs!(i64 => u8, u16, u32, u64, u128, i8, i16, i32, i64, i128);
        check_pairs!(i128 => u8, u16, u32, u64, u128, i8, i16, i32, i64, i128);
        let check = |server: Option<IntegerRequest>, caller: Option<IntegerRequest>| {
            server.unwrap().check(caller.unwrap())
        };
        let (u32, i32) = (IntegerRequest::of::<u32>(), IntegerRequest::of::<i32>());
        assert!(check(IntegerRequest::of::<u64>(), u32).is_ok());
        assert!(check(u32, IntegerRequest::of::<u8>()).is_err());
        let status = check(u32, i32).unwrap_err();
        assert_eq!(status.code(), Code::Incompatible);
        let expected = "the request is of type i32, and the method takes u32: a literal needs its \
                        type, as in `1u32`";
        assert_eq!(status.message(), expected);
    }
}
