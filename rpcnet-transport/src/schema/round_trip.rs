//! Round trip of a value: encoded and decoded again as calls do it, for users' tests.

use std::fmt;

use serde::{Serialize, de::DeserializeOwned};

use super::{Message, MethodSchema};
use crate::{CodecError, Decode, Encode, Encoding};

/// Bytes of a value's text that an error shows.
const VALUE_BYTES_MAX: usize = 512;

/// Why a value does not arrive as it was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RoundTripError {
    /// The value cannot be encoded, as a flattened struct with postcard.
    #[error("{value} cannot be encoded {}: {source}", encoding_text(*encoding))]
    Encode {
        /// Encoding that cannot carry the value.
        encoding: Encoding,
        /// The value.
        value: String,
        /// Error of the encoding.
        source: CodecError,
    },
    /// The encoded value cannot be decoded, as an untagged enum with postcard.
    #[error("{value} cannot be decoded {}: {source}", encoding_text(*encoding))]
    Decode {
        /// Encoding that cannot carry the value.
        encoding: Encoding,
        /// The value.
        value: String,
        /// Error of the encoding.
        source: CodecError,
    },
    /// Another value was decoded than was encoded, as with a field that serde skips.
    #[error("{written} was encoded {}, {read} decoded", encoding_text(*encoding))]
    Different {
        /// Encoding that does not carry the value.
        encoding: Encoding,
        /// The value that was encoded.
        written: String,
        /// The value that was decoded.
        read: String,
    },
}

/// Checks that a message arrives as it was sent, in each encoding that calls may use for its type:
/// postcard and the [encoding with names](Encoding::Named), or the latter alone if a part of the
/// type describes itself.
///
/// The derive rejects what serde can do and postcard cannot: `untagged`, `flatten`,
/// `skip_serializing_if`. It does not see types whose [`Message`] or serde impls are written by
/// hand. A test of one value per variant, with and without the optional fields, finds those:
///
/// ```
/// use rpcnet_transport::schema::check_round_trip;
///
/// check_round_trip(&("zone", 3, None::<u8>).2)?;
/// check_round_trip(&vec![Some("eu-1".to_owned()), None])?;
/// # Ok::<(), rpcnet_transport::schema::RoundTripError>(())
/// ```
///
/// # Errors
///
/// [`RoundTripError`] that has the encoding and the value.
pub fn check_round_trip<T: Message + PartialEq + fmt::Debug>(
    value: &T,
) -> Result<(), RoundTripError> {
    let schema = MethodSchema::of(T::describe, <()>::describe, |_| None);
    if !schema.needs_named_encoding() {
        check_round_trip_as(value, Encoding::Postcard)?;
    }
    check_round_trip_as(value, Encoding::Named)
}

/// Checks that a value arrives as it was sent in this encoding, for types without a schema: those
/// of methods with `since` are sent with postcard.
///
/// # Errors
///
/// [`RoundTripError`] that has the value.
pub fn check_round_trip_as<T: Serialize + DeserializeOwned + PartialEq + fmt::Debug>(
    value: &T,
    encoding: Encoding,
) -> Result<(), RoundTripError> {
    let bytes = value
        .encode_as(encoding)
        .map_err(|source| RoundTripError::Encode {
            encoding,
            value: text(value),
            source,
        })?;
    let decoded = T::decode_as(bytes, encoding).map_err(|source| RoundTripError::Decode {
        encoding,
        value: text(value),
        source,
    })?;
    if decoded == *value {
        return Ok(());
    }
    Err(RoundTripError::Different {
        encoding,
        written: text(value),
        read: text(&decoded),
    })
}

fn text(value: &impl fmt::Debug) -> String {
    let mut text = format!("{value:?}");
    if text.len() > VALUE_BYTES_MAX {
        let mut ends = (0..=VALUE_BYTES_MAX).rev();
        let end = ends.find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
        text.push_str("...");
    }
    text
}

const fn encoding_text(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Postcard => "with postcard",
        Encoding::Named => "with names",
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::schema::{SchemaBuilder, Shape, TypeRef};

    /// A schema written by hand, which hides what serde does.
    macro_rules! described_as_unit {
        ($ty:ty) => {
            impl Message for $ty {
                fn describe(schema: &mut SchemaBuilder) -> TypeRef {
                    schema.define::<Self>(stringify!($ty), |_| Shape::Unit)
                }
            }
        };
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Untagged {
        Number(u32),
        Text(String),
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Skipping {
        #[serde(skip_serializing_if = "Option::is_none")]
        codec: Option<u8>,
        size: Option<u8>,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Flat {
        id: u8,
        #[serde(flatten)]
        inner: Inside,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Inside {
        name: String,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Forgetful {
        #[serde(skip)]
        cache: u8,
    }

    described_as_unit!(Untagged);
    described_as_unit!(Skipping);
    described_as_unit!(Flat);
    described_as_unit!(Forgetful);

    fn flat() -> Flat {
        let name = "eu-1".to_owned();
        Flat {
            id: 7,
            inner: Inside { name },
        }
    }

    #[test]
    fn values_that_both_encodings_carry_pass() {
        check_round_trip(&(7u8, Some("eu-1".to_owned()), vec![f64::MAX])).unwrap();
        let complete = Skipping {
            codec: Some(1),
            size: None,
        };
        check_round_trip(&complete).unwrap();
        check_round_trip(&Forgetful { cache: 0 }).unwrap();
    }

    #[test]
    fn what_postcard_cannot_carry_is_found() {
        for value in [Untagged::Number(7), Untagged::Text("seven".to_owned())] {
            let error = check_round_trip(&value).unwrap_err();
            assert!(matches!(error, RoundTripError::Decode { .. }), "{error}");
            let text = format!("{value:?} cannot be decoded with postcard: ");
            assert!(error.to_string().starts_with(&text), "{error}");
            check_round_trip_as(&value, Encoding::Named).unwrap();
        }
        let error = check_round_trip(&flat()).unwrap_err();
        assert!(matches!(error, RoundTripError::Encode { .. }), "{error}");
        check_round_trip_as(&flat(), Encoding::Named).unwrap();
        let skipped = Skipping {
            codec: None,
            size: Some(1),
        };
        check_round_trip(&skipped).unwrap_err();
    }

    #[test]
    fn a_value_that_changes_on_its_way_is_found_and_its_text_bounded() {
        let error = check_round_trip(&Forgetful { cache: 3 }).unwrap_err();
        let text = "Forgetful { cache: 3 } was encoded with postcard, Forgetful { cache: 0 } \
            decoded";
        assert_eq!(error.to_string(), text);
        let long = Untagged::Text("ä".repeat(VALUE_BYTES_MAX));
        let error = check_round_trip(&long).unwrap_err();
        let RoundTripError::Decode { value, .. } = error else {
            panic!("{error}");
        };
        assert!(value.len() <= VALUE_BYTES_MAX + 3 && value.ends_with("ä..."));
    }

    #[test]
    fn types_that_describe_themselves_are_checked_with_names_alone() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        #[serde(transparent)]
        struct AnyShape(Flat);
        impl Message for AnyShape {
            fn describe(schema: &mut SchemaBuilder) -> TypeRef {
                schema.define::<Self>("AnyShape", |_| Shape::SelfDescribing)
            }
        }
        check_round_trip(&AnyShape(flat())).unwrap();
    }
}
