//! Bulk traffic: large calls that overlap, each of which loads one direction of the link.
//!
//! An echo of a large body loads first one direction and then the other, and a sender that shares
//! a link fairly among its calls brings them all into step: each direction then idles half of the
//! time. Hence a bulk call is either an upload with a short reply or a download with a short
//! request, and the calls of one direction have bodies of different sizes, so that they do not end
//! at once. Every subject's server answers both by [`answer`].

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;

use crate::{BODY_BYTES_MIN, BulkLoad, Caller, Direction, Failure, Phase};

/// The reply of a server: the body of a call as it came, and of a bulk call as many bytes as it
/// asks for, 16 MiB at most.
pub fn answer(body: Bytes) -> Bytes {
    match body.get(MARK_OFFSET) {
        Some(&MARK) => {
            let asked = u32::from_le_bytes(body[..4].try_into().expect("four bytes"));
            Bytes::from_static(&ZEROS[..(asked as usize).min(BULK_BYTES_MAX)])
        }
        _ => body,
    }
}

/// Makes bulk calls in one direction, one after the other, until `phase` says that it is over; adds
/// the bytes of those that end in the window to `carried`.
pub(crate) async fn call<C: Caller>(
    caller: C,
    bytes: usize,
    direction: Direction,
    phase: impl Fn() -> Phase,
    carried: &AtomicU64,
) -> Result<u64, Failure> {
    let (request_bytes, reply_bytes) = match direction {
        Direction::Up => (bytes, BODY_BYTES_MIN),
        Direction::Down => (BODY_BYTES_MIN, bytes),
        Direction::Both => (bytes, bytes),
    };
    let request = request(request_bytes, u32::try_from(reply_bytes)?);
    loop {
        let reply = caller.call(request.clone()).await;
        let reply = reply.map_err(|error| format!("bulk call: {error}"))?;
        if reply.len() != reply_bytes {
            let got = reply.len();
            return Err(format!("bulk call: {got} bytes instead of {reply_bytes}").into());
        }
        match phase() {
            Phase::WarmUp => {}
            Phase::Window => {
                carried.fetch_add((request_bytes + reply_bytes) as u64, Relaxed);
            }
            Phase::Over => return Ok(0),
        }
    }
}

impl BulkLoad {
    /// The body sizes of the calls of one direction, evenly spaced up to the largest.
    pub(crate) fn sizes(self) -> impl Iterator<Item = usize> {
        let calls = self.calls_each_way;
        (1..=calls).map(move |nth| (self.bytes_max * nth / calls).max(BODY_BYTES_MIN))
    }
}

/// The body of a bulk call.
fn request(bytes: usize, reply_bytes: u32) -> Bytes {
    let mut body = vec![0; bytes.max(BODY_BYTES_MIN)];
    body[..4].copy_from_slice(&reply_bytes.to_le_bytes());
    body[MARK_OFFSET] = MARK;
    body.into()
}

/// Offset of the mark of a bulk call: the last byte of the counter of others, which is 0.
const MARK_OFFSET: usize = BODY_BYTES_MIN - 1;
const MARK: u8 = 0xff;

/// The longest reply to a bulk call.
const BULK_BYTES_MAX: usize = 16 << 20;

static ZEROS: [u8; BULK_BYTES_MAX] = [0; BULK_BYTES_MAX];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Body;

    #[test]
    fn bulk_calls_load_one_direction_and_others_are_echoed() {
        assert_eq!(answer(request(1 << 20, 8)).len(), 8);
        assert_eq!(answer(request(8, 1 << 20)).len(), 1 << 20);
        assert_eq!(answer(request(8, u32::MAX)).len(), BULK_BYTES_MAX);
        let mut last = Body::new((1 << 20) - 1, 32);
        let body = last.advance();
        assert_eq!(answer(body.clone()), body);
        assert_eq!(answer(Bytes::from_static(b"short")), "short");
    }

    #[test]
    fn the_calls_of_one_direction_have_different_sizes() {
        let load = BulkLoad {
            bytes_max: 4_096,
            calls_each_way: 4,
        };
        let sizes: Vec<usize> = load.sizes().collect();
        assert_eq!(sizes, [1_024, 2_048, 3_072, 4_096]);
    }

    /// A server in this process.
    #[derive(Debug, Clone)]
    struct Local;

    impl Caller for Local {
        type Error = Failure;

        async fn call(&self, body: Bytes) -> Result<Bytes, Failure> {
            Ok(answer(body))
        }
    }

    #[test]
    fn only_calls_that_end_in_the_window_count() {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let runtime = runtime.unwrap();
        for direction in [Direction::Up, Direction::Down] {
            let phases = [Phase::WarmUp, Phase::Window, Phase::Window, Phase::Over];
            let (next, carried) = (AtomicU64::new(0), AtomicU64::new(0));
            let phase = || phases[next.fetch_add(1, Relaxed) as usize];
            let calls = call(Local, 100_000, direction, phase, &carried);
            assert_eq!(runtime.block_on(calls).unwrap(), 0);
            assert_eq!(carried.load(Relaxed), 2 * (100_000 + 8));
        }
    }
}
