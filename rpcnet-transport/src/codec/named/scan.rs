//! Scan of a MessagePack value that finds its end, and how deep it is, without decoding it.
//!
//! `rmp::decode::MessageLen` does that too, but panics at extension types (rmp 0.8.15).

use rmp::Marker;

use super::DEPTH_MAX;
use crate::codec::NamedError;

/// Checks that the bytes begin with a whole value that is not nested too deep and has no extension
/// types. Returns how many bytes follow.
pub(super) fn check_value(bytes: &[u8]) -> Result<usize, NamedError> {
    let mut rest = Rest(bytes);
    // How many values each open sequence or map lacks, the outermost first.
    let mut open = [0; DEPTH_MAX];
    let mut depth = 0;
    loop {
        if let Some(values) = rest.take_value()? {
            *open.get_mut(depth).ok_or(NamedError::TooDeep)? = values;
            depth += 1;
        }
        while depth > 0 && open[depth - 1] == 0 {
            depth -= 1;
        }
        if depth == 0 {
            return Ok(rest.0.len());
        }
        open[depth - 1] -= 1;
    }
}

struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    /// Takes a value, or the head of a sequence or map. Returns how many values that consists of.
    fn take_value(&mut self) -> Result<Option<u64>, NamedError> {
        let [head] = self.take_array()?;
        let len = match Marker::from_u8(head) {
            Marker::FixArray(len) => return Ok(Some(len.into())),
            Marker::Array16 => return self.take_number::<2>().map(Some),
            Marker::Array32 => return self.take_number::<4>().map(Some),
            Marker::FixMap(len) => return Ok(Some(2 * u64::from(len))),
            Marker::Map16 => return Ok(Some(2 * self.take_number::<2>()?)),
            Marker::Map32 => return Ok(Some(2 * self.take_number::<4>()?)),
            Marker::Null | Marker::False | Marker::True => 0,
            Marker::FixPos(_) | Marker::FixNeg(_) => 0,
            Marker::U8 | Marker::I8 => 1,
            Marker::U16 | Marker::I16 => 2,
            Marker::U32 | Marker::I32 | Marker::F32 => 4,
            Marker::U64 | Marker::I64 | Marker::F64 => 8,
            Marker::FixStr(len) => len.into(),
            Marker::Str8 | Marker::Bin8 => self.take_number::<1>()?,
            Marker::Str16 | Marker::Bin16 => self.take_number::<2>()?,
            Marker::Str32 | Marker::Bin32 => self.take_number::<4>()?,
            // Extension types, and the one byte that is reserved.
            _ => return Err(NamedError::Marker(head)),
        };
        let len = usize::try_from(len).ok();
        let rest = len.and_then(|len| self.0.get(len..));
        self.0 = rest.ok_or(NamedError::UnexpectedEnd)?;
        Ok(None)
    }

    fn take_number<const N: usize>(&mut self) -> Result<u64, NamedError> {
        let bytes: [u8; N] = self.take_array()?;
        Ok(bytes
            .iter()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    }

    fn take_array<const N: usize>(&mut self) -> Result<[u8; N], NamedError> {
        let (taken, rest) = self
            .0
            .split_first_chunk()
            .ok_or(NamedError::UnexpectedEnd)?;
        self.0 = rest;
        Ok(*taken)
    }
}
