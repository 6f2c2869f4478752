//! Configuration of an endpoint: presets, and the relations between settings.

mod error;
mod setters;

pub use self::error::ConfigError;

use std::{
    num::{NonZeroU8, NonZeroU32, NonZeroUsize},
    time::Duration,
};

use crate::{Admission, authorize::Authorizer, stream::time_at_rate};

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
    pub(crate) message_bytes_max: usize,
    pub(crate) call_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) header_timeout: Duration,
    pub(crate) stall_timeout: Duration,
    pub(crate) keep_alive: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) initial_rtt: Duration,
    pub(crate) session_lifetime: Duration,
    pub(crate) busy_poll: Duration,
    pub(crate) early_data: bool,
    pub(crate) initial_window_bytes: u32,
    pub(crate) ack_frequency: Option<AckFrequency>,
    pub(crate) initial_mtu: u16,
    pub(crate) mtu_max: u16,
    pub(crate) streams_max: NonZeroU32,
    pub(crate) uni_streams_max: NonZeroU32,
    pub(crate) lanes: NonZeroU8,
    pub(crate) lane_body_bytes_max: usize,
    pub(crate) lane_calls_max: NonZeroU32,
    pub(crate) queue_len_max: usize,
    pub(crate) calls_max: NonZeroUsize,
    pub(crate) admission: Option<Admission>,
    pub(crate) authorizer: Option<Authorizer>,
    pub(crate) drain_grace: Duration,
    pub(crate) connections_max: NonZeroUsize,
    pub(crate) buffered_bytes_max: usize,
    pub(crate) connection_buffered_bytes_max: usize,
    pub(crate) transfer_rate_min: NonZeroU32,
    pub(crate) handshakes_max: NonZeroUsize,
    pub(crate) stream_window_bytes: NonZeroU32,
    pub(crate) connection_window_bytes: NonZeroU32,
    pub(crate) send_window_bytes: NonZeroU32,
    pub(crate) socket_buffer_bytes: usize,
    pub(crate) side_channel_len: NonZeroUsize,
    pub(crate) side_datagram_bytes_max: usize,
}

impl TransportConfig {
    /// Preset for nodes in one data centre or on one machine. This is the default.
    #[must_use]
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
            session_lifetime: Duration::from_secs(3600),
            busy_poll: Duration::from_micros(50),
            early_data: false,
            initial_window_bytes: 32 * PACKET_BYTES_MIN as u32,
            ack_frequency: Some(AckFrequency {
                packets: 10,
                delay: Duration::from_millis(5),
            }),
            initial_mtu: PACKET_BYTES_MIN,
            mtu_max: 1_452,
            streams_max: const { NonZeroU32::new(128).unwrap() },
            uni_streams_max: const { NonZeroU32::new(64).unwrap() },
            lanes: const { NonZeroU8::new(4).unwrap() },
            lane_body_bytes_max: 8 * 1_024,
            lane_calls_max: const { NonZeroU32::new(2_048).unwrap() },
            queue_len_max: 4_096,
            calls_max: const { NonZeroUsize::new(16_384).unwrap() },
            admission: None,
            authorizer: None,
            drain_grace: Duration::from_millis(100),
            connections_max: const { NonZeroUsize::new(4_096).unwrap() },
            buffered_bytes_max: 512 * MIB,
            connection_buffered_bytes_max: 64 * MIB,
            transfer_rate_min: const { NonZeroU32::new(64 * 1_024).unwrap() },
            handshakes_max: const { NonZeroUsize::new(256).unwrap() },
            stream_window_bytes: const { NonZeroU32::new(MIB as u32 / 2).unwrap() },
            connection_window_bytes: const { NonZeroU32::new(64 * MIB as u32).unwrap() },
            send_window_bytes: const { NonZeroU32::new(64 * MIB as u32).unwrap() },
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
            connect_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(30),
            keep_alive: Duration::from_secs(10),
            initial_rtt: Duration::from_millis(100),
            busy_poll: Duration::ZERO,
            drain_grace: Duration::from_millis(500),
            transfer_rate_min: const { NonZeroU32::new(8 * 1_024).unwrap() },
            initial_window_bytes: 14_720,
            ack_frequency: None,
            streams_max: const { NonZeroU32::new(64).unwrap() },
            stream_window_bytes: const { NonZeroU32::new(2 * MIB as u32).unwrap() },
            connection_window_bytes: const { NonZeroU32::new(128 * MIB as u32).unwrap() },
            send_window_bytes: const { NonZeroU32::new(128 * MIB as u32).unwrap() },
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
            initial_window_bytes: 64 * PACKET_BYTES_MIN as u32,
            mtu_max: 8_952,
            streams_max: const { NonZeroU32::new(32).unwrap() },
            stream_window_bytes: const { NonZeroU32::new(4 * MIB as u32).unwrap() },
            connection_window_bytes: const { NonZeroU32::new(128 * MIB as u32).unwrap() },
            send_window_bytes: const { NonZeroU32::new(128 * MIB as u32).unwrap() },
            buffered_bytes_max: 1024 * MIB,
            connection_buffered_bytes_max: 256 * MIB,
            socket_buffer_bytes: 8 * MIB,
            ..Self::lan()
        }
    }

    /// Time limit of a body that is sent without stalls at the minimum rate.
    pub(crate) fn transfer_time(&self, bytes: usize) -> Duration {
        self.stall_timeout + time_at_rate(bytes as u64, self.transfer_rate_min)
    }

    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
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
            ("session_lifetime", self.session_lifetime),
            ("busy_poll", self.busy_poll),
            ("lame_duck", self.drain_grace),
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
        // Unread streams must not use up the window that all other calls of the connection need.
        let streams_bytes =
            u64::from(self.stream_window_bytes.get()) * u64::from(self.streams_max.get());
        for (name, bytes) in [
            ("connection_window_bytes", self.connection_window_bytes),
            ("send_window_bytes", self.send_window_bytes),
        ] {
            if streams_bytes > u64::from(bytes.get()) {
                return Err(ConfigError::Windows {
                    name,
                    bytes: bytes.get(),
                    stream: self.stream_window_bytes.get(),
                    streams: self.streams_max.get(),
                });
            }
        }
        if self.initial_mtu < PACKET_BYTES_MIN
            || self.initial_mtu > self.mtu_max
            || self.mtu_max > UDP_PAYLOAD_BYTES_MAX
        {
            return Err(ConfigError::Mtu {
                initial: self.initial_mtu,
                max: self.mtu_max,
            });
        }
        // A connection cannot send while a packet does not fit its congestion window.
        if u64::from(self.initial_window_bytes) < 2 * u64::from(self.initial_mtu) {
            return Err(ConfigError::InitialWindow {
                bytes: self.initial_window_bytes,
                initial_mtu: self.initial_mtu,
            });
        }
        if let Some(AckFrequency { packets, delay }) = self.ack_frequency
            && (packets > ACK_PACKETS_CEILING
                || !(ACK_DELAY_FLOOR..=ACK_DELAY_CEILING).contains(&delay))
        {
            return Err(ConfigError::AckFrequency { packets, delay });
        }
        if self.lane_body_bytes_max > LANE_BODY_BYTES_CEILING {
            return Err(ConfigError::LaneBody(self.lane_body_bytes_max));
        }
        Ok(())
    }
}

impl Default for TransportConfig {
    fn default() -> Self {
        Self::lan()
    }
}

/// Acknowledgement frequency that the peer is asked for. See
/// [`with_ack_frequency`](TransportConfig::with_ack_frequency).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct AckFrequency {
    /// Packets that may arrive without an immediate acknowledgement; at most 1,000. 1 is QUIC's
    /// behaviour without the extension: an acknowledgement for every second packet.
    pub packets: u32,
    /// Longest delay of an acknowledgement, from 1 to 25 ms. 25 ms is QUIC's behaviour without the
    /// extension.
    pub delay: Duration,
}

impl AckFrequency {
    /// Asks for an acknowledgement after this many packets, and within this delay.
    #[must_use]
    pub fn new(packets: u32, delay: Duration) -> Self {
        Self { packets, delay }
    }
}

const MIB: usize = 1024 * 1024;

/// Smallest packet that every QUIC path carries (RFC 9000 section 14).
const PACKET_BYTES_MIN: u16 = 1_200;

/// Largest UDP payload (RFC 9000 section 18.2).
pub(crate) const UDP_PAYLOAD_BYTES_MAX: u16 = 65_527;

const ACK_PACKETS_CEILING: u32 = 1_000;

/// Shorter delays are below the resolution of timers.
const ACK_DELAY_FLOOR: Duration = Duration::from_millis(1);

/// Longer delays are reduced to the larger of this and the round trip.
const ACK_DELAY_CEILING: Duration = Duration::from_millis(25);

/// Largest length that the frame header of a lane can carry.
const LANE_BODY_BYTES_CEILING: usize = 65_535;
const MESSAGE_BYTES_CEILING: usize = 1024 * MIB;
const TIME_CEILING: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_consistent() {
        assert_eq!(TransportConfig::lan().validate(), Ok(()));
        assert_eq!(TransportConfig::wan().validate(), Ok(()));
        assert_eq!(TransportConfig::bulk().validate(), Ok(()));
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
                    name: "connection_window_bytes",
                    bytes: 64 * MIB as u32,
                    stream: u32::MAX,
                    streams: 128,
                },
            ),
            (
                base().with_send_window_bytes(NonZeroU32::new(64 * MIB as u32 - 1).unwrap()),
                ConfigError::Windows {
                    name: "send_window_bytes",
                    bytes: 64 * MIB as u32 - 1,
                    stream: MIB as u32 / 2,
                    streams: 128,
                },
            ),
            (
                base().with_mtu_max(1_199),
                ConfigError::Mtu {
                    initial: 1_200,
                    max: 1_199,
                },
            ),
            (
                base().with_mtu_max(65_528),
                ConfigError::Mtu {
                    initial: 1_200,
                    max: 65_528,
                },
            ),
            (
                base().with_initial_mtu(1_199),
                ConfigError::Mtu {
                    initial: 1_199,
                    max: 1_452,
                },
            ),
            (
                base().with_initial_mtu(1_453),
                ConfigError::Mtu {
                    initial: 1_453,
                    max: 1_452,
                },
            ),
            (
                base().with_initial_window_bytes(2_399),
                ConfigError::InitialWindow {
                    bytes: 2_399,
                    initial_mtu: 1_200,
                },
            ),
            (
                base().with_ack_frequency(Some(acks(1_001, 5))),
                ConfigError::AckFrequency {
                    packets: 1_001,
                    delay: Duration::from_millis(5),
                },
            ),
            (
                base().with_ack_frequency(Some(acks(10, 0))),
                ConfigError::AckFrequency {
                    packets: 10,
                    delay: Duration::ZERO,
                },
            ),
            (
                base().with_ack_frequency(Some(acks(10, 26))),
                ConfigError::AckFrequency {
                    packets: 10,
                    delay: Duration::from_millis(26),
                },
            ),
            (
                base().with_lane_body_bytes_max(65_536),
                ConfigError::LaneBody(65_536),
            ),
        ];
        for (config, expected) in table {
            assert_eq!(config.validate(), Err(expected));
        }
        // Boundaries: exactly a day, and exactly half, are valid.
        let day = base().with_stall_timeout(TIME_CEILING);
        assert_eq!(day.validate(), Ok(()));
        let half = base().with_keep_alive(second).with_idle_timeout(2 * second);
        assert_eq!(half.validate(), Ok(()));
        // So are the largest packets with a window for two of them, the extreme acknowledgement
        // frequencies, and lanes for all bodies or for none.
        let large = base()
            .with_mtu_max(65_527)
            .with_initial_mtu(65_527)
            .with_initial_window_bytes(2 * 65_527);
        assert_eq!(large.validate(), Ok(()));
        for frequency in [None, Some(acks(0, 1)), Some(acks(1_000, 25))] {
            assert_eq!(base().with_ack_frequency(frequency).validate(), Ok(()));
        }
        for bytes in [0, 65_535] {
            assert_eq!(base().with_lane_body_bytes_max(bytes).validate(), Ok(()));
        }
    }

    fn acks(packets: u32, delay_ms: u64) -> AckFrequency {
        AckFrequency {
            packets,
            delay: Duration::from_millis(delay_ms),
        }
    }
}
