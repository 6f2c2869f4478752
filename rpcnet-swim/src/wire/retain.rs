//! Records that are taken out of a message before anybody acts on it.

use super::{Payload, Record};

impl Payload {
    /// Takes records out of a list. False if the message is about one record that is not wanted:
    /// then it is no use.
    pub(crate) fn retain_records(&mut self, mut keep: impl FnMut(&Record) -> bool) -> bool {
        match self {
            Self::Ping { updates, .. }
            | Self::Ack { updates, .. }
            | Self::PingReq { updates, .. }
            | Self::Gossip { updates } => updates.retain(keep),
            Self::SyncRecords { records } | Self::FullPage { records, .. } => records.retain(keep),
            Self::Hello { me: record, .. }
            | Self::Welcome { me: record, .. }
            | Self::HelloRefused { known: record, .. }
            | Self::Leave { me: record, .. } => return keep(record),
            _ => {}
        }
        true
    }
}
