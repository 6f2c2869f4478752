//! tarpc over TCP, bincode, `TCP_NODELAY` on both ends: without TLS, and as `tarpc-tls` with mutual
//! TLS, which is what the subjects that encrypt are to be compared with.
//!
//! Its limits allow all calls in flight. Each request gets a task, as in its documentation: the
//! fastest way at many calls in flight that still lets a handler wait without holding up the
//! others. As `tarpc-tcp-inline` each handler is run to its end before the next request is looked
//! at, which is faster yet for an echo, and without effect for a handler that waits.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use futures::StreamExt;
use tarpc::{
    client::{self, RpcError},
    context, serde_transport,
    server::{self, BaseChannel, Channel},
    tokio_serde::formats::Bincode,
    tokio_util::codec::LengthDelimitedCodec,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use xtask_load::{Caller, Failure, SERVER, Setup, Subject, answer};

use crate::tls;

#[tarpc::service]
trait Echo {
    async fn echo(body: Bytes) -> Bytes;
}

#[derive(Clone)]
struct Handler;

impl Echo for Handler {
    async fn echo(self, _: context::Context, body: Bytes) -> Bytes {
        answer(body)
    }
}

pub(crate) struct TarpcTcp {
    setup: Setup,
    tls: Option<TlsConnector>,
}

#[derive(Clone)]
pub(crate) struct Client(EchoClient);

impl Subject for TarpcTcp {
    type Caller = Client;
    type Server = JoinHandle<()>;

    async fn serve(setup: &Setup) -> Result<(SocketAddr, JoinHandle<()>), Failure> {
        let listener = TcpListener::bind((setup.ip, 0)).await?;
        let address = listener.local_addr()?;
        let tls = match setup.subject.as_str() {
            TLS => Some(TlsAcceptor::from(Arc::new(tls::server(setup)?))),
            _ => None,
        };
        let setup = setup.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if stream.set_nodelay(true).is_err() {
                    continue;
                }
                let (setup, tls) = (setup.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve_connection(stream, &setup).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve_connection(stream, &setup).await;
                            }
                        }
                    }
                });
            }
        });
        Ok((address, task))
    }

    fn client(setup: &Setup) -> Result<Self, Failure> {
        let tls = match setup.subject.as_str() {
            TLS => Some(TlsConnector::from(Arc::new(tls::client(setup)?))),
            _ => None,
        };
        Ok(Self {
            setup: setup.clone(),
            tls,
        })
    }

    async fn connect(&self, addr: SocketAddr) -> Result<Client, Failure> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        Ok(match &self.tls {
            None => client(stream, &self.setup),
            Some(tls) => client(tls.connect(SERVER.try_into()?, stream).await?, &self.setup),
        })
    }
}

async fn serve_connection<S>(stream: S, setup: &Setup)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let transport = serde_transport::new(codec(setup).new_framed(stream), Bincode::default());
    let config = server::Config {
        pending_response_buffer: buffer_len(setup),
    };
    let requests = BaseChannel::new(config, transport).execute(Handler.serve());
    if setup.subject == INLINE {
        requests.for_each(|handled| handled).await;
    } else {
        requests
            .for_each(|handled| async {
                tokio::spawn(handled);
            })
            .await;
    }
}

fn client<S>(stream: S, setup: &Setup) -> Client
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let transport = serde_transport::new(codec(setup).new_framed(stream), Bincode::default());
    let mut config = client::Config::default();
    config.max_in_flight_requests = buffer_len(setup);
    config.pending_request_buffer = buffer_len(setup);
    Client(EchoClient::new(config, transport).spawn())
}

impl Caller for Client {
    type Error = RpcError;

    async fn call(&self, body: Bytes) -> Result<Bytes, RpcError> {
        self.0.echo(context::current(), body).await
    }
}

fn codec(setup: &Setup) -> tarpc::tokio_util::codec::length_delimited::Builder {
    let mut builder = LengthDelimitedCodec::builder();
    builder.max_frame_length(setup.body_bytes + FRAMING_BYTES_MAX);
    builder
}

/// More than can be under way.
fn buffer_len(setup: &Setup) -> usize {
    setup.in_flight.max(100) * 2
}

/// The subject with TLS.
pub(crate) const TLS: &str = "tarpc-tls";

/// The subject that spawns nothing.
pub(crate) const INLINE: &str = "tarpc-tcp-inline";

const FRAMING_BYTES_MAX: usize = 64 * 1024;
