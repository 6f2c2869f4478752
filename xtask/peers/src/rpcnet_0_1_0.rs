//! `rpcnet` 0.1.0, as published: QUIC by s2n-quic, TLS of the server alone, a stream for each call.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use rpcnet::{RpcClient, RpcConfig, RpcError, RpcServer};
use tokio::task::JoinHandle;
use xtask_load::{CLIENT, Caller, Failure, SERVER, Setup, Subject};

use crate::keys::pem_paths;

/// Subject: each of its connections opens a port of its own.
pub(crate) struct Rpcnet010 {
    setup: Setup,
}

#[derive(Clone)]
pub(crate) struct Client(Arc<RpcClient>);

impl Subject for Rpcnet010 {
    type Caller = Client;
    type Server = JoinHandle<()>;

    async fn serve(setup: &Setup) -> Result<(SocketAddr, JoinHandle<()>), Failure> {
        let [certificate, key, _] = pem_paths(setup, SERVER);
        let any = SocketAddr::from((setup.ip, 0)).to_string();
        let config = RpcConfig::new(certificate, any).with_key_path(key);
        let mut server = RpcServer::new(config);
        server
            .register("echo", |body: Vec<u8>| async move { Ok(body) })
            .await;
        let quic = server.bind()?;
        let address = quic.local_addr()?;
        let task = tokio::spawn(async move {
            let _ = server.start(quic).await;
        });
        Ok((address, task))
    }

    fn client(setup: &Setup) -> Result<Self, Failure> {
        Ok(Self {
            setup: setup.clone(),
        })
    }

    async fn connect(&self, addr: SocketAddr) -> Result<Client, Failure> {
        let [.., ca] = pem_paths(&self.setup, CLIENT);
        let any = SocketAddr::from((self.setup.ip, 0)).to_string();
        let config = RpcConfig::new(ca, any).with_server_name(SERVER);
        Ok(Client(Arc::new(RpcClient::connect(addr, config).await?)))
    }
}

impl Caller for Client {
    type Error = RpcError;

    async fn call(&self, body: Bytes) -> Result<Bytes, RpcError> {
        Ok(self.0.call("echo", body.to_vec()).await?.into())
    }
}
