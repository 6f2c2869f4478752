//! Tokens of MessagePack: values without content, and heads of those with it.

use super::{NIL, SOME};
use crate::codec::NamedError;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Token<'de> {
    Nil,
    /// A `Some` whose content follows.
    Some,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    F32(f32),
    F64(f64),
    String(&'de str),
    Bytes(&'de [u8]),
    /// Sequence of this many values, which follow.
    Array(usize),
    /// Map of this many pairs, which follow.
    Map(usize),
}

/// Bytes that are still to be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tokens<'de> {
    rest: &'de [u8],
}

impl<'de> Tokens<'de> {
    pub(super) fn new(bytes: &'de [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn len(self) -> usize {
        self.rest.len()
    }

    /// Next byte, which is not taken.
    pub(super) fn peek(self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// Next token. The lengths that it announces are those of bytes that are there.
    pub(super) fn next(&mut self) -> Result<Token<'de>, NamedError> {
        let [head] = self.array()?;
        Ok(match head {
            0x00..=0x7f => Token::Unsigned(head.into()),
            0x80..=0x8f => self.map((head & 0x0f).into())?,
            0x90..=0x9f => self.sequence((head & 0x0f).into())?,
            0xa0..=0xbf => self.string((head & 0x1f).into())?,
            NIL => Token::Nil,
            SOME => Token::Some,
            0xc2 => Token::Bool(false),
            0xc3 => Token::Bool(true),
            0xc4..=0xc6 => {
                let len = self.unsigned(head - 0xc4)?;
                Token::Bytes(self.take(len)?)
            }
            0xca => Token::F32(f32::from_be_bytes(self.array()?)),
            0xcb => Token::F64(f64::from_be_bytes(self.array()?)),
            0xcc..=0xcf => Token::Unsigned(self.unsigned(head - 0xcc)?),
            0xd0 => Token::Signed(i8::from_be_bytes(self.array()?).into()),
            0xd1 => Token::Signed(i16::from_be_bytes(self.array()?).into()),
            0xd2 => Token::Signed(i32::from_be_bytes(self.array()?).into()),
            0xd3 => Token::Signed(i64::from_be_bytes(self.array()?)),
            0xd9..=0xdb => {
                let len = self.unsigned(head - 0xd9)?;
                self.string(len)?
            }
            0xdc | 0xdd => {
                let len = self.unsigned(head - 0xdc + 1)?;
                self.sequence(len)?
            }
            0xde | 0xdf => {
                let len = self.unsigned(head - 0xde + 1)?;
                self.map(len)?
            }
            0xe0..=0xff => Token::Signed((head as i8).into()),
            0xc7..=0xc9 | 0xd4..=0xd8 => return Err(NamedError::Extension(head)),
        })
    }

    /// Unsigned integer of `1 << log` bytes.
    fn unsigned(&mut self, log: u8) -> Result<u64, NamedError> {
        Ok(match log {
            0 => u8::from_be_bytes(self.array()?).into(),
            1 => u16::from_be_bytes(self.array()?).into(),
            2 => u32::from_be_bytes(self.array()?).into(),
            _ => u64::from_be_bytes(self.array()?),
        })
    }

    fn string(&mut self, len: u64) -> Result<Token<'de>, NamedError> {
        let text = str::from_utf8(self.take(len)?);
        Ok(Token::String(text.map_err(|_| NamedError::Utf8)?))
    }

    fn sequence(&self, len: u64) -> Result<Token<'de>, NamedError> {
        // Each value is a byte at least.
        Ok(Token::Array(self.bounded(len, self.rest.len())?))
    }

    fn map(&self, len: u64) -> Result<Token<'de>, NamedError> {
        Ok(Token::Map(self.bounded(len, self.rest.len() / 2)?))
    }

    fn take(&mut self, len: u64) -> Result<&'de [u8], NamedError> {
        let len = self.bounded(len, self.rest.len())?;
        let (taken, rest) = self.rest.split_at(len);
        self.rest = rest;
        Ok(taken)
    }

    fn bounded(&self, len: u64, max: usize) -> Result<usize, NamedError> {
        let len = usize::try_from(len).ok().filter(|len| *len <= max);
        len.ok_or(NamedError::UnexpectedEnd)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], NamedError> {
        let (taken, rest) = self
            .rest
            .split_first_chunk()
            .ok_or(NamedError::UnexpectedEnd)?;
        self.rest = rest;
        Ok(*taken)
    }
}
