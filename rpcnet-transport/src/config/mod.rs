//! Configuration of an endpoint: presets, and the relations between settings.

mod bounds;
mod error;
mod lanes;
mod limits;
mod quic;
mod setters;

pub(crate) use self::quic::UDP_PAYLOAD_BYTES_MAX;
pub use self::{error::ConfigError, quic::AckFrequency};

use std::{num::NonZeroUsize, time::Duration};

use self::{
    bounds::{MESSAGE_BYTES_CEILING, MIB, TIME_CEILING},
    lanes::LaneSettings,
    limits::ServerLimits,
    quic::QuicSettings,
};
use crate::{OutgoingCall, authorize::Authorizer, layers::LayerStack, stream::time_at_rate};

/// Settings of an endpoint. The two sides of a connection may differ; each bounds what it accepts
/// itself.
///
/// Start with the preset that fits the network and the load, and change single settings:
///
/// - [`lan`](Self::lan), the default: nodes in one data centre or on one machine.
/// - [`wan`](Self::wan): distant nodes. Differs from `lan` by a longer initial round trip, longer
///   timeouts, fewer streams with larger windows, a smaller initial window, packets that fit
///   Ethernet frames, and a lower minimum rate of transfers.
/// - [`bulk`](Self::bulk): streams and bodies of many megabytes in one data centre. Differs from
///   `lan` by fewer streams, with windows of 4 MiB, and by limits that are larger as well. Up to
///   bodies of 1 MiB the two are about alike.
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
    pub(crate) client_layers: LayerStack<OutgoingCall>,
    pub(crate) busy_poll: Duration,
    pub(crate) socket_buffer_bytes: usize,
    pub(crate) side_channel_len: NonZeroUsize,
    pub(crate) side_datagram_bytes_max: usize,
}

/// Presets.
impl TransportConfig {
    /// Preset for nodes in one data centre or on one machine, for small calls and for large bodies.
    /// This is the default. Packets are as large as jumbo frames where the path carries them.
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
            client_layers: LayerStack::default(),
            busy_poll: Duration::from_micros(400),
            socket_buffer_bytes: 4 * MIB,
            side_channel_len: const { NonZeroUsize::new(1_024).unwrap() },
            side_datagram_bytes_max: 2_048,
        }
    }

    /// Preset for distant nodes: longer initial round trip and timeouts, smaller initial congestion
    /// window, larger flow-control windows, packets that fit Ethernet frames.
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

    /// Preset for bodies and streams of many megabytes between nodes in one data centre: 32 streams
    /// with windows of 4 MiB, an initial window of 64 packets, larger socket buffers and server
    /// limits. It gains where a stream waits for its window, of which a stream sends one in a round
    /// trip at most: with 0.5 MiB, as in `lan`, 10 Gbit/s are left at round trips up to 0.4 ms. It
    /// costs memory: 128 MiB per connection and direction at worst.
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

impl Default for TransportConfig {
    fn default() -> Self {
        Self::lan()
    }
}

#[cfg(test)]
mod tests;
