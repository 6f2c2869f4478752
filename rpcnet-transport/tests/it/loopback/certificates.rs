//! Tests of certificates: which servers and callers are trusted.

use rpcnet_transport::{BindError, ConnectError, MemoryNetwork};

use super::*;

#[tokio::test]
async fn a_server_of_another_authority_is_not_trusted() {
    for (authority, why) in [
        ("other", "unknown issuer"),
        (crate::CA_NAME, "bad signature"),
    ] {
        let other = DevCa::new(authority).issue(SERVER).unwrap();
        let server = Endpoint::bind(loopback(), TransportConfig::default(), other).unwrap();
        let server = server.serve(Router::new());
        let client = endpoint(CLIENT, TransportConfig::default());
        let error = connect_error(&client, &server).await;
        assert!(matches!(error, ConnectError::Untrusted { .. }), "{error:?}");
        assert!(error.to_string().contains(why), "{error}");
        assert!(!error.is_retryable());
        counts(&server, "failed handshakes", 1, |s| s.handshakes_failed).await;
    }
}

#[tokio::test]
async fn a_certificate_for_another_name_is_rejected() {
    let server = serve(Router::new(), TransportConfig::default());
    let client = endpoint(CLIENT, TransportConfig::default());
    match within(client.connect(server.local_addr(), "server-2")).await {
        Err(ConnectError::WrongNode {
            addr,
            expected,
            presented,
        }) => {
            assert_eq!(addr, server.local_addr());
            assert_eq!(
                (&*expected, &*presented),
                ("server-2", &[SERVER.to_owned()][..])
            );
        }
        other => panic!("{other:?}"),
    }
    counts(&server, "failed handshakes", 1, |s| s.handshakes_failed).await;
    assert_serves(&server).await;
}

#[tokio::test]
async fn a_client_without_a_certificate_of_the_authority_is_refused() {
    let other = DevCa::new("other").issue_pem(CLIENT).unwrap();
    for certificate in [None, Some(&other)] {
        let server = serve(Router::new(), TransportConfig::default());
        let endpoint = hostile_caller::quic_endpoint();
        let config = hostile_caller::client_config(certificate, b"rpcnet/1");
        let connecting = endpoint
            .connect_with(config, server.local_addr(), SERVER)
            .unwrap();
        let closed = match within(connecting).await {
            Ok(connection) => within(connection.closed()).await,
            Err(closed) => closed,
        };
        assert!(
            matches!(closed, quinn::ConnectionError::ConnectionClosed(_)),
            "{closed:?}"
        );
        counts(&server, "failed handshakes", 1, |s| s.handshakes_failed).await;
        assert_eq!(server.stats().connections_accepted, 0);
        assert_serves(&server).await;
    }
}

#[tokio::test]
async fn a_rejected_certificate_is_a_connect_error() {
    // The server trusts only its own authority; the client trusts both.
    let other = DevCa::new("other");
    let (node, own) = (other.issue_pem(CLIENT).unwrap(), CA.ca_pem());
    let both = format!("{}\n{own}", node.ca);
    let tls = Tls::from_pem(node.cert.as_bytes(), node.key.as_bytes(), both.as_bytes()).unwrap();
    let server = serve(Router::new(), TransportConfig::default());
    let client = Endpoint::bind(loopback(), TransportConfig::default(), tls).unwrap();
    let error = connect_error(&client, &server).await;
    assert!(
        matches!(error, ConnectError::CertificateRejected { .. }),
        "{error:?}"
    );
    counts(&server, "failed handshakes", 1, |s| s.handshakes_failed).await;
    assert_serves(&server).await;
}

#[tokio::test]
async fn another_protocol_is_refused_in_the_handshake() {
    let server = serve(Router::new(), TransportConfig::default());
    let endpoint = hostile_caller::quic_endpoint();
    let config = hostile_caller::client_config(Some(&CA.issue_pem(CLIENT).unwrap()), b"h3");
    let connecting = endpoint
        .connect_with(config, server.local_addr(), SERVER)
        .unwrap();
    within(connecting).await.unwrap_err();
    counts(&server, "failed handshakes", 1, |s| s.handshakes_failed).await;
    assert_serves(&server).await;
}

#[tokio::test]
async fn invalid_names_are_rejected_at_once() {
    let client = endpoint(CLIENT, TransportConfig::default());
    for (name, cause) in [
        ("", "it is empty"),
        ("a b", "' ' cannot be in a DNS name"),
        ("127.0.0.1", "an IP address"),
        ("*.workers", "a wildcard names no single node"),
        (&"a".repeat(64), "64 bytes"),
        (&"abc.".repeat(64), "255 bytes"),
    ] {
        let error = client.connect(loopback(), name).await.unwrap_err();
        assert!(
            matches!(&error, ConnectError::InvalidName(given) if given == name),
            "{name:?}: {error:?}"
        );
        assert!(error.to_string().contains(cause), "{error}");
        let early = client.connect_early(loopback(), name).await;
        assert!(matches!(early, Err(ConnectError::InvalidName(_))));
    }
}

#[tokio::test(start_paused = true)]
async fn an_address_of_an_unreachable_family_is_rejected_at_once() {
    let network = MemoryNetwork::new();
    let began = Instant::now();
    for (bound, addr, cause) in [
        (
            "[::1]:70",
            "127.0.0.1:71",
            "bound to [::1]:70, which reaches IPv6 alone",
        ),
        (
            "127.0.0.1:70",
            "[::1]:71",
            "bound to 127.0.0.1:70, which reaches IPv4 alone",
        ),
    ] {
        let (bound, addr) = (bound.parse().unwrap(), addr.parse().unwrap());
        let node = network
            .bind(bound, TransportConfig::default(), identity(CLIENT))
            .unwrap();
        for error in [
            node.connect(addr, SERVER).await.unwrap_err(),
            node.connect_early(addr, SERVER).await.unwrap_err(),
        ] {
            assert!(
                matches!(error, ConnectError::InvalidAddress { addr: given, .. } if given == addr),
                "{error:?}"
            );
            assert!(!error.is_retryable());
            for text in [cause, "or to [::] for both"] {
                assert!(error.to_string().contains(text), "{error}");
            }
        }
    }
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn ipv4_and_mapped_addresses_are_the_same() {
    let server = serve(Router::new(), TransportConfig::default());
    let port = server.local_addr().port();
    let mapped = Ipv4Addr::LOCALHOST.to_ipv6_mapped();
    let client = endpoint(CLIENT, TransportConfig::default());
    let client = within(client.connect((mapped, port).into(), SERVER)).await;
    assert_eq!(client.unwrap().peer().addr(), server.local_addr());
}

#[tokio::test]
async fn an_unanswered_connect_times_out() {
    let config = TransportConfig::default().with_connect_timeout(Duration::from_millis(200));
    let silent = std::net::UdpSocket::bind(loopback()).unwrap();
    let client = endpoint(CLIENT, config);
    let error = within(client.connect(silent.local_addr().unwrap(), SERVER))
        .await
        .unwrap_err();
    assert!(matches!(error, ConnectError::Timeout { .. }), "{error:?}");
    assert!(error.is_retryable());
}

#[tokio::test]
async fn an_endpoint_that_does_not_serve_refuses_connections() {
    let node = endpoint(SERVER, TransportConfig::default());
    let client = endpoint(CLIENT, TransportConfig::default());
    let error = within(client.connect(node.local_addr(), SERVER))
        .await
        .unwrap_err();
    assert!(matches!(error, ConnectError::Refused { .. }), "{error:?}");
    assert!(error.is_retryable());
    assert!(node.stats().handshakes_refused > 0);
    let server = node.serve(Router::new().typed("alive", |n: u32| async move { n + 1 }));
    assert_serves(&server).await;
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let first = endpoint(SERVER, TransportConfig::default());
    let addr = first.local_addr();
    let second = Endpoint::bind(addr, TransportConfig::default(), identity(CLIENT));
    assert!(matches!(second, Err(BindError::AddressInUse(taken)) if taken == addr));
    assert_serves(&first.serve(Router::new().typed("alive", |n: u32| async move { n + 1 }))).await;
}

#[tokio::test]
async fn a_config_that_contradicts_itself_opens_nothing() {
    let config = TransportConfig::default().with_keep_alive(Duration::from_secs(3600));
    let failed = Endpoint::bind(loopback(), config, identity(CLIENT));
    assert!(matches!(failed, Err(BindError::Config(_))), "{failed:?}");
}

#[test]
fn bind_fails_outside_of_a_runtime() {
    let failed = Endpoint::bind(loopback(), TransportConfig::default(), identity(CLIENT));
    assert!(matches!(failed, Err(BindError::NoRuntime)), "{failed:?}");
}
