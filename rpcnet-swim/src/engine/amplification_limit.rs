//! Amplification limit: the address and the size of bulk answers.
//!
//! A withheld datagram passes the replay window once, from whatever source it is sent. So an answer
//! larger than its request goes to the known address of the member, never to the source. Until that
//! address is validated by something that only its receiver can know, the answer is at most three
//! times as long as the request (as in QUIC, RFC 9000 section 8.1), and a ping asks for the proof.

use super::{DetectorHooks, Engine, Sender};
use crate::time::Time;
use crate::wire::{ByteCount, GossipMessage, Payload};

impl<D: DetectorHooks> Engine<D> {
    /// Sends answers that together may be larger than the request.
    pub(super) fn send_bulk_reply(
        &mut self,
        now: Time,
        sender: Sender,
        payloads: impl IntoIterator<Item = Payload>,
    ) {
        let Some(entry) = self.table.get(sender.key) else {
            return;
        };
        let is_validated = entry.is_validated() || !self.detector.extends_swim();
        let mut left = AMPLIFICATION_MAX * sender.bytes;
        for payload in payloads {
            let (payload, bytes) = self.datagram_len(payload);
            if !is_validated && bytes > left {
                self.stats.amplification_limited += 1;
                break;
            }
            left = left.saturating_sub(bytes);
            self.send_to(sender.key, payload);
        }
        if !is_validated {
            self.start_probe(now, sender.key);
        }
    }

    /// Whether a message came from the known address of its sender.
    pub(super) fn is_from_known_addr(&self, sender: Sender) -> bool {
        let entry = self.table.get(sender.key);
        entry.is_some_and(|entry| entry.addr() == sender.addr)
    }

    /// Marks `addr` as validated, if it is the address of the member: it answered what was sent
    /// there.
    pub(super) fn validate_addr(&mut self, key: u64, addr: std::net::SocketAddr) {
        if let Some(entry) = self.table.get_mut(key) {
            entry.validate(addr);
        }
    }

    fn datagram_len(&self, payload: Payload) -> (Payload, usize) {
        let mut len = ByteCount(self.envelope.overhead());
        let message = GossipMessage { to: 0, payload };
        message.encode(&mut len);
        (message.payload, len.0)
    }
}

/// Longest answer to an address that is not validated, in lengths of the request.
const AMPLIFICATION_MAX: usize = 3;
