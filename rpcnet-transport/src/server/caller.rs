//! Caller of an accepted connection: its peer, its accounts, and its streams.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU8, Ordering::Relaxed},
};

use super::{
    abort_signal::AbortSignal, admission::CallerQuota, connection_replies::ConnectionReplies,
};
use crate::{
    Peer, TransportConfig,
    accounts::{ConnectionAccount, ConnectionGuard},
    connections::RegisteredConnection,
    endpoint::EndpointShared,
    gauge::{Gauge, GaugeGuard},
    quic::first_streams_max,
    stream::WriteTurns,
};

/// The caller at the other end of an accepted connection.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) connection: quinn::Connection,
    pub(super) peer: Peer,
    registration: RegisteredConnection,
    /// Buffered bytes of the connection.
    pub(super) account: Arc<ConnectionAccount>,
    /// Admission quota of its node, if calls of the server are limited.
    pub(super) admission: Option<Arc<CallerQuota>>,
    /// Counts the connection for its peer; `None` if that has as many as it may.
    connection_guard: Option<ConnectionGuard>,
    lanes: AtomicU8,
    /// Streams that are being served.
    pub(super) streams: Gauge,
    /// The caller may have all streams of the config, and not only the first ones.
    has_all_streams: AtomicBool,
    /// Streams that carry one call each.
    calls: Gauge,
    /// Replies with streams of their own.
    pub(super) replies: ConnectionReplies,
    /// Turns in which its streams write large messages.
    pub(super) write_turns: Arc<WriteTurns>,
    /// Set when the tasks of the streams are to end.
    abort: AbortSignal,
}

impl Caller {
    pub(super) fn new(shared: &EndpointShared, connection: quinn::Connection, peer: Peer) -> Self {
        let account = shared.accounts.account(peer.shared_name());
        let counted = account.connect(connection.clone());
        let name = peer.shared_name();
        let registered = shared
            .dialer
            .registry
            .register(name, Some(connection.clone()));
        Self {
            replies: ConnectionReplies::new(&shared.config, connection.clone()),
            account: ConnectionAccount::new(account, Some(connection.clone())),
            connection,
            registration: registered,
            admission: shared
                .admission
                .as_ref()
                .map(|gate| gate.quota_of(peer.shared_name())),
            peer,
            connection_guard: counted,
            lanes: AtomicU8::new(0),
            streams: Gauge::default(),
            has_all_streams: AtomicBool::new(false),
            calls: Gauge::default(),
            write_turns: Arc::default(),
            abort: AbortSignal::default(),
        }
    }

    /// Whether its node may have the connection.
    pub(super) fn is_counted(&self) -> bool {
        self.connection_guard.is_some()
    }

    /// Completes when the node is to be disconnected.
    pub(super) async fn disconnected(&self) {
        self.registration.disconnected().await;
    }

    /// Drops all calls that are served on the connection.
    pub(super) fn abort(&self) {
        self.abort.set();
    }

    /// Polls a future until the streams are aborted.
    pub(super) async fn until_aborted(&self, future: impl Future<Output = ()>) {
        self.abort.run_until_set(future).await;
    }

    /// Counts one more stream for as long as the guard lives. A caller that uses half of its first
    /// streams gets all that the config allows.
    pub(super) fn enter_stream(&self, config: &TransportConfig) -> GaugeGuard {
        let (guard, streams) = self.streams.enter();
        let first = first_streams_max(config);
        let is_busy = streams as u64 * 2 >= u64::from(first);
        if is_busy && !self.has_all_streams.swap(true, Relaxed) {
            let all = config.quic.streams_max.get();
            if all > first {
                self.connection.set_max_concurrent_bi_streams(all.into());
            }
        }
        guard
    }

    /// Counts one more stream that carries a call, for as long as the guard lives.
    pub(super) fn begin_call(&self) -> GaugeGuard {
        let (guard, calls) = self.calls.enter();
        if let Some(counted) = &self.connection_guard {
            counted.record_calls(calls);
        }
        guard
    }

    /// Counts one more lane for as long as the guard lives. `None` if there are as many as the
    /// hello announced.
    pub(super) fn try_add_lane(self: &Arc<Self>, lanes_max: u8) -> Option<LaneGuard> {
        let more = |lanes| (lanes < lanes_max).then(|| lanes + 1);
        let added = self.lanes.fetch_update(Relaxed, Relaxed, more);
        added.is_ok().then(|| LaneGuard(Arc::clone(self)))
    }
}

/// A counted lane of a caller.
pub(super) struct LaneGuard(Arc<Caller>);

impl Drop for LaneGuard {
    fn drop(&mut self) {
        self.0.lanes.fetch_sub(1, Relaxed);
    }
}
