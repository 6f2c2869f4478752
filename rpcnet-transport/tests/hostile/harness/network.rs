//! The honest side, and a QUIC endpoint for the peer that breaks the protocol.

use std::{
    cell::RefCell,
    future::Future,
    net::{Ipv4Addr, SocketAddr},
    num::{NonZeroU8, NonZeroU32, NonZeroUsize},
    sync::Arc,
    time::Duration,
};

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rpcnet_transport::{
    Admission, DevCa, Endpoint, IdempotencyCache, NodePem, Raw, Receiver, Router, RpcClient,
    RpcServer, Sender, Status, TransportConfig,
};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::{
    runtime::Runtime,
    time::{Instant, sleep, timeout},
};

/// Endpoints that all scripts of one thread share.
pub(crate) struct World {
    pub(crate) runtime: Runtime,
    pub(crate) server: RpcServer,
    /// Calls the honest server.
    pub(crate) client: RpcClient,
    /// Connects to servers that break the protocol.
    pub(crate) endpoint: Endpoint,
    pub(crate) hostile: quinn::Endpoint,
}

pub(crate) const SERVER: &str = "server";
pub(crate) const HOSTILE: &str = "hostile";

/// Time limit for events that have to happen.
const PATIENCE: Duration = Duration::from_secs(25);

thread_local! {
    /// Script that runs now, for the report of a panic.
    static SCRIPT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static WORLD: &'static World = Box::leak(Box::new(World::new()));
}

/// The world of this thread, for this script.
pub(crate) fn world(script: &[u8]) -> &'static World {
    SCRIPT.with(|current| script.clone_into(&mut current.borrow_mut()));
    WORLD.with(|world| *world)
}

impl World {
    fn new() -> Self {
        // The panic of a task would be lost otherwise.
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            hook(info);
            let script = SCRIPT.with(|script| script.borrow().clone());
            eprintln!("the script was {script:?}");
            std::process::abort();
        }));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let ca = DevCa::new("cluster");
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let (server, client, endpoint, hostile) = runtime.block_on(async {
            let bind = |name, config| {
                let identity = ca.issue(name).expect("a name");
                Endpoint::bind(any, config, identity).expect("a port")
            };
            let server = bind(SERVER, config()).serve(router());
            let client = bind("client", config());
            let client = client.connect(server.local_addr(), SERVER).await;
            // Every other script waits for the hello of a server that sends none.
            let impatient = config().with_connect_timeout(Duration::from_millis(100));
            let endpoint = bind("client", impatient);
            let pem = ca.issue_pem(HOSTILE).expect("a name");
            let hostile = hostile_endpoint(&pem, &ca, any);
            (server, client.expect("a connection"), endpoint, hostile)
        });
        Self {
            runtime,
            server,
            client,
            endpoint,
            hostile,
        }
    }
}

/// Small limits, so that a short script reaches them.
fn config() -> TransportConfig {
    TransportConfig::lan()
        .with_message_bytes_max(64 * 1024)
        .with_buffered_bytes_max(256 * 1024)
        .with_connection_buffered_bytes_max(128 * 1024)
        .with_connect_timeout(Duration::from_secs(2))
        .with_header_timeout(Duration::from_millis(200))
        .with_stall_timeout(Duration::from_millis(300))
        .with_streams_max(NonZeroU32::new(16).expect("not zero"))
        .with_lanes(NonZeroU8::new(2).expect("not zero"))
        .with_lane_calls_max(NonZeroU32::new(8).expect("not zero"))
        .with_calls_max(NonZeroUsize::new(64).expect("not zero"))
        .with_admission(Admission::fixed(4).with_queue_len(8))
}

fn router() -> Router {
    Router::new()
        .raw("echo", |_cx, body| async move { Ok(body) })
        .raw("wait", |_cx, body| async move {
            sleep(Duration::from_millis(3)).await;
            Ok(body)
        })
        .raw(
            "large",
            |_cx, _body| async move { Ok(vec![7; 30_000].into()) },
        )
        .server_streaming("count", |_cx, (): (), mut out: Sender<u32>| async move {
            for number in 0..10 {
                out.send(number).await?;
            }
            Ok(())
        })
        .client_streaming("sum", |_cx, mut parts: Receiver<Raw>| async move {
            let mut bytes = 0;
            while let Some(part) = parts.message().await? {
                bytes += part.0.len() as u64;
            }
            Ok::<_, Status>(bytes)
        })
        .streaming(
            "chat",
            |_cx, mut said: Receiver<Raw>, mut out: Sender<Raw>| async move {
                while let Some(line) = said.message().await? {
                    out.send(line).await?;
                }
                Ok(())
            },
        )
        .with_idempotency("echo", IdempotencyCache::new().with_capacity(16))
}

/// A QUIC endpoint with the certificate of a node, without any protocol on top.
fn hostile_endpoint(pem: &NodePem, ca: &DevCa, any: SocketAddr) -> quinn::Endpoint {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain =
        || vec![CertificateDer::from_pem_slice(pem.cert.as_bytes()).expect("a certificate")];
    let key = || PrivateKeyDer::from_pem_slice(pem.key.as_bytes()).expect("a key");
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_slice(ca.ca_pem().as_bytes());
    roots
        .add(authority.expect("a certificate"))
        .expect("it is one");
    let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots)
        .with_client_auth_cert(chain(), key())
        .expect("they fit");
    client.alpn_protocols = vec![b"rpcnet/1".to_vec()];
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(chain(), key())
        .expect("they fit");
    server.alpn_protocols = vec![b"rpcnet/1".to_vec()];
    let server = QuicServerConfig::try_from(server).expect("a cipher suite");
    let client = QuicClientConfig::try_from(client).expect("a cipher suite");
    let mut config = quinn::EndpointConfig::default();
    config.grease_quic_bit(false);
    let mut endpoint = quinn::Endpoint::new(
        config,
        Some(quinn::ServerConfig::with_crypto(Arc::new(server))),
        std::net::UdpSocket::bind(any).expect("a port"),
        Arc::new(quinn::TokioRuntime),
    )
    .expect("an endpoint");
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(client)));
    endpoint
}

/// # Panics
///
/// If it does not happen in time.
pub(crate) async fn within<F: Future>(what: &str, future: F) -> F::Output {
    match timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("{what}: not in time"),
    }
}

/// # Panics
///
/// If it does not become true in time.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not in time");
        sleep(Duration::from_micros(200)).await;
    }
}
