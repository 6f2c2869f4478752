//! Endpoint: what a balancer chooses among, with its load, latency, backoff and health.

mod recording;

use std::{
    hint::select_unpredictable,
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{
    ExclusionFlags, LatencyScale, ReportedLoad, Time,
    atomic_time::AtomicTime,
    backoff::Backoff,
    endpoint_state::{EndpointState, StateSnapshot, Traits},
    health::HealthRecord,
    latency::{Decay, LatencyCell},
    latency_estimate::LatencyEstimate,
    ready_since::ReadySince,
    reported_load::LastReport,
    time,
};

/// Endpoint that a balancer chooses among: an id, a weight, the number of calls in flight, its
/// latency, its backoff after failures, and the load that it last reported.
///
/// Kept behind an [`Arc`] that outlives the views it appears in, so that this state stays valid
/// when the view changes. Endpoints do not share cache lines, and a pick reads a single line of
/// each, unless all calls in flight there [usually take longer](InFlight::set_scale) than a typical
/// one.
#[derive(Debug)]
#[repr(C, align(128))]
pub struct Endpoint {
    /// The bits of an `f32`.
    weight: AtomicU32,
    in_flight: AtomicU32,
    state: EndpointState,
    /// Words of a [`LatencyCell`], together with `latency_at`.
    latency: AtomicU32,
    latency_at: AtomicU64,
    backoff: Backoff,
    /// Time since when there was no reply to the calls in flight, if it is known. While all calls
    /// in flight are long, `long_since` has it instead.
    silent_since: AtomicTime,
    report: LastReport,
    ready_since: ReadySince,
    // Up to here it is one cache line. Picks read the id only for calls with exclusions.
    id: u64,
    health: HealthRecord,
    // Picks read these only while all calls in flight are long.
    long_since: AtomicTime,
    /// The sum of the scales of the long calls, in units of 2^-32.
    long_rates: AtomicU64,
}

impl Endpoint {
    /// An endpoint of weight 1 without calls. The id is the caller's choice and unique within a
    /// view.
    #[must_use]
    pub const fn new(id: u64) -> Self {
        Self {
            weight: AtomicU32::new(1_f32.to_bits()),
            in_flight: AtomicU32::new(0),
            state: EndpointState::new(),
            latency: AtomicU32::new(0),
            latency_at: AtomicU64::new(0),
            backoff: Backoff::none(),
            silent_since: AtomicTime::none(),
            report: LastReport::none(),
            ready_since: ReadySince::unknown(),
            id,
            health: HealthRecord::new(),
            long_since: AtomicTime::none(),
            long_rates: AtomicU64::new(0),
        }
    }

    /// Smallest weight above zero: values between zero and this are raised to it.
    pub const WEIGHT_MIN: f32 = 0.001;

    /// Greatest weight: larger values are lowered to it.
    pub const WEIGHT_MAX: f32 = 1000.0;

    /// Sets the capacity relative to other endpoints; see [`set_weight`](Self::set_weight). Default
    /// 1.
    #[must_use]
    pub fn with_weight(self, weight: f32) -> Self {
        self.set_weight(weight);
        self
    }

    /// The caller's id.
    #[must_use]
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// The capacity relative to other endpoints, above 0. A single atomic read, cheap enough for a
    /// pick.
    ///
    /// 1 for an endpoint whose weight is zero, which [`ExclusionFlags::ZERO_WEIGHT`] says: when
    /// only endpoints of weight zero are left to pick, they are equal.
    #[must_use]
    #[inline]
    pub fn weight(&self) -> f32 {
        f32::from_bits(self.weight.load(Ordering::Relaxed))
    }

    /// Sets the capacity relative to other endpoints. Called by the owner of the endpoint, such as
    /// a registry; balancers only read it. Balancers with tables, such as
    /// [`Weighted`](crate::Weighted), apply it from the next [`rebuild`](crate::Balancer::rebuild)
    /// on, but zero at once.
    ///
    /// Zero or less means no weight: the endpoint is [flagged](ExclusionFlags::ZERO_WEIGHT), so it
    /// gets no calls while another endpoint has weight. A value above zero is clamped to
    /// [`WEIGHT_MIN`](Self::WEIGHT_MIN) to [`WEIGHT_MAX`](Self::WEIGHT_MAX); NaN counts as 1. So a
    /// greater weight never counts less.
    pub fn set_weight(&self, weight: f32) {
        let has_none = weight <= 0.0;
        let clamped = if weight.is_nan() || has_none {
            1.0
        } else {
            weight.clamp(Self::WEIGHT_MIN, Self::WEIGHT_MAX)
        };
        self.weight.store(clamped.to_bits(), Ordering::Relaxed);
        if has_none {
            self.set_flags(ExclusionFlags::ZERO_WEIGHT);
        } else if self.flags().contains(ExclusionFlags::ZERO_WEIGHT) {
            self.clear_flags(ExclusionFlags::ZERO_WEIGHT);
        }
    }

    /// The reasons not to pick the endpoint; empty by default. Picks respect them through
    /// [`PickContext::allows`](crate::PickContext::allows). A single atomic read.
    #[must_use]
    #[inline]
    pub fn flags(&self) -> ExclusionFlags {
        self.state.get().flags()
    }

    /// Adds reasons not to pick the endpoint, and returns the flags from before. Called by its
    /// observer; balancers only read.
    pub fn set_flags(&self, flags: ExclusionFlags) -> ExclusionFlags {
        self.state.set_flags(flags)
    }

    /// Removes reasons not to pick the endpoint, and returns the flags from before. Called by its
    /// observer; balancers only read.
    pub fn clear_flags(&self, flags: ExclusionFlags) -> ExclusionFlags {
        self.state.clear_flags(flags)
    }

    /// The record that the outlier detector keeps of the endpoint.
    pub(crate) const fn health_record(&self) -> &HealthRecord {
        &self.health
    }

    /// The number of calls in flight.
    #[must_use]
    #[inline]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Whether no call is in flight. What the ends of the former ones did before is seen then.
    #[must_use]
    #[inline]
    pub fn is_idle(&self) -> bool {
        self.in_flight.load(Ordering::Acquire) == 0
    }

    /// The load that the endpoint last reported; `None` if it never reported any. A single atomic
    /// read, cheap enough for a pick.
    ///
    /// The number of calls is stored up to 2^29 - 1, the delay in whole microseconds up to 2^32 -
    /// 1.
    #[must_use]
    #[inline]
    pub fn reported_load(&self) -> Option<ReportedLoad> {
        self.report.get()
    }

    /// Whether this is the load that the endpoint last reported, as it is stored.
    #[must_use]
    #[inline]
    pub fn has_reported(&self, load: ReportedLoad) -> bool {
        self.report.is(load)
    }

    /// The load that the endpoint reported within the last second; `None` if it reported none
    /// since. A report without a time counts as new, and so does any report if `now` is `None`.
    #[must_use]
    pub fn recent_reported_load(&self, now: impl Into<Option<Time>>) -> Option<ReportedLoad> {
        self.report.recent(time::age_reference(now.into()))
    }

    /// The calls that the endpoint serves, as it reported within the last second, or those of this
    /// process if they are more by now.
    #[inline]
    pub(crate) fn recent_calls(&self, now: Option<Time>) -> Option<u32> {
        let calls = self.report.recent_calls(time::age_reference(now))?;
        Some(calls.max(self.in_flight()))
    }

    /// Sets the load that the endpoint reports, without a time: the report never expires. Called by
    /// the process that makes the calls; balancers only read it.
    pub fn set_reported_load(&self, load: ReportedLoad) {
        self.set_report(load, None);
    }

    /// Sets the load that the endpoint reports at this time. Called by the process that makes the
    /// calls.
    pub fn set_reported_load_at(&self, load: ReportedLoad, now: Time) {
        self.set_report(load, Some(now));
    }

    fn set_report(&self, load: ReportedLoad, now: Option<Time>) {
        self.report.set(load, now);
        // Nearly always nothing changes. Of two reports of one moment the one or the other counts.
        let is_busy = load.busy | load.draining;
        if self.state.get().has_any(Traits::BUSY_REPORTED) != is_busy {
            self.state.set(Traits::BUSY_REPORTED, is_busy);
        }
    }

    /// Whether the last connection to the endpoint was lost, and no attempt to connect has failed
    /// since: it is flagged as unreachable, and may well be reached again. Recorded by
    /// [`OutlierDetector::on_disconnected`](crate::health::OutlierDetector::on_disconnected).
    #[must_use]
    pub fn is_disconnected(&self) -> bool {
        self.flags().contains(ExclusionFlags::UNREACHABLE) && self.health.is_disconnected()
    }

    /// Whether the endpoint is known to take long to reply, whatever its load: its machine or its
    /// network is slow. It is alive. A single atomic read, cheap enough for a pick.
    #[must_use]
    pub fn is_slow(&self) -> bool {
        self.state.get().has_any(Traits::SLOW)
    }

    /// Sets whether the endpoint takes long to reply. Called by its observer; balancers only read
    /// it.
    pub fn set_slow(&self, slow: bool) {
        self.state.set(Traits::SLOW, slow);
    }

    /// Time since when the endpoint takes calls, for balancers with a slow start; `None` if it has
    /// done so for long, or if it is not known.
    #[must_use]
    pub fn ready_since(&self) -> Option<Time> {
        self.ready_since.get()
    }

    /// Sets that the endpoint takes calls from now on, for the first time or again. Called by its
    /// observer.
    pub fn set_ready(&self, now: Time) {
        self.ready_since.set(now);
    }

    /// The load of this process's calls including one more: (calls in flight + 1) / weight.
    #[must_use]
    pub fn load(&self) -> f32 {
        (self.in_flight() as f32 + 1.0) / self.weight()
    }

    /// Counts one call as in flight for as long as the guard lives. The time of its start is not
    /// known, so it causes no [silence](Self::silence).
    #[must_use = "the call is counted only for as long as the guard lives"]
    pub fn begin(self: &Arc<Self>) -> InFlight {
        InFlight::begin(Arc::clone(self), None)
    }

    /// Counts one call that starts now as in flight for as long as the guard lives. Lets balancers
    /// notice that an endpoint has gone silent before a call to it has failed.
    #[must_use = "the call is counted only for as long as the guard lives"]
    pub fn begin_at(self: &Arc<Self>, now: Time) -> InFlight {
        InFlight::begin(Arc::clone(self), Some(now))
    }

    #[inline]
    fn on_begin(&self, now: Option<Time>) {
        let is_first = self.count_call();
        if is_first || now.is_some_and(|now| self.is_silence_unknown(now)) {
            self.silent_since.set(now);
        }
    }

    /// Counts one call more. Whether it is the first in flight of which a reply is expected soon:
    /// the others take long.
    #[inline]
    fn count_call(&self) -> bool {
        let others = self.in_flight.fetch_add(1, Ordering::Relaxed);
        others <= self.state.get().long_calls().into()
    }

    /// Time without any reply to the calls in flight; zero if there are no calls, if they were
    /// begun without a time, if `now` is `None`, and once it exceeds ten seconds: then the next
    /// call is a new try. If all of the calls usually take longer than a
    /// [typical call](InFlight::set_scale), the time is scaled to a typical call.
    #[must_use]
    pub fn silence(&self, now: impl Into<Option<Time>>) -> Duration {
        Duration::from_nanos(self.silence_nanos(now.into(), self.in_flight()))
    }

    /// The latency of a typical call, as recorded by balancers that compare latencies: the
    /// peak-sensitive average of [`PeakEwma`](crate::PeakEwma), which decays to 1/e in `decay`, of
    /// [`Outcome::normalized_latency`](crate::Outcome::normalized_latency). `None` before the first
    /// reply. Without a time nothing has decayed.
    #[must_use]
    pub fn latency(&self, now: impl Into<Option<Time>>, decay: Duration) -> Option<Duration> {
        let now = time::age_reference(now.into());
        let read = self.latency_cell().read(now, Decay::over(decay));
        (read.recorded > 0.0).then(|| Duration::from_nanos(read.decayed as u64))
    }

    /// Whether the endpoint is in backoff: it failed recently, or asked not to be called. Recorded
    /// by balancers that respect it. Never without a time, so a caller without a clock sees no
    /// endless backoff.
    #[must_use]
    pub fn in_backoff(&self, now: impl Into<Option<Time>>) -> bool {
        now.into().is_some_and(|now| self.backoff.is_active(now))
    }

    /// Whether failures are recorded that make the next backoff longer, or may: each reply makes
    /// them fewer. Without them, and but for the greatest latency, a reply that is read together
    /// with another one changes nothing. A single atomic read.
    #[must_use]
    #[inline]
    pub fn has_backoff_record(&self) -> bool {
        self.backoff.may_be_active()
    }

    /// Whether the endpoint reported within the last second that it is busy or draining. Without a
    /// time every report counts.
    #[must_use]
    pub fn is_busy(&self, now: impl Into<Option<Time>>) -> bool {
        self.report.is_busy(time::age_reference(now.into()))
    }

    #[inline]
    const fn latency_cell(&self) -> LatencyCell<'_> {
        LatencyCell {
            value: &self.latency,
            at: &self.latency_at,
        }
    }

    /// The latency for the comparison with another endpoint.
    #[inline]
    pub(crate) fn latency_estimate(&self, now: Time, decay: Decay) -> LatencyEstimate {
        self.latency_cell().estimate(now, decay)
    }

    #[inline]
    pub(crate) fn state(&self) -> StateSnapshot {
        self.state.get()
    }

    /// Like [`silence`](Self::silence), for this number of calls in flight.
    #[inline]
    pub(crate) fn silence_nanos(&self, now: Option<Time>, in_flight: u32) -> u64 {
        let now = time::age_reference(now);
        let long_calls = self.state.get().long_calls();
        if long_calls != 0 && (1..=long_calls.into()).contains(&in_flight) {
            return self.long_silence_nanos(now, long_calls);
        }
        self.typical_silence_nanos(now, in_flight)
    }

    /// Silence of an endpoint without long calls.
    #[inline]
    pub(crate) fn typical_silence_nanos(&self, now: Time, in_flight: u32) -> u64 {
        // A branch predictor could not guess whether there are calls.
        let nanos = elapsed_nanos(&self.silent_since, now);
        select_unpredictable(in_flight == 0, 0, nanos)
    }

    /// Silence of an endpoint whose calls all take long, scaled to a typical call.
    #[cold]
    fn long_silence_nanos(&self, now: Time, long_calls: u16) -> u64 {
        let rates = self.long_rates.load(Ordering::Relaxed);
        let passed = elapsed_nanos(&self.long_since, now) as f64;
        LatencyScale::mean_of_rates(rates, long_calls).normalize_nanos(passed) as u64
    }

    /// Whether the other calls were begun without a time, or are meant to last.
    #[inline]
    fn is_silence_unknown(&self, now: Time) -> bool {
        let since = self.silent_since.get();
        since
            .is_none_or(|since| now.as_nanos().saturating_sub(since.as_nanos()) > SILENCE_NANOS_MAX)
    }

    /// Initialises, once, whether the endpoint is new or was there in the first view.
    pub(crate) fn init_ready_since(&self, new: bool) {
        self.ready_since.init(new);
    }

    /// Time since when the endpoint takes calls; a new endpoint starts now. `None` if that is long
    /// ago.
    #[inline]
    pub(crate) fn ready_since_or_start(&self, now: Time) -> Option<Time> {
        self.ready_since.get_or_start(now)
    }
}

/// Guard of one call in flight. Dropping it ends the count, however the call ended.
///
/// `E` leads to the endpoint, which must be the same one for as long as the guard lives: an
/// [`Arc`], or what a caller that shares many endpoints has in its place.
#[derive(Debug)]
pub struct InFlight<E: Deref<Target = Endpoint> = Arc<Endpoint>> {
    endpoint: E,
    /// The scale of a call that is counted as long, in units of 2^-32.
    long_rate: Option<u32>,
}

impl<E: Deref<Target = Endpoint>> InFlight<E> {
    /// Counts one call as in flight, as [`Endpoint::begin_at`] does; without a time as
    /// [`Endpoint::begin`].
    #[must_use = "the call is counted only for as long as the guard lives"]
    #[inline]
    pub fn begin(endpoint: E, now: Option<Time>) -> Self {
        endpoint.on_begin(now);
        Self {
            endpoint,
            long_rate: None,
        }
    }

    /// The endpoint of the call.
    #[must_use]
    pub const fn endpoint(&self) -> &E {
        &self.endpoint
    }

    /// Sets how long the call usually takes, compared with a typical one; default
    /// [`LatencyScale::ONE`]. To be called when the call begins, at `now`. While every call in
    /// flight has a longer usual latency, the [silence](Endpoint::silence) of the endpoint is
    /// scaled by the mean of their scales; calls of [`LatencyScale::UNKNOWN`] cause no silence at
    /// all.
    ///
    /// Costs nothing unless the call usually takes longer than a typical one: then some atomic
    /// additions, here and in drop.
    pub fn set_scale(&mut self, now: Time, scale: LatencyScale) {
        self.stop_counting_as_long();
        if let Some(rate) = scale.long_call_rate() {
            self.count_as_long(now, rate);
        }
    }

    fn count_as_long(&mut self, now: Time, rate: u32) {
        let Endpoint {
            state,
            long_since,
            long_rates,
            ..
        } = &*self.endpoint;
        // If there are more than can be counted, the remaining ones count as typical.
        let Some(before) = state.add_long_call() else {
            return;
        };
        long_rates.fetch_add(rate.into(), Ordering::Relaxed);
        if before == 0 || elapsed_nanos(long_since, now) == 0 {
            long_since.set(Some(now));
        }
        self.long_rate = Some(rate);
    }

    fn stop_counting_as_long(&mut self) {
        if let Some(rate) = self.long_rate.take() {
            let endpoint = &self.endpoint;
            endpoint
                .long_rates
                .fetch_sub(rate.into(), Ordering::Relaxed);
            endpoint.state.remove_long_call();
        }
    }
}

impl<E: Deref<Target = Endpoint>> Drop for InFlight<E> {
    #[inline]
    fn drop(&mut self) {
        self.endpoint.in_flight.fetch_sub(1, Ordering::Release);
        self.stop_counting_as_long();
    }
}

/// Zero also if the time is so long that it says nothing any more.
#[inline]
fn elapsed_nanos(since: &AtomicTime, now: Time) -> u64 {
    let nanos = since.age_nanos(now);
    if nanos <= SILENCE_NANOS_MAX { nanos } else { 0 }
}

/// Calls that are still in flight after so long may be meant to last: they say nothing about the
/// endpoint any more.
const SILENCE_NANOS_MAX: u64 = 10_000_000_000;

#[cfg(test)]
mod tests;
