//! Tests of the QUIC settings on the loopback interface.

mod narrow_path;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::Bytes;
use futures::FutureExt;
use rpcnet_testing::{loopback, until, until_some};

use super::*;
use crate::{
    DevCa, Endpoint, Router, RpcClient, client::reply::lost_during_call, close::CLOSE_DONE,
};

/// Ways in which a peer may close a connection with a reason.
fn closes(reason: &[u8]) -> Vec<ConnectionError> {
    let of_peer = |error_code| {
        let reason = Bytes::copy_from_slice(reason);
        ConnectionError::ApplicationClosed(ApplicationClose { error_code, reason })
    };
    let of_quic = |error_code| {
        ConnectionError::ConnectionClosed(ConnectionClose {
            error_code,
            frame_type: None,
            reason: Bytes::copy_from_slice(reason),
        })
    };
    let codes = [
        CLOSE_DONE,
        CLOSE_SHUTDOWN,
        CLOSE_DISCONNECTED,
        CLOSE_DENIED,
        CLOSE_NO_NAME,
    ];
    let alert = TransportErrorCode::crypto(42);
    let own = TransportErrorCode::PROTOCOL_VIOLATION;
    let of_quic = [TransportErrorCode::NO_ERROR, own, alert].map(of_quic);
    codes.into_iter().map(of_peer).chain(of_quic).collect()
}

/// Text of an error and of all its sources.
fn texts(error: &dyn std::error::Error) -> String {
    let caused_by = error
        .source()
        .map(|source| format!(" <- {}", texts(source)));
    format!("{error}{}", caused_by.unwrap_or_default())
}

#[test]
fn no_error_prints_control_characters_that_a_peer_chose() {
    let (addr, after) = (([192, 0, 2, 1], 7946).into(), Duration::from_secs(1));
    for reason in [
        &3u64.to_le_bytes()[..],
        b"done\nERROR forged",
        b"\x1b]0;title\x07",
        b"\x00\xff\x9b",
        "\u{202e}\u{85}".as_bytes(),
    ] {
        for error in closes(reason) {
            let texts = [
                texts(&connect_error(addr, after, error.clone())),
                texts(&lost_during_call(error.clone())),
                CloseReason::of(&error).to_string(),
            ];
            for text in &texts {
                let is_hidden = |c: char| c.is_control() || c == '\u{202e}';
                assert!(!text.contains(is_hidden), "{error:?}: {text:?}");
            }
        }
    }
}

#[test]
fn the_number_of_streams_that_a_server_accepted_is_printed_as_a_number() {
    let [_, shutdown, disconnected, ..] = &closes(&300u64.to_le_bytes())[..] else {
        panic!("they are more");
    };
    for (error, reason) in [
        (shutdown, "shutdown, streams accepted: 300"),
        (disconnected, "disconnected, streams accepted: 300"),
    ] {
        let text = texts(&lost_during_call(error.clone()));
        assert!(text.contains(reason), "{text}");
    }
}

#[test]
fn oversized_datagrams_are_detected() {
    for (side, room) in [
        (0, 1_472),
        (1_471, 1_472),
        (1_472, 1_473),
        (2_048, 2_049),
        (65_526, 65_527),
        (usize::MAX, 65_527),
    ] {
        let config = TransportConfig::wan().with_side_datagram_bytes_max(side);
        assert_eq!(receive_bytes_max(&config), room, "{side}");
    }
    for (mtu, room) in [(1_200, 2_049), (8_952, 8_952), (65_527, 65_527)] {
        let config = TransportConfig::default().with_mtu_max(mtu);
        assert_eq!(receive_bytes_max(&config), room, "{mtu}");
    }
}

#[test]
fn every_certificate_failure_is_recognized() {
    use rustls::CertificateError::*;
    for error in [
        BadEncoding,
        Expired,
        NotValidYet,
        Revoked,
        UnknownIssuer,
        BadSignature,
        NotValidForName,
        InvalidPurpose,
        ApplicationVerificationFailure,
    ] {
        let alert = u8::from(rustls::AlertDescription::from(error.clone()));
        let closed = ConnectionError::TransportError(TransportErrorCode::crypto(alert).into());
        assert!(is_certificate_failure(&closed), "{error:?} is {alert}");
    }
}

#[tokio::test]
async fn a_connection_may_open_few_streams_until_it_uses_half_of_them() {
    let ca = DevCa::new("streams");
    let open = |name| {
        let tls = ca.issue(name).expect("a node name");
        Endpoint::bind(loopback(), TransportConfig::default(), tls).expect("a free port")
    };
    let (node, server) = (open("client"), open("server").serve(Router::new()));
    let dialer = &node.0.shared.dialer;
    let opened = dialer.connect(server.local_addr(), "server").await.unwrap();
    let streams = || {
        let streams = (0..200).map_while(|_| opened.connection.open_bi().now_or_never());
        streams.map(Result::unwrap).collect::<Vec<_>>()
    };
    let mut first = streams();
    assert_eq!(first.len(), 16);
    // The server hears of streams that carry something.
    for (send, _) in &mut first[..8] {
        send.write_all(&[0]).await.unwrap();
    }
    let mut further = Vec::new();
    until("all are allowed", || {
        further.extend(streams());
        first.len() + further.len() == 128
    })
    .await;
}

/// Sends and receives 4 MiB in packets as large as the config and the path allow, of at least
/// `expected` bytes.
async fn check_packets(ip: IpAddr, config: TransportConfig, expected: u16) {
    let ca = DevCa::new("packets");
    let config = config.with_side_datagram_bytes_max(60_000);
    let open = |name| {
        let tls = ca.issue(name).expect("a node name");
        Endpoint::bind((ip, 0).into(), config.clone(), tls)
    };
    // Machines without IPv6 have nothing to test here.
    let (Ok(server), Ok(node)) = (open("server"), open("client")) else {
        assert!(ip.is_ipv6(), "a free port");
        return;
    };
    let echo = Router::new().raw("echo", |_cx, body| async move { Ok(body) });
    let server = server.serve(echo);
    let dialer = &node.0.shared.dialer;
    let opened = dialer.connect(server.local_addr(), "server").await;
    let opened = opened.unwrap();
    let connection = opened.connection.clone();
    let client = RpcClient::new(opened, dialer, None);

    until_some("packets of this size are found to pass", async || {
        assert_eq!(client.call("echo", "ping").await.unwrap(), "ping");
        (connection.stats().path.current_mtu >= expected).then_some(())
    })
    .await;
    let before = connection.stats();
    let body = Bytes::from(vec![7; 4 * 1_024 * 1_024]);
    assert_eq!(client.call("echo", body.clone()).await.unwrap(), body);
    let after = connection.stats();
    assert_eq!(after.path.black_holes_detected, 0);
    assert!(after.path.current_mtu >= expected);
    // A batch that the system rejects is lost completely, and so is every batch like it.
    let sent = after.udp_tx.datagrams - before.udp_tx.datagrams;
    let lost = after.path.lost_packets - before.path.lost_packets;
    assert!(lost <= sent / 2, "{lost} of {sent} packets were lost");

    // The side channel shares the port as before.
    let (from, to) = (
        node.side_channel().unwrap(),
        server.endpoint().side_channel().unwrap(),
    );
    let datagram = vec![1; 60_000];
    from.send(server.local_addr(), &datagram).await.unwrap();
    let mut buf = vec![0; 60_001];
    let (len, sender) = to.recv(&mut buf).await.unwrap();
    assert_eq!((&buf[..len], sender), (&datagram[..], node.local_addr()));
}

#[tokio::test]
async fn large_bodies_cross_in_the_largest_packets_of_ipv4() {
    let config = TransportConfig::bulk().with_mtu_max(65_527);
    check_packets(Ipv4Addr::LOCALHOST.into(), config, 65_000).await;
}

#[tokio::test]
async fn large_bodies_cross_in_the_largest_packets_of_ipv6() {
    let config = TransportConfig::bulk().with_mtu_max(65_527);
    check_packets(Ipv6Addr::LOCALHOST.into(), config, 65_000).await;
}

#[tokio::test]
async fn large_bodies_cross_in_jumbo_frames_by_default() {
    // Ten of them, which is how many QUIC would hand to the system, are more than it takes at once.
    check_packets(
        Ipv4Addr::LOCALHOST.into(),
        TransportConfig::default(),
        8_900,
    )
    .await;
}

#[tokio::test]
async fn large_bodies_cross_in_packets_of_ethernet() {
    let config = TransportConfig::default().with_mtu_max(1_452);
    check_packets(Ipv4Addr::LOCALHOST.into(), config, 1_400).await;
}
