//! Flood of a server by a process, for `bench rpc --floods`.

use std::{
    collections::HashSet,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    path::PathBuf,
    thread,
    time::Duration,
};

use rpcnet_transport::{CallOptions, Endpoint, Raw, RpcClient, TransportConfig};
use serde::{Deserialize, Serialize};
use tokio::{
    runtime::Builder,
    time::{MissedTickBehavior, interval, timeout},
};
use xtask_harness::{Notices, Outcome, ParentLink, run_child_on, tls};
use xtask_load::{CLIENT, Failure, SERVER};

/// Order to the process: a flood, which lasts until the process is killed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Flood {
    pub(crate) kind: FloodKind,
    pub(crate) server: SocketAddr,
    /// The folder with the client's key.
    pub(crate) keys: PathBuf,
    pub(crate) core: Option<usize>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Complete {}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum FloodKind {
    /// Handshakes that are begun, a thousand a second, and never finished.
    Handshakes,
    /// A thousand connections that do nothing.
    Idle,
    /// A thousand streams, over a few connections, that send one byte a second.
    Trickle,
}

pub(crate) fn run() -> Outcome {
    run_child_on(
        Builder::new_current_thread(),
        async |link: &mut ParentLink<Flood, Complete>| match link.next_order().await {
            Some(flood) => flood.run(link.notices()).await,
            None => Ok(()),
        },
    )
}

impl Flood {
    async fn run(self, notices: Notices<Complete>) -> Result<(), Failure> {
        if let Some(core) = self.core {
            xtask_load::pin(core)?;
        }
        let tls = tls(&self.keys, CLIENT)?;
        let any = (Ipv4Addr::LOCALHOST, 0).into();
        let endpoint = Endpoint::bind(any, TransportConfig::default(), tls)?;
        match self.kind {
            FloodKind::Handshakes => handshakes(endpoint, self.server, notices).await,
            FloodKind::Idle => {
                let _connections = connect(&endpoint, self.server, CONNECTIONS).await?;
                notices.send(Complete {}).await;
                std::future::pending().await
            }
            FloodKind::Trickle => trickle(&endpoint, self.server, notices).await,
        }
    }
}

/// Each connection attempt goes to a sink, which hands its first datagram on to the server. Answers
/// go nowhere, so that the server holds as many half-open handshakes as it will.
async fn handshakes(
    endpoint: Endpoint,
    server: SocketAddr,
    notices: Notices<Complete>,
) -> Result<(), Failure> {
    let sink = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = sink.local_addr()?;
    let out = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    thread::spawn(move || {
        let mut seen = HashSet::new();
        let mut buffer = [0; 2048];
        while let Ok(bytes) = sink.recv(&mut buffer) {
            let Some(id) = connection_id(&buffer[..bytes]) else {
                continue;
            };
            if seen.len() == IDS_MAX {
                seen.clear();
            }
            // What comes second is a repetition, or takes the first back.
            if seen.insert(id.to_vec()) {
                let _ = out.send_to(&buffer[..bytes], server);
            }
        }
    });
    let mut ticks = interval(Duration::from_secs(1) / HANDSHAKES_PER_S);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut begun = 0u32;
    loop {
        ticks.tick().await;
        let endpoint = endpoint.clone();
        tokio::spawn(async move {
            let attempt = endpoint.connect(address, SERVER);
            let _ = timeout(Duration::from_millis(100), attempt).await;
        });
        begun += 1;
        // So many that the server's limits have been reached.
        if begun == HANDSHAKES_PER_S {
            notices.send(Complete {}).await;
        }
    }
}

/// Streams of items of one byte each.
async fn trickle(
    endpoint: &Endpoint,
    server: SocketAddr,
    notices: Notices<Complete>,
) -> Result<(), Failure> {
    let options = CallOptions::new().without_deadline();
    let mut streams = Vec::new();
    for connection in connect(endpoint, server, CONNECTIONS / STREAMS_PER_CONNECTION).await? {
        for _ in 0..STREAMS_PER_CONNECTION {
            let stream =
                connection.call_client_streaming_with::<Raw, u64>("discard_items", options);
            streams.push(stream.await?);
        }
    }
    notices.send(Complete {}).await;
    let mut ticks = interval(Duration::from_secs(1));
    loop {
        ticks.tick().await;
        for stream in &mut streams {
            stream.send(Raw(b"x"[..].into())).await?;
        }
    }
}

async fn connect(
    endpoint: &Endpoint,
    server: SocketAddr,
    count: usize,
) -> Result<Vec<RpcClient>, Failure> {
    let mut connections = Vec::new();
    for _ in 0..count {
        connections.push(endpoint.connect(server, SERVER).await?);
    }
    Ok(connections)
}

/// The destination's id in a QUIC packet with a long header: RFC 9000, section 17.2.
fn connection_id(packet: &[u8]) -> Option<&[u8]> {
    let (first, rest) = packet.split_first()?;
    if first & 0x80 == 0 {
        return None;
    }
    let len = usize::from(*rest.get(4)?);
    rest.get(5..5 + len)
}

pub(crate) const COMMAND: &str = "bench-flood";

const HANDSHAKES_PER_S: u32 = 1000;
const CONNECTIONS: usize = 1000;
const STREAMS_PER_CONNECTION: usize = 100;

/// Most connection ids that are remembered.
const IDS_MAX: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_long_headers() {
        let packet = [0xc0, 0, 0, 0, 1, 3, 7, 8, 9, 0];
        assert_eq!(connection_id(&packet), Some(&[7, 8, 9][..]));
        assert_eq!(connection_id(&packet[..7]), None);
        assert_eq!(connection_id(&[0x40, 1, 2, 3, 4, 5, 6, 7]), None);
        assert_eq!(connection_id(&[]), None);
    }
}
