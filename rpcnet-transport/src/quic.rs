//! The settings and errors of QUIC, and their translation.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use quinn::{
    ConnectionError, IdleTimeout, TransportErrorCode, VarInt,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};

use crate::{
    ConnectError, Tls, TransportConfig,
    client::answer,
    tls::{DerivedKey, RefusalSlot},
};

pub(crate) fn endpoint_config(config: &TransportConfig, key: DerivedKey) -> quinn::EndpointConfig {
    let udp_payload_bytes_max = receive_bytes_max(config);
    let mut config = quinn::EndpointConfig::new(Arc::new(key.clone()));
    config.cid_generator(move || Box::new(key.clone()));
    // The port tells QUIC from other datagrams by this bit.
    config.grease_quic_bit(false);
    config
        .max_udp_payload_size(udp_payload_bytes_max)
        .expect("between what Ethernet carries and what UDP can");
    config
}

/// Room for one datagram. A byte more than the largest of the side channel, or one that is larger would be cut to
/// that size and taken for whole.
fn receive_bytes_max(config: &TransportConfig) -> u16 {
    let side = config.side_datagram_bytes_max.saturating_add(1);
    u16::try_from(side)
        .unwrap_or(u16::MAX)
        .clamp(ETHERNET_PAYLOAD_BYTES, UDP_PAYLOAD_BYTES_MAX)
}

pub(crate) fn server_config(config: &TransportConfig, tls: &Tls) -> quinn::ServerConfig {
    let crypto = QuicServerConfig::try_from(tls.server_config())
        .expect("the ring provider has the cipher suite that QUIC begins with");
    let mut server = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    server.transport_config(Arc::new(transport(config, config.streams_max.get())));
    server.max_incoming(config.handshakes_max.get());
    // Nodes do not wander; a new address is a new connection.
    server.migration(false);
    server
}

/// Settings for one connection, and where its verifier leaves its reason.
pub(crate) fn client_config(
    config: &TransportConfig,
    tls: &Tls,
) -> (quinn::ClientConfig, RefusalSlot) {
    let (crypto, refusal) = tls.client_config();
    let crypto = QuicClientConfig::try_from(crypto)
        .expect("the ring provider has the cipher suite that QUIC begins with");
    let mut client = quinn::ClientConfig::new(Arc::new(crypto));
    // Servers do not call back on a connection that was made to them.
    client.transport_config(Arc::new(transport(config, 0)));
    (client, refusal)
}

fn transport(config: &TransportConfig, streams_max: u32) -> quinn::TransportConfig {
    let mut transport = quinn::TransportConfig::default();
    let idle = IdleTimeout::try_from(config.idle_timeout).expect("checked to be at most a day");
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(streams_max))
        .max_concurrent_uni_streams(VarInt::from_u32(CONTROL_STREAMS_MAX))
        .stream_receive_window(VarInt::from_u32(config.stream_window_bytes.get()))
        .receive_window(VarInt::from_u32(config.connection_window_bytes.get()))
        .send_window(u64::from(config.connection_window_bytes.get()))
        // A stream is served whole before the next: calls end sooner, and frames are not torn over packets.
        .send_fairness(false)
        .initial_rtt(config.initial_rtt)
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(Some(config.keep_alive))
        // QUIC's own datagrams are not used.
        .datagram_receive_buffer_size(None);
    transport
}

/// Why a connection was not made, from what QUIC says.
pub(crate) fn connect_error(
    addr: SocketAddr,
    after: Duration,
    error: ConnectionError,
) -> ConnectError {
    let reason = error.to_string();
    match error {
        ConnectionError::TimedOut => ConnectError::Timeout { addr, after },
        ConnectionError::VersionMismatch => ConnectError::Protocol { addr, reason },
        ConnectionError::LocallyClosed | ConnectionError::CidsExhausted => {
            ConnectError::EndpointClosed
        }
        ConnectionError::ConnectionClosed(close) => match tls_alert(close.error_code) {
            Some(NO_APPLICATION_PROTOCOL) => ConnectError::Protocol { addr, reason },
            Some(_) => ConnectError::RefusedByPeer { addr, reason },
            None => ConnectError::Refused { addr, reason },
        },
        ConnectionError::ApplicationClosed(close) if close.error_code == answer::CLOSE_NO_NAME => {
            ConnectError::RefusedByPeer { addr, reason }
        }
        ConnectionError::ApplicationClosed(_) | ConnectionError::Reset => {
            ConnectError::Refused { addr, reason }
        }
        ConnectionError::TransportError(error) => match tls_alert(error.code) {
            Some(NO_APPLICATION_PROTOCOL) | None => ConnectError::Protocol { addr, reason },
            Some(_) => ConnectError::Untrusted { addr, reason },
        },
    }
}

/// RFC 9001 section 4.8: alerts of TLS are errors 0x100 to 0x1ff of QUIC.
fn tls_alert(code: TransportErrorCode) -> Option<u8> {
    let code = u64::from(code);
    (0x100..0x200).contains(&code).then_some(code as u8)
}

/// The one on which a server says hello, and some for later versions.
const CONTROL_STREAMS_MAX: u32 = 8;

/// RFC 7301 section 3.2.
const NO_APPLICATION_PROTOCOL: u8 = 120;

/// QUIC needs no more room: it looks for no larger MTU.
const ETHERNET_PAYLOAD_BYTES: u16 = 1_472;

/// RFC 9000 section 18.2.
const UDP_PAYLOAD_BYTES_MAX: u16 = 65_527;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_past_the_limit_is_seen_to_be() {
        for (side, room) in [
            (0, 1_472),
            (1_471, 1_472),
            (1_472, 1_473),
            (2_048, 2_049),
            (65_526, 65_527),
            (usize::MAX, 65_527),
        ] {
            let config = TransportConfig::default().with_side_datagram_bytes_max(side);
            assert_eq!(receive_bytes_max(&config), room, "{side}");
        }
    }
}
