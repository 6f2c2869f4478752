//! Setters of the configuration: meaning, unit, default and price of each setting.

use std::{
    num::{NonZeroU8, NonZeroU32, NonZeroUsize},
    time::Duration,
};

use super::{AckFrequency, TransportConfig};
use crate::Admission;

impl TransportConfig {
    /// Largest message that is accepted or sent, in bytes; default 16 MiB. The limit is checked
    /// before anything is allocated. A smaller value protects memory (concurrent calls times this),
    /// a larger one allows larger bodies.
    #[must_use]
    pub fn with_message_bytes_max(mut self, bytes: usize) -> Self {
        self.message_bytes_max = bytes;
        self
    }

    /// Default timeout of a unary call; default 10 s. For a streaming call it is the time to send
    /// its request; afterwards the call has no deadline unless the caller sets one. See
    /// [`CallOptions`](crate::CallOptions).
    #[must_use]
    pub fn with_call_timeout(mut self, timeout: Duration) -> Self {
        self.call_timeout = timeout;
        self
    }

    /// Time limit of a handshake, on both sides; default 5 s (10 s in [`wan`](Self::wan)).
    #[must_use]
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Time from the opening of a stream until the header of its request must have arrived; default
    /// 5 s (10 s in [`wan`](Self::wan)). Silent streams are reset after it. A larger value lets
    /// silent callers hold streams longer, a smaller one refuses callers on bad networks.
    #[must_use]
    pub fn with_header_timeout(mut self, timeout: Duration) -> Self {
        self.header_timeout = timeout;
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
        self.stall_timeout = timeout;
        self
    }

    /// Keep-alive interval of a quiet connection; default 5 s (10 s in [`wan`](Self::wan)). At most
    /// half of the idle timeout.
    #[must_use]
    pub fn with_keep_alive(mut self, interval: Duration) -> Self {
        self.keep_alive = interval;
        self
    }

    /// Idle timeout: how long after the last packet a connection is lost; default 15 s (30 s in
    /// [`wan`](Self::wan)). The smaller of both sides' settings counts. A smaller value finds a
    /// dead peer sooner and loses more connections to short outages.
    ///
    /// It is measured from the last packet that arrived, or from the first packet sent after it
    /// that asked for an acknowledgement (RFC 9000 section 10.1): a call, or else the
    /// [keep-alive](Self::with_keep_alive). So a peer that disappears silently is missed after this
    /// time at the earliest, counted from its last packet, and after this time plus the keep-alive
    /// interval at the latest: 20 s (40 s in [`wan`](Self::wan)). On a path whose probe timeout is
    /// longer than a third of this value, three probe timeouts count instead. A peer whose port is
    /// bound again with its key is missed at its first answer.
    #[must_use]
    pub fn with_idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = timeout;
        self
    }

    /// Initial estimate of the round trip, before it was measured; default 10 ms (100 ms in
    /// [`wan`](Self::wan)). A lost first packet is sent again after three times this value. Too
    /// small a value repeats packets needlessly.
    #[must_use]
    pub fn with_initial_rtt(mut self, rtt: Duration) -> Self {
        self.initial_rtt = rtt;
        self
    }

    /// Session lifetime: how long a session can be resumed, at a caller since the last full
    /// handshake with the node, at a server since the last handshake of the session; default an
    /// hour, at most a day, zero for never. A resumed handshake needs no signatures, and is what
    /// [`connect_early`](crate::Endpoint::connect_early) requires. The certificates of both sides
    /// are verified again each time; possession of the keys is not, so a larger value gives more
    /// time to an attacker who steals a session from a caller's memory.
    #[must_use]
    pub fn with_session_lifetime(mut self, lifetime: Duration) -> Self {
        self.session_lifetime = lifetime;
        self
    }

    /// Busy polling: how long a thread spins for further packets before it sleeps, after it sent or
    /// served a request; default 50 us, zero in [`wan`](Self::wan) for never. A sleeping thread
    /// takes about that long to wake, several times as long as a call within a data centre takes
    /// otherwise; a spinning one occupies its core. Where it does not pay, because packets do not
    /// arrive in time, it is soon tried at one of a thousand occasions only. It has an effect on
    /// current-thread runtimes, such as those of [`Shards`](crate::Shards), and none on others.
    #[must_use]
    pub fn with_busy_poll(mut self, limit: Duration) -> Self {
        self.busy_poll = limit;
        self
    }

    /// Whether a server accepts early data (0-RTT): calls of known callers before the handshake is
    /// complete, of methods that are declared [replay-safe](crate::Router::with_replay_safe);
    /// default `false`. It saves such a call two round trips, at the price that an attacker on the
    /// path may be able to replay it. Without it, early calls are answered after the handshake,
    /// like all others.
    #[must_use]
    pub fn with_early_data(mut self, accepted: bool) -> Self {
        self.early_data = accepted;
        self
    }

    /// Initial congestion window of a new connection, in bytes; default 38,400, that is 32 packets
    /// (14,720 in [`wan`](Self::wan) as in RFC 9002 section 7.2, 76,800 in [`bulk`](Self::bulk)).
    /// At least twice the initial MTU. A larger value saves the first large body some round trips,
    /// and floods a narrow path with every new connection. The congestion controller is Cubic (RFC
    /// 9438).
    #[must_use]
    pub fn with_initial_window_bytes(mut self, bytes: u32) -> Self {
        self.initial_window_bytes = bytes;
        self
    }

    /// Acknowledgement frequency that the peer is asked for; default every 10 packets and within 5
    /// ms (`None` in [`wan`](Self::wan): every second packet and within 25 ms). Each side asks for
    /// the packets that it sends; a peer without the extension (draft-ietf-quic-ack-frequency)
    /// ignores it. Packets out of order are acknowledged at once either way.
    ///
    /// More packets per acknowledgement save work on both sides. Beyond the congestion window they
    /// only make the sender wait for the delay. The delay is part of the probe timeout, after which
    /// the last packet of a burst is taken for lost (RFC 9002 section 6.2.1: round trip, four times
    /// its variation, and this): with 5 instead of 25 ms, a call whose only packet was lost ends 20
    /// ms sooner, which at 1 % loss is its 99th percentile. A delay shorter than the peer's
    /// scheduler can keep causes needless repeats, which cost a packet each and do not slow the
    /// sender down.
    #[must_use]
    pub fn with_ack_frequency(mut self, frequency: Option<AckFrequency>) -> Self {
        self.ack_frequency = frequency;
        self
    }

    /// Largest UDP payload that path MTU discovery looks for, and that is accepted, in bytes;
    /// default 1,452, for Ethernet (8,952 in [`bulk`](Self::bulk), for jumbo frames over IPv4 or
    /// IPv6). At most 65,527. Both sides have to allow it. The discovery sends packets of that size
    /// when a connection starts and every ten minutes; some tens of them are lost if the path
    /// carries less, without slowing the connection down.
    ///
    /// Larger packets cost less work per byte: on the loopback interface 65,507 (IPv4) and 65,488
    /// (IPv6) get through. The price: the system takes at most 64 KiB in one call, so a connection
    /// hands it `65,507 / mtu_max` packets at once (at most 10) whatever size was found: at 65,507
    /// each packet is a call of its own, on Ethernet too. A lost packet is a larger loss, and the
    /// socket's buffers have to hold several of them, or bursts are lost: see
    /// [`Endpoint::socket_buffers`](crate::Endpoint::socket_buffers). Each connection keeps memory
    /// for one such call.
    #[must_use]
    pub fn with_mtu_max(mut self, bytes: u16) -> Self {
        self.mtu_max = bytes;
        self
    }

    /// UDP payload that a connection starts with, before path MTU discovery, in bytes; default
    /// 1,200, which every path carries. At most the largest MTU. A larger value saves the discovery
    /// where the network is known. On a path that does not carry it, the first packets of every
    /// connection are lost and sent again with 1,200 bytes after some timeouts, and kernels that
    /// reject such packets as invalid disable segmentation offload for the whole port.
    #[must_use]
    pub fn with_initial_mtu(mut self, bytes: u16) -> Self {
        self.initial_mtu = bytes;
        self
    }

    /// Streams that a caller may have open concurrently on one connection, for calls with streams
    /// of their own and for the lanes; default 128 (64 in [`wan`](Self::wan), 32 in
    /// [`bulk`](Self::bulk)). Further ones wait at the caller. This number times the stream window
    /// must fit the connection's window. QUIC allocates an entry for each possible stream when the
    /// connection is established: thousands cost each connection hundreds of kilobytes at once, and
    /// gain nothing.
    #[must_use]
    pub fn with_streams_max(mut self, streams: NonZeroU32) -> Self {
        self.streams_max = streams;
        self
    }

    /// Unidirectional streams that a server may have open concurrently on a connection opened from
    /// here, for replies too large for a lane; default 64. Further ones wait at the server. They
    /// cost memory like those of [`with_streams_max`](Self::with_streams_max).
    #[must_use]
    pub fn with_uni_streams_max(mut self, streams: NonZeroU32) -> Self {
        self.uni_streams_max = streams;
        self
    }

    /// Lanes of a connection opened from here: long-lived streams that small unary calls share; the
    /// default is 4. A lost packet delays the calls of the lanes whose bytes were in it until it is
    /// sent again: more lanes limit that to fewer calls, fewer lanes put more calls into one write.
    #[must_use]
    pub fn with_lanes(mut self, lanes: NonZeroU8) -> Self {
        self.lanes = lanes;
        self
    }

    /// Largest body that is sent on a lane, in bytes; default 8 KiB, at most 65,535, 0 for none.
    /// Larger ones get a stream of their own, so that small calls do not wait behind them. A
    /// smaller threshold keeps lanes quick, a larger one saves the cost of streams. The server's
    /// value holds for requests and replies, and both sides reset a lane that carries more; a
    /// caller with a smaller value keeps its requests to that.
    #[must_use]
    pub fn with_lane_body_bytes_max(mut self, bytes: usize) -> Self {
        self.lane_body_bytes_max = bytes;
        self
    }

    /// Concurrent calls that a server accepts on one lane; default 2,048, at most 65,535 (larger
    /// values count as that). Further ones wait at the caller. It bounds the state that one
    /// connection makes a server keep: this times its lanes.
    #[must_use]
    pub fn with_lane_calls_max(mut self, calls: NonZeroU32) -> Self {
        self.lane_calls_max = calls;
        self
    }

    /// Longest queue of callers that wait for room on a connection; default 4,096, 0 for none.
    /// Further ones fail at once with [`Overloaded`](crate::Code::Overloaded). A longer queue rides
    /// out longer bursts, and lets callers wait in vain when the server cannot keep up.
    #[must_use]
    pub fn with_queue_len_max(mut self, callers: usize) -> Self {
        self.queue_len_max = callers;
        self
    }

    /// Concurrent calls that a server accepts over all connections; default 16,384. Further ones
    /// are refused with [`Overloaded`](crate::Code::Overloaded). One peer (an identity, over all of
    /// its connections) has at most half of what the others leave, but at least 16; calls with
    /// idempotency keys that go on when their caller is gone count as its own.
    #[must_use]
    pub fn with_calls_max(mut self, calls: NonZeroUsize) -> Self {
        self.calls_max = calls;
        self
    }

    /// Admission control over all connections: how many calls a server runs concurrently, and how
    /// the others queue; default `None`: it runs all calls that [`calls_max`](Self::with_calls_max)
    /// accepts, and refuses the rest at once. Each endpoint has its own limit, each of
    /// [`Shards`](crate::Shards) too. See [`Admission`].
    #[must_use]
    pub fn with_admission(mut self, admission: Admission) -> Self {
        self.admission = Some(admission);
        self
    }

    /// Drain grace (lame duck period): how long a server that starts to drain or to shut down still
    /// accepts calls after it has told its callers; default 100 ms (500 ms in [`wan`](Self::wan)),
    /// zero for none. Callers that have learnt it call elsewhere, so with a grace longer than the
    /// network delay nothing is refused. A shutdown uses at most a quarter of its own time, and
    /// none without connections. A larger value delays every stop; too small a value costs callers
    /// a refusal and a retry elsewhere.
    #[must_use]
    pub fn with_drain_grace(mut self, time: Duration) -> Self {
        self.drain_grace = time;
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
        self.buffered_bytes_max = bytes;
        self
    }

    /// Bytes of messages that are being read in parts, for one connection; default 64 MiB, 256 MiB
    /// in [`bulk`](Self::bulk). At the limit further messages of the connection wait before they
    /// are read. One message of the [largest size](Self::with_message_bytes_max) always fits.
    #[must_use]
    pub fn with_connection_buffered_bytes_max(mut self, bytes: usize) -> Self {
        self.connection_buffered_bytes_max = bytes;
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
        self.transfer_rate_min = bytes_per_second;
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
        self.connections_max = connections;
        self
    }

    /// Concurrent handshakes of a server; default 256. Beyond half of it callers have to prove
    /// their address first. One address (of IPv6: one /64 network) has at most half of what the
    /// others leave, but at least 16. Beyond that the oldest handshake of the address with the most
    /// is dropped if it has taken a second; otherwise the new one is refused.
    #[must_use]
    pub fn with_handshakes_max(mut self, handshakes: NonZeroUsize) -> Self {
        self.handshakes_max = handshakes;
        self
    }

    /// Flow-control window of a stream: bytes in flight that were not read yet; default 512 KiB (2
    /// MiB in [`wan`](Self::wan), 4 MiB in [`bulk`](Self::bulk)). It is how far a sender gets ahead
    /// of a receiver that does not read, and the most that a stream carries in a round trip. This
    /// window times [`streams_max`](Self::with_streams_max) must fit the connection's window.
    #[must_use]
    pub fn with_stream_window_bytes(mut self, bytes: NonZeroU32) -> Self {
        self.stream_window_bytes = bytes;
        self
    }

    /// Flow-control window of a connection: bytes in flight that were not read yet; default 64 MiB
    /// (128 MiB in [`wan`](Self::wan) and [`bulk`](Self::bulk)). It bounds memory per connection,
    /// and is used only as far as streams are not read. At least the stream window times
    /// [`streams_max`](Self::with_streams_max), so that unread streams leave room for all other
    /// calls of their connection; a client raises it if its server accepts more streams than this
    /// setting expects.
    ///
    /// A server gives a connection its window as needed: 128 KiB until the peer is known, then room
    /// for its lanes (less when the peer has many connections), and a stream window for each call
    /// with a stream of its own, for the largest concurrent number so far, rounded up to a power of
    /// two. Beyond 128 KiB each, the connections of one peer together get at most
    /// [`with_buffered_bytes_max`](Self::with_buffered_bytes_max) or 2 MiB, whichever is larger; a
    /// connection that needs more gets it when others end. Where that does not suffice, unread
    /// streams can delay other calls.
    #[must_use]
    pub fn with_connection_window_bytes(mut self, bytes: NonZeroU32) -> Self {
        self.connection_window_bytes = bytes;
        self
    }

    /// Send window of a connection: bytes taken from senders that the peer has not acknowledged
    /// yet; default 64 MiB (128 MiB in [`wan`](Self::wan) and [`bulk`](Self::bulk)). Further writes
    /// wait. It bounds memory per connection on the sending side, whatever the peer allows; one
    /// stream uses at most the peer's stream window of it. At least the stream window times
    /// [`streams_max`](Self::with_streams_max), as for the connection's window. Calls wait for each
    /// other again if the peer's stream windows are larger than this side's: both sides should have
    /// the same preset. A server gives each of a peer's `n` connections at most
    /// [`with_buffered_bytes_max`](Self::with_buffered_bytes_max) divided by `n`, at least 128 KiB.
    /// `n` is rounded up to a power of two, and is lowered when a quarter of it is left.
    #[must_use]
    pub fn with_send_window_bytes(mut self, bytes: NonZeroU32) -> Self {
        self.send_window_bytes = bytes;
        self
    }

    /// Socket buffers to request from the operating system, in bytes for each direction; default 4
    /// MiB (8 MiB in [`bulk`](Self::bulk)). It may grant less (on Linux `net.core.rmem_max` and
    /// `net.core.wmem_max` decide, often 208 KiB), which is logged and shown by
    /// [`Endpoint::socket_buffers`](crate::Endpoint::socket_buffers). A small buffer loses packets
    /// when many arrive between two polls of the endpoint; a large one costs memory only while it
    /// is full.
    #[must_use]
    pub fn with_socket_buffer_bytes(mut self, bytes: usize) -> Self {
        self.socket_buffer_bytes = bytes;
        self
    }

    /// Queue of the side channel, in datagrams that were not read yet; default 1,024. Further ones
    /// are dropped and counted.
    #[must_use]
    pub fn with_side_channel_len(mut self, datagrams: NonZeroUsize) -> Self {
        self.side_channel_len = datagrams;
        self
    }

    /// Largest datagram of the side channel, in bytes; default 2,048. Larger ones are dropped and
    /// counted. Values above 65,526 have no further effect.
    #[must_use]
    pub fn with_side_datagram_bytes_max(mut self, bytes: usize) -> Self {
        self.side_datagram_bytes_max = bytes;
        self
    }

    /// Largest datagram that the side channel accepts, in bytes.
    #[must_use]
    pub fn side_datagram_bytes_max(&self) -> usize {
        self.side_datagram_bytes_max
    }
}
