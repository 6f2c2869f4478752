//! Tests of a port whose shards were killed, and of other sockets that bind it.

use rpcnet_testing::{TEST_TIMEOUT, loopback, within};
use socket2::{Domain, Socket, Type};

use super::*;
use crate::{CallOptions, DevCa};

/// Shards that can be killed without sending a close, as a process can be.
struct KillableShards {
    kill: CancellationToken,
    threads: Vec<JoinHandle<()>>,
    local_addr: SocketAddr,
}

/// Settings with which no connection times out while a test waits.
fn never_idle() -> TransportConfig {
    TransportConfig::lan().with_idle_timeout(10 * TEST_TIMEOUT)
}

impl KillableShards {
    fn bind(addr: SocketAddr, tls: &Tls, shards: usize) -> Self {
        let kill = CancellationToken::new();
        let config = never_idle();
        let sockets = socket::open_shared(addr, config.socket_buffer_bytes, shards).unwrap();
        let local_addr = sockets[0].0.local_addr().unwrap();
        let threads = sockets.into_iter().enumerate();
        let threads = threads.map(|(shard, socket)| {
            let setup = ShardSetup {
                shard,
                socket,
                addr: local_addr,
                config: config.clone(),
                tls: tls.clone(),
            };
            let killed = kill.clone();
            let (runtime, endpoint) = open_shard(setup).unwrap();
            endpoint.serve(Router::new().raw("echo", |_cx, body| async move { Ok(body) }));
            thread::spawn(move || {
                runtime.block_on(killed.cancelled());
                drop(runtime);
                drop(endpoint);
            })
        });
        Self {
            threads: threads.collect(),
            kill,
            local_addr,
        }
    }

    fn kill(self) {
        self.kill.cancel();
        for thread in self.threads {
            thread.join().unwrap();
        }
    }
}

#[tokio::test]
async fn callers_of_killed_shards_are_reset_when_as_many_restart() {
    let ca = DevCa::new("shards");
    let tls = ca.issue("server").unwrap();
    let server = KillableShards::bind(loopback(), &tls, 4);
    let addr = server.local_addr;
    let client_tls = ca.issue("client").unwrap();
    let mut clients = Vec::new();
    for _ in 0..8 {
        let any = loopback();
        let node = Endpoint::bind(any, never_idle(), client_tls.clone()).unwrap();
        let client = node.connect(addr, "server").await.unwrap();
        assert_eq!(client.call("echo", "hello").await.unwrap(), "hello");
        clients.push(client);
    }
    server.kill();
    let again = KillableShards::bind(addr, &tls, 4);
    // A call makes the connection probe the peer, which is gone.
    let learn = clients.iter().map(|client| async {
        let options = CallOptions::new().without_deadline();
        client.call_with("echo", "?", options).await.unwrap_err();
        client.closed().await;
    });
    within(join_all(learn)).await;
    again.kill();
}

#[test]
fn only_a_reuseport_bind_joins_the_port() {
    let ca = DevCa::new("shards");
    let bind = |addr| {
        let tls = ca.issue("server").unwrap();
        let shards = NonZeroUsize::new(2).unwrap();
        Shards::bind(addr, TransportConfig::lan(), tls, shards)
    };
    let shards = bind(loopback()).unwrap();
    let addr = shards.local_addr();
    let in_use = |e| matches!(e, BindError::AddressInUse(in_use) if in_use == addr);
    assert!(in_use(bind(addr).unwrap_err()));
    assert!(in_use(socket::open(addr, 65_536).unwrap_err()));
    // The documented exception: another program of the same user that sets `SO_REUSEPORT`.
    let stranger = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
    stranger.set_reuse_port(true).unwrap();
    stranger.bind(&addr.into()).unwrap();
    // Not the other way round: shards do not join another program's port.
    drop(shards);
    assert!(in_use(bind(addr).unwrap_err()));
    drop(stranger);
    bind(addr).unwrap();
}
