//! Encoding with postcard into memory that small messages share.

use std::{
    cell::{Cell, RefCell},
    ops::Deref,
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
    // Taken out, as the code of the value may encode another one. A thread that ends has none.
    let memory = SCRATCH.try_with(Cell::take).unwrap_or_default();
    postcard::serialize_with_flavor(value, ScratchWriter { memory, len: 0 })
}

/// An encoded message, in memory that the next one of this thread uses again.
#[derive(Debug)]
pub struct Scratch {
    memory: Vec<u8>,
    len: usize,
    /// The message, if it has been in other memory before.
    shared: Option<Bytes>,
}

impl Scratch {
    /// The message, to be kept.
    pub(crate) fn into_bytes(mut self) -> Bytes {
        if let Some(message) = self.shared.take() {
            return message;
        }
        if self.len > COPIED_BYTES_MAX {
            let mut memory = std::mem::take(&mut self.memory);
            memory.truncate(self.len);
            return memory.into();
        }
        let message = &self[..];
        if message.len() > SHARED_BYTES_MAX {
            return Bytes::copy_from_slice(message);
        }
        let share = |shared: &RefCell<BytesMut>| {
            let mut shared = shared.borrow_mut();
            if shared.capacity() < message.len() {
                shared.reserve(SHARED_BUFFER_BYTES);
            }
            shared.extend_from_slice(message);
            shared.split().freeze()
        };
        let shared = SHARED.try_with(share);
        shared.unwrap_or_else(|_| Bytes::copy_from_slice(message))
    }
}

impl From<Bytes> for Scratch {
    fn from(message: Bytes) -> Self {
        Self {
            memory: Vec::new(),
            len: 0,
            shared: Some(message),
        }
    }
}

impl Deref for Scratch {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.shared {
            None => &self.memory[..self.len],
            Some(message) => message,
        }
    }
}

impl Drop for Scratch {
    #[inline]
    fn drop(&mut self) {
        if (1..=COPIED_BYTES_MAX).contains(&self.memory.len()) {
            let memory = std::mem::take(&mut self.memory);
            // Fails in a thread that ends.
            let _ = SCRATCH.try_with(|scratch| scratch.set(memory));
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

/// Writer into memory whose bytes are all initialised, which is cheaper than a vector that grows
/// byte by byte: postcard writes most values so.
struct ScratchWriter {
    memory: Vec<u8>,
    len: usize,
}

impl ScratchWriter {
    #[cold]
    fn grow(&mut self, len: usize) {
        let len = len.max(2 * self.memory.len()).max(SCRATCH_BYTES_MIN);
        self.memory.resize(len, 0);
    }
}

impl Flavor for ScratchWriter {
    type Output = Scratch;

    #[inline(always)]
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        if self.len == self.memory.len() {
            self.grow(self.len + 1);
        }
        self.memory[self.len] = byte;
        self.len += 1;
        Ok(())
    }

    #[inline(always)]
    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        let end = self.len + bytes.len();
        if end > self.memory.len() {
            self.grow(end);
        }
        self.memory[self.len..end].copy_from_slice(bytes);
        self.len = end;
        Ok(())
    }

    fn finalize(self) -> postcard::Result<Scratch> {
        let Self { memory, len } = self;
        Ok(Scratch {
            memory,
            len,
            shared: None,
        })
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
