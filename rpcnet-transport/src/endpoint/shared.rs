//! State that the tasks of an endpoint share.

use std::sync::Arc;

use parking_lot::RwLock;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{lifecycle::Lifecycle, served_calls::ServedCalls};
use crate::{
    IncomingCall, Router, Status, TransportConfig,
    accounts::PeerAccounts,
    busy_poll::BusyPoll,
    dial::Dialer,
    runtime::EndpointRuntime,
    server::{AdmissionGate, QueueDelay},
    socket::{ClosePort, SideQueue},
    stats::Counters,
    warning_limiter::WarningLimiter,
    wire::LoadReport,
};

/// State that the tasks of an endpoint share.
pub(crate) struct EndpointShared {
    pub(crate) dialer: Arc<Dialer>,
    pub(crate) lifecycle: Lifecycle,
    pub(super) port: PortParts,
    pub(crate) runtime: EndpointRuntime,
    pub(crate) config: Arc<TransportConfig>,
    pub(crate) counters: Arc<Counters>,
    /// Calls that are served.
    pub(crate) served: Arc<ServedCalls>,
    /// Bytes, calls and connections of each peer as a caller.
    pub(crate) accounts: PeerAccounts,
    /// Task that accepts connections, and one task for each connection.
    pub(crate) connections: TaskTracker,
    pub(crate) queue_delay: QueueDelay,
    /// Server-wide limit of concurrent calls, if one is configured.
    pub(crate) admission: Option<Arc<AdmissionGate>>,
    pub(crate) busy_poll: Arc<BusyPoll>,
    /// Warnings of calls that layers reject.
    layer_warnings: WarningLimiter,
    pub(super) router: RwLock<Arc<Router>>,
    pub(super) node_name: Box<str>,
}

/// Parts of the port that are closed at the end of a shutdown.
pub(super) struct PortParts {
    pub(super) closer: Arc<dyn ClosePort>,
    pub(super) side_queue: Arc<SideQueue>,
}

impl EndpointShared {
    /// State of an endpoint that opens connections by this dialer and does not serve yet.
    pub(super) fn new(dialer: Dialer, port: PortParts, node_name: Box<str>) -> Self {
        let config = Arc::clone(&dialer.config);
        let limits = &config.limits;
        let admission = limits.admission.as_ref();
        Self {
            lifecycle: Lifecycle::new(limits.drain_grace, CancellationToken::new()),
            port,
            runtime: dialer.runtime.clone(),
            counters: Arc::clone(&dialer.counters),
            served: Arc::default(),
            accounts: PeerAccounts::new(&config),
            connections: TaskTracker::new(),
            queue_delay: QueueDelay::default(),
            admission: admission.map(|admission| Arc::new(AdmissionGate::new(admission))),
            busy_poll: Arc::clone(&dialer.busy_poll),
            layer_warnings: WarningLimiter::default(),
            router: RwLock::default(),
            node_name,
            dialer: Arc::new(dialer),
            config,
        }
    }

    pub(crate) fn router(&self) -> Arc<Router> {
        Arc::clone(&self.router.read())
    }

    /// Counts a call that a layer has rejected, and logs it: callers may repeat it without end.
    pub(crate) fn record_layer_rejection(&self, call: &IncomingCall, status: &Status) {
        self.counters.calls_rejected_by_layers.add_one();
        let (peer, method) = (call.peer(), call.method());
        if self.layer_warnings.take() {
            tracing::warn!(%peer, method, %status, "call rejected by a layer");
        } else {
            tracing::debug!(%peer, method, %status, "call rejected by a layer");
        }
    }

    /// Load report that replies carry at this moment.
    pub(crate) fn load(&self) -> LoadReport {
        let in_flight = self.served.in_flight.count();
        LoadReport {
            in_flight: u16::try_from(in_flight).unwrap_or(u16::MAX),
            draining: self.lifecycle.is_draining(),
            busy: in_flight >= self.config.limits.calls_max.get().saturating_mul(4) / 5
                || self.admission.as_ref().is_some_and(|gate| gate.is_busy()),
            queue_delay: self.queue_delay.smoothed(),
        }
    }
}

impl PortParts {
    /// Closes the port, even if handles of the endpoint, its connections or its side channel are
    /// left.
    pub(super) fn close(&self) {
        self.closer.close();
        self.side_queue.close();
    }
}
