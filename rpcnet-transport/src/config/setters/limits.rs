//! Setters of the server limits.

use std::{
    num::{NonZeroU32, NonZeroUsize},
    time::Duration,
};

use crate::{Admission, config::TransportConfig};

/// Server limits.
impl TransportConfig {
    /// Time from the opening of a stream until the header of its request must have arrived; default
    /// 5 s (10 s in [`wan`](Self::wan)). Silent streams are reset after it. A larger value lets
    /// silent callers hold streams longer, a smaller one resets calls of callers on bad networks.
    #[must_use]
    pub fn with_header_timeout(mut self, timeout: Duration) -> Self {
        self.limits.header_timeout = timeout;
        self
    }

    /// Stall timeout: how long a server waits for the next bytes of a request's body, or for a
    /// caller to take the next bytes of a reply, before it resets the call; default 30 s. It bounds
    /// how long a caller that stopped reading or writing holds a stream and its buffers. As long as
    /// other streams of the connection carry bytes at the [minimum
    /// rate](Self::with_transfer_rate_min), a stream is not stalled, until the deadline of its
    /// call: of large bodies side by side some wait until their reader has room for them.
    ///
    /// A caller waits as long for the next bytes of a reply that has begun on a stream of its own;
    /// how long a server takes to begin is bounded by the deadline of the call alone.
    #[must_use]
    pub fn with_stall_timeout(mut self, timeout: Duration) -> Self {
        self.limits.stall_timeout = timeout;
        self
    }

    /// Concurrent calls that a server accepts over all connections; default 16,384. Further ones
    /// are rejected with [`Overloaded`](crate::Code::Overloaded). One peer (an identity, over all
    /// of its connections) has at most half of what the others leave, but at least 16; calls with
    /// idempotency keys that go on when their caller is gone count as its own.
    #[must_use]
    pub fn with_calls_max(mut self, calls: NonZeroUsize) -> Self {
        self.limits.calls_max = calls;
        self
    }

    /// Admission control over all connections: how many calls a server runs concurrently, and how
    /// the others queue; default `None`: it runs all calls that [`calls_max`](Self::with_calls_max)
    /// accepts, and rejects the rest at once. Each endpoint has its own limit, each of
    /// [`Shards`](crate::Shards) too. See [`Admission`].
    #[must_use]
    pub fn with_admission(mut self, admission: Admission) -> Self {
        self.limits.admission = Some(admission);
        self
    }

    /// Drain grace (lame duck period): how long a server that starts to drain or to shut down still
    /// accepts calls after it has told its callers; default 100 ms (500 ms in [`wan`](Self::wan)),
    /// zero for none. Callers that have learnt it call elsewhere, so with a grace longer than the
    /// network delay no call is rejected. A shutdown uses at most a quarter of its own time, and
    /// none without connections. A larger value delays every stop; too small a value costs callers
    /// a rejection and a retry elsewhere.
    #[must_use]
    pub fn with_drain_grace(mut self, time: Duration) -> Self {
        self.limits.drain_grace = time;
        self
    }

    /// Bytes that the endpoint holds for all of its callers, and as many again for all servers that
    /// it calls: messages that are being read in parts, requests whose handlers run, and replies
    /// that their callers have not taken; default 512 MiB, 1 GiB in [`bulk`](Self::bulk). One peer
    /// (an identity, over all of its connections) has at most half of what the others leave, but
    /// one message of the [largest size](Self::with_message_bytes_max) always fits: with less than
    /// two of these, one peer's message keeps those of all others waiting.
    ///
    /// At the limit reading waits, so that QUIC's windows stop the sender. A request that still
    /// finds no room, while its connection carries less than the [minimum
    /// rate](Self::with_transfer_rate_min) for [`with_stall_timeout`](Self::with_stall_timeout),
    /// ends with [`Code::Overloaded`](crate::Code::Overloaded). Replies beyond the share of their
    /// peer are sent all the same, up to as much again (so that the endpoint may hold twice its
    /// limit); meanwhile further calls of the peer with streams of their own, and further messages
    /// of its streams, wait and end in the same way. A reply beyond that is dropped, and its call
    /// ends with `Overloaded` too. Messages of up to 16 KiB are not counted. Beside these bytes
    /// each connection may hold its [window](Self::with_connection_window_bytes).
    #[must_use]
    pub fn with_buffered_bytes_max(mut self, bytes: usize) -> Self {
        self.limits.buffered_bytes_max = bytes;
        self
    }

    /// Bytes of messages that are being read in parts, for one connection; default 64 MiB, 256 MiB
    /// in [`bulk`](Self::bulk). At the limit further messages of the connection wait before they
    /// are read. One message of the [largest size](Self::with_message_bytes_max) always fits.
    #[must_use]
    pub fn with_connection_buffered_bytes_max(mut self, bytes: usize) -> Self {
        self.limits.connection_buffered_bytes_max = bytes;
        self
    }

    /// Minimum transfer rate, in bytes per second on average: for a caller that sends the body of a
    /// request or takes a reply, and for a server that sends a reply that it has begun on a stream
    /// of its own; default 64 KiB/s, 8 KiB/s in [`wan`](Self::wan). A body of `n` bytes may take
    /// [`with_stall_timeout`](Self::with_stall_timeout) plus `n` divided by this rate, whatever the
    /// deadline of the call, so that a peer that sends a few bytes now and then does not hold a
    /// call for ever. Bodies side by side on a connection each have the time of all. A caller has
    /// to take the replies of a lane at this rate too. A call whose reply is too slow ends with
    /// [`Code::Unavailable`](crate::Code::Unavailable). Single messages of streams are not timed.
    /// Too large a value fails honest peers on slow links.
    #[must_use]
    pub fn with_transfer_rate_min(mut self, bytes_per_second: NonZeroU32) -> Self {
        self.limits.transfer_rate_min = bytes_per_second;
        self
    }

    /// Concurrent connections that a server accepts; default 4,096. Further ones are refused
    /// (counter `handshakes_refused`, or `connections_refused` if the limit is reached during the
    /// handshake). One peer (an identity) has at most half of what the others leave, but at least
    /// 16 (counter `connections_refused`). Connections count from the end of their handshake, when
    /// their peer is known; until then [`with_handshakes_max`](Self::with_handshakes_max) bounds
    /// them.
    #[must_use]
    pub fn with_connections_max(mut self, connections: NonZeroUsize) -> Self {
        self.limits.connections_max = connections;
        self
    }

    /// Concurrent handshakes of a server; default 256. Beyond half of it callers have to prove
    /// their address first. One address (of IPv6: one /64 network) has at most half of what the
    /// others leave, but at least 16. Beyond that the oldest handshake of the address with the most
    /// is dropped if it has taken a second; otherwise the new one is refused.
    #[must_use]
    pub fn with_handshakes_max(mut self, handshakes: NonZeroUsize) -> Self {
        self.limits.handshakes_max = handshakes;
        self
    }
}
