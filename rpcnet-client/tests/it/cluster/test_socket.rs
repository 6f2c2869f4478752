//! Socket for gossip whose network a test disturbs.

use std::{
    collections::HashSet,
    io,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll, ready},
};

use parking_lot::Mutex;
use rpcnet_client::{Node, NodeBuilder, swim::DatagramSocket};

/// Addresses that a node's gossip neither reaches nor hears.
#[derive(Clone, Default)]
pub(crate) struct Partition(Arc<Mutex<HashSet<SocketAddr>>>);

impl Partition {
    pub(crate) fn from(&self, others: &[Node]) {
        self.0.lock().extend(others.iter().map(Node::addr));
    }

    pub(crate) fn heal(&self) {
        self.0.lock().clear();
    }

    pub(crate) fn wrap(&self, builder: NodeBuilder) -> NodeBuilder {
        let partition = self.clone();
        builder.wrap_gossip(move |inner| Arc::new(TestSocket::partitioned(inner, partition)))
    }

    fn contains(&self, addr: SocketAddr) -> bool {
        self.0.lock().contains(&addr)
    }
}

pub(crate) struct TestSocket {
    inner: Arc<dyn DatagramSocket>,
    partition: Partition,
    is_read: bool,
}

impl TestSocket {
    fn partitioned(inner: Arc<dyn DatagramSocket>, partition: Partition) -> Self {
        Self {
            inner,
            partition,
            is_read: true,
        }
    }

    /// A socket whose datagrams are not read.
    pub(crate) fn unread(inner: Arc<dyn DatagramSocket>) -> Self {
        Self {
            inner,
            partition: Partition::default(),
            is_read: false,
        }
    }
}

impl DatagramSocket for TestSocket {
    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        if !self.is_read {
            return Poll::Pending;
        }
        loop {
            let (len, from) = ready!(self.inner.poll_recv(cx, buf))?;
            if !self.partition.contains(from) {
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
        if self.partition.contains(to) {
            return Poll::Ready(Ok(()));
        }
        self.inner.poll_send(cx, datagram, to)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}
