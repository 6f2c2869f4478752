//! Configuration of an endpoint: presets, and the relations between settings.

mod error;
mod lanes;
mod limits;
mod quic;

pub(crate) use self::quic::UDP_PAYLOAD_BYTES_MAX;
pub use self::{error::ConfigError, quic::AckFrequency};

use std::{num::NonZeroUsize, time::Duration};

use self::{lanes::LaneSettings, limits::ServerLimits, quic::QuicSettings};
use crate::{authorize::Authorizer, stream::time_at_rate};

/// Settings of an endpoint. The two sides of a connection may differ; each bounds what it accepts
/// itself.
///
/// Start with the preset that fits the network and the load, and change single settings:
///
/// | preset | for | differs from `lan` by |
/// |---|---|---|
/// | [`lan`](Self::lan), the default | nodes in one data centre or on one machine | |
/// | [`wan`](Self::wan) | distant nodes | longer initial round trip and timeouts, fewer streams with larger windows, smaller initial window, slower transfers allowed |
/// | [`bulk`](Self::bulk) | large bodies in one data centre | fewer streams with windows of 4 MiB, jumbo frames |
///
/// [`Endpoint::bind`](crate::Endpoint::bind) checks the relations between settings.
#[derive(Debug, Clone, PartialEq)]
pub struct TransportConfig {
    pub(crate) quic: QuicSettings,
    pub(crate) lane: LaneSettings,
    pub(crate) limits: ServerLimits,
    pub(crate) message_bytes_max: usize,
    pub(crate) call_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) session_lifetime: Duration,
    pub(crate) early_data: bool,
    pub(crate) authorizer: Option<Authorizer>,
    pub(crate) busy_poll: Duration,
    pub(crate) socket_buffer_bytes: usize,
    pub(crate) side_channel_len: NonZeroUsize,
    pub(crate) side_datagram_bytes_max: usize,
}

/// Presets.
impl TransportConfig {
    /// Preset for nodes in one data centre or on one machine. This is the default.
    #[must_use]
    pub fn lan() -> Self {
        Self {
            quic: QuicSettings::lan(),
            lane: LaneSettings::lan(),
            limits: ServerLimits::lan(),
            message_bytes_max: 16 * MIB,
            call_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(5),
            session_lifetime: Duration::from_secs(3600),
            early_data: false,
            authorizer: None,
            busy_poll: Duration::from_micros(50),
            socket_buffer_bytes: 4 * MIB,
            side_channel_len: const { NonZeroUsize::new(1_024).unwrap() },
            side_datagram_bytes_max: 2_048,
        }
    }

    /// Preset for distant nodes: longer initial round trip and timeouts, smaller initial congestion
    /// window, larger flow-control windows.
    #[must_use]
    pub fn wan() -> Self {
        Self {
            quic: QuicSettings::wan(),
            limits: ServerLimits::wan(),
            connect_timeout: Duration::from_secs(10),
            busy_poll: Duration::ZERO,
            ..Self::lan()
        }
    }

    /// Preset for large bodies and streams between nodes in one data centre: 32 streams with
    /// windows of 4 MiB, an initial window of 64 packets, larger socket buffers, and packets as
    /// large as jumbo frames where the path carries them. It costs memory: 128 MiB per connection
    /// and direction at worst.
    #[must_use]
    pub fn bulk() -> Self {
        Self {
            quic: QuicSettings::bulk(),
            limits: ServerLimits::bulk(),
            socket_buffer_bytes: 8 * MIB,
            ..Self::lan()
        }
    }
}

impl TransportConfig {
    /// Time limit of a body that is sent without stalls at the minimum rate.
    pub(crate) fn transfer_time(&self, bytes: usize) -> Duration {
        self.limits.stall_timeout + time_at_rate(bytes as u64, self.limits.transfer_rate_min)
    }

    /// Checks the settings and the relations between them.
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        if self.message_bytes_max == 0 || self.message_bytes_max > MESSAGE_BYTES_CEILING {
            return Err(ConfigError::MessageLimit(self.message_bytes_max));
        }
        let (quic, limits) = (&self.quic, &self.limits);
        for (name, value) in [
            ("call_timeout", self.call_timeout),
            ("connect_timeout", self.connect_timeout),
            ("header_timeout", limits.header_timeout),
            ("stall_timeout", limits.stall_timeout),
            ("keep_alive", quic.keep_alive),
            ("initial_rtt", quic.initial_rtt),
        ] {
            if value.is_zero() {
                return Err(ConfigError::Zero(name));
            }
        }
        for (name, value) in [
            ("connect_timeout", self.connect_timeout),
            ("header_timeout", limits.header_timeout),
            ("stall_timeout", limits.stall_timeout),
            ("initial_rtt", quic.initial_rtt),
            ("session_lifetime", self.session_lifetime),
            ("busy_poll", self.busy_poll),
            ("drain_grace", limits.drain_grace),
        ] {
            if value > TIME_CEILING {
                return Err(ConfigError::TooLong { name, value });
            }
        }
        quic.validate()?;
        self.lane.validate()
    }
}

/// General settings.
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

impl Default for TransportConfig {
    fn default() -> Self {
        Self::lan()
    }
}

const MIB: usize = 1024 * 1024;
const MESSAGE_BYTES_CEILING: usize = 1024 * MIB;
const TIME_CEILING: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests;
