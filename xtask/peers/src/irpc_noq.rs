//! irpc over QUIC by noq, mutual TLS by rustls with ring, postcard.
//!
//! It has two ways to make calls, and `irpc` is the faster one: one bidirectional streaming call
//! whose updates are requests with numbers. What matches replies with requests is here, and
//! requests are answered one after the other. `irpc-rpc` is its `rpc` call: a bidirectional stream
//! for each call, answered in a task for each.
//!
//! The transport settings of noq are the default ones but for the number of streams, as those of
//! `quinn-stream`.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use irpc::{
    Client, WithChannels,
    channel::{mpsc, oneshot},
    rpc::{Handler, RemoteService, listen},
    rpc_requests,
};
use noq::{
    ClientConfig, Endpoint, ServerConfig, TransportConfig, VarInt,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use xtask_load::{Caller, Failure, SERVER, Setup, Subject, answer};

use crate::tls;

#[rpc_requests(message = EchoMessage, no_spans)]
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum EchoProtocol {
    #[rpc(tx = oneshot::Sender<Bytes>)]
    Echo(Echo),
    #[rpc(rx = mpsc::Receiver<Frame>, tx = mpsc::Sender<Frame>)]
    EchoFrames(EchoFrames),
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Echo(Bytes);

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct EchoFrames;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Frame {
    number: u64,
    body: Bytes,
}

pub(crate) struct Irpc {
    endpoint: Endpoint,
    is_framed: bool,
}

#[derive(Clone)]
pub(crate) enum Connection {
    Calls(Client<EchoProtocol>),
    Framed(Arc<FramedCalls>),
}

/// Calls in flight of a streaming call.
pub(crate) struct FramedCalls {
    requests: mpsc::Sender<Frame>,
    next: AtomicU64,
    waiting: Arc<Waiting>,
}

type Waiting = Mutex<HashMap<u64, tokio::sync::oneshot::Sender<Bytes>>>;

impl Subject for Irpc {
    type Caller = Connection;
    type Server = JoinHandle<()>;

    async fn serve(setup: &Setup) -> Result<(SocketAddr, JoinHandle<()>), Failure> {
        let tls = QuicServerConfig::try_from(tls::server(setup)?)?;
        let mut config = ServerConfig::with_crypto(Arc::new(tls));
        config.transport_config(transport(setup)?);
        let endpoint = Endpoint::server(config, (setup.ip, 0).into())?;
        let address = endpoint.local_addr()?;
        let handler: Handler<EchoProtocol> = Arc::new(|request, recv, send| {
            let message = request.with_remote_channels(recv, send);
            tokio::spawn(handle(message));
            Box::pin(async { Ok(()) })
        });
        Ok((address, tokio::spawn(listen(endpoint, handler))))
    }

    fn client(setup: &Setup) -> Result<Self, Failure> {
        let tls = QuicClientConfig::try_from(tls::client(setup)?)?;
        let mut config = ClientConfig::new(Arc::new(tls));
        config.transport_config(transport(setup)?);
        let endpoint = Endpoint::client((setup.ip, 0).into())?;
        endpoint.set_default_client_config(config);
        Ok(Self {
            endpoint,
            is_framed: setup.subject != RPC,
        })
    }

    async fn connect(&self, addr: SocketAddr) -> Result<Connection, Failure> {
        let connection = self.endpoint.connect(addr, SERVER)?.await?;
        let client = Client::boxed(connection);
        if !self.is_framed {
            return Ok(Connection::Calls(client));
        }
        let (requests, mut replies) = client.bidi_streaming(EchoFrames, 1, 1).await?;
        let waiting = Arc::new(Waiting::default());
        let received = Arc::clone(&waiting);
        tokio::spawn(async move {
            while let Ok(Some(Frame { number, body })) = replies.recv().await {
                let waiting = received.lock().expect("no panic").remove(&number);
                if let Some(waiting) = waiting {
                    let _ = waiting.send(body);
                }
            }
            // Those that wait see that there are no more replies.
            received.lock().expect("no panic").clear();
        });
        Ok(Connection::Framed(Arc::new(FramedCalls {
            requests,
            next: AtomicU64::new(0),
            waiting,
        })))
    }
}

impl Caller for Connection {
    type Error = Failure;

    async fn call(&self, body: Bytes) -> Result<Bytes, Failure> {
        match self {
            Self::Calls(client) => Ok(client.rpc(Echo(body)).await?),
            Self::Framed(calls) => {
                let (reply, replied) = tokio::sync::oneshot::channel();
                let number = calls.next.fetch_add(1, Relaxed);
                calls
                    .waiting
                    .lock()
                    .expect("no panic")
                    .insert(number, reply);
                calls.requests.send(Frame { number, body }).await?;
                Ok(replied.await?)
            }
        }
    }
}

async fn handle(message: EchoMessage) -> Result<(), Failure> {
    match message {
        EchoMessage::Echo(WithChannels { inner, tx, .. }) => tx.send(answer(inner.0)).await?,
        EchoMessage::EchoFrames(WithChannels { tx, mut rx, .. }) => {
            while let Some(Frame { number, body }) = rx.recv().await? {
                let body = answer(body);
                tx.send(Frame { number, body }).await?;
            }
        }
    }
    Ok(())
}

fn transport(setup: &Setup) -> Result<Arc<TransportConfig>, Failure> {
    let streams = (2 * setup.in_flight as u64).max(STREAMS_DEFAULT);
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(VarInt::try_from(streams)?)
        .max_concurrent_uni_streams(0u8.into());
    Ok(Arc::new(config))
}

/// The subject with a stream for each call.
pub(crate) const RPC: &str = "irpc-rpc";

const STREAMS_DEFAULT: u64 = 100;
