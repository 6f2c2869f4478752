//! What we measure of ourselves.

use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
    path::Path,
};

use bytes::Bytes;
use rpcnet_transport::{
    CallOptions, Endpoint, RpcClient, RpcError, RpcServer, Tls, TransportConfig,
};
use xtask_load::{CLIENT, Caller, Failure, SERVER, Setup, StreamLoad, StreamReport, Subject};

use super::{streams, subjects::ISOLATED};

/// The client's endpoint.
#[derive(Debug)]
pub(crate) struct Rpcnet {
    endpoint: Endpoint,
    options: CallOptions,
}

/// A connection.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    client: RpcClient,
    options: CallOptions,
}

impl Subject for Rpcnet {
    type Caller = Connection;
    type Server = RpcServer;

    async fn serve(setup: &Setup) -> Result<(SocketAddr, RpcServer), Failure> {
        let router = streams::router().raw("echo", |_cx, body| async move { Ok(body) });
        let server = open(&setup.keys, setup.ip, SERVER, config(setup))?.serve(router);
        Ok((server.local_addr(), server))
    }

    fn client(setup: &Setup) -> Result<Self, Failure> {
        Ok(Self {
            endpoint: open(&setup.keys, setup.ip, CLIENT, config(setup))?,
            options: CallOptions::new().with_isolated(setup.subject == ISOLATED),
        })
    }

    async fn connect(&self, addr: SocketAddr) -> Result<Connection, Failure> {
        Ok(Connection {
            client: self.endpoint.connect(addr, SERVER).await?,
            options: self.options,
        })
    }

    async fn stream(caller: Connection, load: StreamLoad) -> Result<StreamReport, Failure> {
        streams::run(&caller.client, load).await
    }
}

impl Caller for Connection {
    type Error = RpcError;

    async fn call(&self, body: Bytes) -> Result<Bytes, RpcError> {
        self.client.call_with("echo", body, self.options).await
    }
}

/// An endpoint of the side called `name`.
pub(crate) fn open(
    keys: &Path,
    ip: IpAddr,
    name: &str,
    config: TransportConfig,
) -> Result<Endpoint, Failure> {
    let file = |end| keys.join(format!("{name}.{end}"));
    let tls = Tls::from_pem_files(file("pem"), file("key"), keys.join("ca.pem"))?;
    Ok(Endpoint::bind((ip, 0).into(), config, tls)?)
}

/// The settings that users have who say nothing else. But where a stream for each call is measured there are as many streams
/// as for the peer that it is compared with: twice the calls in flight.
fn config(setup: &Setup) -> TransportConfig {
    let config = TransportConfig::lan();
    let streams = u32::try_from(2 * setup.in_flight).unwrap_or(u32::MAX);
    match NonZeroU32::new(streams.max(STREAMS_DEFAULT)) {
        Some(streams) if setup.subject == ISOLATED => config.with_streams_max(streams),
        _ => config,
    }
}

const STREAMS_DEFAULT: u32 = 128;
