//! Entries of the event queue: what is due at which point in virtual time.

use rpcnet_swim::Time;

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ScheduledEvent {
    pub(super) at: Time,
    pub(super) sequence: u64,
    pub(super) event: SimEvent,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SimEvent {
    Timeout(u32),
    SeedsResolved(u32),
    /// A slow process finishes the datagram in hand.
    MessageDone(u32),
    DatagramArrival {
        from: u32,
        to: u32,
        number: u64,
        datagram: Vec<u8>,
    },
}
