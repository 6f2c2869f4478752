//! Flow-control windows of the connections of one peer. Reads no clock and opens no socket.
//!
//! QUIC cannot take back a receive window that it has announced (RFC 9000 section 4.1), and quinn
//! shrinks a window only as data is read; a later increase comes on top of what has not shrunk yet.
//! So a connection gets its receive window as it needs it: a base for its lanes, and one stream
//! window for each call that it has at a time. All connections together get at most the budget,
//! beyond the [floor](WINDOW_FLOOR) of each. Send windows shrink at once, so connections share the
//! budget of these equally.

use std::collections::{HashMap, VecDeque};

use crate::TransportConfig;

/// A connection whose windows can be set, in bytes.
pub(crate) trait WindowedConnection: Send + Sync {
    fn set_receive_window(&self, bytes: u64);
    fn set_send_window(&self, bytes: u64);
    /// Bytes of all datagrams that were sent, those of lanes and acknowledgements included. The
    /// value never decreases, and hardly grows while the peer neither acknowledges nor reads.
    fn bytes_sent(&self) -> u64;
}

impl WindowedConnection for quinn::Connection {
    fn set_receive_window(&self, bytes: u64) {
        let bytes = quinn::VarInt::from_u64(bytes).unwrap_or(quinn::VarInt::MAX);
        Self::set_receive_window(self, bytes);
    }

    fn set_send_window(&self, bytes: u64) {
        Self::set_send_window(self, bytes);
    }

    fn bytes_sent(&self) -> u64 {
        self.stats().udp_tx.bytes
    }
}

/// Window sizes that follow from the configuration.
#[derive(Debug, Clone, Copy)]
pub(super) struct WindowConfig {
    /// Budget of all connections of one peer, in each direction.
    budget: u64,
    /// Receive window that every connection has from its beginning.
    floor: u64,
    receive_max: u64,
    send_max: u64,
    stream: u64,
    /// Largest receive window of a connection before it makes calls with streams of their own.
    base_max: u64,
}

impl WindowConfig {
    pub(super) fn new(config: &TransportConfig, budget: usize) -> Self {
        let stream = u64::from(config.quic.stream_window_bytes.get());
        let receive_max = u64::from(config.quic.connection_window_bytes.get());
        let floor = receive_max.min(WINDOW_FLOOR.into());
        Self {
            budget: (budget as u64).max(BUDGET_MIN),
            floor,
            receive_max,
            send_max: config.quic.send_window_bytes.get().into(),
            stream,
            base_max: (floor + stream * u64::from(config.lane.lanes.get())).min(receive_max),
        }
    }

    /// Receive window of the newest of so many connections, before it makes calls with streams of
    /// their own.
    fn base(&self, connections: u64) -> u64 {
        let share = self.budget / BASE_BUDGET_DIVISOR / connections;
        self.base_max.min(share).max(self.floor)
    }

    /// Receive window of a connection with this base that has had so many calls at a time. The
    /// number is rounded up to a power of two, so that the window is seldom set.
    fn wanted(&self, base: u64, calls: usize) -> u64 {
        let calls = if calls == 0 {
            0
        } else {
            calls.next_power_of_two()
        };
        let streams = self.stream.saturating_mul(calls as u64);
        self.receive_max.min(base.saturating_add(streams))
    }

    /// Send window of each of so many connections, a power of two.
    fn send_window(&self, connections: u64) -> u64 {
        let share = (self.budget / connections).max(WINDOW_FLOOR.into());
        self.send_max.min(share)
    }
}

/// Windows of the connections of a peer.
pub(super) struct ConnectionWindows {
    config: WindowConfig,
    connections: HashMap<u64, WindowEntry>,
    next: u64,
    /// Sum of the receive windows.
    receive_total: u64,
    /// Connections that want a larger receive window, the oldest wish first. Some may have ended.
    grow_queue: VecDeque<u64>,
    /// Number of connections that the budget of send windows is divided by: a power of two, so that
    /// the windows are seldom set.
    send_divisor: u64,
    /// Bytes that were sent by connections that have ended.
    bytes_sent_before: u64,
}

struct WindowEntry {
    connection: Box<dyn WindowedConnection>,
    receive_window: u64,
    base: u64,
    wanted_window: u64,
    is_queued: bool,
}

impl ConnectionWindows {
    pub(super) fn new(config: WindowConfig) -> Self {
        Self {
            config,
            connections: HashMap::new(),
            next: 0,
            receive_total: 0,
            grow_queue: VecDeque::new(),
            send_divisor: 1,
            bytes_sent_before: 0,
        }
    }

    /// Adds a connection, which has the floor. Returns its number.
    pub(super) fn add(&mut self, connection: Box<dyn WindowedConnection>) -> u64 {
        let number = self.next;
        self.next += 1;
        let config = self.config;
        let count = self.connections.len() as u64 + 1;
        connection.set_send_window(config.send_window(self.send_divisor));
        let entry = WindowEntry {
            connection,
            receive_window: config.floor,
            base: config.base(count),
            wanted_window: config.base(count),
            is_queued: false,
        };
        self.receive_total += config.floor;
        self.connections.insert(number, entry);
        self.grow(number);
        let sharing = count.next_power_of_two();
        if sharing > self.send_divisor {
            self.set_send_divisor(sharing);
        }
        number
    }

    /// Removes a connection. Other connections may have its part of the budget.
    pub(super) fn remove(&mut self, number: u64) {
        let Some(entry) = self.connections.remove(&number) else {
            return;
        };
        self.receive_total -= entry.receive_window;
        self.bytes_sent_before += entry.connection.bytes_sent();
        while self.receive_total < self.config.budget
            && let Some(number) = self.grow_queue.pop_front()
        {
            if let Some(entry) = self.connections.get_mut(&number) {
                entry.is_queued = false;
                self.grow(number);
            }
        }
        // The windows grow later than they shrank, so that connections that come and go do not set
        // the windows of all others each time.
        let mut sharing = self.send_divisor;
        while sharing > 1 && self.connections.len() as u64 <= sharing / 4 {
            sharing /= 2;
        }
        if sharing < self.send_divisor {
            self.set_send_divisor(sharing);
        }
    }

    /// Records the number of calls that the connection has at a time.
    pub(super) fn record_calls(&mut self, number: u64, calls: usize) {
        let Some(entry) = self.connections.get_mut(&number) else {
            return;
        };
        let wanted = self.config.wanted(entry.base, calls);
        if wanted > entry.wanted_window {
            entry.wanted_window = wanted;
            self.grow(number);
        }
    }

    /// Bytes that were sent over all connections.
    pub(super) fn bytes_sent(&self) -> u64 {
        let connections = self.connections.values();
        let sent = connections.map(|entry| entry.connection.bytes_sent());
        self.bytes_sent_before + sent.sum::<u64>()
    }

    /// Enlarges the window of a connection up to what it wants and what is left of the budget.
    fn grow(&mut self, number: u64) {
        let left = self.config.budget.saturating_sub(self.receive_total);
        let Some(entry) = self.connections.get_mut(&number) else {
            return;
        };
        let more = (entry.wanted_window - entry.receive_window).min(left);
        if more > 0 {
            entry.receive_window += more;
            self.receive_total += more;
            entry.connection.set_receive_window(entry.receive_window);
        }
        if entry.receive_window < entry.wanted_window
            && !std::mem::replace(&mut entry.is_queued, true)
        {
            self.grow_queue.push_back(number);
            // Forgets connections that have ended.
            if self.grow_queue.len() > 2 * self.connections.len() {
                self.grow_queue.retain(|n| self.connections.contains_key(n));
            }
        }
    }

    fn set_send_divisor(&mut self, sharing: u64) {
        let before = self.config.send_window(self.send_divisor);
        self.send_divisor = sharing;
        let bytes = self.config.send_window(sharing);
        if bytes != before {
            for entry in self.connections.values() {
                entry.connection.set_send_window(bytes);
            }
        }
    }
}

/// Receive window of a connection until its peer is known, and the least window that it has.
pub(crate) const WINDOW_FLOOR: u32 = 128 * 1024;

/// One part in so many of the budget is for the bases of connections.
const BASE_BUDGET_DIVISOR: u64 = 8;

/// Least budget, whatever the configuration says.
const BUDGET_MIN: u64 = 2 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    const MIB: u64 = 1024 * 1024;

    /// Receive and send window, as they were last set.
    #[derive(Clone)]
    struct Fake(Arc<Mutex<(u64, u64)>>);

    impl WindowedConnection for Fake {
        fn set_receive_window(&self, bytes: u64) {
            let (receive, _) = &mut *self.0.lock().unwrap();
            assert!(bytes > *receive, "it never shrinks");
            *receive = bytes;
        }

        fn set_send_window(&self, bytes: u64) {
            self.0.lock().unwrap().1 = bytes;
        }

        fn bytes_sent(&self) -> u64 {
            7
        }
    }

    struct Peer {
        windows: ConnectionWindows,
        connections: Vec<(u64, Fake)>,
    }

    impl Peer {
        fn new() -> Self {
            let config = TransportConfig::lan();
            let config = WindowConfig::new(&config, config.limits.buffered_bytes_max);
            Self {
                windows: ConnectionWindows::new(config),
                connections: Vec::new(),
            }
        }

        /// Adds a connection with so many calls at a time. Returns its receive window.
        fn connect(&mut self, calls: usize) -> u64 {
            let fake = Fake(Arc::new(Mutex::new((WINDOW_FLOOR.into(), 0))));
            let number = self.windows.add(Box::new(fake.clone()));
            for calls in 0..=calls {
                self.windows.record_calls(number, calls);
            }
            self.connections.push((number, fake));
            self.last(0)
        }

        fn last(&self, back: usize) -> u64 {
            let (_, fake) = &self.connections[self.connections.len() - 1 - back];
            fake.0.lock().unwrap().0
        }

        fn disconnect_first(&mut self) {
            let (number, _) = self.connections.remove(0);
            self.windows.remove(number);
        }

        fn sums(&self) -> (u64, u64) {
            let windows = self
                .connections
                .iter()
                .map(|(_, fake)| *fake.0.lock().unwrap());
            windows.fold((0, 0), |(receive, send), (r, s)| (receive + r, send + s))
        }
    }

    #[test]
    fn a_single_connection_gets_the_windows_of_its_streams() {
        let mut peer = Peer::new();
        assert_eq!(peer.connect(0), 2 * MIB + MIB / 8, "for its lanes");
        assert_eq!(peer.connect(1), 2 * MIB + MIB / 8 + MIB / 2);
        assert_eq!(peer.connect(128), 64 * MIB);
        assert_eq!(peer.sums().1, 3 * 64 * MIB);
    }

    #[test]
    fn all_windows_fit_the_budget_and_the_floors() {
        let mut peer = Peer::new();
        for _ in 0..2_048 {
            peer.connect(128);
        }
        let (receive, send) = peer.sums();
        assert!(receive <= (512 + 2_048 / 8) * MIB, "{}", receive / MIB);
        assert!(send <= 512 * MIB, "{}", send / MIB);
    }

    #[test]
    fn connections_with_few_calls_leave_the_budget_to_others() {
        let mut peer = Peer::new();
        for _ in 0..100 {
            peer.connect(2);
        }
        assert_eq!(peer.connect(128), 64 * MIB);
    }

    #[test]
    fn windows_grow_again_when_connections_end() {
        let mut peer = Peer::new();
        for _ in 0..100 {
            peer.connect(128);
        }
        assert_eq!(peer.last(0), u64::from(WINDOW_FLOOR));
        for _ in 0..98 {
            peer.disconnect_first();
        }
        assert_eq!((peer.last(0), peer.last(1)), (64 * MIB, 64 * MIB));
        assert_eq!(peer.sums(), (128 * MIB, 128 * MIB));
        peer.disconnect_first();
        peer.disconnect_first();
        assert_eq!(peer.windows.receive_total, 0);
        assert_eq!(peer.connect(128), 64 * MIB);
    }

    #[test]
    fn bytes_sent_by_ended_connections_still_count() {
        let mut peer = Peer::new();
        for _ in 0..3 {
            peer.connect(0);
        }
        peer.disconnect_first();
        assert_eq!(peer.windows.bytes_sent(), 3 * 7);
    }

    #[test]
    fn reconnecting_does_not_reset_all_windows() {
        let mut peer = Peer::new();
        for _ in 0..33 {
            peer.connect(0);
        }
        let before = peer.sums().1;
        for _ in 0..10 {
            peer.disconnect_first();
            peer.connect(0);
        }
        assert_eq!(peer.windows.send_divisor, 64);
        assert_eq!(peer.sums().1, before);
    }
}
