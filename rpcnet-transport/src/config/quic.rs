//! QUIC settings: timers, packet sizes, congestion and flow-control windows, streams.

use std::{num::NonZeroU32, time::Duration};

use super::{
    ConfigError,
    bounds::{MIB, TIME_CEILING},
};

/// QUIC settings of an endpoint.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct QuicSettings {
    pub(crate) keep_alive: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) initial_rtt: Duration,
    pub(crate) initial_window_bytes: u32,
    pub(crate) ack_frequency: Option<AckFrequency>,
    pub(crate) initial_mtu: u16,
    pub(crate) mtu_max: u16,
    pub(crate) streams_max: NonZeroU32,
    pub(crate) uni_streams_max: NonZeroU32,
    pub(crate) stream_window_bytes: NonZeroU32,
    pub(crate) connection_window_bytes: NonZeroU32,
    pub(crate) send_window_bytes: NonZeroU32,
}

impl QuicSettings {
    pub(super) fn lan() -> Self {
        Self {
            keep_alive: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(15),
            initial_rtt: Duration::from_millis(10),
            initial_window_bytes: 32 * PACKET_BYTES_MIN as u32,
            ack_frequency: Some(AckFrequency {
                packets: 10,
                delay: Duration::from_millis(5),
            }),
            initial_mtu: PACKET_BYTES_MIN,
            mtu_max: JUMBO_IPV6_BYTES,
            streams_max: const { NonZeroU32::new(128).unwrap() },
            uni_streams_max: const { NonZeroU32::new(64).unwrap() },
            stream_window_bytes: const { NonZeroU32::new(MIB as u32 / 2).unwrap() },
            connection_window_bytes: const { NonZeroU32::new(64 * MIB as u32).unwrap() },
            send_window_bytes: const { NonZeroU32::new(64 * MIB as u32).unwrap() },
        }
    }

    pub(super) fn wan() -> Self {
        Self {
            keep_alive: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(30),
            initial_rtt: Duration::from_millis(100),
            initial_window_bytes: 14_720,
            ack_frequency: None,
            mtu_max: ETHERNET_IPV6_BYTES,
            streams_max: const { NonZeroU32::new(64).unwrap() },
            stream_window_bytes: const { NonZeroU32::new(2 * MIB as u32).unwrap() },
            connection_window_bytes: const { NonZeroU32::new(128 * MIB as u32).unwrap() },
            send_window_bytes: const { NonZeroU32::new(128 * MIB as u32).unwrap() },
            ..Self::lan()
        }
    }

    pub(super) fn bulk() -> Self {
        Self {
            initial_window_bytes: 64 * PACKET_BYTES_MIN as u32,
            streams_max: const { NonZeroU32::new(32).unwrap() },
            stream_window_bytes: const { NonZeroU32::new(4 * MIB as u32).unwrap() },
            connection_window_bytes: const { NonZeroU32::new(128 * MIB as u32).unwrap() },
            send_window_bytes: const { NonZeroU32::new(128 * MIB as u32).unwrap() },
            ..Self::lan()
        }
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
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
        Ok(())
    }
}

/// Acknowledgement frequency that the peer is asked for. See
/// [`with_ack_frequency`](crate::TransportConfig::with_ack_frequency).
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

/// Smallest packet that every QUIC path carries (RFC 9000 section 14).
const PACKET_BYTES_MIN: u16 = 1_200;

/// UDP payload of a frame of 1,500 bytes over IPv6, the smaller one of the two IP versions.
const ETHERNET_IPV6_BYTES: u16 = 1_452;

/// UDP payload of a jumbo frame of 9,000 bytes over IPv6.
const JUMBO_IPV6_BYTES: u16 = 8_952;

/// Largest UDP payload (RFC 9000 section 18.2).
pub(crate) const UDP_PAYLOAD_BYTES_MAX: u16 = 65_527;

const ACK_PACKETS_CEILING: u32 = 1_000;

/// Shorter delays are below the resolution of timers.
const ACK_DELAY_FLOOR: Duration = Duration::from_millis(1);

/// Longer delays are reduced to the larger of this and the round trip.
const ACK_DELAY_CEILING: Duration = Duration::from_millis(25);
