//! Decoder of the named encoding.

use serde::{
    Deserializer,
    de::{
        DeserializeSeed, EnumAccess, Error as _, IgnoredAny, MapAccess, SeqAccess, Unexpected,
        VariantAccess, Visitor, value::BorrowedStrDeserializer,
    },
};

use super::{
    DEPTH_MAX, NIL, SOME,
    token::{Token, Tokens},
};
use crate::codec::NamedError;

#[derive(Debug)]
pub(super) struct Decoder<'de> {
    tokens: Tokens<'de>,
    depth: u8,
}

impl<'de> Decoder<'de> {
    pub(super) fn new(bytes: &'de [u8]) -> Self {
        let tokens = Tokens::new(bytes);
        Self { tokens, depth: 0 }
    }

    pub(super) fn rest_len(&self) -> usize {
        self.tokens.len()
    }

    /// Decodes what is nested in the value that was begun.
    fn nested<T>(
        &mut self,
        decode: impl FnOnce(&mut Self) -> Result<T, NamedError>,
    ) -> Result<T, NamedError> {
        if self.depth == DEPTH_MAX {
            return Err(NamedError::TooDeep);
        }
        self.depth += 1;
        let value = decode(self);
        self.depth -= 1;
        value
    }

    /// Decodes the values of a sequence or map of `len`, all of which have to be used.
    fn items<T>(
        &mut self,
        len: usize,
        decode: impl FnOnce(&mut Items<'_, 'de>) -> Result<T, NamedError>,
    ) -> Result<T, NamedError> {
        self.nested(|decoder| {
            let mut items = Items { decoder, left: len };
            let value = decode(&mut items)?;
            if items.left > 0 {
                let read = len - items.left;
                return Err(NamedError::custom(format_args!(
                    "{len} values, expected {read}"
                )));
            }
            Ok(value)
        })
    }

    fn unexpected(token: Token<'de>, expected: &str) -> NamedError {
        let unexpected = match token {
            Token::Nil => Unexpected::Unit,
            Token::Some => Unexpected::Option,
            Token::Bool(value) => Unexpected::Bool(value),
            Token::Unsigned(value) => Unexpected::Unsigned(value),
            Token::Signed(value) => Unexpected::Signed(value),
            Token::F32(value) => Unexpected::Float(value.into()),
            Token::F64(value) => Unexpected::Float(value),
            Token::String(value) => Unexpected::Str(value),
            Token::Bytes(value) => Unexpected::Bytes(value),
            Token::Array(_) => Unexpected::Seq,
            Token::Map(_) => Unexpected::Map,
        };
        NamedError::invalid_type(unexpected, &expected)
    }
}

impl<'de> Deserializer<'de> for &mut Decoder<'de> {
    type Error = NamedError;

    fn is_human_readable(&self) -> bool {
        false
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NamedError> {
        match self.tokens.next()? {
            Token::Nil => visitor.visit_unit(),
            Token::Some => self.nested(|decoder| visitor.visit_some(decoder)),
            Token::Bool(value) => visitor.visit_bool(value),
            Token::Unsigned(value) => visitor.visit_u64(value),
            Token::Signed(value) => visitor.visit_i64(value),
            Token::F32(value) => visitor.visit_f32(value),
            Token::F64(value) => visitor.visit_f64(value),
            Token::String(value) => visitor.visit_borrowed_str(value),
            Token::Bytes(value) => visitor.visit_borrowed_bytes(value),
            Token::Array(len) => self.items(len, |items| visitor.visit_seq(items)),
            Token::Map(len) => self.items(len, |items| visitor.visit_map(items)),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NamedError> {
        match self.tokens.peek() {
            Some(NIL) => {
                self.tokens.next()?;
                return visitor.visit_none();
            }
            Some(SOME) => drop(self.tokens.next()?),
            _ => {}
        }
        self.nested(|decoder| visitor.visit_some(decoder))
    }

    fn deserialize_i128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NamedError> {
        match self.tokens.next()? {
            Token::Bytes(bytes) if bytes.len() == 16 => {
                let bytes = bytes.try_into().map_err(NamedError::custom)?;
                visitor.visit_i128(i128::from_be_bytes(bytes))
            }
            token => Err(Decoder::unexpected(token, "16 bytes of an i128")),
        }
    }

    fn deserialize_u128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NamedError> {
        match self.tokens.next()? {
            Token::Bytes(bytes) if bytes.len() == 16 => {
                let bytes = bytes.try_into().map_err(NamedError::custom)?;
                visitor.visit_u128(u128::from_be_bytes(bytes))
            }
            token => Err(Decoder::unexpected(token, "16 bytes of a u128")),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, NamedError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, NamedError> {
        match self.tokens.next()? {
            Token::String(name) => visitor.visit_enum(BorrowedStrDeserializer::new(name)),
            Token::Map(1) => self.nested(|decoder| visitor.visit_enum(WithContent { decoder })),
            token => Err(Decoder::unexpected(token, "a variant")),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf
        unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

/// Values of a sequence, or pairs of a map.
#[derive(Debug)]
struct Items<'a, 'de> {
    decoder: &'a mut Decoder<'de>,
    left: usize,
}

impl<'de> SeqAccess<'de> for &mut Items<'_, 'de> {
    type Error = NamedError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, NamedError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(&mut *self.decoder).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

impl<'de> MapAccess<'de> for &mut Items<'_, 'de> {
    type Error = NamedError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, NamedError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(&mut *self.decoder).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, NamedError> {
        seed.deserialize(&mut *self.decoder)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

/// Variant that is a map of its name and its content.
#[derive(Debug)]
struct WithContent<'a, 'de> {
    decoder: &'a mut Decoder<'de>,
}

impl<'de> EnumAccess<'de> for WithContent<'_, 'de> {
    type Error = NamedError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Self), NamedError> {
        let variant = seed.deserialize(&mut *self.decoder)?;
        Ok((variant, self))
    }
}

impl<'de> VariantAccess<'de> for WithContent<'_, 'de> {
    type Error = NamedError;

    /// An unknown variant that is read as the one marked `#[serde(other)]`: its content is skipped.
    fn unit_variant(self) -> Result<(), NamedError> {
        self.decoder.deserialize_ignored_any(IgnoredAny).map(drop)
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(
        self,
        seed: T,
    ) -> Result<T::Value, NamedError> {
        seed.deserialize(self.decoder)
    }

    fn tuple_variant<V: Visitor<'de>>(
        self,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, NamedError> {
        self.decoder.deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, NamedError> {
        self.decoder.deserialize_any(visitor)
    }
}
