//! Encoding with postcard into memory that small messages share.

use std::{
    cell::{Cell, RefCell},
    ops::Deref,
    slice,
};

use bytes::{Bytes, BytesMut};
use postcard::ser_flavors::Flavor;
use serde::Serialize;

/// Encodes a value. Small messages of one thread share a buffer, so that they allocate nothing of
/// their own: one that is kept for long should be [copied](owned).
pub(super) fn to_postcard<T: Serialize + ?Sized>(value: &T) -> Result<Bytes, postcard::Error> {
    to_scratch(value).map(Scratch::into_bytes)
}

/// Encodes a value into the memory of this thread, for a message that is copied at once.
pub(super) fn to_scratch<T: Serialize + ?Sized>(value: &T) -> Result<Scratch, postcard::Error> {
    // Taken out, as the code of the value may encode another one.
    let mut memory = SCRATCH.take();
    let writer = SliceWriter(memory.iter_mut());
    match postcard::serialize_with_flavor(value, writer) {
        Ok(unused) => {
            let len = memory.len() - unused;
            Ok(Scratch { memory, len })
        }
        Err(postcard::Error::SerializeBufferFull) => {
            let writer = VecWriter(Vec::with_capacity(SCRATCH_BYTES_MIN.max(2 * memory.len())));
            let mut memory = postcard::serialize_with_flavor(value, writer)?;
            let len = memory.len();
            if len <= COPIED_BYTES_MAX {
                // Whole, for the next message.
                memory.resize(memory.capacity().min(COPIED_BYTES_MAX), 0);
            }
            Ok(Scratch { memory, len })
        }
        Err(error) => Err(error),
    }
}

/// An encoded message, in memory that the next one of this thread uses again.
#[derive(Debug)]
pub struct Scratch {
    memory: Vec<u8>,
    len: usize,
}

impl Scratch {
    /// The message, to be kept.
    pub(crate) fn into_bytes(mut self) -> Bytes {
        if self.len > COPIED_BYTES_MAX {
            return std::mem::take(&mut self.memory).into();
        }
        let message = &self[..];
        if message.len() > SHARED_BYTES_MAX {
            return Bytes::copy_from_slice(message);
        }
        SHARED.with_borrow_mut(|shared| {
            if shared.capacity() < message.len() {
                shared.reserve(SHARED_BUFFER_BYTES);
            }
            shared.extend_from_slice(message);
            shared.split().freeze()
        })
    }
}

impl From<Bytes> for Scratch {
    fn from(message: Bytes) -> Self {
        Self {
            len: message.len(),
            memory: message.into(),
        }
    }
}

impl Deref for Scratch {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.memory[..self.len]
    }
}

impl Drop for Scratch {
    #[inline]
    fn drop(&mut self) {
        if (1..=COPIED_BYTES_MAX).contains(&self.memory.len()) {
            SCRATCH.set(std::mem::take(&mut self.memory));
        }
    }
}

/// The same bytes in memory of their own, if they may share it with others.
pub(crate) fn owned(message: Bytes) -> Bytes {
    match message.len() {
        1..=SHARED_BYTES_MAX => Bytes::copy_from_slice(&message),
        _ => message,
    }
}

/// Writer into memory of a fixed size: the cheapest, as postcard writes most values byte by byte.
struct SliceWriter<'a>(slice::IterMut<'a, u8>);

impl Flavor for SliceWriter<'_> {
    /// Bytes that were not used.
    type Output = usize;

    #[inline(always)]
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        let next = self.0.next();
        *next.ok_or(postcard::Error::SerializeBufferFull)? = byte;
        Ok(())
    }

    #[inline(always)]
    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        let left = std::mem::take(&mut self.0).into_slice();
        let (used, left) = left
            .split_at_mut_checked(bytes.len())
            .ok_or(postcard::Error::SerializeBufferFull)?;
        used.copy_from_slice(bytes);
        self.0 = left.iter_mut();
        Ok(())
    }

    fn finalize(self) -> postcard::Result<usize> {
        Ok(self.0.len())
    }
}

/// Writer into memory that grows.
struct VecWriter(Vec<u8>);

impl Flavor for VecWriter {
    type Output = Vec<u8>;

    #[inline(always)]
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    #[inline(always)]
    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<Vec<u8>> {
        Ok(self.0)
    }
}

thread_local! {
    /// Memory that values are encoded into, all of it initialised.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    /// Memory that small messages share.
    static SHARED: RefCell<BytesMut> = RefCell::new(BytesMut::new());
}

/// Size of the buffer that messages share: what one of them that is kept holds at most.
const SHARED_BUFFER_BYTES: usize = 4 * 1024;

/// Least memory that a thread keeps for its messages.
const SCRATCH_BYTES_MIN: usize = 256;

/// Largest message in the shared buffer.
const SHARED_BYTES_MAX: usize = 256;

/// Largest message that is copied out of the memory that it was encoded into, which then serves the
/// next one, and largest memory that a thread keeps for that.
const COPIED_BYTES_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_any_size_are_what_postcard_writes() {
        for len in [
            0,
            1,
            255,
            256,
            257,
            4_095,
            4_096,
            16_383,
            16_384,
            16_385,
            1 << 20,
        ] {
            let value = (len, vec![7_u8; len]);
            let message = to_postcard(&value).unwrap();
            assert_eq!(message, postcard::to_stdvec(&value).unwrap(), "{len}");
            assert_eq!(owned(message.clone()), message);
        }
    }

    #[test]
    fn messages_that_are_kept_do_not_change() {
        let messages: Vec<_> = (0..10_000_u32)
            .map(|n| to_postcard(&(n, "text")).unwrap())
            .collect();
        for (n, message) in (0_u32..).zip(messages) {
            assert_eq!(postcard::from_bytes(&message), Ok((n, "text")));
        }
    }

    #[test]
    fn a_value_may_encode_another_while_it_is_encoded() {
        struct Nested;
        impl Serialize for Nested {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let inner = to_postcard(&"inner").unwrap();
                serializer.serialize_bytes(&inner)
            }
        }
        let message = to_postcard(&("outer", Nested)).unwrap();
        let (outer, inner): (&str, &[u8]) = postcard::from_bytes(&message).unwrap();
        assert_eq!((outer, inner), ("outer", &b"\x05inner"[..]));
    }

    #[test]
    fn a_value_that_cannot_be_encoded_leaves_nothing_behind() {
        #[derive(Serialize)]
        struct Failing(&'static str, #[serde(serialize_with = "fail")] ());
        fn fail<S: serde::Serializer>(_: &(), _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("as told"))
        }
        assert!(to_postcard(&Failing("begun", ())).is_err());
        assert_eq!(to_postcard(&7_u8).unwrap(), &[7][..]);
    }
}
