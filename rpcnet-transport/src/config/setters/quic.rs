//! Setters of the QUIC settings.

use std::{num::NonZeroU32, time::Duration};

use crate::config::{AckFrequency, TransportConfig};

/// QUIC settings.
impl TransportConfig {
    /// Keep-alive interval of a quiet connection; default 5 s (10 s in [`wan`](Self::wan)). At most
    /// half of the idle timeout.
    #[must_use]
    pub fn with_keep_alive(mut self, interval: Duration) -> Self {
        self.quic.keep_alive = interval;
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
        self.quic.idle_timeout = timeout;
        self
    }

    /// Initial estimate of the round trip, before it was measured; default 10 ms (100 ms in
    /// [`wan`](Self::wan)). A lost first packet is sent again after three times this value. Too
    /// small a value repeats packets needlessly.
    #[must_use]
    pub fn with_initial_rtt(mut self, rtt: Duration) -> Self {
        self.quic.initial_rtt = rtt;
        self
    }

    /// Initial congestion window of a new connection, in bytes; default 38,400, that is 32 packets
    /// (14,720 in [`wan`](Self::wan) as in RFC 9002 section 7.2, 76,800 in [`bulk`](Self::bulk)).
    /// At least twice the initial MTU. A larger value saves the first large body some round trips,
    /// and floods a narrow path with every new connection. The congestion controller is Cubic (RFC
    /// 9438).
    #[must_use]
    pub fn with_initial_window_bytes(mut self, bytes: u32) -> Self {
        self.quic.initial_window_bytes = bytes;
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
        self.quic.ack_frequency = frequency;
        self
    }

    /// Largest UDP payload that path MTU discovery looks for, and that is accepted, in bytes;
    /// default 8,952, for jumbo frames over IPv4 or IPv6 (1,452 in [`wan`](Self::wan), for
    /// Ethernet). At most 65,527. Both sides have to allow it. The discovery sends packets of up to
    /// that size when a connection starts and every ten minutes; some tens of them are lost if the
    /// path carries less, without slowing the connection down. If a path that carried large packets
    /// ceases to, a connection sends 1,200 bytes at a time after some probe timeouts, and looks for
    /// larger packets again ten seconds later (black hole detection, RFC 8899 section 4.3).
    ///
    /// Larger packets cost less work per byte: on the loopback interface 65,507 (IPv4) and 65,488
    /// (IPv6) get through. The price: the system takes at most 64 KiB in one call, so a connection
    /// hands it `65,507 / mtu_max` packets at once (at most 10) whatever size was found: at 65,507
    /// each packet is a call of its own, on Ethernet too, at 8,952 there are seven. A lost packet
    /// is a larger loss, and the socket's buffers have to hold several of them, or bursts are lost:
    /// see [`Endpoint::socket_buffers`](crate::Endpoint::socket_buffers). Each connection keeps
    /// memory for one such call.
    #[must_use]
    pub fn with_mtu_max(mut self, bytes: u16) -> Self {
        self.quic.mtu_max = bytes;
        self
    }

    /// UDP payload that a connection starts with, before path MTU discovery, in bytes; default
    /// 1,200, which every path carries. At most the largest MTU. A larger value saves the discovery
    /// where the network is known. On a path that does not carry it, the first packets of every
    /// connection are lost and sent again with 1,200 bytes after some timeouts, and kernels that
    /// reject such packets as invalid disable segmentation offload for the whole port.
    #[must_use]
    pub fn with_initial_mtu(mut self, bytes: u16) -> Self {
        self.quic.initial_mtu = bytes;
        self
    }

    /// Streams that a caller may have open concurrently on one connection, for calls with streams
    /// of their own and for the lanes; default 128 (64 in [`wan`](Self::wan), 32 in
    /// [`bulk`](Self::bulk)). Further ones wait at the caller. This number times the stream window
    /// must fit the connection's window. QUIC allocates an entry for each possible stream, so a
    /// server allows 16 of them at first, or four times its lanes, and all once half of these are
    /// in use: thousands cost such a connection hundreds of kilobytes, and gain nothing.
    #[must_use]
    pub fn with_streams_max(mut self, streams: NonZeroU32) -> Self {
        self.quic.streams_max = streams;
        self
    }

    /// Unidirectional streams that a server may have open concurrently on a connection opened from
    /// here, for replies too large for a lane; default 64. Further ones wait at the server. They
    /// cost memory like those of [`with_streams_max`](Self::with_streams_max).
    #[must_use]
    pub fn with_uni_streams_max(mut self, streams: NonZeroU32) -> Self {
        self.quic.uni_streams_max = streams;
        self
    }

    /// Flow-control window of a stream: bytes in flight that were not read yet; default 512 KiB (2
    /// MiB in [`wan`](Self::wan), 4 MiB in [`bulk`](Self::bulk)). It is how far a sender gets ahead
    /// of a receiver that does not read, and the most that a stream carries in a round trip. This
    /// window times [`streams_max`](Self::with_streams_max) must fit the connection's window.
    #[must_use]
    pub fn with_stream_window_bytes(mut self, bytes: NonZeroU32) -> Self {
        self.quic.stream_window_bytes = bytes;
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
        self.quic.connection_window_bytes = bytes;
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
        self.quic.send_window_bytes = bytes;
        self
    }
}
