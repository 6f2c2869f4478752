//! tonic with mutual TLS (rustls with ring), `TCP_NODELAY` on both ends.
//!
//! Streams are as many as calls in flight; windows and message sizes are raised, so that neither
//! holds it up.

use std::net::SocketAddr;

use bytes::Bytes;
use futures::stream::BoxStream;
use tokio::{net::TcpListener, task::JoinHandle};
use tonic::{
    Request, Response, Status, Streaming,
    transport::{
        Certificate, Channel, ClientTlsConfig, Endpoint, Identity, Server, ServerTlsConfig,
        server::TcpIncoming,
    },
};
use xtask_load::{
    CLIENT, Caller, Direction, Failure, Load, Report, SERVER, Setup, Subject, answer,
};

use crate::{keys, tonic_streams};

/// Request and reply.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Message {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) body: Bytes,
}

pub(crate) mod service {
    include!(concat!(env!("OUT_DIR"), "/bench.Echo.rs"));
}

use service::{
    echo_client::EchoClient,
    echo_server::{Echo, EchoServer},
};

struct Handler;

#[tonic::async_trait]
impl Echo for Handler {
    async fn echo(&self, request: Request<Message>) -> Result<Response<Message>, Status> {
        let body = answer(request.into_inner().body);
        Ok(Response::new(Message { body }))
    }

    type SendItemsStream = BoxStream<'static, Result<Message, Status>>;

    async fn send_items(
        &self,
        request: Request<Message>,
    ) -> Result<Response<Self::SendItemsStream>, Status> {
        tonic_streams::send_items(&request.into_inner()).map(Response::new)
    }

    async fn check_items(
        &self,
        request: Request<Streaming<Message>>,
    ) -> Result<Response<Message>, Status> {
        let checked = tonic_streams::check_items(request.into_inner()).await;
        checked.map(Response::new)
    }

    type EchoItemsStream = Streaming<Message>;

    async fn echo_items(
        &self,
        request: Request<Streaming<Message>>,
    ) -> Result<Response<Streaming<Message>>, Status> {
        Ok(Response::new(request.into_inner()))
    }
}

pub(crate) struct TonicTls {
    setup: Setup,
}

#[derive(Clone)]
pub(crate) struct Client(EchoClient<Channel>);

impl Subject for TonicTls {
    type Caller = Client;
    type Server = JoinHandle<()>;

    async fn serve(setup: &Setup) -> Result<(SocketAddr, JoinHandle<()>), Failure> {
        let [certificate, key, ca] = keys::pem(setup, SERVER)?;
        let tls = ServerTlsConfig::new()
            .identity(Identity::from_pem(certificate, key))
            .client_ca_root(Certificate::from_pem(ca));
        let listener = TcpListener::bind((setup.ip, 0)).await?;
        let address = listener.local_addr()?;
        let echo = EchoServer::new(Handler)
            .max_decoding_message_size(message_bytes_max(setup))
            .max_encoding_message_size(message_bytes_max(setup));
        let router = Server::builder()
            .tls_config(tls)?
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_concurrent_streams(u32::try_from(setup.in_flight)?.max(STREAMS_MIN))
            .add_service(echo);
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let task = tokio::spawn(async move {
            let _ = router.serve_with_incoming(incoming).await;
        });
        Ok((address, task))
    }

    fn client(setup: &Setup) -> Result<Self, Failure> {
        Ok(Self {
            setup: setup.clone(),
        })
    }

    async fn connect(&self, addr: SocketAddr) -> Result<Client, Failure> {
        let [certificate, key, ca] = keys::pem(&self.setup, CLIENT)?;
        let tls = ClientTlsConfig::new()
            .identity(Identity::from_pem(certificate, key))
            .ca_certificate(Certificate::from_pem(ca))
            .domain_name(SERVER);
        let channel = Endpoint::from_shared(format!("https://{addr}"))?
            .tls_config(tls)?
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .buffer_size(self.setup.in_flight.max(1024))
            .connect()
            .await?;
        let client = EchoClient::new(channel)
            .max_decoding_message_size(message_bytes_max(&self.setup))
            .max_encoding_message_size(message_bytes_max(&self.setup));
        Ok(Client(client))
    }

    async fn stream(caller: Client, load: Load, direction: Direction) -> Result<Report, Failure> {
        tonic_streams::run(caller.0, load, direction).await
    }
}

impl Caller for Client {
    type Error = Status;

    async fn call(&self, body: Bytes) -> Result<Bytes, Status> {
        // Cloned for each call, as its users do: calling takes it by `&mut`.
        let mut client = self.0.clone();
        let reply = client.echo(Message { body }).await?;
        Ok(reply.into_inner().body)
    }
}

/// The body and what is around it.
fn message_bytes_max(setup: &Setup) -> usize {
    setup.body_bytes + 1024
}

const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 64 << 20;
const STREAMS_MIN: u32 = 200;
