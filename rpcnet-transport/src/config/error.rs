//! Contradictions between settings.

use std::time::Duration;

use thiserror::Error;

/// Contradiction in a [`TransportConfig`](crate::TransportConfig). The config is at fault.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The message size limit is zero or above one gibibyte.
    #[error("message_bytes_max must be from 1 byte to 1 GiB, not {0}")]
    MessageLimit(usize),
    /// A duration is zero.
    #[error("{0} must not be zero")]
    Zero(&'static str),
    /// A quiet connection would be lost before it is kept alive.
    #[error(
        "keep_alive of {keep_alive:?} must be at most half of the idle_timeout of {idle_timeout:?}"
    )]
    KeepAlive {
        /// Keep-alive interval of the config.
        keep_alive: Duration,
        /// Idle timeout of the config.
        idle_timeout: Duration,
    },
    /// Dead peers would be kept for longer than a day.
    #[error("idle_timeout of {0:?} is longer than a day")]
    IdleTimeout(Duration),
    /// A duration that bounds what peers may hold is longer than a day.
    #[error("{name} of {value:?} is longer than a day")]
    TooLong {
        /// Name of the setting.
        name: &'static str,
        /// Value of the setting.
        value: Duration,
    },
    /// Unread streams could use up the window that other calls of their connection need.
    #[error(
        "{name} of {bytes} must be at least streams_max of {streams} times stream_window_bytes of {stream}"
    )]
    Windows {
        /// Name of the connection's window.
        name: &'static str,
        /// Window of a connection.
        bytes: u32,
        /// Window of a stream.
        stream: u32,
        /// Streams of a connection.
        streams: u32,
    },
    /// The initial packet size is smaller than QUIC needs or larger than the maximum, or the
    /// maximum is larger than UDP carries.
    #[error(
        "initial_mtu of {initial} must be at least 1200 and at most mtu_max of {max}, that at most 65527"
    )]
    Mtu {
        /// Initial packet size.
        initial: u16,
        /// Largest packet size.
        max: u16,
    },
    /// A new connection could not send two packets.
    #[error(
        "initial_window_bytes of {bytes} must be at least twice the initial_mtu of {initial_mtu}"
    )]
    InitialWindow {
        /// Initial congestion window.
        bytes: u32,
        /// Initial packet size.
        initial_mtu: u16,
    },
    /// Acknowledgements would be rarer than the protocol can use, or their delay is out of range.
    #[error(
        "ack_frequency of {packets} packets and {delay:?} must be at most 1000 packets, and from 1 to 25 ms"
    )]
    AckFrequency {
        /// Packets of the config.
        packets: u32,
        /// Delay of the config.
        delay: Duration,
    },
    /// The frame header of a lane cannot carry such bodies.
    #[error("lane_body_bytes_max of {0} exceeds 65535")]
    LaneBody(usize),
}
