//! Filter of the records of a message, before it is acted on.

use super::{Payload, Record, Welcome};

impl Payload {
    /// Removes the records of a list that `keep` does not want. Returns `false` if the message is
    /// about one record that is not wanted, and so is to be dropped.
    pub fn retain_records(&mut self, mut keep: impl FnMut(&Record) -> bool) -> bool {
        match self {
            Self::Ping { updates, .. }
            | Self::Ack { updates, .. }
            | Self::PingReq { updates, .. }
            | Self::Gossip { updates } => updates.retain(keep),
            Self::SyncRecords { records } | Self::FullPage { records, .. } => records.retain(keep),
            Self::Hello { me: record, .. }
            | Self::Welcome(Welcome { me: record, .. })
            | Self::HelloRefused { known: record, .. }
            | Self::Leave { me: record, .. } => return keep(record),
            _ => {}
        }
        true
    }
}
