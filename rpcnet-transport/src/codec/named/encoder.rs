//! Encoder of the named encoding.

use serde::{
    Serialize, Serializer,
    ser::{
        Error as _, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant,
        SerializeTuple, SerializeTupleStruct, SerializeTupleVariant,
    },
};

use super::{DEPTH_MAX, NIL, SOME};
use crate::codec::NamedError;

#[derive(Debug, Default)]
pub(super) struct Encoder {
    bytes: Vec<u8>,
    depth: u8,
}

impl Encoder {
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    fn enter(&mut self) -> Result<(), NamedError> {
        if self.depth == DEPTH_MAX {
            return Err(NamedError::TooDeep);
        }
        self.depth += 1;
        Ok(())
    }

    /// Head with a length or a number: the first byte of the smallest form, then its bytes.
    fn head(&mut self, forms: &[(u64, u8, usize)], value: u64) {
        let form = forms.iter().find(|(max, ..)| value <= *max);
        let (_, head, len) = form.expect("the last form takes every value");
        self.bytes.push(*head);
        self.bytes
            .extend_from_slice(&value.to_be_bytes()[8 - len..]);
    }

    fn name(&mut self, name: &str) -> Result<(), NamedError> {
        let len = length(name.len())?;
        match u8::try_from(len) {
            Ok(len) if len < 32 => self.bytes.push(0xa0 | len),
            _ => self.head(&STRING, len),
        }
        self.bytes.extend_from_slice(name.as_bytes());
        Ok(())
    }

    /// Begins a variant with content: a map of its name and its content.
    fn variant(&mut self, name: &str) -> Result<(), NamedError> {
        self.enter()?;
        self.bytes.push(0x81);
        self.name(name)
    }

    fn items(&mut self, kind: Kind, len: Option<usize>) -> Result<Items<'_>, NamedError> {
        self.enter()?;
        let (short, forms) = match kind {
            Kind::Sequence => (0x90, &SEQUENCE),
            Kind::Map => (0x80, &MAP),
        };
        let at = self.bytes.len();
        match len {
            Some(len) if len < 16 => self.bytes.push(short | len as u8),
            Some(len) => self.head(forms, length(len)?),
            // The longest form, whose number is filled in at the end.
            None => self.bytes.extend([forms[1].1, 0, 0, 0, 0]),
        }
        Ok(Items {
            encoder: self,
            announced: len,
            unknown_at: len.is_none().then_some(at + 1),
            written: 0,
            levels: 1,
        })
    }
}

/// Forms of a head: largest number, first byte, bytes that follow.
const STRING: [(u64, u8, usize); 3] = forms([0xd9, 0xda, 0xdb]);
const BYTES: [(u64, u8, usize); 3] = forms([0xc4, 0xc5, 0xc6]);
const SEQUENCE: [(u64, u8, usize); 2] = [(0xffff, 0xdc, 2), (0xffff_ffff, 0xdd, 4)];
const MAP: [(u64, u8, usize); 2] = [(0xffff, 0xde, 2), (0xffff_ffff, 0xdf, 4)];
const UNSIGNED: [(u64, u8, usize); 4] = [
    (0xff, 0xcc, 1),
    (0xffff, 0xcd, 2),
    (0xffff_ffff, 0xce, 4),
    (u64::MAX, 0xcf, 8),
];

const fn forms(heads: [u8; 3]) -> [(u64, u8, usize); 3] {
    [
        (0xff, heads[0], 1),
        (0xffff, heads[1], 2),
        (0xffff_ffff, heads[2], 4),
    ]
}

fn length(len: usize) -> Result<u64, NamedError> {
    let too_long = |_| NamedError::custom(format_args!("length {len} exceeds {}", u32::MAX));
    u32::try_from(len).map(u64::from).map_err(too_long)
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Sequence,
    Map,
}

impl<'a> Serializer for &'a mut Encoder {
    type Ok = ();
    type Error = NamedError;
    type SerializeSeq = Items<'a>;
    type SerializeTuple = Items<'a>;
    type SerializeTupleStruct = Items<'a>;
    type SerializeTupleVariant = Items<'a>;
    type SerializeMap = Items<'a>;
    type SerializeStruct = Items<'a>;
    type SerializeStructVariant = Items<'a>;

    fn is_human_readable(&self) -> bool {
        false
    }

    fn serialize_bool(self, value: bool) -> Result<(), NamedError> {
        self.bytes.push(if value { 0xc3 } else { 0xc2 });
        Ok(())
    }

    fn serialize_i8(self, value: i8) -> Result<(), NamedError> {
        self.serialize_i64(value.into())
    }

    fn serialize_i16(self, value: i16) -> Result<(), NamedError> {
        self.serialize_i64(value.into())
    }

    fn serialize_i32(self, value: i32) -> Result<(), NamedError> {
        self.serialize_i64(value.into())
    }

    fn serialize_i64(self, value: i64) -> Result<(), NamedError> {
        if let Ok(value) = u64::try_from(value) {
            return self.serialize_u64(value);
        }
        let (head, len) = match value {
            -32.. => {
                // The five low bits of a negative number are its form without a head.
                self.bytes.push(value as u8);
                return Ok(());
            }
            -0x80.. => (0xd0, 1),
            -0x8000.. => (0xd1, 2),
            -0x8000_0000.. => (0xd2, 4),
            _ => (0xd3, 8),
        };
        self.bytes.push(head);
        self.bytes
            .extend_from_slice(&value.to_be_bytes()[8 - len..]);
        Ok(())
    }

    fn serialize_i128(self, value: i128) -> Result<(), NamedError> {
        self.serialize_bytes(&value.to_be_bytes())
    }

    fn serialize_u8(self, value: u8) -> Result<(), NamedError> {
        self.serialize_u64(value.into())
    }

    fn serialize_u16(self, value: u16) -> Result<(), NamedError> {
        self.serialize_u64(value.into())
    }

    fn serialize_u32(self, value: u32) -> Result<(), NamedError> {
        self.serialize_u64(value.into())
    }

    fn serialize_u64(self, value: u64) -> Result<(), NamedError> {
        match u8::try_from(value) {
            Ok(value) if value < 0x80 => self.bytes.push(value),
            _ => self.head(&UNSIGNED, value),
        }
        Ok(())
    }

    fn serialize_u128(self, value: u128) -> Result<(), NamedError> {
        self.serialize_bytes(&value.to_be_bytes())
    }

    fn serialize_f32(self, value: f32) -> Result<(), NamedError> {
        self.bytes.push(0xca);
        self.bytes.extend_from_slice(&value.to_be_bytes());
        Ok(())
    }

    fn serialize_f64(self, value: f64) -> Result<(), NamedError> {
        self.bytes.push(0xcb);
        self.bytes.extend_from_slice(&value.to_be_bytes());
        Ok(())
    }

    fn serialize_char(self, value: char) -> Result<(), NamedError> {
        self.name(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Result<(), NamedError> {
        self.name(value)
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), NamedError> {
        let len = length(value.len())?;
        self.head(&BYTES, len);
        self.bytes.extend_from_slice(value);
        Ok(())
    }

    fn serialize_none(self) -> Result<(), NamedError> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), NamedError> {
        self.enter()?;
        let at = self.bytes.len();
        value.serialize(&mut *self)?;
        self.depth -= 1;
        if matches!(self.bytes.get(at), Some(&NIL | &SOME)) {
            self.bytes.insert(at, SOME);
        }
        Ok(())
    }

    fn serialize_unit(self) -> Result<(), NamedError> {
        self.bytes.push(NIL);
        Ok(())
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<(), NamedError> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
    ) -> Result<(), NamedError> {
        self.name(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result<(), NamedError> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), NamedError> {
        self.variant(variant)?;
        value.serialize(&mut *self)?;
        self.depth -= 1;
        Ok(())
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Items<'a>, NamedError> {
        self.items(Kind::Sequence, len)
    }

    fn serialize_tuple(self, len: usize) -> Result<Items<'a>, NamedError> {
        self.items(Kind::Sequence, Some(len))
    }

    fn serialize_tuple_struct(
        self,
        _name: &'static str,
        len: usize,
    ) -> Result<Items<'a>, NamedError> {
        self.items(Kind::Sequence, Some(len))
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Items<'a>, NamedError> {
        self.variant(variant)?;
        let items = self.items(Kind::Sequence, Some(len))?;
        Ok(Items { levels: 2, ..items })
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Items<'a>, NamedError> {
        self.items(Kind::Map, len)
    }

    fn serialize_struct(self, _name: &'static str, len: usize) -> Result<Items<'a>, NamedError> {
        self.items(Kind::Map, Some(len))
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Items<'a>, NamedError> {
        self.variant(variant)?;
        let items = self.items(Kind::Map, Some(len))?;
        Ok(Items { levels: 2, ..items })
    }
}

/// Sequence or map that is being written.
#[derive(Debug)]
pub(super) struct Items<'a> {
    encoder: &'a mut Encoder,
    announced: Option<usize>,
    /// Where the number of a length that was not known beforehand is written.
    unknown_at: Option<usize>,
    written: usize,
    /// Levels of nesting that end with it.
    levels: u8,
}

impl Items<'_> {
    fn item<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), NamedError> {
        self.written += 1;
        value.serialize(&mut *self.encoder)
    }

    fn named<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<(), NamedError> {
        self.encoder.name(name)?;
        self.item(value)
    }

    fn finish(self) -> Result<(), NamedError> {
        self.encoder.depth -= self.levels;
        let len = length(self.written)? as u32;
        if let Some(at) = self.unknown_at {
            self.encoder.bytes[at..at + 4].copy_from_slice(&len.to_be_bytes());
        }
        match self.announced {
            Some(announced) if announced != self.written => {
                let written = self.written;
                let text = format_args!("{written} values written, {announced} announced");
                Err(NamedError::custom(text))
            }
            _ => Ok(()),
        }
    }
}

/// Traits of values without names.
macro_rules! sequences {
    ($($name:ident::$method:ident)*) => {$(
        impl $name for Items<'_> {
            type Ok = ();
            type Error = NamedError;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), NamedError> {
                self.item(value)
            }

            fn end(self) -> Result<(), NamedError> {
                self.finish()
            }
        }
    )*};
}

sequences! {
    SerializeSeq::serialize_element
    SerializeTuple::serialize_element
    SerializeTupleStruct::serialize_field
    SerializeTupleVariant::serialize_field
}

/// Traits of values with names.
macro_rules! structs {
    ($($name:ident)*) => {$(
        impl $name for Items<'_> {
            type Ok = ();
            type Error = NamedError;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), NamedError> {
                self.named(name, value)
            }

            fn end(self) -> Result<(), NamedError> {
                self.finish()
            }
        }
    )*};
}

structs! { SerializeStruct SerializeStructVariant }

impl SerializeMap for Items<'_> {
    type Ok = ();
    type Error = NamedError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), NamedError> {
        key.serialize(&mut *self.encoder)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), NamedError> {
        self.item(value)
    }

    fn end(self) -> Result<(), NamedError> {
        self.finish()
    }
}
