//! Every knob of an endpoint, with its unit, its default and its price.

use std::{
    num::{NonZeroU32, NonZeroUsize},
    time::Duration,
};

use thiserror::Error;

/// Settings of an endpoint. Both sides of a connection may differ; each bounds what it takes in itself.
///
/// Relations between settings are checked once, by [`Endpoint::bind`](crate::Endpoint::bind).
#[derive(Debug, Clone, PartialEq)]
pub struct TransportConfig {
    pub(crate) message_bytes_max: usize,
    pub(crate) call_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) header_timeout: Duration,
    pub(crate) stall_timeout: Duration,
    pub(crate) keep_alive: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) initial_rtt: Duration,
    pub(crate) streams_max: NonZeroU32,
    pub(crate) calls_max: NonZeroUsize,
    pub(crate) connections_max: NonZeroUsize,
    pub(crate) handshakes_max: NonZeroUsize,
    pub(crate) stream_window_bytes: NonZeroU32,
    pub(crate) connection_window_bytes: NonZeroU32,
    pub(crate) socket_buffer_bytes: usize,
    pub(crate) side_channel_len: NonZeroUsize,
    pub(crate) side_datagram_bytes_max: usize,
}

impl TransportConfig {
    /// For nodes in one data centre or on one machine. This is the default.
    pub fn lan() -> Self {
        Self {
            message_bytes_max: 16 * MIB,
            call_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(5),
            header_timeout: Duration::from_secs(5),
            stall_timeout: Duration::from_secs(30),
            keep_alive: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(15),
            initial_rtt: Duration::from_millis(10),
            streams_max: const { NonZeroU32::new(128).unwrap() },
            calls_max: const { NonZeroUsize::new(16_384).unwrap() },
            connections_max: const { NonZeroUsize::new(4_096).unwrap() },
            handshakes_max: const { NonZeroUsize::new(256).unwrap() },
            stream_window_bytes: const { NonZeroU32::new(MIB as u32).unwrap() },
            connection_window_bytes: const { NonZeroU32::new(8 * MIB as u32).unwrap() },
            socket_buffer_bytes: 4 * MIB,
            side_channel_len: const { NonZeroUsize::new(1_024).unwrap() },
            side_datagram_bytes_max: 2_048,
        }
    }

    /// For nodes far apart: a cautious first guess of the round trip, more patience, larger windows.
    pub fn wan() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(30),
            keep_alive: Duration::from_secs(10),
            initial_rtt: Duration::from_millis(100),
            stream_window_bytes: const { NonZeroU32::new(4 * MIB as u32).unwrap() },
            connection_window_bytes: const { NonZeroU32::new(32 * MIB as u32).unwrap() },
            ..Self::lan()
        }
    }

    /// Largest message that is taken or sent, in bytes; default 16 MiB. It is checked before anything is
    /// allocated. A smaller one protects memory (calls at a time times this), a larger one allows larger bodies.
    #[must_use]
    pub fn with_message_bytes_max(mut self, bytes: usize) -> Self {
        self.message_bytes_max = bytes;
        self
    }

    /// Time for a call of a client that says nothing else; default 10 s. Streams count too, from their opening to
    /// their end. See [`CallOptions`](crate::CallOptions).
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

    /// How long a server waits for the next bytes of a request's body, or for a caller to take the next bytes of
    /// an answer, before it cuts the call; default 30 s. It bounds how long a caller who stopped reading or
    /// writing holds a stream and what is buffered for it.
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

    /// Calls at a time that a server takes on one connection; default 128. Further ones wait at the caller. Each
    /// connection has memory for that many streams from its start, so thousands are a mistake.
    #[must_use]
    pub fn with_streams_max(mut self, streams: NonZeroU32) -> Self {
        self.streams_max = streams;
        self
    }

    /// Calls at a time that a server takes over all connections; default 16,384. Further ones are answered
    /// [`Overloaded`](crate::Code::Overloaded).
    #[must_use]
    pub fn with_calls_max(mut self, calls: NonZeroUsize) -> Self {
        self.calls_max = calls;
        self
    }

    /// Connections at a time that a server takes; default 4,096. Further ones are refused.
    #[must_use]
    pub fn with_connections_max(mut self, connections: NonZeroUsize) -> Self {
        self.connections_max = connections;
        self
    }

    /// Handshakes at a time that a server takes part in; default 256. Past half of it callers have to prove their
    /// address first, past it they are refused.
    #[must_use]
    pub fn with_handshakes_max(mut self, handshakes: NonZeroUsize) -> Self {
        self.handshakes_max = handshakes;
        self
    }

    /// Bytes that may be under way on one stream and not yet read; default 1 MiB (4 MiB in [`wan`](Self::wan)).
    /// This is how far a sender gets ahead of a receiver that does not read. At most the connection's window.
    #[must_use]
    pub fn with_stream_window_bytes(mut self, bytes: NonZeroU32) -> Self {
        self.stream_window_bytes = bytes;
        self
    }

    /// Bytes that may be under way on one connection and not yet read; default 8 MiB (32 MiB in
    /// [`wan`](Self::wan)). It bounds memory per connection, and how many streams that are not read it takes
    /// until the others of the same connection stand still: window over stream window.
    #[must_use]
    pub fn with_connection_window_bytes(mut self, bytes: NonZeroU32) -> Self {
        self.connection_window_bytes = bytes;
        self
    }

    /// Buffer asked of the operating system for the socket, each way; default 4 MiB. It may grant less.
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

    /// Largest datagram of the side channel, in bytes; default 2,048. Larger ones are dropped and counted. The endpoint
    /// has room to receive some 2,000 of this size at once, so tens of kilobytes cost tens of megabytes.
    #[must_use]
    pub fn with_side_datagram_bytes_max(mut self, bytes: usize) -> Self {
        self.side_datagram_bytes_max = bytes;
        self
    }

    /// Largest datagram that the side channel takes, in bytes.
    pub fn side_datagram_bytes_max(&self) -> usize {
        self.side_datagram_bytes_max
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if self.message_bytes_max == 0 || self.message_bytes_max > MESSAGE_BYTES_CEILING {
            return Err(ConfigError::MessageLimit(self.message_bytes_max));
        }
        for (name, value) in [
            ("call_timeout", self.call_timeout),
            ("connect_timeout", self.connect_timeout),
            ("header_timeout", self.header_timeout),
            ("stall_timeout", self.stall_timeout),
            ("keep_alive", self.keep_alive),
            ("initial_rtt", self.initial_rtt),
        ] {
            if value.is_zero() {
                return Err(ConfigError::Zero(name));
            }
        }
        for (name, value) in [
            ("connect_timeout", self.connect_timeout),
            ("header_timeout", self.header_timeout),
            ("stall_timeout", self.stall_timeout),
            ("initial_rtt", self.initial_rtt),
        ] {
            if value > TIME_CEILING {
                return Err(ConfigError::TooLong { name, value });
            }
        }
        if self.keep_alive > self.idle_timeout / 2 {
            return Err(ConfigError::KeepAlive {
                keep_alive: self.keep_alive,
                idle_timeout: self.idle_timeout,
            });
        }
        if self.idle_timeout > TIME_CEILING {
            return Err(ConfigError::IdleTimeout(self.idle_timeout));
        }
        if self.stream_window_bytes > self.connection_window_bytes {
            return Err(ConfigError::Windows {
                stream: self.stream_window_bytes.get(),
                connection: self.connection_window_bytes.get(),
            });
        }
        Ok(())
    }
}

impl Default for TransportConfig {
    fn default() -> Self {
        Self::lan()
    }
}

/// How a [`TransportConfig`] contradicts itself. The config is at fault.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The limit for messages is zero or past one gibibyte.
    #[error("message_bytes_max must be from 1 byte to 1 GiB, not {0}")]
    MessageLimit(usize),
    /// A time is zero.
    #[error("{0} must not be zero")]
    Zero(&'static str),
    /// A quiet connection would be lost before it is kept alive.
    #[error(
        "keep_alive of {keep_alive:?} must be at most half of the idle_timeout of {idle_timeout:?}"
    )]
    KeepAlive {
        /// The interval given.
        keep_alive: Duration,
        /// The timeout given.
        idle_timeout: Duration,
    },
    /// Dead peers would be kept for longer than a day.
    #[error("idle_timeout of {0:?} is longer than a day")]
    IdleTimeout(Duration),
    /// A time that bounds what a stranger may hold is longer than a day.
    #[error("{name} of {value:?} is longer than a day")]
    TooLong {
        /// Name of the setting.
        name: &'static str,
        /// The time given.
        value: Duration,
    },
    /// One stream could use more than its connection has.
    #[error(
        "stream_window_bytes of {stream} must be at most connection_window_bytes of {connection}"
    )]
    Windows {
        /// Window of a stream.
        stream: u32,
        /// Window of a connection.
        connection: u32,
    },
}

const MIB: usize = 1024 * 1024;
const MESSAGE_BYTES_CEILING: usize = 1024 * MIB;
const TIME_CEILING: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_consistent() {
        assert_eq!(TransportConfig::lan().check(), Ok(()));
        assert_eq!(TransportConfig::wan().check(), Ok(()));
    }

    #[test]
    fn contradictions_are_named() {
        let base = TransportConfig::lan;
        let second = Duration::from_secs(1);
        let table = [
            (
                base().with_message_bytes_max(0),
                ConfigError::MessageLimit(0),
            ),
            (
                base().with_header_timeout(Duration::ZERO),
                ConfigError::Zero("header_timeout"),
            ),
            (
                base().with_stall_timeout(Duration::MAX),
                ConfigError::TooLong {
                    name: "stall_timeout",
                    value: Duration::MAX,
                },
            ),
            (
                base().with_keep_alive(second).with_idle_timeout(second),
                ConfigError::KeepAlive {
                    keep_alive: second,
                    idle_timeout: second,
                },
            ),
            (
                base().with_stream_window_bytes(NonZeroU32::MAX),
                ConfigError::Windows {
                    stream: u32::MAX,
                    connection: 8 * MIB as u32,
                },
            ),
        ];
        for (config, expected) in table {
            assert_eq!(config.check(), Err(expected));
        }
        // Boundaries: exactly a day, and exactly half, are fine.
        let day = base().with_stall_timeout(TIME_CEILING);
        assert_eq!(day.check(), Ok(()));
        let half = base().with_keep_alive(second).with_idle_timeout(2 * second);
        assert_eq!(half.check(), Ok(()));
    }
}
