//! Processes that are replaced before gossip tells.

use std::{
    io,
    net::SocketAddr,
    sync::atomic::AtomicBool,
    task::{Context, Poll, ready},
};

use rpcnet_client::swim::DatagramSocket;

use super::{
    services::{first, second, third},
    *,
};

/// Socket of gossip that receives nothing while it is closed.
struct GatedSocket {
    socket: Arc<dyn DatagramSocket>,
    is_closed: Arc<AtomicBool>,
}

impl DatagramSocket for GatedSocket {
    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        loop {
            let received = ready!(self.socket.poll_recv(cx, buf));
            if received.is_err() || !self.is_closed.load(SeqCst) {
                return Poll::Ready(received);
            }
        }
    }

    fn poll_send(
        &self,
        cx: &mut Context<'_>,
        datagram: &[u8],
        to: SocketAddr,
    ) -> Poll<io::Result<()>> {
        self.socket.poll_send(cx, datagram, to)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_a_process_that_gossip_does_not_know_yet_is_not_held_against_others() {
    let cluster = TestCluster::seeded(31);
    let same = start(&cluster, ["same"], second::router).await;
    let old = start(&cluster, ["w-0", "w-1"], first::router).await;
    let is_closed = Arc::new(AtomicBool::new(false));
    let gate = Arc::clone(&is_closed);
    let caller = cluster
        .start("caller", move |builder| {
            let is_closed = Arc::clone(&gate);
            builder.wrap_gossip(|socket| Arc::new(GatedSocket { socket, is_closed }))
        })
        .await;
    cluster.eventually(|| cluster.has_converged()).await;
    is_closed.store(true, SeqCst);
    old[0].0.kill();
    old[0].0.upgrade(serving(third::router, &old[0].1)).await;
    // The check asks the process that has the address of the first one.
    for _ in 0..20 {
        second::call(&caller).await.expect("one of its version");
    }
    assert_eq!(rejections(&old[..1]), 1);
    assert_eq!((served(&same), served(&old)), (20, 0));
    is_closed.store(false, SeqCst);
    let is_called = async || {
        let called = second::call(&caller).await;
        called.map_err(|error| error.to_string())?;
        match served(&old[1..]) {
            0 => Err("none there".to_owned()),
            _ => Ok(()),
        }
    };
    cluster.eventually_ok(is_called).await;
    assert_eq!(served(&old[..1]), 0);
}
