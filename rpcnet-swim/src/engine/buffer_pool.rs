//! Buffer pool: buffers kept between messages.

use crate::wire::Record;

/// Buffers that would be allocated for each message.
#[derive(Debug, Default)]
pub(crate) struct BufferPool {
    /// Buffers of datagrams that were sent.
    datagrams: Vec<Vec<u8>>,
    /// Always empty, like `keys`.
    pub(super) records: Vec<Record>,
    pub(super) keys: Vec<u64>,
}

impl BufferPool {
    pub(super) fn take_datagram(&mut self) -> Vec<u8> {
        self.datagrams
            .pop()
            .unwrap_or_else(|| Vec::with_capacity(DATAGRAM_BYTES_TYPICAL))
    }

    pub(super) fn recycle_datagram(&mut self, datagram: Vec<u8>) {
        if self.datagrams.len() < DATAGRAMS_MAX {
            self.datagrams.push(datagram);
        }
    }

    pub(super) fn recycle_records(&mut self, mut records: Vec<Record>) {
        if (1..=RECORDS_MAX).contains(&records.capacity()) {
            records.clear();
            self.records = records;
        }
    }
}

const DATAGRAM_BYTES_TYPICAL: usize = 256;
/// Most datagrams kept; a driver that polls and sends one by one needs one.
const DATAGRAMS_MAX: usize = 4;
/// Largest capacity for records that is kept; a sync that needs more is over soon.
const RECORDS_MAX: usize = 64;
