//! Calls of the floor: which datagrams are to be sent, and which have come back.

use std::collections::VecDeque;

use crate::bench::subjects::FLOOR_BODY_BYTES_MAX;

/// Number of datagrams of a call that a word has bits for.
const PARTS_MAX: usize = 64;

/// Longest body of a datagram.
const PART_BYTES_MAX: usize = 32 << 10;

/// Longest body of a call.
const BODY_BYTES_MAX: usize = PARTS_MAX * PART_BYTES_MAX;

const _: () = assert!(FLOOR_BODY_BYTES_MAX <= BODY_BYTES_MAX);

/// State of all calls in flight. Each is in one datagram or in several, and the next call of a
/// caller begins as soon as all of them have come back.
#[derive(Debug)]
pub(crate) struct FloorCalls {
    body_bytes: usize,
    parts: usize,
    calls: Vec<FloorCall>,
    unsent: VecDeque<DatagramId>,
    on_the_way: usize,
    on_the_way_max: usize,
}

#[derive(Debug, Clone, Copy, Default)]
struct FloorCall {
    /// Number of the call, as far as it fits.
    number: u16,
    /// Datagrams that have not come back, a bit each.
    missing: u64,
}

/// Identity of a datagram: the first eight bytes of its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DatagramId {
    pub(crate) caller: u32,
    part: u16,
    call: u16,
}

impl DatagramId {
    pub(crate) fn to_bytes(self) -> [u8; 8] {
        let word = u64::from(self.caller) | u64::from(self.part) << 32 | u64::from(self.call) << 48;
        word.to_le_bytes()
    }

    fn from_bytes(body: &[u8]) -> Option<Self> {
        let word = u64::from_le_bytes(*body.first_chunk()?);
        Some(Self {
            caller: word as u32,
            part: (word >> 32) as u16,
            call: (word >> 48) as u16,
        })
    }
}

impl FloorCalls {
    /// Calls in flight, none of which has been sent, with one datagram on the way at a
    /// time.
    ///
    /// # Panics
    ///
    /// If the body is longer than that of as many parts as a word has bits.
    pub(crate) fn new(body_bytes: usize, in_flight: usize) -> Self {
        assert!(
            body_bytes <= BODY_BYTES_MAX,
            "checked when subjects are chosen"
        );
        let mut calls = Self {
            body_bytes,
            parts: parts(body_bytes),
            calls: vec![FloorCall::default(); in_flight],
            unsent: VecDeque::new(),
            on_the_way: 0,
            on_the_way_max: 1,
        };
        (0..in_flight as u32).for_each(|caller| calls.begin(caller));
        calls
    }

    /// The same calls with so many datagrams on the way at a time.
    pub(crate) fn with_on_the_way_max(mut self, datagrams: usize) -> Self {
        self.on_the_way_max = datagrams;
        self
    }

    /// Length of a datagram's body; the last of several may be shorter.
    pub(crate) fn part_bytes(&self) -> usize {
        self.body_bytes.div_ceil(self.parts)
    }

    /// Length of this datagram's body.
    pub(crate) fn bytes_of(&self, id: DatagramId) -> usize {
        let before = usize::from(id.part) * self.part_bytes();
        self.part_bytes().min(self.body_bytes - before)
    }

    /// The next datagram to send, if another may be on the way.
    pub(crate) fn next_to_send(&mut self) -> Option<DatagramId> {
        if self.on_the_way >= self.on_the_way_max {
            return None;
        }
        let id = self.unsent.pop_front()?;
        self.on_the_way += 1;
        Some(id)
    }

    /// Takes a body that came back; its caller if this ended a call, whose next one begins. One
    /// that came before, sent twice, is ignored.
    ///
    /// # Errors
    ///
    /// When it is none of ours.
    pub(crate) fn on_reply(&mut self, body: &[u8]) -> Result<Option<u32>, &'static str> {
        let id = DatagramId::from_bytes(body).ok_or("wrong reply: it is too short")?;
        let call = self
            .calls
            .get_mut(id.caller as usize)
            .ok_or("wrong reply: no such caller")?;
        let bit = 1 << id.part;
        if id.call != call.number || call.missing & bit == 0 {
            return Ok(None);
        }
        call.missing &= !bit;
        let is_over = call.missing == 0;
        self.on_the_way = self.on_the_way.saturating_sub(1);
        if body.len() != self.bytes_of(id) {
            return Err("wrong reply: another length");
        }
        if is_over {
            self.begin(id.caller);
        }
        Ok(is_over.then_some(id.caller))
    }

    /// Sends again what has not come back.
    pub(crate) fn resend(&mut self) {
        self.unsent.clear();
        self.on_the_way = 0;
        for (caller, call) in (0..).zip(&self.calls) {
            let parts = (0..self.parts as u16).filter(|part| call.missing >> part & 1 == 1);
            self.unsent.extend(parts.map(|part| DatagramId {
                caller,
                part,
                call: call.number,
            }));
        }
    }

    fn begin(&mut self, caller: u32) {
        let call = &mut self.calls[caller as usize];
        call.number = call.number.wrapping_add(1);
        call.missing = u64::MAX >> (PARTS_MAX - self.parts);
        let number = call.number;
        self.unsent
            .extend((0..self.parts as u16).map(|part| DatagramId {
                caller,
                part,
                call: number,
            }));
    }
}

/// Buffers that hold the datagrams of all calls, where a buffer holds up to `segments` of them.
pub(crate) fn buffers(in_flight: usize, body_bytes: usize, segments: usize) -> usize {
    let parts = parts(body_bytes).max(1);
    let part_bytes = body_bytes.div_ceil(parts).max(1);
    let in_buffer = segments.min(BUFFER_BYTES / part_bytes).max(1);
    (in_flight * parts).div_ceil(in_buffer)
}

/// Number of datagrams of a call.
fn parts(body_bytes: usize) -> usize {
    body_bytes.div_ceil(PART_BYTES_MAX)
}

/// Bytes of a buffer of received datagrams: what the system joins.
const BUFFER_BYTES: usize = u16::MAX as usize;

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(calls: &mut FloorCalls) -> Vec<DatagramId> {
        std::iter::from_fn(|| calls.next_to_send()).collect()
    }

    fn reply(calls: &FloorCalls, id: DatagramId) -> Vec<u8> {
        let mut body = id.to_bytes().to_vec();
        body.resize(calls.bytes_of(id), 0);
        body
    }

    #[test]
    fn as_many_are_on_the_way_as_allowed_and_each_end_begins_a_call() {
        let mut calls = FloorCalls::new(32, 5).with_on_the_way_max(3);
        let first = sent(&mut calls);
        assert_eq!(
            first.iter().map(|id| id.caller).collect::<Vec<_>>(),
            [0, 1, 2]
        );
        let body = reply(&calls, first[1]);
        assert_eq!(calls.on_reply(&body), Ok(Some(1)));
        assert_eq!(sent(&mut calls)[0].caller, 3);
        // It was answered before.
        assert_eq!(calls.on_reply(&body), Ok(None));
        assert_eq!(sent(&mut calls), []);
    }

    #[test]
    fn buffers_hold_all_parts_of_all_calls() {
        for (in_flight, body_bytes, segments, expected) in [
            (1, 32, 64, 1),
            (64, 32, 64, 1),
            (65, 32, 64, 2),
            (64, 32, 1, 64),
            // 63 of a KiB fit, and one of 32 KiB.
            (64, 1 << 10, 64, 2),
            (1, 64 << 10, 64, 2),
            (2, 1 << 20, 64, 64),
        ] {
            let count = buffers(in_flight, body_bytes, segments);
            assert_eq!(count, expected, "{in_flight} x {body_bytes} B");
        }
    }

    #[test]
    fn a_long_call_ends_with_the_last_of_its_parts() {
        let mut calls = FloorCalls::new(PART_BYTES_MAX + 11, 1).with_on_the_way_max(9);
        let parts = sent(&mut calls);
        let lengths: Vec<_> = parts.iter().map(|id| calls.bytes_of(*id)).collect();
        assert_eq!(lengths, [PART_BYTES_MAX / 2 + 6, PART_BYTES_MAX / 2 + 5]);
        for (nth, ended) in [(1, None), (0, Some(0))] {
            let body = reply(&calls, parts[nth]);
            assert_eq!(calls.on_reply(&body), Ok(ended));
        }
        assert_eq!(FloorCalls::new(BODY_BYTES_MAX, 1).parts, PARTS_MAX);
    }

    #[test]
    fn what_was_lost_is_sent_again() {
        let mut calls = FloorCalls::new(32, 3).with_on_the_way_max(3);
        let first = sent(&mut calls);
        let body = reply(&calls, first[0]);
        calls.on_reply(&body).unwrap();
        calls.resend();
        let again = sent(&mut calls);
        assert_eq!(again.len(), 3);
        assert_eq!(again[1..], first[1..]);
        assert_ne!(again[0], first[0]);
    }

    #[test]
    fn a_wrong_reply_is_an_error() {
        let mut calls = FloorCalls::new(32, 1).with_on_the_way_max(1);
        let id = sent(&mut calls)[0];
        assert!(calls.on_reply(&[0; 7]).is_err());
        let other = DatagramId { caller: 1, ..id };
        assert!(calls.on_reply(&other.to_bytes()).is_err());
        let short = &reply(&calls, id)[..31];
        assert_eq!(calls.on_reply(short), Err("wrong reply: another length"));
    }
}
