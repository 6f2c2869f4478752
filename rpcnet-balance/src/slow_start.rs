//! Slow start: few calls for a new endpoint.

use std::{sync::Arc, time::Duration};

use crate::{
    Balancer, Endpoint, Outcome, PickContext, SuccessBatch, Time, View,
    balancer::rebuild_or_keep,
    rng::{SharedRng, unit_f32},
};

/// Slow start (as in Envoy): a new endpoint, or one that takes calls again, gets a tenth of its
/// share at first, more as time passes, and all of it at the end of a window.
///
/// For servers that are slow until they are warm. Wrap a balancer that measures them: the first
/// replies of a cold server would count against it for long. Ten seconds are a usual window.
///
/// An endpoint is new from its first pick on if it was not in the first view that a `SlowStart` was
/// rebuilt for, and from a call of [`Endpoint::set_ready`] on. Calls that would go to a new
/// endpoint beyond its present share go to others, as if it were excluded; if there are no others,
/// it takes them.
///
/// Adds little to a pick; a pick that skips an endpoint is repeated. Needs `rebuild` and
/// [`PickContext::with_now`]; without a time every endpoint has its full share.
#[derive(Debug)]
pub struct SlowStart {
    inner: Arc<dyn Balancer>,
    window: Duration,
    /// Whether there was a view before, so that an endpoint that was not in it is new.
    has_previous_view: bool,
    rng: SharedRng,
}

impl SlowStart {
    /// A slow start over `window` around the balancer `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn Balancer>, window: Duration) -> Self {
        Self {
            inner,
            window,
            has_previous_view: false,
            rng: SharedRng::seeded(0),
        }
    }

    /// The fraction of its share that the endpoint gets by now.
    #[inline]
    fn ramp(&self, endpoint: &Endpoint, now: Option<Time>) -> f32 {
        let Some(now) = now else { return 1.0 };
        match endpoint.ready_since_or_start(now) {
            Some(since) if !self.window.is_zero() => {
                (now.since(since).as_secs_f32() / self.window.as_secs_f32()).max(RAMP_MIN)
            }
            _ => 1.0,
        }
    }
}

impl Balancer for SlowStart {
    fn pick(&self, view: &View, cx: &PickContext<'_>) -> Option<usize> {
        let first = self.inner.pick(view, cx)?;
        let part = self.ramp(&view[first], cx.now());
        if part >= 1.0 || unit_f32(self.rng.next()) < part {
            return Some(first);
        }
        self.pick_another(view, cx, first)
    }

    fn on_outcome(&self, view: &View, index: usize, outcome: &Outcome) {
        self.inner.on_outcome(view, index, outcome);
    }

    fn on_successes(&self, view: &View, index: usize, batch: &SuccessBatch) {
        self.inner.on_successes(view, index, batch);
    }

    fn rebuild(&self, view: &View) -> Option<Arc<dyn Balancer>> {
        for endpoint in view.endpoints() {
            endpoint.init_ready_since(self.has_previous_view);
        }
        Some(Arc::new(Self {
            inner: rebuild_or_keep(&self.inner, view),
            window: self.window,
            has_previous_view: self.has_previous_view || !view.is_empty(),
            rng: SharedRng::seeded(self.rng.next()),
        }))
    }
}

impl SlowStart {
    /// Skips the endpoint that starts slowly, and others that do; takes it if there is no other.
    #[cold]
    fn pick_another(&self, view: &View, cx: &PickContext<'_>, first: usize) -> Option<usize> {
        let mut excluded = [0; EXCLUDED_MAX];
        let mut len = cx.excluded().len();
        let Some(room) = excluded.get_mut(..len) else {
            return Some(first);
        };
        room.copy_from_slice(cx.excluded());
        let mut passed = first;
        while len < EXCLUDED_MAX {
            excluded[len] = view[passed].id();
            len += 1;
            let Some(next) = self.inner.pick(view, &cx.excluding(&excluded[..len])) else {
                break;
            };
            let part = self.ramp(&view[next], cx.now());
            if part >= 1.0 || unit_f32(self.rng.next()) < part {
                return Some(next);
            }
            passed = next;
        }
        Some(first)
    }
}

const RAMP_MIN: f32 = 0.1;
const EXCLUDED_MAX: usize = 16;
