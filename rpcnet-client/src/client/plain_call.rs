//! Plain call: what the first attempt of most calls needs of their settings.

use rpcnet_balance::{HedgeLatencies, Time};
use rpcnet_registry::{Worker, rejections::MethodOfTypes};
use rpcnet_transport::{CallOptions, UntypedMethod};
use tokio::time::Instant;

use super::{
    WorkerCallOptions,
    call_plan::{CallSettings, ClusterCall, Destination},
    routes::Route,
};

/// Call whose first attempt needs nothing but its time: it has no timeout of its attempts, no
/// hedges and no idempotency key.
pub(super) struct PlainCall<'c> {
    pub(super) method: MethodOfTypes<'c>,
    pub(super) typed: Option<&'c UntypedMethod>,
    pub(super) filter: Option<&'c str>,
    pub(super) route: Option<&'c Route>,
    pub(super) key: Option<u64>,
    pub(super) started_at: Instant,
    /// Resolved options of the attempt.
    pub(super) options: CallOptions,
    pub(super) hedge_latencies: Option<&'c HedgeLatencies>,
}

impl PlainCall<'_> {
    /// Tells the worker what the latency of the call is compared with.
    #[inline]
    pub(super) fn set_latency_kind(&self, worker: &mut Worker, now: Time) {
        worker.set_method(self.method.name, now);
    }
}

/// Call that can be made out several times: as a plain call, and in full if it is none or its first
/// attempt has failed.
pub(super) trait CallSource<'c> {
    /// The call as a plain one that starts now; `None` if it is none.
    fn plain(&self) -> Option<PlainCall<'c>>;

    /// The call with all its settings, which starts now.
    fn full(&self) -> ClusterCall<'c>;
}

impl<'c, F: Fn() -> ClusterCall<'c>> CallSource<'c> for F {
    fn plain(&self) -> Option<PlainCall<'c>> {
        let call = self();
        let Destination::Matching(filter) = call.destination else {
            return None;
        };
        let plan = &call.plan;
        (plan.fits_fast_path() && !plan.is_stream).then(|| PlainCall {
            method: call.method,
            typed: call.typed,
            filter,
            route: call.route,
            key: plan.key,
            started_at: plan.started_at,
            options: plan.attempt_options(0, plan.deadline),
            hedge_latencies: plan.hedge_latencies,
        })
    }

    fn full(&self) -> ClusterCall<'c> {
        self()
    }
}

/// Unary call of a method by its name.
pub(super) struct NamedCall<'c> {
    pub(super) settings: &'c CallSettings,
    pub(super) method: &'c str,
    pub(super) filter: Option<&'c str>,
    pub(super) route: Option<&'c Route>,
    /// `None` for those of the config and the policy of the method alone.
    pub(super) options: Option<&'c WorkerCallOptions>,
}

impl<'c> CallSource<'c> for NamedCall<'c> {
    #[inline]
    fn plain(&self) -> Option<PlainCall<'c>> {
        if self.options.is_some() {
            return (|| self.full()).plain();
        }
        let settled = self.settings.settled(self.method)?;
        let started_at = Instant::now();
        let options = settled.resolved(started_at);
        let deadline = options.deadline().map(Instant::from_std);
        let is_late = deadline.is_some_and(|end| end <= started_at);
        (!is_late).then(|| PlainCall {
            method: self.method.into(),
            typed: None,
            filter: self.filter,
            route: self.route,
            key: None,
            started_at,
            options,
            hedge_latencies: None,
        })
    }

    fn full(&self) -> ClusterCall<'c> {
        let options = self.options.unwrap_or(&DEFAULT_OPTIONS);
        let plan = self.settings.unary_plan(self.method, options);
        let destination = Destination::Matching(self.filter);
        ClusterCall::new(plan, self.method, destination).on_route(self.route)
    }
}

static DEFAULT_OPTIONS: WorkerCallOptions = WorkerCallOptions::new();
