//! QUIC configuration, and the mapping of QUIC's errors.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use quinn::{
    AckFrequencyConfig, ApplicationClose, ConnectionClose, ConnectionError, IdleTimeout,
    MtuDiscoveryConfig, TransportErrorCode, VarInt,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};
use rustls_pki_types::CertificateDer;

use crate::{
    AckFrequency, CloseReason, ConnectError, TransportConfig,
    accounts::WINDOW_FLOOR,
    close::{
        CLOSE_DENIED, CLOSE_DISCONNECTED, CLOSE_NO_NAME, CLOSE_SHUTDOWN, CLOSE_UNTRUSTED,
        CongestionConfig, streams_accepted,
    },
    config::UDP_PAYLOAD_BYTES_MAX,
    printable::{Printable, printable},
    tls::ResetKey,
};

/// Certificates that the other side showed, in this handshake or in that of the resumed session.
pub(crate) fn certificate_chain(
    connection: &quinn::Connection,
) -> Option<Vec<CertificateDer<'static>>> {
    let chain = connection.peer_identity()?.downcast().ok()?;
    Some(*chain)
}

pub(crate) fn endpoint_config(config: &TransportConfig, key: ResetKey) -> quinn::EndpointConfig {
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

/// Size of the receive buffer for one datagram: the largest packet that path MTU discovery may
/// find, and one byte more than the largest datagram of the side channel, so that an oversized one
/// is not truncated to a valid size.
pub(crate) fn receive_bytes_max(config: &TransportConfig) -> u16 {
    let side = config.side_datagram_bytes_max.saturating_add(1);
    u16::try_from(side)
        .unwrap_or(u16::MAX)
        .max(config.quic.mtu_max)
        .clamp(ETHERNET_PAYLOAD_BYTES, UDP_PAYLOAD_BYTES_MAX)
}

pub(crate) fn server_config(
    config: &TransportConfig,
    crypto: rustls::ServerConfig,
) -> quinn::ServerConfig {
    let crypto = QuicServerConfig::try_from(crypto)
        .expect("the ring provider has the cipher suite that QUIC begins with");
    let mut server = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    let mut transport = transport_config(config, first_streams_max(config), 0);
    // Until the peer is known, and how many connections it has.
    transport
        .receive_window(VarInt::from_u32(
            config.quic.connection_window_bytes.get().min(WINDOW_FLOOR),
        ))
        .send_window(config.quic.send_window_bytes.get().min(WINDOW_FLOOR).into());
    server.transport_config(Arc::new(transport));
    server.max_incoming(config.limits.handshakes_max.get());
    // Nodes do not change their address; a new address is a new connection.
    server.migration(false);
    server
}

/// Streams that a caller may have open concurrently before it uses half of them. QUIC allocates an
/// entry for each, and most connections need few beside their lanes.
pub(crate) fn first_streams_max(config: &TransportConfig) -> u32 {
    let lanes = u32::from(config.lane.lanes.get());
    let few = FIRST_STREAMS_MAX.max(4 * lanes);
    config.quic.streams_max.get().min(few)
}

/// Client settings of one connection.
pub(crate) fn client_config(
    config: &TransportConfig,
    crypto: Arc<QuicClientConfig>,
) -> quinn::ClientConfig {
    let mut client = quinn::ClientConfig::new(crypto);
    // Servers do not call back on a connection that was made to them.
    client.transport_config(Arc::new(transport_config(
        config,
        0,
        config.quic.uni_streams_max.get(),
    )));
    client
}

fn transport_config(
    config: &TransportConfig,
    streams_max: u32,
    uni_streams_max: u32,
) -> quinn::TransportConfig {
    let mut transport = quinn::TransportConfig::default();
    let idle =
        IdleTimeout::try_from(config.quic.idle_timeout).expect("checked to be at most a day");
    let uni_streams_max = uni_streams_max.saturating_add(CONTROL_STREAMS_MAX);
    let mut discovery = MtuDiscoveryConfig::default();
    discovery
        .upper_bound(config.quic.mtu_max)
        .black_hole_cooldown(BLACK_HOLE_COOLDOWN);
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(streams_max))
        .max_concurrent_uni_streams(VarInt::from_u32(uni_streams_max))
        .stream_receive_window(VarInt::from_u32(config.quic.stream_window_bytes.get()))
        .receive_window(VarInt::from_u32(config.quic.connection_window_bytes.get()))
        .send_window(u64::from(config.quic.send_window_bytes.get()))
        // Streams of one priority take turns, packet by packet. Otherwise a stream that always has
        // data keeps all others from sending.
        .send_fairness(true)
        .initial_rtt(config.quic.initial_rtt)
        .congestion_controller_factory(Arc::new(CongestionConfig::new(
            config.quic.initial_window_bytes,
        )))
        .ack_frequency_config(config.quic.ack_frequency.map(ack_frequency))
        .initial_mtu(config.quic.initial_mtu)
        .mtu_discovery_config(Some(discovery))
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(Some(config.quic.keep_alive))
        // QUIC's own datagrams (RFC 9221) are not used.
        .datagram_receive_buffer_size(None);
    transport
}

fn ack_frequency(asked: AckFrequency) -> AckFrequencyConfig {
    let mut frequency = AckFrequencyConfig::default();
    frequency
        .ack_eliciting_threshold(VarInt::from_u32(asked.packets))
        .max_ack_delay(Some(asked.delay))
        // As without the extension: a gap is acknowledged at once, so that a loss is known after
        // one packet, not three.
        .reordering_threshold(VarInt::from_u32(1));
    frequency
}

/// Maps QUIC's error to the reason for which a connection was not established.
pub(crate) fn connect_error(
    addr: SocketAddr,
    after: Duration,
    error: ConnectionError,
) -> ConnectError {
    if is_driver_lost(&error) {
        return ConnectError::RuntimeEnded;
    }
    let error = with_printable_reason(error);
    let reason = error.to_string();
    match error {
        ConnectionError::TimedOut => ConnectError::Timeout { addr, after },
        ConnectionError::VersionMismatch => ConnectError::Protocol { addr, reason },
        ConnectionError::LocallyClosed | ConnectionError::CidsExhausted => {
            ConnectError::EndpointClosed
        }
        ConnectionError::ConnectionClosed(close) => match tls_alert(close.error_code) {
            Some(NO_APPLICATION_PROTOCOL) => ConnectError::Protocol { addr, reason },
            Some(_) => ConnectError::CertificateRejected { addr, reason },
            None => ConnectError::Refused { addr, reason },
        },
        ConnectionError::ApplicationClosed(close)
            if [CLOSE_NO_NAME, CLOSE_UNTRUSTED].contains(&close.error_code) =>
        {
            ConnectError::CertificateRejected { addr, reason }
        }
        ConnectionError::ApplicationClosed(close) if close.error_code == CLOSE_DENIED => {
            let reason = String::from_utf8_lossy(&close.reason).into_owned();
            ConnectError::Denied { addr, reason }
        }
        ConnectionError::ApplicationClosed(close) if close.error_code == CLOSE_DISCONNECTED => {
            let reason = CloseReason::Disconnected.to_string();
            ConnectError::Refused { addr, reason }
        }
        ConnectionError::ApplicationClosed(close) if close.error_code == CLOSE_SHUTDOWN => {
            let reason = CloseReason::ShutDown.to_string();
            ConnectError::Refused { addr, reason }
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

/// Error with a printable reason: a peer may send any bytes as its reason, and a server that closes
/// its connections sends the number of streams that it accepted.
pub(crate) fn with_printable_reason(error: ConnectionError) -> ConnectionError {
    match error {
        ConnectionError::ApplicationClosed(close) => {
            let code = close.error_code;
            let reason = match streams_accepted(&close) {
                Some(accepted) if code == CLOSE_SHUTDOWN => {
                    format!("shutdown, streams accepted: {accepted}")
                }
                Some(accepted) => format!("disconnected, streams accepted: {accepted}"),
                None => printable(&close.reason),
            };
            ConnectionError::ApplicationClosed(ApplicationClose {
                error_code: code,
                reason: reason.into(),
            })
        }
        ConnectionError::ConnectionClosed(close) => {
            let reason = printable(&close.reason).into();
            ConnectionError::ConnectionClosed(ConnectionClose { reason, ..close })
        }
        ConnectionError::TransportError(mut error) => {
            error.reason = Printable(&error.reason).to_string();
            ConnectionError::TransportError(error)
        }
        other => other,
    }
}

/// Whether the handshake failed on this side, as when the peer's certificate could not be
/// verified.
pub(crate) fn is_local_tls_failure(error: &ConnectionError) -> bool {
    matches!(error, ConnectionError::TransportError(error) if tls_alert(error.code).is_some())
}

/// Whether QUIC's driver task of the endpoint is gone, as when its runtime has ended.
pub(crate) fn is_driver_lost(error: &ConnectionError) -> bool {
    matches!(error, ConnectionError::TransportError(error)
        if error.code == TransportErrorCode::INTERNAL_ERROR && error.reason == DRIVER_LOST)
}

/// Whether a handshake failed because one side does not trust the certificate of the other, or got
/// none.
pub(crate) fn is_certificate_failure(error: &ConnectionError) -> bool {
    let code = match error {
        ConnectionError::ConnectionClosed(close) => close.error_code,
        ConnectionError::TransportError(error) => error.code,
        ConnectionError::ApplicationClosed(close) => {
            return [CLOSE_NO_NAME, CLOSE_UNTRUSTED].contains(&close.error_code);
        }
        // Closed by this side, which no longer trusts the certificate of a resumed session.
        _ => return false,
    };
    tls_alert(code).is_some_and(|alert| CERTIFICATE_ALERTS.contains(&alert))
}

/// TLS alert of a QUIC error code: 0x100 to 0x1ff (RFC 9001 section 4.8).
fn tls_alert(code: TransportErrorCode) -> Option<u8> {
    let code = u64::from(code);
    (0x100..0x200).contains(&code).then_some(code as u8)
}

/// quinn's text for a connection whose endpoint has lost its driver; there is no code for it.
const DRIVER_LOST: &str = "endpoint driver future was dropped";

/// With the unidirectional ones as many entries as a table of 32 has room for.
const FIRST_STREAMS_MAX: u32 = 16;

/// The control stream, and some for later versions.
const CONTROL_STREAMS_MAX: u32 = 8;

/// TLS alerts about certificates (RFC 8446 section 6): bad, unsupported, revoked, expired and
/// unknown certificate, unknown authority, access denied, a signature that does not verify (also
/// that of another authority of the same name), certificate required.
const CERTIFICATE_ALERTS: [u8; 9] = [42, 43, 44, 45, 46, 48, 49, 51, 116];

/// TLS alert `no_application_protocol` (RFC 7301 section 3.2).
const NO_APPLICATION_PROTOCOL: u8 = 120;

/// A peer on the same Ethernet may probe for larger packets than this side does.
const ETHERNET_PAYLOAD_BYTES: u16 = 1_472;

/// Time for which small packets are sent after large ones were lost. Full buffers look the same as
/// a smaller path MTU, and a minute of small packets, QUIC's default, is a high price between near
/// nodes.
const BLACK_HOLE_COOLDOWN: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
