//! The knobs, one by one: what each means, its unit, its default, its price.

use std::{
    num::{NonZeroU8, NonZeroU32, NonZeroUsize},
    time::Duration,
};

use super::{AckFrequency, TransportConfig};
use crate::Admission;

impl TransportConfig {
    /// Largest message that is taken or sent, in bytes; default 16 MiB. It is checked before anything is
    /// allocated. A smaller one protects memory (calls at a time times this), a larger one allows larger bodies.
    #[must_use]
    pub fn with_message_bytes_max(mut self, bytes: usize) -> Self {
        self.message_bytes_max = bytes;
        self
    }

    /// Time for a unary call of a client that says nothing else; default 10 s. Of a call with streams it is the time until its request is
    /// sent; after that it has no deadline unless the caller asks for one. See
    /// [`CallOptions`](crate::CallOptions).
    #[must_use]
    pub fn with_call_timeout(mut self, timeout: Duration) -> Self {
        self.call_timeout = timeout;
        self
    }

    /// Time for a handshake, on both sides; default 5 s (10 s in [`wan`](Self::wan)).
    #[must_use]
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Time from the opening of a stream until its request's header must be there; default 5 s (10 s in
    /// [`wan`](Self::wan)). Streams that say nothing are reset after it. A larger one lets silent callers hold
    /// streams longer, a smaller one refuses callers on bad networks.
    #[must_use]
    pub fn with_header_timeout(mut self, timeout: Duration) -> Self {
        self.header_timeout = timeout;
        self
    }

    /// How long a server waits for the next bytes of a request's body, or for a caller to take the
    /// next bytes of an answer, before it cuts the call; default 30 s. It bounds how long a caller
    /// who stopped reading or writing holds a stream and what is buffered for it. As long as other
    /// streams of its connection carry bytes at the [least rate](Self::with_transfer_rate_min) a
    /// stream is waited for, until the deadline of its call: of large bodies side by side some wait
    /// until there is room for them at their reader.
    ///
    /// A caller waits as long for the next bytes of a reply that has begun on a stream of its own;
    /// how long a server takes to begin is bounded by the deadline of the call alone.
    #[must_use]
    pub fn with_stall_timeout(mut self, timeout: Duration) -> Self {
        self.stall_timeout = timeout;
        self
    }

    /// How often a quiet connection is kept alive; default 5 s (10 s in [`wan`](Self::wan)). At most half of the
    /// idle timeout.
    #[must_use]
    pub fn with_keep_alive(mut self, interval: Duration) -> Self {
        self.keep_alive = interval;
        self
    }

    /// After how long without a sign of life a connection is lost; default 15 s (30 s in [`wan`](Self::wan)). The
    /// smaller of both sides' settings counts. A smaller one finds a dead peer sooner and loses more
    /// connections to short outages.
    ///
    /// It is measured from the last packet that came, or from the first packet after that one which
    /// asked for an acknowledgement (RFC 9000 section 10.1): a call, or else the
    /// [keep-alive](Self::with_keep_alive). So a peer that is gone without a word is missed after
    /// this time at the earliest, counted from its last packet, and after this time and the
    /// keep-alive interval at the latest: 20 s (40 s in [`wan`](Self::wan)). On a path whose probe
    /// timeout is longer than a third of this it takes three of those. A peer whose port is bound
    /// again with its key is missed at its first answer.
    #[must_use]
    pub fn with_idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = timeout;
        self
    }

    /// First guess of the round trip before one was measured; default 10 ms (100 ms in [`wan`](Self::wan)). It
    /// decides how soon a lost first packet is sent again: three times this. Too small a one repeats for nothing.
    #[must_use]
    pub fn with_initial_rtt(mut self, rtt: Duration) -> Self {
        self.initial_rtt = rtt;
        self
    }

    /// How long a session can be resumed: by a caller, from the last full handshake with the node; at a server, from
    /// the last handshake of the session; default an hour, at most a day, zero for never. A resumed handshake costs no
    /// signatures, and is what [`connect_early`](crate::Endpoint::connect_early) needs. The certificates of both sides
    /// are judged again each time; the keys are not proved again, so a larger one is more time for who steals a
    /// session out of a caller's memory.
    #[must_use]
    pub fn with_session_lifetime(mut self, lifetime: Duration) -> Self {
        self.session_lifetime = lifetime;
        self
    }

    /// How long a thread looks for further packets before it sleeps, after a request was sent or served on it; default 50 us,
    /// zero in [`wan`](Self::wan) for never. A thread that sleeps takes about that long to wake, several times as long
    /// as a call within a data centre takes otherwise; one that looks is busy meanwhile. Where that does not pay, because
    /// nothing comes in time, it is soon tried at one occasion of a thousand only. It has an effect on
    /// current-thread runtimes, such as those of [`Shards`](crate::Shards), and none on others.
    #[must_use]
    pub fn with_busy_poll(mut self, limit: Duration) -> Self {
        self.busy_poll = limit;
        self
    }

    /// Whether a server takes calls of known callers before the handshake is over (0-RTT), of methods that are declared
    /// [replay-safe](crate::Router::with_replay_safe); default `false`. It saves such a call two round trips, at
    /// the price that somebody on the way may be able to have it run twice. Without it, callers that try are answered when the
    /// handshake is over, as if they had not tried.
    #[must_use]
    pub fn with_early_data(mut self, accepted: bool) -> Self {
        self.early_data = accepted;
        self
    }

    /// Bytes that a new connection may have under way before it has learnt what its way carries; default 38,400, that is 32
    /// packets (14,720 in [`wan`](Self::wan) as RFC 9002 section 7.2 has it, 76,800 in [`bulk`](Self::bulk)). At least twice
    /// the initial MTU. A larger one spares the first large body some round trips, and floods a narrow way at every
    /// new connection. The congestion controller is Cubic (RFC 9438).
    #[must_use]
    pub fn with_initial_window_bytes(mut self, bytes: u32) -> Self {
        self.initial_window_bytes = bytes;
        self
    }

    /// How often the other side is asked to acknowledge what is sent to it; default every 10 packets and within 5 ms (`None`
    /// in [`wan`](Self::wan): every second packet and within 25 ms). Both sides ask for their own sending; a peer
    /// that does not know the extension (draft-ietf-quic-ack-frequency) goes on as it did. Out of order arrivals are
    /// acknowledged at once either way.
    ///
    /// More packets spare both sides work. Past what the congestion window holds they only make the sender wait for the
    /// delay. The delay is part of the time after which a packet that was the last for now is taken for lost (RFC 9002 section
    /// 6.2.1: round trip, four times its variation, and this): 5 instead of 25 ms bring a call whose only packet
    /// was lost 20 ms sooner to its end, which at 1 % of loss is its 99th percentile. A shorter one than the
    /// other side's scheduler keeps makes for repeats that nobody needed; those cost a packet each and do not slow the sender down.
    #[must_use]
    pub fn with_ack_frequency(mut self, frequency: Option<AckFrequency>) -> Self {
        self.ack_frequency = frequency;
        self
    }

    /// Bytes of the largest UDP payload that is looked for on the way to a peer, and taken from it; default 1,452, for
    /// Ethernet (8,952 in [`bulk`](Self::bulk), for jumbo frames over IPv4 or IPv6). At most 65,527. Both sides have to
    /// allow it; what the way carries is found out by sending packets of that size, some tens of which are lost if it carries
    /// less, without slowing the connection down. Looked for at its start and every ten minutes.
    ///
    /// Larger packets cost less work a byte: on the loopback interface 65,507 (IPv4) and 65,488 (IPv6) get through. The price:
    /// the system takes at most 64 KiB in one call, so a connection hands it `65,507 / mtu_max` packets at once
    /// (at most 10) whatever the size found: at 65,507 each packet is a call of its own, on Ethernet too. A lost packet
    /// is a larger loss; and the socket's buffers have to hold some of them, or bursts are lost: see
    /// [`Endpoint::socket_buffers`](crate::Endpoint::socket_buffers). Each connection keeps memory for one such call.
    #[must_use]
    pub fn with_mtu_max(mut self, bytes: u16) -> Self {
        self.mtu_max = bytes;
        self
    }

    /// Bytes of the UDP payload that a connection begins with, before it has looked for larger ones; default 1,200, which
    /// every way carries. At most the largest MTU. A larger one spares the search where the network is known. On
    /// a way that does not carry it the start of every connection is lost and comes again with 1,200
    /// after some timeouts, and kernels that refuse such packets as invalid end segmentation offload for the whole port.
    #[must_use]
    pub fn with_initial_mtu(mut self, bytes: u16) -> Self {
        self.initial_mtu = bytes;
        self
    }

    /// Streams that a caller may have open at a time on one connection: calls with streams of their own, and the lanes; default 128
    /// (64 in [`wan`](Self::wan), 32 in [`bulk`](Self::bulk)). Further ones wait at the caller. Times the stream window it must fit
    /// the connection's window.
    /// QUIC makes an entry for each stream that may come when the connection is made, not when the stream comes: thousands
    /// cost each connection hundreds of kilobytes before it does anything, and gain nothing.
    #[must_use]
    pub fn with_streams_max(mut self, streams: NonZeroU32) -> Self {
        self.streams_max = streams;
        self
    }

    /// Streams of one direction that a server may have open at a time on a connection made from here: replies too large to
    /// share a stream with others; default 64. Further ones wait at the server. Memory is as of
    /// [`with_streams_max`](Self::with_streams_max).
    #[must_use]
    pub fn with_uni_streams_max(mut self, streams: NonZeroU32) -> Self {
        self.uni_streams_max = streams;
        self
    }

    /// Lanes of a connection made from here: streams that live as long as it and that small unary calls share; default
    /// 4. A lost packet holds up the calls of the lanes whose bytes were in it until it is sent again: more lanes keep
    /// that to fewer calls, fewer lanes put more calls into one write.
    #[must_use]
    pub fn with_lanes(mut self, lanes: NonZeroU8) -> Self {
        self.lanes = lanes;
        self
    }

    /// Largest body that rides a lane, in bytes; default 8 KiB, at most 65,535, 0 for none. Larger ones get a stream of their own,
    /// so that small calls do not wait behind them. A smaller threshold keeps lanes quick, a larger one spares the cost of a
    /// stream. The server's holds for requests and replies, and both sides cut a lane that carries more; a caller with a smaller one
    /// keeps its requests to that.
    #[must_use]
    pub fn with_lane_body_bytes_max(mut self, bytes: usize) -> Self {
        self.lane_body_bytes_max = bytes;
        self
    }

    /// Calls in flight that a server takes on one lane; default 2,048, at most 65,535 (more counts as that). Further ones wait at the caller. It bounds what
    /// one connection makes a server remember: this, times its lanes.
    #[must_use]
    pub fn with_lane_calls_max(mut self, calls: NonZeroU32) -> Self {
        self.lane_calls_max = calls;
        self
    }

    /// Callers that wait for a place on a connection; default 4,096, 0 for none. Further ones fail at once with
    /// [`Overloaded`](crate::Code::Overloaded). A longer queue rides out longer bursts, and lets callers wait longer
    /// for nothing when the server cannot keep up.
    #[must_use]
    pub fn with_queue_len_max(mut self, callers: usize) -> Self {
        self.queue_len_max = callers;
        self
    }

    /// Calls at a time that a server takes over all connections; default 16,384. Further ones are answered
    /// [`Overloaded`](crate::Code::Overloaded). One peer (an identity, over all of its connections) has at most half of what the others
    /// leave, but 16 in any case; calls with idempotency keys that go on when their caller is gone count as its own.
    #[must_use]
    pub fn with_calls_max(mut self, calls: NonZeroUsize) -> Self {
        self.calls_max = calls;
        self
    }

    /// How many calls a server runs at a time and what becomes of the others, over all connections; default `None`: it runs what
    /// [`calls_max`](Self::with_calls_max) lets in, calls that wait included, and refuses the rest at once. Each endpoint has its own limit, each of
    /// [`Shards`](crate::Shards) too. See [`Admission`].
    #[must_use]
    pub fn with_admission(mut self, admission: Admission) -> Self {
        self.admission = Some(admission);
        self
    }

    /// How long a server that begins to drain or to shut down goes on taking calls after it has told its callers; default 100 ms (500 ms
    /// in [`wan`](Self::wan)), zero for none. Callers that have heard it make no more calls here, so that with a time longer than
    /// the way to them nothing is refused. A shutdown spends at most a quarter of its own time so, and none if nobody is
    /// connected. Larger values delay every stop; too small a one costs callers a refusal and another attempt elsewhere.
    #[must_use]
    pub fn with_drain_grace(mut self, time: Duration) -> Self {
        self.drain_grace = time;
        self
    }

    /// Bytes that the endpoint holds for all of its callers, and as many again for all servers that
    /// it calls: of messages that are being read in parts, of requests whose handlers run, and of
    /// replies that their callers have not taken; default 512 MiB, 1 GiB in [`bulk`](Self::bulk).
    /// One peer (an identity, over all of its connections) has at most half of what the others
    /// leave, but one message of the [largest size](Self::with_message_bytes_max) always fits: with
    /// less than two of these, one peer's message keeps those of all others waiting. At the limit
    /// reading waits, so that QUIC's windows hold the sender up; a request that still finds no
    /// room, while its connection carries less than the [least rate](Self::with_transfer_rate_min)
    /// for [`with_stall_timeout`](Self::with_stall_timeout), ends with
    /// [`Code::Overloaded`](crate::Code::Overloaded). Replies beyond the share of their peer are
    /// sent all the same, up to as much again (so that the endpoint may hold twice its limit);
    /// meanwhile further calls of the peer with streams of their own, and its streams' further
    /// messages, wait in the same way and end in the same way. A reply beyond that is dropped, and
    /// its call ends with `Overloaded` too. Messages of up to 16 KiB are not counted. Beside these
    /// bytes each connection may hold its [window](Self::with_connection_window_bytes).
    #[must_use]
    pub fn with_buffered_bytes_max(mut self, bytes: usize) -> Self {
        self.buffered_bytes_max = bytes;
        self
    }

    /// Bytes of messages that are being read in parts, for one connection; default 64 MiB, 256 MiB in
    /// [`bulk`](Self::bulk). At the limit further messages of the connection wait for room before they are read. One message
    /// of the [largest size](Self::with_message_bytes_max) always fits.
    #[must_use]
    pub fn with_connection_buffered_bytes_max(mut self, bytes: usize) -> Self {
        self.connection_buffered_bytes_max = bytes;
        self
    }

    /// Least rate at which a caller has to send the body of a request, and to take a reply, and a
    /// server to send a reply that it has begun on a stream of its own, in bytes per second on
    /// average; default 64 KiB/s, 8 KiB/s in [`wan`](Self::wan). A body of `n` bytes has
    /// [`with_stall_timeout`](Self::with_stall_timeout) plus `n` divided by this rate, whatever the
    /// call's own deadline is, so that a peer that sends a few bytes now and then does not hold a
    /// call for ever; of bodies side by side on a connection each has the time of all. A caller has to take
    /// the replies of a lane at this rate too. A call whose
    /// reply is too slow ends with [`Code::Unavailable`](crate::Code::Unavailable). Single messages
    /// of streams are not timed. Too large a value cuts honest peers on slow links.
    #[must_use]
    pub fn with_transfer_rate_min(mut self, bytes_per_second: NonZeroU32) -> Self {
        self.transfer_rate_min = bytes_per_second;
        self
    }

    /// Connections at a time that a server takes; default 4,096. Further ones are refused (counter
    /// `handshakes_refused`, or `connections_refused` if the limit is reached during the
    /// handshake). One peer (an identity) has at most half of what the others leave, but 16 in any
    /// case (counter `connections_refused`). Connections count from the end of their handshake,
    /// when their peer is known; until then [`with_handshakes_max`](Self::with_handshakes_max)
    /// bounds them.
    #[must_use]
    pub fn with_connections_max(mut self, connections: NonZeroUsize) -> Self {
        self.connections_max = connections;
        self
    }

    /// Handshakes at a time that a server takes part in; default 256. Past half of it callers have to prove their
    /// address first. One address (of IPv6: one network of 64 bits) has at most half of what the others leave, but 16 in any case. Past that
    /// the oldest handshake of the address that has most is dropped if it has taken a second, and the new one is refused otherwise.
    #[must_use]
    pub fn with_handshakes_max(mut self, handshakes: NonZeroUsize) -> Self {
        self.handshakes_max = handshakes;
        self
    }

    /// Bytes that may be under way on one stream and not yet read; default 512 KiB (2 MiB in [`wan`](Self::wan), 4 MiB in
    /// [`bulk`](Self::bulk)). This is how far a sender gets ahead of a receiver that does not read, and at
    /// most what a stream carries in a round trip. Times [`streams_max`](Self::with_streams_max) it must fit the connection's
    /// window.
    #[must_use]
    pub fn with_stream_window_bytes(mut self, bytes: NonZeroU32) -> Self {
        self.stream_window_bytes = bytes;
        self
    }

    /// Bytes that may be under way on one connection and not yet read; default 64 MiB (128 MiB in
    /// [`wan`](Self::wan) and [`bulk`](Self::bulk)). It bounds memory per connection, and is used
    /// only as far as streams are not read. At least the stream window times
    /// [`streams_max`](Self::with_streams_max), so that streams that are not read leave room for
    /// all other calls of their connection; a client takes more than this if its server takes more
    /// streams than its own setting says. A server gives a connection its window as it needs it:
    /// 128 KiB until the peer is known, then room for its lanes (less when the peer has many
    /// connections), and a stream window for each call with a stream of its own, for the most that it
    /// has had at a time, rounded up to a power of two. Beyond 128 KiB each, the connections of one
    /// peer together get at most [`with_buffered_bytes_max`](Self::with_buffered_bytes_max) or 2 MiB,
    /// whichever is larger; one that wants more gets it when others end. Where that does not suffice,
    /// streams that are not read can hold up other calls.
    #[must_use]
    pub fn with_connection_window_bytes(mut self, bytes: NonZeroU32) -> Self {
        self.connection_window_bytes = bytes;
        self
    }

    /// Bytes taken from senders on one connection and not yet acknowledged by the other side;
    /// default 64 MiB (128 MiB in [`wan`](Self::wan) and [`bulk`](Self::bulk)). Further writes
    /// wait. It bounds memory per connection on the sending side, whatever the other side allows;
    /// one stream uses at most the other side's stream window of it. At least the stream window
    /// times [`streams_max`](Self::with_streams_max), as for the connection's window. Calls wait
    /// for each other again if the other side has larger stream windows than this side has: both
    /// sides should have the same preset. A server gives each of a peer's `n` connections at most
    /// [`with_buffered_bytes_max`](Self::with_buffered_bytes_max) divided by `n`, at least
    /// 128 KiB. `n` is rounded up to a power of two, and is lowered when a quarter of it is left.
    #[must_use]
    pub fn with_send_window_bytes(mut self, bytes: NonZeroU32) -> Self {
        self.send_window_bytes = bytes;
        self
    }

    /// Buffer asked of the operating system for the socket, each way; default 4 MiB (8 MiB in [`bulk`](Self::bulk)). It may
    /// grant less (on Linux `net.core.rmem_max` and `net.core.wmem_max` decide, often 208 KiB), which is logged and shown by
    /// [`Endpoint::socket_buffers`](crate::Endpoint::socket_buffers). A small one loses packets when many come
    /// between two turns of the endpoint; a large one costs memory only while it is full.
    #[must_use]
    pub fn with_socket_buffer_bytes(mut self, bytes: usize) -> Self {
        self.socket_buffer_bytes = bytes;
        self
    }

    /// Datagrams of the side channel that wait to be read; default 1,024. Further ones are dropped and counted.
    #[must_use]
    pub fn with_side_channel_len(mut self, datagrams: NonZeroUsize) -> Self {
        self.side_channel_len = datagrams;
        self
    }

    /// Largest datagram of the side channel, in bytes; default 2,048. Larger ones are dropped and counted. At most
    /// 65,526 are of use.
    #[must_use]
    pub fn with_side_datagram_bytes_max(mut self, bytes: usize) -> Self {
        self.side_datagram_bytes_max = bytes;
        self
    }

    /// Largest datagram that the side channel takes, in bytes.
    pub fn side_datagram_bytes_max(&self) -> usize {
        self.side_datagram_bytes_max
    }
}
