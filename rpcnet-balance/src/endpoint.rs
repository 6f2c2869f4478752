//! Somebody who can take calls, and how many it has.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use crate::{Marks, ReportedLoad, health::Record, marks::SharedMarks, reported_load::LastReport};

/// Somebody who can take calls: an id, a weight, the number of calls in flight, and what it last said about its load.
///
/// Kept behind an [`Arc`] that outlives the views it appears in, so that the count stays right when the view changes.
#[derive(Debug)]
pub struct Endpoint {
    id: u64,
    // What changes seldom stands beside what is read alone.
    /// The bits of a number.
    weight: AtomicU32,
    slow: AtomicBool,
    marks: SharedMarks,
    now: Line<Now>,
}

/// What changes with every call.
#[derive(Debug)]
struct Now {
    in_flight: AtomicU32,
    report: LastReport,
    health: Record,
}

impl Endpoint {
    /// An endpoint of weight 1 without calls. The id is the caller's and unique within a view.
    #[must_use]
    pub const fn new(id: u64) -> Self {
        Self {
            id,
            weight: AtomicU32::new(1_f32.to_bits()),
            slow: AtomicBool::new(false),
            marks: SharedMarks::none(),
            now: Line(Now {
                in_flight: AtomicU32::new(0),
                report: LastReport::none(),
                health: Record::new(),
            }),
        }
    }

    /// How much it can take in relation to others. Default 1.
    ///
    /// Brought into 0.001 to 1000; what is not a number counts as 1: weights may come from a stranger's tags.
    #[must_use]
    pub fn with_weight(self, weight: f32) -> Self {
        self.note_weight(weight);
        self
    }

    /// The caller's id.
    #[must_use]
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// How much it can take in relation to others. A single atomic read, so fit for a pick.
    #[must_use]
    pub fn weight(&self) -> f32 {
        f32::from_bits(self.weight.load(Ordering::Relaxed))
    }

    /// It can take so much in relation to others, within the bounds of [`with_weight`](Self::with_weight). For whoever
    /// watches it; balancers only read.
    pub fn note_weight(&self, weight: f32) {
        let weight = if weight.is_nan() {
            1.0
        } else {
            weight.clamp(0.001, 1000.0)
        };
        self.weight.store(weight.to_bits(), Ordering::Relaxed);
    }

    /// Why it is better not picked; empty, the default, if there is no reason. Picks heed it through
    /// [`PickContext::allows`](crate::PickContext::allows). A single atomic read.
    #[must_use]
    pub fn marks(&self) -> Marks {
        self.marks.get()
    }

    /// It is better not picked, for these reasons too. Says which there were before. For whoever watches it; balancers only
    /// read.
    pub fn mark(&self, marks: Marks) -> Marks {
        self.marks.set(marks)
    }

    /// These reasons are gone. Says which there were before. For whoever watches it; balancers only read.
    pub fn unmark(&self, marks: Marks) -> Marks {
        self.marks.clear(marks)
    }

    /// What whoever watches it remembers of it.
    pub(crate) const fn health(&self) -> &Record {
        &self.now.0.health
    }

    /// How many calls are in flight.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.now.0.in_flight.load(Ordering::Relaxed)
    }

    /// What it last said about its load; `None` if it never did. A single atomic read, so fit for a pick.
    ///
    /// The number of calls is kept up to 2^29 - 1, the delay in whole microseconds up to 2^32 - 1.
    #[must_use]
    pub fn reported_load(&self) -> Option<ReportedLoad> {
        self.now.0.report.get()
    }

    /// It says that this is its load. For whoever makes the calls; balancers only read.
    pub fn note_reported_load(&self, load: ReportedLoad) {
        self.now.0.report.note(load);
    }

    /// Whether it is known to take long to answer, whatever its load: its machine or its network is slow. It is alive. A
    /// single atomic read, so fit for a pick.
    #[must_use]
    pub fn is_slow(&self) -> bool {
        self.slow.load(Ordering::Relaxed)
    }

    /// It takes long to answer, or does no longer. For whoever watches it; balancers only read.
    pub fn note_slow(&self, slow: bool) {
        self.slow.store(slow, Ordering::Relaxed);
    }

    /// What one more call would make of the load as this process knows it: (calls in flight + 1) / weight.
    #[must_use]
    pub fn load(&self) -> f32 {
        (self.in_flight() as f32 + 1.0) / self.weight()
    }

    /// Counts one call as in flight for as long as the guard lives.
    #[must_use = "the call is counted only for as long as the guard lives"]
    pub fn begin(self: &Arc<Self>) -> InFlight {
        self.now.0.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight {
            endpoint: Arc::clone(self),
        }
    }
}

/// One call in flight. Dropping it ends the count, however the call ended.
#[derive(Debug)]
pub struct InFlight {
    endpoint: Arc<Endpoint>,
}

impl InFlight {
    /// Where the call is.
    #[must_use]
    pub const fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.endpoint
            .now
            .0
            .in_flight
            .fetch_sub(1, Ordering::Relaxed);
    }
}

/// A cache line of its own, in pairs as the prefetcher takes them: counting at one endpoint does not slow down the
/// reading of another.
#[derive(Debug)]
#[repr(align(128))]
struct Line<T>(T);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_counted_for_as_long_as_its_guard_lives() {
        let endpoint = Arc::new(Endpoint::new(7));
        let (first, second) = (endpoint.begin(), endpoint.begin());
        assert_eq!(endpoint.in_flight(), 2);
        assert_eq!(first.endpoint().id(), 7);
        drop(first);
        assert_eq!(endpoint.in_flight(), 1);
        // Also when the call ends by a panic, on another thread.
        let ended = std::thread::spawn(move || {
            let _second = second;
            std::panic::resume_unwind(Box::new(()));
        });
        assert!(ended.join().is_err());
        assert_eq!(endpoint.in_flight(), 0);
    }

    #[test]
    fn slow_is_what_was_noted_last() {
        let endpoint = Endpoint::new(7);
        assert!(!endpoint.is_slow());
        endpoint.note_slow(true);
        assert!(endpoint.is_slow());
        endpoint.note_slow(false);
        assert!(!endpoint.is_slow());
    }

    #[test]
    fn a_weight_is_always_usable() {
        for (given, taken) in [
            (f32::NAN, 1.0),
            (-1.0, 0.001),
            (0.0, 0.001),
            (f32::INFINITY, 1000.0),
            (2.5, 2.5),
        ] {
            assert_eq!(Endpoint::new(0).with_weight(given).weight(), taken);
        }
        assert_eq!(Endpoint::new(0).with_weight(2.0).load(), 0.5);
    }

    #[test]
    fn counters_do_not_share_a_cache_line() {
        assert!(align_of::<Endpoint>() >= 128);
    }
}
