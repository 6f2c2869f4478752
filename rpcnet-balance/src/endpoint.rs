//! Endpoint: what a balancer chooses among, with its load, latency, backoff and health.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{
    ExclusionFlags, LatencyScale, Outcome, OutcomeKind, ReportedLoad, Time,
    backoff::{BACKOFF_MAX, Backoff},
    exclusion_flags::AtomicExclusionFlags,
    health::HealthRecord,
    latency::{Decay, LatencyCell, LatencyReading},
    reported_load::LastReport,
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
    flags: AtomicExclusionFlags,
    slow: AtomicBool,
    /// Calls in flight that usually take longer than a typical one.
    long_calls: AtomicU16,
    /// Words of a [`LatencyCell`], together with `latency_at`.
    latency: AtomicU32,
    latency_at: AtomicU64,
    backoff: Backoff,
    /// Time, in nanoseconds, since when there was no reply to the calls in flight; [`NEVER`] if it
    /// is not known. While all calls in flight are long, `long_since` has it instead.
    silent_since: AtomicU64,
    report: LastReport,
    /// Time, in nanoseconds, since when the endpoint takes calls: [`LONG_AGO`] or [`NEVER`] until
    /// it is set.
    ready_since: AtomicU64,
    // Up to here it is one cache line. Picks read the id only for calls with exclusions.
    id: u64,
    health: HealthRecord,
    // Picks read these only while all calls in flight are long.
    long_since: AtomicU64,
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
            flags: AtomicExclusionFlags::none(),
            slow: AtomicBool::new(false),
            long_calls: AtomicU16::new(0),
            latency: AtomicU32::new(0),
            latency_at: AtomicU64::new(0),
            backoff: Backoff::none(),
            silent_since: AtomicU64::new(NEVER),
            report: LastReport::none(),
            ready_since: AtomicU64::new(UNKNOWN),
            id,
            health: HealthRecord::new(),
            long_since: AtomicU64::new(NEVER),
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
    pub fn flags(&self) -> ExclusionFlags {
        self.flags.get()
    }

    /// Adds reasons not to pick the endpoint, and returns the flags from before. Called by its
    /// observer; balancers only read.
    pub fn set_flags(&self, flags: ExclusionFlags) -> ExclusionFlags {
        self.flags.set(flags)
    }

    /// Removes reasons not to pick the endpoint, and returns the flags from before. Called by its
    /// observer; balancers only read.
    pub fn clear_flags(&self, flags: ExclusionFlags) -> ExclusionFlags {
        self.flags.clear(flags)
    }

    /// The record that the outlier detector keeps of the endpoint.
    pub(crate) const fn health_record(&self) -> &HealthRecord {
        &self.health
    }

    /// The number of calls in flight.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// The load that the endpoint last reported; `None` if it never reported any. A single atomic
    /// read, cheap enough for a pick.
    ///
    /// The number of calls is stored up to 2^29 - 1, the delay in whole microseconds up to 2^32 -
    /// 1.
    #[must_use]
    pub fn reported_load(&self) -> Option<ReportedLoad> {
        self.report.get()
    }

    /// The load that the endpoint reported within the last second; `None` if it reported none
    /// since. A report without a time, and any report at [`Time::ZERO`], counts as new.
    #[must_use]
    pub fn recent_reported_load(&self, now: Time) -> Option<ReportedLoad> {
        self.report.recent(now)
    }

    /// The calls that the endpoint serves, as it reported within the last second, or those of this
    /// process if they are more by now.
    #[inline]
    pub(crate) fn recent_calls(&self, now: Time) -> Option<f32> {
        let calls = self.report.recent_calls(now)?;
        Some(calls.max(self.in_flight()) as f32)
    }

    /// Sets the load that the endpoint reports. Called by the process that makes the calls;
    /// balancers only read it.
    pub fn set_reported_load(&self, load: ReportedLoad) {
        self.set_reported_load_at(load, Time::ZERO);
    }

    /// Sets the load that the endpoint reports at this time; [`Time::ZERO`] means no time. Called
    /// by the process that makes the calls.
    pub fn set_reported_load_at(&self, load: ReportedLoad, now: Time) {
        self.report.set(load, now);
    }

    /// Whether the endpoint is known to take long to reply, whatever its load: its machine or its
    /// network is slow. It is alive. A single atomic read, cheap enough for a pick.
    #[must_use]
    pub fn is_slow(&self) -> bool {
        self.slow.load(Ordering::Relaxed)
    }

    /// Sets whether the endpoint takes long to reply. Called by its observer; balancers only read
    /// it.
    pub fn set_slow(&self, slow: bool) {
        self.slow.store(slow, Ordering::Relaxed);
    }

    /// Time since when the endpoint takes calls, for balancers with a slow start; `None` if it has
    /// done so for long, or if it is not known.
    #[must_use]
    pub fn ready_since(&self) -> Option<Time> {
        match self.ready_since.load(Ordering::Relaxed) {
            UNKNOWN | LONG_AGO | NEVER => None,
            nanos => Some(Time::from_nanos(nanos)),
        }
    }

    /// Sets that the endpoint takes calls from now on, for the first time or again. Called by its
    /// observer.
    pub fn set_ready(&self, now: Time) {
        self.ready_since.store(
            now.as_nanos().clamp(LONG_AGO + 1, NEVER - 1),
            Ordering::Relaxed,
        );
    }

    /// The load of this process's calls including one more: (calls in flight + 1) / weight.
    #[must_use]
    pub fn load(&self) -> f32 {
        (self.in_flight() as f32 + 1.0) / self.weight()
    }

    /// Counts one call as in flight for as long as the guard lives.
    #[must_use = "the call is counted only for as long as the guard lives"]
    pub fn begin(self: &Arc<Self>) -> InFlight {
        self.begin_at(Time::ZERO)
    }

    /// Counts one call that starts now as in flight for as long as the guard lives. Lets balancers
    /// notice that an endpoint has gone silent before a call to it has failed; [`Time::ZERO`] means
    /// no time, as in [`begin`](Self::begin).
    #[must_use = "the call is counted only for as long as the guard lives"]
    pub fn begin_at(self: &Arc<Self>, now: Time) -> InFlight {
        let others = self.in_flight.fetch_add(1, Ordering::Relaxed);
        // No reply to the calls that take long was expected so soon.
        let is_first = others <= self.long_calls.load(Ordering::Relaxed).into();
        if now == Time::ZERO {
            if is_first {
                self.silent_since.store(NEVER, Ordering::Relaxed);
            }
        } else if is_first || self.is_silence_unknown(now) {
            self.silent_since.store(now.as_nanos(), Ordering::Relaxed);
        }
        InFlight {
            endpoint: Arc::clone(self),
            long_rate: None,
        }
    }

    /// Time without any reply to the calls in flight; zero if there are no calls, if they were
    /// begun without a time, and once it exceeds ten seconds: then the next call is a new try. If
    /// all of the calls usually take longer than a [typical call](InFlight::set_scale), the time is
    /// scaled to a typical call.
    #[must_use]
    pub fn silence(&self, now: Time) -> Duration {
        Duration::from_nanos(self.silence_nanos(now, self.in_flight()))
    }

    /// The latency of a typical call, as recorded by balancers that compare latencies: the
    /// peak-sensitive average of [`PeakEwma`](crate::PeakEwma), which decays to 1/e in `decay`, of
    /// [`Outcome::normalized_latency`]. `None` before the first reply.
    #[must_use]
    pub fn latency(&self, now: Time, decay: Duration) -> Option<Duration> {
        let read = self.latency_reading(now, Decay::over(decay));
        (read.recorded > 0.0).then(|| Duration::from_nanos(read.decayed as u64))
    }

    /// Whether the endpoint is in backoff: it failed recently, or asked not to be called. Recorded
    /// by balancers that respect it. Never at [`Time::ZERO`].
    #[must_use]
    pub fn in_backoff(&self, now: Time) -> bool {
        self.backoff.is_active(now)
    }

    /// Whether the endpoint reported within the last second that it is busy or draining.
    #[must_use]
    pub fn is_busy(&self, now: Time) -> bool {
        self.report.is_busy(now)
    }

    #[inline]
    const fn latency_cell(&self) -> LatencyCell<'_> {
        LatencyCell {
            value: &self.latency,
            at: &self.latency_at,
        }
    }

    #[inline]
    pub(crate) fn latency_reading(&self, now: Time, decay: Decay) -> LatencyReading {
        self.latency_cell().read(now, decay)
    }

    /// Records an outcome: the latency, the silence and the backoff, which starts with
    /// `failure_backoff`.
    pub(crate) fn on_outcome(&self, outcome: &Outcome, decay: Decay, failure_backoff: Duration) {
        let (now, latency) = (outcome.now, outcome.normalized_latency);
        let began = Time::from_nanos(
            now.as_nanos()
                .saturating_sub(Time::from(outcome.latency).as_nanos()),
        );
        match outcome.kind {
            OutcomeKind::Success => {
                if let Some(latency) = latency {
                    self.latency_cell().record(now, latency, decay);
                }
                self.backoff.on_success(began);
            }
            // A failure is not a good latency, however quick it was.
            OutcomeKind::Failure => {
                self.record_latency_at_least(now, latency, decay);
                self.backoff.on_failure(began, now, failure_backoff);
            }
            // How long it took to notice says nothing about replies: a connect timeout as a latency
            // would keep the endpoint from calls long after it can be reached again.
            OutcomeKind::Unreachable => self.backoff.on_failure(began, now, failure_backoff),
            // The endpoint is healthy, and overloaded for the moment. Where all are overloaded, to
            // avoid each until its queue is empty would leave it idle: only consecutive rejections
            // make the backoff longer.
            OutcomeKind::Overloaded => {
                let most = outcome
                    .retry_after
                    .unwrap_or(failure_backoff)
                    .min(BACKOFF_MAX);
                let first = OVERLOAD_BACKOFF.min(failure_backoff);
                self.backoff.on_failure_up_to(began, now, first, most);
            }
            OutcomeKind::StreamStarted => self.backoff.on_success(began),
            // The endpoint can be reached. That it refuses quickly is no reason to send it more
            // calls.
            OutcomeKind::Refused => {}
            // There was no reply.
            OutcomeKind::Cancelled => {
                self.record_latency_at_least(now, latency, decay);
                return;
            }
        }
        if let Some(retry_after) = outcome.retry_after
            && outcome.kind != OutcomeKind::Overloaded
        {
            self.backoff.extend(now + retry_after.min(BACKOFF_MAX));
        }
        // Written only when time has passed: several replies of one moment leave the cache line
        // alone.
        if self.silent_since.load(Ordering::Relaxed) != now.as_nanos() {
            let since = silent_since_word(now);
            self.silent_since.store(since, Ordering::Relaxed);
            if self.long_calls.load(Ordering::Relaxed) > 0 {
                self.long_since.store(since, Ordering::Relaxed);
            }
        }
    }

    fn record_latency_at_least(&self, now: Time, latency: Option<Duration>, decay: Decay) {
        if let Some(latency) = latency {
            self.latency_cell().record_at_least(now, latency, decay);
        }
    }

    /// Like [`silence`](Self::silence), for this number of calls in flight.
    #[inline]
    pub(crate) fn silence_nanos(&self, now: Time, in_flight: u32) -> u64 {
        if in_flight == 0 {
            return 0;
        }
        let long_calls = self.long_calls.load(Ordering::Relaxed);
        if in_flight <= long_calls.into() {
            return self.long_silence_nanos(now, long_calls);
        }
        elapsed_nanos(&self.silent_since, now)
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
        let since = self.silent_since.load(Ordering::Relaxed);
        since == NEVER || now.as_nanos().saturating_sub(since) > SILENCE_NANOS_MAX
    }

    /// Initialises, once, whether the endpoint is new or was there in the first view.
    pub(crate) fn init_ready_since(&self, new: bool) {
        let since = if new { NEVER } else { LONG_AGO };
        let _ =
            self.ready_since
                .compare_exchange(UNKNOWN, since, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Time since when the endpoint takes calls; a new endpoint starts now. `None` if that is long
    /// ago.
    #[inline]
    pub(crate) fn ready_since_or_start(&self, now: Time) -> Option<Time> {
        if self.ready_since.load(Ordering::Relaxed) == NEVER {
            self.set_ready(now);
        }
        self.ready_since()
    }
}

/// Guard of one call in flight. Dropping it ends the count, however the call ended.
#[derive(Debug)]
pub struct InFlight {
    endpoint: Arc<Endpoint>,
    /// The scale of a call that is counted as long, in units of 2^-32.
    long_rate: Option<u32>,
}

impl InFlight {
    /// The endpoint of the call.
    #[must_use]
    pub const fn endpoint(&self) -> &Arc<Endpoint> {
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
            long_calls,
            long_since,
            long_rates,
            ..
        } = &*self.endpoint;
        let one_more = |calls: u16| calls.checked_add(1);
        let before = long_calls.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        // If there are more than can be counted, the remaining ones count as typical.
        let Ok(before) = before else { return };
        long_rates.fetch_add(rate.into(), Ordering::Relaxed);
        if before == 0 || elapsed_nanos(long_since, now) == 0 {
            long_since.store(silent_since_word(now), Ordering::Relaxed);
        }
        self.long_rate = Some(rate);
    }

    fn stop_counting_as_long(&mut self) {
        if let Some(rate) = self.long_rate.take() {
            let endpoint = &self.endpoint;
            endpoint
                .long_rates
                .fetch_sub(rate.into(), Ordering::Relaxed);
            endpoint.long_calls.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.endpoint.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.stop_counting_as_long();
    }
}

/// The stored form of the time since when there was no reply; [`Time::ZERO`] means no time.
const fn silent_since_word(now: Time) -> u64 {
    if now.as_nanos() == 0 {
        NEVER
    } else {
        now.as_nanos()
    }
}

/// Zero also if the time is so long that it says nothing any more.
#[inline]
fn elapsed_nanos(since: &AtomicU64, now: Time) -> u64 {
    let nanos = now.as_nanos().saturating_sub(since.load(Ordering::Relaxed));
    if nanos <= SILENCE_NANOS_MAX { nanos } else { 0 }
}

const NEVER: u64 = u64::MAX;
const UNKNOWN: u64 = 0;
const LONG_AGO: u64 = 1;

/// Backoff after the first rejection: about as long as calls take, and no longer.
const OVERLOAD_BACKOFF: Duration = Duration::from_millis(10);

/// Calls that are still in flight after so long may be meant to last: they say nothing about the
/// endpoint any more.
const SILENCE_NANOS_MAX: u64 = 10_000_000_000;

#[cfg(test)]
mod tests;
