//! Endpoint: one of those that a balancer chooses among, and what is known about it.

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

/// One of those that a balancer chooses among: an id, a weight, the number of calls in flight, how
/// long it takes to answer, whether it failed lately, and what it last said about its load.
///
/// Kept behind an [`Arc`] that outlives the views it appears in, so that all this stays right when
/// the view changes. Endpoints do not share cache lines, and what a pick reads of one is a single
/// line, unless all calls in flight there [usually take longer](InFlight::set_scale) than a typical
/// one.
#[derive(Debug)]
#[repr(C, align(128))]
pub struct Endpoint {
    /// The bits of a number.
    weight: AtomicU32,
    in_flight: AtomicU32,
    flags: AtomicExclusionFlags,
    slow: AtomicBool,
    /// Calls in flight that usually take longer than a typical one.
    long_calls: AtomicU16,
    /// With its time, the words of a [`LatencyCell`].
    latency: AtomicU32,
    latency_at: AtomicU64,
    backoff: Backoff,
    /// Since when calls are in flight of which nothing was heard, in nanoseconds; [`NEVER`] if that
    /// is not known. While all calls in flight are long, `long_since` says it.
    silent_since: AtomicU64,
    report: LastReport,
    /// Since when it takes calls, in nanoseconds: [`LONG_AGO`] or [`NEVER`] until somebody says.
    ready_since: AtomicU64,
    // Up to here it is one cache line. Picks read the id only for those calls that exclude somebody.
    id: u64,
    health: HealthRecord,
    // Read by picks only while all calls in flight are long.
    long_since: AtomicU64,
    /// The sum of the scales of the long calls, in units of 2^-32.
    long_rates: AtomicU64,
}

impl Endpoint {
    /// An endpoint of weight 1 without calls. The id is the caller's and unique within a view.
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

    /// How much it can take in relation to others, as [`set_weight`](Self::set_weight) takes it. Default 1.
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

    /// How much it can take in relation to others, above 0. A single atomic read, so fit for a pick.
    ///
    /// 1 for an endpoint whose weight is zero, which [`ExclusionFlags::ZERO_WEIGHT`] says: when nothing else is left to pick, those are
    /// equal among themselves.
    #[must_use]
    pub fn weight(&self) -> f32 {
        f32::from_bits(self.weight.load(Ordering::Relaxed))
    }

    /// Sets how much it can take in relation to others. Called by the registry or another owner of the endpoint; balancers only read. Balancers with tables,
    /// as [`Weighted`](crate::Weighted), go by it from the next [`rebuild`](crate::Balancer::rebuild) on, but by zero at once.
    ///
    /// Zero or less is none: the endpoint is [marked](ExclusionFlags::ZERO_WEIGHT), so it gets no calls while another has weight.
    /// Above zero it is brought into [`WEIGHT_MIN`](Self::WEIGHT_MIN) to [`WEIGHT_MAX`](Self::WEIGHT_MAX); what is not a number
    /// counts as 1. So a greater weight never counts less.
    pub fn set_weight(&self, weight: f32) {
        let has_none = weight <= 0.0;
        let kept = if weight.is_nan() || has_none {
            1.0
        } else {
            weight.clamp(Self::WEIGHT_MIN, Self::WEIGHT_MAX)
        };
        self.weight.store(kept.to_bits(), Ordering::Relaxed);
        if has_none {
            self.set_flags(ExclusionFlags::ZERO_WEIGHT);
        } else if self.flags().contains(ExclusionFlags::ZERO_WEIGHT) {
            self.clear_flags(ExclusionFlags::ZERO_WEIGHT);
        }
    }

    /// Why it is better not picked; empty, the default, if there is no reason. Picks heed it through
    /// [`PickContext::allows`](crate::PickContext::allows). A single atomic read.
    #[must_use]
    pub fn flags(&self) -> ExclusionFlags {
        self.flags.get()
    }

    /// It is better not picked, for these reasons too. Says which there were before. For whoever watches it; balancers only
    /// read.
    pub fn set_flags(&self, marks: ExclusionFlags) -> ExclusionFlags {
        self.flags.set(marks)
    }

    /// These reasons are gone. Says which there were before. For whoever watches it; balancers only read.
    pub fn clear_flags(&self, marks: ExclusionFlags) -> ExclusionFlags {
        self.flags.clear(marks)
    }

    /// What whoever watches it remembers of it.
    pub(crate) const fn health_record(&self) -> &HealthRecord {
        &self.health
    }

    /// How many calls are in flight.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// What it last said about its load; `None` if it never did. A single atomic read, so fit for a pick.
    ///
    /// The number of calls is kept up to 2^29 - 1, the delay in whole microseconds up to 2^32 - 1.
    #[must_use]
    pub fn reported_load(&self) -> Option<ReportedLoad> {
        self.report.get()
    }

    /// What it said about its load within the last second; `None` if it said nothing since. A report without a time, and
    /// any at [`Time::ZERO`], is taken as new.
    #[must_use]
    pub fn recent_reported_load(&self, now: Time) -> Option<ReportedLoad> {
        self.report.recent(now)
    }

    /// The calls that it serves as it said within the last second, or those of this process if they are more by now.
    #[inline]
    pub(crate) fn recent_calls(&self, now: Time) -> Option<f32> {
        let calls = self.report.recent_calls(now)?;
        Some(calls.max(self.in_flight()) as f32)
    }

    /// It says that this is its load. For whoever makes the calls; balancers only read.
    pub fn set_reported_load(&self, load: ReportedLoad) {
        self.set_reported_load_at(load, Time::ZERO);
    }

    /// It says that this is its load, at this time; [`Time::ZERO`] stands for no time. For whoever makes the calls.
    pub fn set_reported_load_at(&self, load: ReportedLoad, now: Time) {
        self.report.set(load, now);
    }

    /// Whether it is known to take long to answer, whatever its load: its machine or its network is slow. It is alive. A
    /// single atomic read, so fit for a pick.
    #[must_use]
    pub fn is_slow(&self) -> bool {
        self.slow.load(Ordering::Relaxed)
    }

    /// It takes long to answer, or does no longer. For whoever watches it; balancers only read.
    pub fn set_slow(&self, slow: bool) {
        self.slow.store(slow, Ordering::Relaxed);
    }

    /// Since when it takes calls, for balancers that let a new one start slowly; `None` if it has done so for long, or
    /// nobody knows.
    #[must_use]
    pub fn ready_since(&self) -> Option<Time> {
        match self.ready_since.load(Ordering::Relaxed) {
            UNKNOWN | LONG_AGO | NEVER => None,
            nanos => Some(Time::from_nanos(nanos)),
        }
    }

    /// From now on it takes calls, for the first time or again. For whoever watches it.
    pub fn set_ready(&self, now: Time) {
        self.ready_since.store(
            now.as_nanos().clamp(LONG_AGO + 1, NEVER - 1),
            Ordering::Relaxed,
        );
    }

    /// What one more call would make of the load as this process knows it: (calls in flight + 1) / weight.
    #[must_use]
    pub fn load(&self) -> f32 {
        (self.in_flight() as f32 + 1.0) / self.weight()
    }

    /// Counts one call as in flight for as long as the guard lives.
    #[must_use = "the call is counted only for as long as the guard lives"]
    pub fn begin(self: &Arc<Self>) -> InFlight {
        self.begin_at(Time::ZERO)
    }

    /// Counts one call that starts now as in flight for as long as the guard lives. Lets balancers notice that an endpoint
    /// has gone silent before a call to it has failed; [`Time::ZERO`] stands for no time, as in [`begin`](Self::begin).
    #[must_use = "the call is counted only for as long as the guard lives"]
    pub fn begin_at(self: &Arc<Self>, now: Time) -> InFlight {
        let others = self.in_flight.fetch_add(1, Ordering::Relaxed);
        // Of those that take long, nothing was to be heard so soon.
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

    /// For how long nothing was heard of the calls that are in flight; zero if there are none, if
    /// the calls were begun without a time, and once it lasts longer than ten seconds: then the
    /// next call is a new try. If all of them usually take longer than a [typical
    /// call](InFlight::set_scale), the time is scaled to a typical call.
    #[must_use]
    pub fn silence(&self, now: Time) -> Duration {
        Duration::from_nanos(self.silence_nanos(now, self.in_flight()))
    }

    /// How long it takes to answer a typical call, as balancers that go by it have noted: the
    /// peak-sensitive average of [`PeakEwma`](crate::PeakEwma), which fades to 1/e in `decay`, of
    /// [`Outcome::normalized_latency`]. `None` before the first answer.
    #[must_use]
    pub fn latency(&self, now: Time, decay: Duration) -> Option<Duration> {
        let read = self.latency_reading(now, Decay::over(decay));
        (read.recorded > 0.0).then(|| Duration::from_nanos(read.decayed as u64))
    }

    /// Whether it failed lately, or asked to be left alone, so that calls are better made elsewhere. Noted by balancers that
    /// heed it. Never at [`Time::ZERO`].
    #[must_use]
    pub fn in_backoff(&self, now: Time) -> bool {
        self.backoff.is_active(now)
    }

    /// Whether it said within the last second that it is busy, or that it drains.
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

    /// Takes an outcome into account: the latency, the silence, and whether to hold calls back, for `hold` at first.
    pub(crate) fn on_outcome(&self, outcome: &Outcome, decay: Decay, hold: Duration) {
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
            // However quickly it failed, nobody wants that latency.
            OutcomeKind::Failure | OutcomeKind::Unreachable => {
                self.record_latency_at_least(now, latency, decay);
                self.backoff.on_failure(began, now, hold);
            }
            // It is well, and has enough for the moment. Where all have, to leave each alone until its queue is empty would
            // leave it idle: only refusals in a row make the hold longer.
            OutcomeKind::Overloaded => {
                let most = outcome.retry_after.unwrap_or(hold).min(BACKOFF_MAX);
                let first = OVERLOAD_BACKOFF.min(hold);
                self.backoff.on_failure_up_to(began, now, first, most);
            }
            OutcomeKind::StreamStarted => self.backoff.on_success(began),
            // It is there. How quickly it refuses is no reason to send it more.
            OutcomeKind::Refused => {}
            // Nothing was heard.
            OutcomeKind::Cancelled => {
                self.record_latency_at_least(now, latency, decay);
                return;
            }
        }
        if let Some(asked) = outcome.retry_after
            && outcome.kind != OutcomeKind::Overloaded
        {
            self.backoff.extend(now + asked.min(BACKOFF_MAX));
        }
        // Written only when time has passed: several answers of one moment leave the line alone.
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

    /// As [`silence`](Self::silence), with so many calls in flight.
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

    /// Of calls that all take long: in terms of a typical one.
    #[cold]
    fn long_silence_nanos(&self, now: Time, long_calls: u16) -> u64 {
        let rates = self.long_rates.load(Ordering::Relaxed);
        let passed = elapsed_nanos(&self.long_since, now) as f64;
        LatencyScale::mean_of_rates(rates, long_calls).normalize_nanos(passed) as u64
    }

    /// The other calls were begun without a time, or are meant to last.
    #[inline]
    fn is_silence_unknown(&self, now: Time) -> bool {
        let since = self.silent_since.load(Ordering::Relaxed);
        since == NEVER || now.as_nanos().saturating_sub(since) > SILENCE_NANOS_MAX
    }

    /// Sorts one that was not heard of before: it is new, or it was there before anybody looked.
    pub(crate) fn init_ready_since(&self, new: bool) {
        let since = if new { NEVER } else { LONG_AGO };
        let _ =
            self.ready_since
                .compare_exchange(UNKNOWN, since, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Since when it takes calls; for a new one, since now. `None` if that is long ago.
    #[inline]
    pub(crate) fn ready_since_or_start(&self, now: Time) -> Option<Time> {
        if self.ready_since.load(Ordering::Relaxed) == NEVER {
            self.set_ready(now);
        }
        self.ready_since()
    }
}

/// One call in flight. Dropping it ends the count, however the call ended.
#[derive(Debug)]
pub struct InFlight {
    endpoint: Arc<Endpoint>,
    /// Of a call that is counted as long: its scale in units of 2^-32.
    long_rate: Option<u32>,
}

impl InFlight {
    /// Where the call is.
    #[must_use]
    pub const fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// How long the call usually takes, compared with a typical one; default [`LatencyScale::ONE`].
    /// To be said when it begins, at `now`. While every call in flight has a longer usual latency,
    /// the [silence](Endpoint::silence) of the endpoint is scaled by the mean of their scales;
    /// calls of [`LatencyScale::UNKNOWN`] are not missed at all.
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
        // Of more than can be counted, the remaining ones count as typical.
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

/// The word for a moment since when nothing was heard; [`Time::ZERO`] stands for no time.
const fn silent_since_word(now: Time) -> u64 {
    if now.as_nanos() == 0 {
        NEVER
    } else {
        now.as_nanos()
    }
}

/// Zero also if it is so long that it says nothing any more.
#[inline]
fn elapsed_nanos(since: &AtomicU64, now: Time) -> u64 {
    let nanos = now.as_nanos().saturating_sub(since.load(Ordering::Relaxed));
    if nanos <= SILENCE_NANOS_MAX { nanos } else { 0 }
}

const NEVER: u64 = u64::MAX;
const UNKNOWN: u64 = 0;
const LONG_AGO: u64 = 1;

/// The first hold for a refusal: about as long as calls take, and no longer.
const OVERLOAD_BACKOFF: Duration = Duration::from_millis(10);

/// Calls that are still in flight after so long may be meant to last: they say nothing about the endpoint any more.
const SILENCE_NANOS_MAX: u64 = 10_000_000_000;

#[cfg(test)]
mod tests;
