//! Mismatch notices: a node's answer to the sender of a datagram that it cannot open.
//!
//! A notice is in clear and not authenticated, so it changes nothing but what a joining node
//! reports about a seed. It is no longer than the datagram that it answers, and is never answered
//! itself.

use super::{Reader, Writer};
use crate::cluster_mismatch::ClusterMismatch;

/// How the sender's cluster differs, and which datagram showed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MismatchNotice {
    pub mismatch: ClusterMismatch,
    /// Key of the sender of that datagram.
    pub from: u64,
    /// Counter of that datagram.
    pub counter: u64,
}

impl MismatchNotice {
    pub fn encode(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(NOTICE_BYTES);
        out.put_u8(NOTICE);
        out.put_u8(match self.mismatch {
            ClusterMismatch::ClusterName => 1,
            ClusterMismatch::ClusterKey => 2,
            ClusterMismatch::MissingKey => 3,
        });
        out.put_u64(self.from);
        out.put_u64(self.counter);
        out
    }

    /// The notice, if the datagram is one of this form.
    pub fn decode(datagram: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(datagram);
        if datagram.len() != NOTICE_BYTES || reader.u8().ok()? != NOTICE {
            return None;
        }
        let mismatch = match reader.u8().ok()? {
            1 => ClusterMismatch::ClusterName,
            2 => ClusterMismatch::ClusterKey,
            3 => ClusterMismatch::MissingKey,
            _ => return None,
        };
        Some(Self {
            mismatch,
            from: reader.u64().ok()?,
            counter: reader.u64().ok()?,
        })
    }
}

/// First byte: gossip (bit 0x40 clear, which QUIC always sets) of wire version 1, a notice.
pub(crate) const NOTICE: u8 = 0x25;
/// Length of a notice: first byte, reason, sender and counter.
pub(crate) const NOTICE_BYTES: usize = 1 + 1 + 8 + 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_round_trips() {
        for (code, mismatch) in [
            (1, ClusterMismatch::ClusterName),
            (2, ClusterMismatch::ClusterKey),
            (3, ClusterMismatch::MissingKey),
        ] {
            let notice = MismatchNotice {
                mismatch,
                from: 7,
                counter: u64::MAX,
            };
            let bytes = notice.encode();
            assert_eq!(bytes[..3], [NOTICE, code, 7]);
            assert_eq!(MismatchNotice::decode(&bytes), Some(notice));
            for len in 0..bytes.len() {
                assert_eq!(MismatchNotice::decode(&bytes[..len]), None);
            }
        }
        assert_eq!(MismatchNotice::decode(&[NOTICE; NOTICE_BYTES]), None);
    }
}
