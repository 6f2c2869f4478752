//! Encoding with postcard into memory that small messages share.

use std::cell::{Cell, RefCell};

use bytes::{Bytes, BytesMut};
use postcard::ser_flavors::Flavor;
use serde::Serialize;

/// Encodes a value. Small messages of one thread share a buffer, so that they allocate nothing of
/// their own: one that is kept for long should be [copied](owned).
pub(super) fn to_postcard<T: Serialize + ?Sized>(value: &T) -> Result<Bytes, postcard::Error> {
    // Taken out, as the code of the value may encode another one.
    let scratch = SCRATCH.take();
    let mut scratch = postcard::serialize_with_flavor(value, PostcardWriter(scratch))?;
    if scratch.len() > COPIED_BYTES_MAX {
        return Ok(scratch.into());
    }
    let message = if scratch.len() <= SHARED_BYTES_MAX {
        SHARED.with_borrow_mut(|shared| {
            if shared.capacity() < scratch.len() {
                shared.reserve(SHARED_BUFFER_BYTES);
            }
            shared.extend_from_slice(&scratch);
            shared.split().freeze()
        })
    } else {
        Bytes::copy_from_slice(&scratch)
    };
    scratch.clear();
    SCRATCH.set(scratch);
    Ok(message)
}

/// The same bytes in memory of their own, if they may share it with others.
pub(crate) fn owned(message: Bytes) -> Bytes {
    match message.len() {
        1..=SHARED_BYTES_MAX => Bytes::copy_from_slice(&message),
        _ => message,
    }
}

/// A vector, whose `push` is cheap: postcard writes most values byte by byte.
struct PostcardWriter(Vec<u8>);

impl Flavor for PostcardWriter {
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
    /// Memory that values are encoded into.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    /// Memory that small messages share.
    static SHARED: RefCell<BytesMut> = RefCell::new(BytesMut::new());
}

/// Size of the buffer that messages share: what one of them that is kept holds at most.
const SHARED_BUFFER_BYTES: usize = 4 * 1024;

/// Largest message in the shared buffer.
const SHARED_BYTES_MAX: usize = 256;

/// Largest message that is copied out of the memory that it was encoded into, which then serves the
/// next one.
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
