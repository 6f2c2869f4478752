//! Bodies of calls, and the check of replies.

use bytes::{Bytes, BytesMut};

/// The bodies of one caller: each differs from all others in its first eight bytes.
#[derive(Debug)]
pub struct Body {
    bytes: Bytes,
    counter: u64,
}

impl Body {
    /// Bodies of `bytes` bytes, for the caller of this number.
    ///
    /// # Panics
    ///
    /// If they are shorter than [`BODY_BYTES_MIN`].
    pub fn new(caller: u32, bytes: usize) -> Self {
        assert!(bytes >= BODY_BYTES_MIN, "the counter has to fit");
        let pattern: Vec<u8> = (0..bytes).map(|at| (at * 31 + 7) as u8).collect();
        Self {
            bytes: pattern.into(),
            counter: u64::from(caller) << 40,
        }
    }

    /// The next body. Its memory is that of the one before, if that has been let go: copying a
    /// large body would cost more than some of the calls that are measured.
    pub fn advance(&mut self) -> Bytes {
        self.counter += 1;
        let mut bytes = std::mem::take(&mut self.bytes)
            .try_into_mut()
            .unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        bytes[..BODY_BYTES_MIN].copy_from_slice(&self.counter.to_le_bytes());
        self.bytes = bytes.freeze();
        self.bytes.clone()
    }

    /// Number of the next call, for subjects whose messages are no bytes.
    pub fn advance_number(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    /// Compares a reply with the body that was sent last, and says what is wrong with it: length
    /// and counter always, the whole content if it is short and now and then.
    pub fn check(&self, reply: &[u8]) -> Result<(), String> {
        let wrong = |what: String| Err(format!("wrong reply: {what}"));
        let (sent, got) = (self.bytes.len(), reply.len());
        if got != sent {
            return wrong(format!("{got} bytes instead of {sent}"));
        }
        let counter = reply[..BODY_BYTES_MIN].try_into().expect("eight bytes");
        let (sent, got) = (self.counter, u64::from_le_bytes(counter));
        if got != sent {
            return wrong(format!("of call {got:#x} instead of {sent:#x}"));
        }
        let whole = reply.len() <= SHORT_BYTES_MAX || self.counter.is_multiple_of(WHOLE_EVERY);
        if whole && reply != &self.bytes[..] {
            let differs = reply.iter().zip(&self.bytes).position(|(a, b)| a != b);
            return wrong(format!("byte {} differs", differs.unwrap_or_default()));
        }
        Ok(())
    }
}

/// The counter's length.
pub const BODY_BYTES_MIN: usize = 8;

/// Largest reply that is always compared as a whole: comparing it costs next to nothing.
const SHORT_BYTES_MAX: usize = 1024;

/// Interval of the longer replies that are compared byte by byte.
const WHOLE_EVERY: u64 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_differ_and_are_recognised() {
        let (mut one, mut other) = (Body::new(1, 32), Body::new(2, 32));
        let (first, foreign) = (one.advance(), other.advance());
        assert_eq!(one.check(&first), Ok(()));
        let is_of_another_call = |checked: Result<(), String>| {
            checked.is_err_and(|error| error.starts_with("wrong reply: of call 0x"))
        };
        assert!(is_of_another_call(one.check(&foreign)));
        let second = one.advance();
        assert_ne!(first, second);
        assert!(is_of_another_call(one.check(&first)));
        assert_eq!(one.check(&second), Ok(()));
    }

    #[test]
    fn a_short_reply_and_a_changed_byte_are_caught() {
        let mut body = Body::new(0, 64);
        let sent = body.advance();
        assert_eq!(
            body.check(&sent[..63]),
            Err("wrong reply: 63 bytes instead of 64".to_owned())
        );
        let mut changed = sent.to_vec();
        changed[40] ^= 1;
        let differs = Err("wrong reply: byte 40 differs".to_owned());
        assert_eq!(body.check(&changed), differs);
    }

    #[test]
    fn long_replies_are_compared_in_whole_now_and_then() {
        let mut body = Body::new(0, SHORT_BYTES_MAX + 1);
        let mut caught = 0;
        for _ in 0..2 * WHOLE_EVERY {
            let mut changed = body.advance().to_vec();
            *changed.last_mut().unwrap() ^= 1;
            caught += u64::from(body.check(&changed).is_err());
        }
        assert_eq!(caught, 2);
    }

    #[test]
    fn memory_is_used_again_once_it_is_free() {
        let mut body = Body::new(0, 4096);
        let place = body.advance().as_ptr();
        let kept = body.advance();
        assert_eq!(kept.as_ptr(), place);
        assert_ne!(body.advance().as_ptr(), place);
        assert_eq!(kept.len(), 4096);
    }
}
