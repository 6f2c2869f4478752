//! QUIC with the certificate of a member, below the protocol of calls.

use std::{
    error::Error,
    io,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::Arc,
};

use bytes::BytesMut;
use quinn::crypto::rustls::QuicClientConfig;
use rpcnet_transport::{
    Priority,
    wire::{self, Preface, RequestFlags, RequestHeader, StreamKind},
};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use xtask_harness::{NodeSetup, pem_paths};

use crate::chaos::protocol::Target;

/// A port that connections are made from.
#[derive(Debug, Clone)]
pub(super) struct RawEndpoint {
    endpoint: quinn::Endpoint,
    config: quinn::ClientConfig,
}

impl RawEndpoint {
    /// Opens a port for a member with this name and these keys.
    pub(super) fn open(setup: &NodeSetup) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let mut config = quinn::EndpointConfig::default();
        // The port of a worker is shared with gossip, and told apart by this bit.
        config.grease_quic_bit(false);
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let runtime = Arc::new(quinn::TokioRuntime);
        Ok(Self {
            endpoint: quinn::Endpoint::new(config, None, socket, runtime)?,
            config: client_config(setup)?,
        })
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// A new connection, if the worker takes it.
    pub(super) async fn connect(&self, target: &Target) -> Option<quinn::Connection> {
        let config = self.config.clone();
        let connecting = self
            .endpoint
            .connect_with(config, target.addr, &target.name);
        connecting.ok()?.await.ok()
    }
}

fn client_config(setup: &NodeSetup) -> Result<quinn::ClientConfig, Box<dyn Error + Send + Sync>> {
    let [cert, key, ca] = pem_paths(&setup.keys, &setup.name);
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca)?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(
            vec![CertificateDer::from_pem_file(cert)?],
            PrivateKeyDer::from_pem_file(key)?,
        )?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(config)?));
    let mut transport = quinn::TransportConfig::default();
    // Of each answer it takes next to nothing.
    transport.stream_receive_window(quinn::VarInt::from_u32(WINDOW_BYTES));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

/// The beginning of a stream of this kind.
pub(super) fn preface(kind: StreamKind) -> BytesMut {
    BytesMut::from(&Preface { kind }.encode()[..])
}

/// A stream that calls a method, up to the body.
pub(super) fn request(
    method: &str,
    flags: RequestFlags,
    key: Option<u128>,
    body_bytes: usize,
) -> BytesMut {
    let mut bytes = preface(StreamKind::Call);
    let header = RequestHeader {
        method: method.to_owned(),
        attempt: 0,
        flags,
        priority: Priority::default(),
        idempotency_key: key,
        schema: None,
        deadline: None,
    };
    wire::encode_request(&mut bytes, &header, body_bytes);
    bytes
}

const ALPN: &[u8] = b"rpcnet/1";
const WINDOW_BYTES: u32 = 1_024;
