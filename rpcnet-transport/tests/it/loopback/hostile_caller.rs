//! A caller that speaks QUIC and TLS correctly, and breaks the protocol of calls.

use std::{
    num::{NonZeroU8, NonZeroU32},
    sync::Arc,
};

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use quinn::{Connection, RecvStream, SendStream, crypto::rustls::QuicClientConfig};
use rpcnet_transport::{
    Code, NodePem, Priority, Processed,
    wire::{
        self, Decoder, Frame, Hello, Preface, ReplyHeader, RequestFlags, RequestHeader, StreamKind,
    },
};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use super::*;

/// A raw QUIC connection to a server.
pub(crate) struct Caller {
    _endpoint: quinn::Endpoint,
    pub(crate) connection: Connection,
}

/// TLS settings with the certificate of a node, or without one.
pub(crate) fn client_config(node: Option<&NodePem>, alpn: &[u8]) -> quinn::ClientConfig {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(CA.ca_pem().as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match node {
        Some(pem) => builder
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(pem.cert.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(pem.key.as_bytes()).unwrap(),
            )
            .unwrap(),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(config).unwrap()))
}

pub(crate) fn quic_endpoint() -> quinn::Endpoint {
    let mut config = quinn::EndpointConfig::default();
    config.grease_quic_bit(false);
    let socket = std::net::UdpSocket::bind(loopback()).unwrap();
    quinn::Endpoint::new(config, None, socket, Arc::new(quinn::TokioRuntime)).unwrap()
}

impl Caller {
    pub(crate) async fn connect(server: &RpcServer) -> Self {
        Self::connect_with(server, quinn::TransportConfig::default()).await
    }

    pub(crate) async fn connect_with(
        server: &RpcServer,
        transport: quinn::TransportConfig,
    ) -> Self {
        let endpoint = quic_endpoint();
        let mut config = client_config(Some(&CA.issue_pem("stranger").unwrap()), b"rpcnet/1");
        config.transport_config(Arc::new(transport));
        let connecting = endpoint
            .connect_with(config, server.local_addr(), SERVER)
            .unwrap();
        let connection = within(connecting).await.unwrap();
        Self {
            _endpoint: endpoint,
            connection,
        }
    }

    /// Opens a stream and writes these bytes.
    pub(crate) async fn send_on_new_stream(&self, bytes: &[u8]) -> (SendStream, RecvStream) {
        let (mut send, recv) = within(self.connection.open_bi()).await.unwrap();
        within(send.write_all(bytes)).await.unwrap();
        (send, recv)
    }

    /// Makes a call with the body 10 whose reply is a stream, and reads that to its end, whatever
    /// its deadline. Returns its status, or `None` if it was reset.
    pub(crate) async fn stream_until(&mut self, method: &str, deadline: Duration) -> Option<Code> {
        let flags = RequestFlags {
            streams_replies: true,
            ..RequestFlags::default()
        };
        let mut begun = request(method, flags, Some(deadline), 1);
        begun.extend_from_slice(&[10]);
        let (mut send, mut recv) = self.send_on_new_stream(&begun).await;
        send.finish().unwrap();
        let mut decoder = Decoder::replies(1_000_000);
        loop {
            while let Some(frame) = decoder.next_frame().unwrap() {
                if let Frame::Reply(header, _) = frame {
                    return Some(header.code);
                }
            }
            let chunk = recv.read_chunk(usize::MAX, true).await.ok()?;
            decoder.push(chunk.expect("no end without a reply").bytes);
        }
    }

    /// Makes a call without body, and waits for the reply without a deadline of its own.
    pub(crate) async fn call(&mut self, method: &str, deadline: Option<Duration>) -> ReplyHeader {
        let (mut send, mut recv) = self
            .send_on_new_stream(&request(method, RequestFlags::default(), deadline, 0))
            .await;
        send.finish().unwrap();
        reply(&mut recv).await
    }
}

impl Caller {
    /// Makes a call whose body is announced and never sent.
    pub(crate) async fn call_without_body(
        &mut self,
        method: &str,
        body_bytes: usize,
    ) -> ReplyHeader {
        let request = request(method, RequestFlags::default(), None, body_bytes);
        let (_send, mut recv) = self.send_on_new_stream(&request).await;
        reply(&mut recv).await
    }
}

pub(crate) fn request(
    method: &str,
    flags: RequestFlags,
    deadline: Option<Duration>,
    body_bytes: usize,
) -> BytesMut {
    let mut bytes = BytesMut::from(
        &Preface {
            kind: StreamKind::Call,
        }
        .encode()[..],
    );
    let header = RequestHeader {
        method: method.to_owned(),
        attempt: 0,
        flags,
        priority: Priority::default(),
        idempotency_key: None,
        schema: None,
        deadline,
    };
    wire::encode_request(&mut bytes, &header, body_bytes);
    bytes
}

pub(crate) async fn reply(recv: &mut RecvStream) -> ReplyHeader {
    let mut decoder = Decoder::replies(1 << 20);
    loop {
        match decoder.next_frame().unwrap() {
            Some(Frame::Reply(header, _)) => return header,
            Some(_) => {}
            None => {
                let chunk = within(recv.read_chunk(1 << 20, true)).await.unwrap();
                decoder.push(chunk.expect("a reply before the end").bytes);
            }
        }
    }
}

/// The code with which the server reset the stream.
pub(crate) async fn reset_code(recv: &mut RecvStream) -> u64 {
    match within(recv.read_to_end(16 << 20)).await {
        Err(quinn::ReadToEndError::Read(quinn::ReadError::Reset(code))) => code.into_inner(),
        other => panic!("not reset: {other:?}"),
    }
}

const RESET_MALFORMED: u64 = 1;
const RESET_HEADER_TIMEOUT: u64 = 2;
pub(crate) const RESET_STALLED: u64 = 3;

fn impatient() -> TransportConfig {
    TransportConfig::default()
        .with_header_timeout(Duration::from_millis(200))
        .with_stall_timeout(Duration::from_millis(300))
}

#[tokio::test]
async fn a_wrong_preface_is_reset_and_counted() {
    let server = serve(Router::new(), TransportConfig::default());
    let caller = Caller::connect(&server).await;
    let wrong: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\n",
        b"rn\x02\x01",
        b"rn\x01\x02",
        &[0xff; 64],
    ];
    for bytes in wrong {
        let (_send, mut recv) = caller.send_on_new_stream(bytes).await;
        assert_eq!(reset_code(&mut recv).await, RESET_MALFORMED);
    }
    counts(&server, "bad prefaces", 4, |s| s.bad_prefaces).await;
    // The fault of one stream does not close the connection.
    assert!(caller.connection.close_reason().is_none());
    assert_serves(&server).await;
}

#[tokio::test]
async fn malformed_frames_are_reset_and_counted() {
    let server = serve(Router::new(), TransportConfig::default());
    let caller = Caller::connect(&server).await;
    let preface = Preface {
        kind: StreamKind::Call,
    }
    .encode();
    let mut item = BytesMut::from(&preface[..]);
    wire::encode_item_header(&mut item, 0);
    let unknown = [&preface[..], &[0x7f; 32]].concat();
    for bytes in [&item[..], &unknown] {
        let (_send, mut recv) = caller.send_on_new_stream(bytes).await;
        assert_eq!(reset_code(&mut recv).await, RESET_MALFORMED);
    }
    // An end in the middle of a header.
    let (mut send, mut recv) = caller
        .send_on_new_stream(&request("alive", RequestFlags::default(), None, 0)[..9])
        .await;
    send.finish().unwrap();
    assert_eq!(reset_code(&mut recv).await, RESET_MALFORMED);
    counts(&server, "malformed frames", 3, |s| s.malformed_frames).await;
    assert_serves(&server).await;
}

#[tokio::test]
async fn an_oversized_body_is_rejected_by_its_length() {
    let config = TransportConfig::default().with_message_bytes_max(1000);
    let server = serve(Router::new(), config);
    let caller = Caller::connect(&server).await;
    let (_send, mut recv) = caller
        .send_on_new_stream(&request("alive", RequestFlags::default(), None, 1001))
        .await;
    let header = reply(&mut recv).await;
    assert_eq!(
        (header.code, header.processed),
        (Code::PayloadTooLarge, Processed::No)
    );
    counts(&server, "oversized messages", 1, |s| s.oversized_messages).await;
    assert_serves(&server).await;
}

#[tokio::test]
async fn silent_streams_are_reset_after_the_header_timeout() {
    let server = serve(Router::new(), impatient());
    let caller = Caller::connect(&server).await;
    // As many streams as the server allows, each with too few bytes; then there is room again.
    let whole = request("alive", RequestFlags::default(), None, 0);
    let mut silent = Vec::new();
    for n in 0..128 {
        silent.push(caller.send_on_new_stream(&whole[..1 + n % 10]).await);
    }
    for (_send, recv) in &mut silent {
        assert_eq!(reset_code(recv).await, RESET_HEADER_TIMEOUT);
    }
    counts(&server, "header timeouts", 128, |s| s.header_timeouts).await;
    drop(silent);
    let (_send, mut recv) = caller
        .send_on_new_stream(&request("nothing", RequestFlags::default(), None, 0))
        .await;
    assert_eq!(reply(&mut recv).await.code, Code::Unimplemented);
    assert_serves(&server).await;
}

#[tokio::test]
async fn a_missing_body_is_reset_after_the_stall_timeout() {
    let server = serve(Router::new(), impatient());
    let caller = Caller::connect(&server).await;
    let mut bytes = request("alive", RequestFlags::default(), None, 1000);
    bytes.extend_from_slice(&[1; 10]);
    let (_send, mut recv) = caller.send_on_new_stream(&bytes).await;
    assert_eq!(reset_code(&mut recv).await, RESET_STALLED);
    counts(&server, "stalled calls", 1, |s| s.stalled_calls).await;
    assert_serves(&server).await;
}

#[tokio::test]
async fn calls_are_rejected_by_their_header() {
    let router = Router::new().raw("hang", |_cx, _body| futures::future::pending());
    let config = no_drain_grace().with_calls_max(std::num::NonZeroUsize::new(1).unwrap());
    let server = serve(router, config);
    let caller = Caller::connect(&server).await;
    // Each announces a body that never comes.
    let rejection = async |method: &str| {
        let bytes = request(method, RequestFlags::default(), None, 1000);
        let (_send, mut recv) = caller.send_on_new_stream(&bytes).await;
        let header = reply(&mut recv).await;
        assert_eq!(header.processed, Processed::No);
        header.code
    };
    assert_eq!(rejection("nothing").await, Code::Unimplemented);
    // A call whose body is on its way counts as in flight.
    let (_send, _recv) = caller
        .send_on_new_stream(&request("hang", RequestFlags::default(), None, 1000))
        .await;
    until("it is served", || server.in_flight() == 1).await;
    assert_eq!(rejection("hang").await, Code::Overloaded);
    server.set_draining(true);
    assert_eq!(rejection("hang").await, Code::Draining);
    until("rejected calls are not served", || server.in_flight() == 1).await;
}

#[tokio::test]
async fn a_late_body_is_answered_as_unprocessed() {
    let server = serve(Router::new(), TransportConfig::default());
    let caller = Caller::connect(&server).await;
    let deadline = Some(Duration::from_millis(100));
    let (_send, mut recv) = caller
        .send_on_new_stream(&request("alive", RequestFlags::default(), deadline, 1000))
        .await;
    let header = reply(&mut recv).await;
    assert_eq!(
        (header.code, header.processed),
        (Code::DeadlineExceeded, Processed::No)
    );
    counts(&server, "timed out calls", 1, |s| s.calls_timed_out).await;

    let (_send, mut recv) = caller
        .send_on_new_stream(&request("alive", RequestFlags::default(), None, 1000))
        .await;
    until("it is served", || server.in_flight() == 1).await;
    let report = within(server.shutdown(Duration::from_millis(400))).await;
    assert_eq!((report.cancelled, report.rejected), (0, 1));
    let header = reply(&mut recv).await;
    assert_eq!(
        (header.code, header.processed),
        (Code::Draining, Processed::No)
    );
}

#[tokio::test]
async fn a_caller_that_stops_reading_is_reset_while_others_are_served() {
    let large = Bytes::from(vec![5; 8 << 20]);
    let router = Router::new().raw("large", move |_cx, _body| {
        let large = large.clone();
        async move { Ok(large) }
    });
    let server = serve(router, impatient());
    let caller = Caller::connect(&server).await;
    let other = connect(&server).await;
    let (mut send, _unread) = caller
        .send_on_new_stream(&request("large", RequestFlags::default(), None, 0))
        .await;
    send.finish().unwrap();
    until("the call is served", || server.in_flight() == 1).await;
    while server.in_flight() == 1 {
        assert_answers(&other).await;
    }
    counts(&server, "stalled calls", 1, |s| s.stalled_calls).await;
    assert_serves(&server).await;
}

#[tokio::test]
async fn an_unread_stream_is_reset() {
    let router = Router::new().server_streaming(
        "flood",
        |_cx, (): (), mut out: Sender<Vec<u8>>| async move {
            loop {
                out.send(vec![0; 10_000]).await?;
            }
        },
    );
    let server = serve(router, impatient());
    let caller = Caller::connect(&server).await;
    let flags = RequestFlags {
        streams_replies: true,
        ..RequestFlags::default()
    };
    let (mut send, mut unread) = caller
        .send_on_new_stream(&request("flood", flags, None, 0))
        .await;
    send.finish().unwrap();
    until("the call is served", || server.in_flight() == 1).await;
    until("the call is reset", || server.in_flight() == 0).await;
    counts(&server, "stalled calls", 1, |s| s.stalled_calls).await;
    assert_eq!(reset_code(&mut unread).await, RESET_STALLED);
    assert_serves(&server).await;
}

#[tokio::test]
async fn a_connection_that_vanishes_cancels_its_calls() {
    let (router, dropped) = hanging();
    let server = serve(router, TransportConfig::default());
    let caller = Caller::connect(&server).await;
    let (mut send, _recv) = caller
        .send_on_new_stream(&request("hang", RequestFlags::default(), None, 0))
        .await;
    send.finish().unwrap();
    until("the call is served", || server.in_flight() == 1).await;
    caller.connection.close(7u32.into(), b"gone");
    within(dropped.next()).await;
    until("the server is idle", || server.in_flight() == 0).await;
    assert_serves(&server).await;
}

#[tokio::test]
async fn the_hello_announces_the_configured_limits() {
    let config = TransportConfig::default()
        .with_message_bytes_max(54_321)
        .with_streams_max(NonZeroU32::new(12).unwrap())
        .with_lanes(NonZeroU8::new(3).unwrap())
        .with_lane_calls_max(NonZeroU32::new(100_000).unwrap())
        .with_lane_body_bytes_max(1_234);
    let server = serve(Router::new(), config);
    let caller = Caller::connect(&server).await;
    let mut control = within(caller.connection.accept_uni()).await.unwrap();
    let mut decoder = Decoder::new(StreamKind::Control, 0);
    let hello = loop {
        if let Some(Frame::Hello(hello)) = decoder.next_frame().unwrap() {
            break hello;
        }
        let chunk = within(control.read_chunk(100, true)).await.unwrap();
        decoder.push(chunk.expect("a hello").bytes);
    };
    let expected = Hello {
        draining: false,
        message_bytes_max: 54_321,
        streams_max: 12,
        lanes_max: 3,
        lane_calls_max: u16::MAX,
        lane_body_bytes_max: 1_234,
        has_schemas: true,
        has_headers: true,
    };
    assert_eq!(hello, expected);
    // Other tests check what each limit does to a caller that exceeds it; QUIC enforces that of
    // streams.
    let mut open = Vec::new();
    while let Some(stream) = caller.connection.open_bi().now_or_never() {
        open.push(stream.unwrap());
        assert!(open.len() <= 12);
    }
    assert_eq!(open.len(), 12);
}
