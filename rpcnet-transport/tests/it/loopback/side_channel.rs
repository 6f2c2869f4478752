//! Tests of QUIC and the side channel on one port.

use quinn::udp::{Transmit, UdpSocketState};
use rpcnet_transport::Raw;

use super::*;

#[tokio::test]
async fn garbage_datagrams_are_ignored() {
    let server = serve(Router::new(), TransportConfig::default());
    let client = connect(&server).await;
    let socket = tokio::net::UdpSocket::bind(loopback()).await.unwrap();
    let mut state = 0x9e37_79b9_u32;
    for n in 0..500usize {
        let datagram: Vec<u8> = (0..n * 7 % 1400)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect();
        socket
            .send_to(&datagram, server.local_addr())
            .await
            .unwrap();
        if n % 50 == 0 {
            assert_answers(&client).await;
        }
    }
    assert_answers(&client).await;
    assert_serves(&server).await;
    // About half of them look like QUIC; the others belong to a side channel that was not taken.
    until("they were counted", || server.stats().side_dropped > 100).await;
    assert_eq!(server.stats().side_received, 0);
}

#[tokio::test]
async fn side_datagrams_and_calls_share_the_port_both_ways() {
    const DATAGRAMS: u32 = 300;
    let (a, b) = (
        endpoint("a", TransportConfig::lan()),
        endpoint("b", TransportConfig::lan()),
    );
    let router = || Router::new().raw("echo", |_cx, body| async move { Ok(body) });
    let _serving = (a.serve(router()), b.serve(router()));
    let (side_a, side_b) = (a.side_channel().unwrap(), b.side_channel().unwrap());
    assert!(a.side_channel().is_none(), "it is taken once");

    // Each side sends one datagram at a time and waits for its echo, so that UDP has no reason to
    // lose any.
    let gossip = async {
        let mut buf = [0; 1500];
        for n in 0..DATAGRAMS {
            let mut datagram = vec![(n as u8) & !0x40; 4 + n as usize * 4 % 1200];
            datagram[1..4].copy_from_slice(&n.to_le_bytes()[..3]);
            side_a.send(b.local_addr(), &datagram).await.unwrap();
            let (len, from) = side_b.recv(&mut buf).await.unwrap();
            assert_eq!((&buf[..len], from), (&datagram[..], a.local_addr()));
            side_b.send(from, &datagram).await.unwrap();
            let (len, from) = side_a.recv(&mut buf).await.unwrap();
            assert_eq!((&buf[..len], from), (&datagram[..], b.local_addr()));
        }
    };
    let calls = async {
        let ab = a.connect(b.local_addr(), "b").await.unwrap();
        let ba = b.connect(a.local_addr(), "a").await.unwrap();
        for n in 0..300u32 {
            let body = n.to_le_bytes().repeat(1 + n as usize * 20);
            let (there, back) =
                tokio::join!(ab.call("echo", body.clone()), ba.call("echo", body.clone()));
            assert_eq!(there.unwrap(), body);
            assert_eq!(back.unwrap(), body);
        }
    };
    within(async { tokio::join!(gossip, calls) }).await;
    for endpoint in [&a, &b] {
        let stats = endpoint.stats();
        assert_eq!(u64::from(DATAGRAMS), stats.side_received);
        assert_eq!(stats.side_dropped, 0);
    }
}

#[tokio::test]
async fn coalesced_datagrams_are_demultiplexed() {
    let server = serve(Router::new(), TransportConfig::default());
    let side = server.endpoint().side_channel().unwrap();
    let client = connect(&server).await;
    let socket = std::net::UdpSocket::bind(loopback()).unwrap();
    let state = UdpSocketState::new((&socket).into()).unwrap();
    // Five segments in one send, which loopback delivers as one batch where the system can.
    let segments: [&[u8; 12]; 5] = [
        b"1-first-side",
        b"@-looks-quic",
        b"2-other-side",
        b"@-quic-again",
        b"3-third-side",
    ];
    let contents = segments.map(|s| *s).concat();
    let several = state.max_gso_segments() >= segments.len();
    let step = if several {
        contents.len()
    } else {
        segments[0].len()
    };
    for chunk in contents.chunks(step) {
        let transmit = Transmit {
            destination: server.local_addr(),
            ecn: None,
            contents: chunk,
            segment_size: several.then_some(segments[0].len()),
            src_ip: None,
        };
        state.send((&socket).into(), &transmit).unwrap();
    }
    let mut buf = [0; 100];
    for expected in [segments[0], segments[2], segments[4]] {
        let (len, from) = within(side.recv(&mut buf)).await.unwrap();
        assert_eq!(
            (&buf[..len], from),
            (&expected[..], socket.local_addr().unwrap())
        );
    }
    assert_eq!(server.stats().side_received, 3);
    assert_answers(&client).await;
}

#[tokio::test]
async fn an_unread_side_channel_drops_and_counts() {
    let config = TransportConfig::default()
        .with_side_channel_len(std::num::NonZeroUsize::new(10).unwrap())
        .with_side_datagram_bytes_max(100);
    let server = serve(Router::new(), config);
    let side = server.endpoint().side_channel().unwrap();
    let client = connect(&server).await;
    let socket = tokio::net::UdpSocket::bind(loopback()).await.unwrap();
    for n in 0..15u8 {
        socket
            .send_to(&[n; 100], server.local_addr())
            .await
            .unwrap();
    }
    for unfit in [&[0u8; 101][..], &[]] {
        socket.send_to(unfit, server.local_addr()).await.unwrap();
    }
    until("all were seen", || server.stats().side_unfit == 2).await;
    let stats = server.stats();
    assert_eq!((stats.side_received, stats.side_dropped), (10, 5));
    let mut buf = [0; 200];
    for n in 0..10 {
        let (len, _) = within(side.recv(&mut buf)).await.unwrap();
        assert_eq!(buf[..len], [n; 100]);
    }
    assert_answers(&client).await;
}

#[tokio::test]
async fn the_side_channel_refuses_datagrams_with_the_quic_bit() {
    let node = endpoint(SERVER, TransportConfig::default());
    let side = node.side_channel().unwrap();
    assert_eq!(side.local_addr(), node.local_addr());
    for datagram in [&b"@quic"[..], b"", &[0xff]] {
        let refused = side.send(node.local_addr(), datagram).await.unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::InvalidInput);
    }
    side.send(node.local_addr(), b"\x3f to myself")
        .await
        .unwrap();
    let mut buf = [0; 4];
    let (len, from) = within(side.recv(&mut buf)).await.unwrap();
    assert_eq!(
        (len, from, &buf),
        (11, node.local_addr(), b"\x3f to"),
        "a short buffer gets the start"
    );
}

#[tokio::test]
async fn an_ipv6_port_reaches_both_families() {
    let any: SocketAddr = (std::net::Ipv6Addr::UNSPECIFIED, 0).into();
    // Machines without IPv6 have nothing to test here.
    let Ok(node) = Endpoint::bind(any, TransportConfig::default(), identity(SERVER)) else {
        return;
    };
    let side = node.side_channel().unwrap();
    let server = node.serve(Router::new().typed("alive", |n: u32| async move { n + 1 }));
    let port = server.local_addr().port();
    let v4: SocketAddr = (Ipv4Addr::LOCALHOST, port).into();
    let client = endpoint(CLIENT, TransportConfig::default());
    let other = client.side_channel().unwrap();
    assert_answers(&client.connect(v4, SERVER).await.unwrap()).await;
    let mut buf = [0; 100];
    other.send(v4, b"1 ping").await.unwrap();
    let (_, from) = within(side.recv(&mut buf)).await.unwrap();
    assert_eq!(from, client.local_addr());
    side.send(from, b"2 pong").await.unwrap();
    let (len, from) = within(other.recv(&mut buf)).await.unwrap();
    assert_eq!((&buf[..len], from), (&b"2 pong"[..], v4));
}

#[tokio::test]
async fn the_side_channel_ends_with_a_shutdown() {
    let server = serve(Router::new(), TransportConfig::default());
    let side = server.endpoint().side_channel().unwrap();
    let other = endpoint(CLIENT, TransportConfig::default());
    let from_other = other.side_channel().unwrap();
    from_other
        .send(server.local_addr(), b"1 last words")
        .await
        .unwrap();
    until("it is there", || server.stats().side_received == 1).await;
    let mut buf = [0; 100];
    within(server.shutdown(TEST_TIMEOUT)).await;
    let (len, _) = within(side.recv(&mut buf)).await.unwrap();
    assert_eq!(&buf[..len], b"1 last words");
    let ended = within(side.recv(&mut buf)).await.unwrap_err();
    assert_eq!(ended.kind(), std::io::ErrorKind::NotConnected);
    let refused = within(side.send(other.local_addr(), b"1"))
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::NotConnected);
}

/// A bound port, and the handles that may keep it: clients, streams, a call in flight, and the side
/// channel.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_frees_the_port_while_handles_are_left() {
    let mut held: Vec<Box<dyn std::any::Any>> = Vec::new();
    let other = serve(echo(), no_drain_grace());
    let node = endpoint(SERVER, no_drain_grace());
    let addr = node.local_addr();
    let mut next = Some(node);
    for round in 0..20 {
        let node = next.take().unwrap();
        let side = node.side_channel().unwrap();
        let server = node.serve(echo());
        let caller = connect(&server).await;
        let own = node.connect(other.local_addr(), SERVER).await.unwrap();
        caller.call("echo", "in").await.unwrap();
        own.call("echo", "out").await.unwrap();
        let stream = own.call_streaming::<Raw, Raw>("both").await.unwrap();
        // Some rounds at its deadline.
        let time = [Duration::from_millis(50), TEST_TIMEOUT][round % 2];
        if time == TEST_TIMEOUT {
            drop(stream);
        } else {
            held.push(Box::new(stream));
        }
        within(server.shutdown(time)).await;
        next = Some(Endpoint::bind(addr, no_drain_grace(), identity(SERVER)).expect("it is free"));
        held.push(Box::new((side, node, server, caller, own)));
    }
    // Endpoints that have ended do not affect the last one.
    let last = next.unwrap().serve(echo());
    drop(held);
    assert_eq!(connect(&last).await.call("echo", "hi").await.unwrap(), "hi");
}

fn echo() -> Router {
    Router::new()
        .raw("echo", |_cx, body| async move { Ok(body) })
        .streaming(
            "both",
            |_cx, from: Receiver<Raw>, to: Sender<Raw>| async move {
                let _open = (from, to);
                std::future::pending().await
            },
        )
}

#[tokio::test]
async fn system_errors_of_side_datagrams_reach_the_sender() {
    let endpoint = endpoint("a", TransportConfig::default());
    let side = endpoint.side_channel().unwrap();
    let to = endpoint.local_addr();
    // More than a datagram of IPv4 can hold, like one above the MTU of an interface.
    let error = side.send(to, &[0; 65_508]).await.unwrap_err();
    assert!(error.raw_os_error().is_some(), "{error:?}");
    side.send(to, &[0; 100]).await.unwrap();
}
