//! Plain quinn: a bidirectional stream for each call.
//!
//! Mutual TLS by rustls with ring; a task for each stream on the server. Its transport settings are
//! the default ones but for the number of streams: twice the calls in flight, since the permission
//! to open the next ones comes late, with acknowledgements, and no less than by default.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use quinn::{
    ClientConfig, Connection, Endpoint, ServerConfig, TransportConfig, VarInt,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};
use xtask_load::{Caller, Failure, SERVER, Setup, Subject, answer};

use crate::tls;

pub(crate) struct QuinnStream {
    endpoint: Endpoint,
    body_bytes: usize,
}

#[derive(Clone)]
pub(crate) struct Streams {
    connection: Connection,
    body_bytes: usize,
}

impl Subject for QuinnStream {
    type Caller = Streams;
    type Server = Endpoint;

    async fn serve(setup: &Setup) -> Result<(SocketAddr, Endpoint), Failure> {
        let tls = QuicServerConfig::try_from(tls::server(setup)?)?;
        let mut config = ServerConfig::with_crypto(Arc::new(tls));
        config.transport_config(transport(setup)?);
        let endpoint = Endpoint::server(config, (setup.ip, 0).into())?;
        let body_bytes = setup.body_bytes;
        tokio::spawn({
            let endpoint = endpoint.clone();
            async move {
                while let Some(incoming) = endpoint.accept().await {
                    tokio::spawn(async move {
                        let Ok(connection) = incoming.await else {
                            return;
                        };
                        while let Ok((mut send, mut recv)) = connection.accept_bi().await {
                            tokio::spawn(async move {
                                let body = recv.read_to_end(body_bytes).await?;
                                send.write_all(&answer(body.into())).await?;
                                send.finish()?;
                                Ok::<_, Failure>(())
                            });
                        }
                    });
                }
            }
        });
        Ok((endpoint.local_addr()?, endpoint))
    }

    fn client(setup: &Setup) -> Result<Self, Failure> {
        let tls = QuicClientConfig::try_from(tls::client(setup)?)?;
        let mut config = ClientConfig::new(Arc::new(tls));
        config.transport_config(transport(setup)?);
        let mut endpoint = Endpoint::client((setup.ip, 0).into())?;
        endpoint.set_default_client_config(config);
        Ok(Self {
            endpoint,
            body_bytes: setup.body_bytes,
        })
    }

    async fn connect(&self, addr: SocketAddr) -> Result<Streams, Failure> {
        Ok(Streams {
            connection: self.endpoint.connect(addr, SERVER)?.await?,
            body_bytes: self.body_bytes,
        })
    }
}

impl Caller for Streams {
    type Error = Failure;

    async fn call(&self, body: Bytes) -> Result<Bytes, Failure> {
        let (mut send, mut recv) = self.connection.open_bi().await?;
        send.write_all(&body).await?;
        send.finish()?;
        Ok(recv.read_to_end(self.body_bytes).await?.into())
    }
}

fn transport(setup: &Setup) -> Result<Arc<TransportConfig>, Failure> {
    let streams = (2 * setup.in_flight as u64).max(STREAMS_DEFAULT);
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(VarInt::try_from(streams)?)
        .max_concurrent_uni_streams(0u8.into());
    Ok(Arc::new(config))
}

const STREAMS_DEFAULT: u64 = 100;
