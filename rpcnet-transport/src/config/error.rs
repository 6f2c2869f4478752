//! How settings contradict each other.

use std::time::Duration;

use thiserror::Error;

/// How a [`TransportConfig`](crate::TransportConfig) contradicts itself. The config is at fault.
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
    /// A time that bounds what others may hold is longer than a day.
    #[error("{name} of {value:?} is longer than a day")]
    TooLong {
        /// Name of the setting.
        name: &'static str,
        /// The time given.
        value: Duration,
    },
    /// Streams that are not read could use up what other calls of their connection need.
    #[error(
        "{name} of {bytes} must be at least streams_max of {streams} times stream_window_bytes of {stream}"
    )]
    Windows {
        /// Name of the window of a connection.
        name: &'static str,
        /// The window of a connection.
        bytes: u32,
        /// Window of a stream.
        stream: u32,
        /// Streams of a connection.
        streams: u32,
    },
    /// A packet would be smaller than QUIC needs, larger than UDP carries, or the first larger than the largest.
    #[error(
        "initial_mtu of {initial} must be at least 1200 and at most mtu_max of {max}, that at most 65527"
    )]
    Mtu {
        /// The first size given.
        initial: u16,
        /// The largest size given.
        max: u16,
    },
    /// A connection could not send two packets at its start.
    #[error(
        "initial_window_bytes of {bytes} must be at least twice the initial_mtu of {initial_mtu}"
    )]
    InitialWindow {
        /// The window given.
        bytes: u32,
        /// The size of its packets.
        initial_mtu: u16,
    },
    /// Acknowledgements would be rarer than they are any use, or their delay cannot be asked for.
    #[error(
        "ack_frequency of {packets} packets and {delay:?} must be at most 1000 packets, and from 1 to 25 ms"
    )]
    AckFrequency {
        /// The packets given.
        packets: u32,
        /// The delay given.
        delay: Duration,
    },
    /// A lane has no room for such bodies.
    #[error("lane_body_bytes_max of {0} exceeds 65535")]
    LaneBody(usize),
}
