//! Handle of an endpoint: its accessors, and the end of the last handle.

use std::{fmt, net::SocketAddr, sync::Arc};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::EndpointShared;
use crate::{
    AdmissionState, BusyPollState, ConnectError, SideChannel, SocketBuffers, TransportConfig,
    TransportStats, runtime::RuntimeEnded,
};

/// UDP port that serves calls, opens connections, and carries datagrams of another protocol. Cheap
/// to clone.
///
/// When the last handle (this endpoint, its clones, its [`RpcServer`](crate::RpcServer)) is
/// dropped, the endpoint stops serving at once; connections that it opened live on with their
/// [`RpcClient`](crate::RpcClient)s. [`shutdown`](Self::shutdown) ends it gracefully.
#[derive(Clone)]
pub struct Endpoint(pub(crate) Arc<EndpointHandle>);

/// State that the handles of an endpoint share; its drop stops the serving.
pub(crate) struct EndpointHandle {
    pub(crate) shared: Arc<EndpointShared>,
    pub(super) local_addr: SocketAddr,
    pub(super) buffers: SocketBuffers,
    pub(super) side_channel: Mutex<Option<SideChannel>>,
    pub(crate) tls_watch: Mutex<Option<CancellationToken>>,
}

impl Endpoint {
    /// Takes the side channel: the datagrams of another protocol on this port. `None` if it was
    /// taken before. Until it is taken, its datagrams are dropped.
    #[must_use]
    pub fn side_channel(&self) -> Option<SideChannel> {
        let taken = self.0.side_channel.lock().take();
        taken.inspect(SideChannel::attach_reader)
    }

    /// Address of the port.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.0.local_addr
    }

    /// Name of this node, from its certificate.
    #[must_use]
    pub fn node_name(&self) -> &str {
        &self.0.shared.node_name
    }

    /// Settings that the endpoint was opened with.
    #[must_use]
    pub fn config(&self) -> &TransportConfig {
        &self.0.shared.config
    }

    /// Socket buffers that the operating system granted, which may be smaller than the config asked
    /// for.
    #[must_use]
    pub fn socket_buffers(&self) -> SocketBuffers {
        self.0.buffers
    }

    /// Snapshot of the counters.
    #[must_use]
    pub fn stats(&self) -> TransportStats {
        self.0.shared.counters.snapshot()
    }

    /// Whether [busy polling](TransportConfig::with_busy_poll) is on at this moment, and why not.
    ///
    /// The machine is measured at the first use, in the background, and then once a minute at
    /// most: a quota or time taken by the host shows after the first measurement.
    #[must_use]
    pub fn busy_poll_state(&self) -> BusyPollState {
        self.0.shared.busy_poll.state(self.runtime())
    }

    /// Calls being served. A lane that is being read at this moment may count as one more.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.0.shared.served.in_flight.count()
    }

    /// Bytes held for all peers now; see
    /// [`with_buffered_bytes_max`](TransportConfig::with_buffered_bytes_max).
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        let shared = &self.0.shared;
        shared.accounts.bytes() + shared.dialer.server_accounts.bytes()
    }

    /// Number of running and queued calls; `None` if calls are not
    /// [limited](TransportConfig::with_admission).
    #[must_use]
    pub fn admission(&self) -> Option<AdmissionState> {
        self.0.shared.admission.as_ref().map(|gate| gate.state())
    }

    /// State that the tasks of the endpoint share. Holding it does not keep the endpoint open.
    pub(crate) fn shared(&self) -> Arc<EndpointShared> {
        Arc::clone(&self.0.shared)
    }

    /// Tokio runtime that the endpoint was bound in. All tasks and timers of its connections run
    /// there, whichever thread uses them. When the runtime ends, the connections end, and
    /// everything that waits for them fails with [`ConnectError::RuntimeEnded`].
    #[must_use]
    pub fn runtime(&self) -> &tokio::runtime::Handle {
        self.0.shared.runtime.handle()
    }

    /// Polls a future in the context of the endpoint's [runtime](Self::runtime), so that its spawns
    /// and timers use that runtime on any thread.
    ///
    /// # Errors
    ///
    /// [`ConnectError::RuntimeEnded`] if the runtime has ended; the future is not polled any
    /// further.
    pub async fn in_runtime<F: Future>(&self, future: F) -> Result<F::Output, ConnectError> {
        let inside = self.0.shared.runtime.in_runtime(future).await;
        inside.map_err(|RuntimeEnded| ConnectError::RuntimeEnded)
    }

    /// Whether the endpoint's [runtime](Self::runtime) has ended.
    #[must_use]
    pub fn has_runtime_ended(&self) -> bool {
        self.0.shared.runtime.check_ended()
    }
}

impl Drop for EndpointHandle {
    fn drop(&mut self) {
        self.shared.lifecycle.close();
        self.shared.served.cancel.cancel();
        self.shared.lifecycle.stopped.cancel();
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("node_name", &self.node_name())
            .field("local_addr", &self.0.local_addr)
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}
