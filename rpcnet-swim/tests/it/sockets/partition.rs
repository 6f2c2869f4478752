//! A partition between nodes on real sockets.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use super::*;

/// A socket whose network can be cut: towards the addresses of one side, nothing passes.
struct Cut {
    socket: UdpSocket,
    side: bool,
    cut: Arc<AtomicBool>,
    /// Ports of the one side.
    ports: Arc<std::sync::Mutex<BTreeSet<u16>>>,
}

impl Cut {
    fn passes(&self, other: SocketAddr) -> bool {
        let there = self.ports.lock().unwrap().contains(&other.port());
        !self.cut.load(Ordering::Relaxed) || there == self.side
    }
}

impl DatagramSocket for Cut {
    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        loop {
            let (len, from) = ready!(DatagramSocket::poll_recv(&self.socket, cx, buf))?;
            if self.passes(from) {
                return Poll::Ready(Ok((len, from)));
            }
        }
    }

    fn poll_send(
        &self,
        cx: &mut Context<'_>,
        datagram: &[u8],
        to: SocketAddr,
    ) -> Poll<io::Result<()>> {
        if self.passes(to) {
            DatagramSocket::poll_send(&self.socket, cx, datagram, to)
        } else {
            Poll::Ready(Ok(()))
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

#[tokio::test]
async fn a_partition_is_reported_on_both_sides_and_heals_without_seeds() {
    let cut = Arc::new(AtomicBool::new(false));
    let ports = Arc::new(std::sync::Mutex::new(BTreeSet::new()));
    let mut nodes: Vec<ClusterMembership> = Vec::new();
    for n in 0..5 {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let side = n < 2;
        if side {
            ports
                .lock()
                .unwrap()
                .insert(socket.local_addr().unwrap().port());
        }
        let socket = Cut {
            socket,
            side,
            cut: Arc::clone(&cut),
            ports: Arc::clone(&ports),
        };
        let seeds: Vec<String> = nodes
            .first()
            .map(|n| n.local_addr().to_string())
            .into_iter()
            .collect();
        let node = ClusterMembership::with_socket(config(&format!("n{n}")), Arc::new(socket));
        nodes.push(node.await.unwrap());
        nodes[n].join(seeds).await.unwrap();
    }
    until("all know all", || {
        nodes.iter().all(|node| live(node).len() == 5)
    })
    .await;
    let mut events = [nodes[0].subscribe(), nodes[4].subscribe()];

    cut.store(true, Ordering::Relaxed);
    for (events, (side, lost)) in events.iter_mut().zip([(2, true), (3, false)]) {
        let reported = event(events, |e| matches!(e, Event::PartitionDetected { .. })).await;
        // Two of five have no majority; three of five have.
        assert_eq!(
            reported,
            Event::PartitionDetected {
                reachable: side,
                expected: 5,
                minority: lost
            }
        );
    }
    let partitioned = PartitionStatus::Partitioned {
        reachable: 3,
        expected: 5,
        minority: false,
    };
    assert_eq!(nodes[4].partition_status(), partitioned);

    cut.store(false, Ordering::Relaxed);
    for events in &mut events {
        event(events, |e| matches!(e, Event::PartitionHealed)).await;
    }
    until("all know all again", || {
        nodes.iter().all(|node| live(node).len() == 5)
    })
    .await;
    until("views agree", || {
        nodes.iter().all(|n| n.view_hash() == nodes[0].view_hash())
    })
    .await;
}
