//! Admission control: concurrency limits, the queue, and fair shares of callers.

mod call_admission;
mod caller_quota;
mod gate;
mod gate_admission;
mod gradient_limiter;
mod permit;
mod permit_counts;
mod permits;
mod queue;
mod recent_callers;
mod yielding_permits;

pub(super) use self::{
    call_admission::{AdmissionOutcome, CallQuotas, PendingAdmission, admit, early_rejection},
    caller_quota::CallerQuota,
    gate_admission::AdmissionRequest,
    permits::Permits,
};
pub(crate) use self::{
    gate::AdmissionGate,
    yielding_permits::{PeerWait, YieldingPermits},
};

use std::time::Duration;

/// Admission control of a server: how many calls run at a time, and what happens to the others.
///
/// Without it a server runs every call, up to
/// [`calls_max`](crate::TransportConfig::with_calls_max), and rejects the rest at once. With it a
/// call that finds no free permit waits in a queue of bounded length and time, in the order of its
/// [`Priority`](crate::Priority). First attempts go before retries, and callers take turns, those
/// that hold the fewest permits first. A rejected call is rejected by its header, with
/// [`Code::Overloaded`](crate::Code::Overloaded), unprocessed, and with an estimate of when to
/// retry. From four fifths of the limit on the [load report](crate::LoadReport) says busy, so that
/// balancers choose another server before calls are rejected.
///
/// # Shares of callers
///
/// A caller is an identity, the node name in its certificate, however many connections it has. All
/// its calls that hold a permit count: calls that run, and calls with an idempotency key that go on
/// after their caller has left. Queued calls hold no permit, and calls with streams hold none while
/// their handler waits for the caller.
///
/// - While no other caller has connected or called within a minute, a caller may hold every permit.
/// - Otherwise it may hold four fifths of the permits that the others leave, and at least an equal
///   part of the limit among these callers and one more: the limit divided by their number plus
///   one. It may always hold one.
///
/// With a limit of 8, one caller of two holds at most 6 permits, and the other one has the rest
/// whenever it needs it. A call of a caller that holds its share is queued, and calls of other
/// callers pass it. The price: while several callers are there, one that alone has much to do
/// leaves a fifth of the permits free, two leave a ninth, and ten leave a fortieth.
///
/// A caller that comes when all permits are taken gets the next one that becomes free, so long
/// handlers make it wait: its calls fail if that takes longer than the [queue
/// interval](Self::with_queue_interval). Handlers of streams yield their permits earlier: between
/// two messages, while calls are queued and their caller holds more than its share. A limit of 1
/// cannot be shared: the caller that has the permit keeps all others waiting while its handler
/// runs.
///
/// # Calls that wait
///
/// Since callers take turns, the queue is judged for each of them alone. A caller whose bursts get
/// their permits within the [queue target](Self::with_queue_target), in its turns, loses no call to
/// what others queue, unless more callers wait than the queue has room for calls: then each has
/// one, and the lowest priority is shed.
///
/// - When the queue is full, a call of a caller that has less than an equal share of it takes the
///   position of a call of a caller that has more than its share, whatever their priorities; among
///   those that have more, the lowest priority is shed first. The share is the
///   [length](Self::with_queue_len) divided by the number of callers with queued calls. A caller
///   that has its share sheds its own calls for its further ones, lowest priority first, or takes
///   the positions of calls of a lower priority of callers that have more than their share;
///   otherwise its call is rejected.
/// - When the calls of a caller wait for too long, its newest calls go first and its older ones are
///   shed. Where so many callers wait, more than 20 with the default times, that one turn of each
///   takes longer than the queue interval, all calls are judged as if they were one caller's.
///
/// ```
/// use std::time::Duration;
///
/// use rpcnet_transport::{Admission, TransportConfig};
///
/// // Eight cores, handlers that compute: more than 16 at a time only make each other slower.
/// let fixed = TransportConfig::lan().with_admission(Admission::fixed(16));
/// // What the handlers wait for is not known: let the limit be found.
/// let adaptive = TransportConfig::lan().with_admission(Admission::adaptive().with_floor(4));
/// # drop((fixed, adaptive));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Admission {
    limit: Limit,
    queue_len: usize,
    target: Duration,
    interval: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Limit {
    Fixed(usize),
    Adaptive { floor: usize, ceiling: usize },
}

/// Current state of an endpoint's [`Admission`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct AdmissionState {
    /// Calls that may run at a time.
    pub limit: usize,
    /// Calls that run. A call with streams whose handler waits for its caller does not count. They
    /// can be more than the limit for a while, when an adaptive limit has shrunk or a handler stops
    /// waiting for its caller, or for its permit. They can be fewer while calls are queued, when
    /// callers hold their [shares](Admission#shares-of-callers).
    pub running: usize,
    /// Queued calls.
    pub waiting: usize,
}

impl Admission {
    /// Fixed limit: so many calls run at a time, at least one; of one caller as many as its
    /// [share](Self#shares-of-callers) allows. Too small a limit leaves the machine idle, too large
    /// a limit makes all calls slow before any is rejected. The right value is the number at which
    /// the bottleneck of the handlers is just busy.
    #[must_use]
    pub fn fixed(calls: usize) -> Self {
        Self::with_limit(Limit::Fixed(calls.max(1)))
    }

    /// Adaptive limit: as many calls run at a time as do not slow each other down. The limit is
    /// measured all the time, and follows changes within a few hundred calls. It costs two clock
    /// readings for each call that does not end at its first poll, and some permits for a moment
    /// now and then, about one in a hundred, to measure what fewer calls would do. It is right
    /// where the bottleneck is unknown or moves; where it is known, [`fixed`](Self::fixed) is
    /// steadier.
    ///
    /// Calls with streams count against the limit, but the limit is learnt only from unary calls
    /// that were answered.
    #[must_use]
    pub fn adaptive() -> Self {
        Self::with_limit(Limit::Adaptive {
            floor: FLOOR,
            ceiling: CEILING,
        })
    }

    /// Least limit of an [`adaptive`](Self::adaptive) one, in calls; default 2. A limit that is too
    /// small may grow slowly when load comes back, one that is too large protects nothing. No
    /// effect on a fixed limit.
    #[must_use]
    pub fn with_floor(mut self, calls: usize) -> Self {
        if let Limit::Adaptive { floor, ceiling } = &mut self.limit {
            *floor = calls.max(1);
            *ceiling = (*ceiling).max(*floor);
        }
        self
    }

    /// Greatest limit of an [`adaptive`](Self::adaptive) one, in calls; default 4,096. It bounds
    /// what a wrong measurement can admit. No effect on a fixed limit.
    #[must_use]
    pub fn with_ceiling(mut self, calls: usize) -> Self {
        if let Limit::Adaptive { floor, ceiling } = &mut self.limit {
            *ceiling = calls.max(1);
            *floor = (*floor).min(*ceiling);
        }
        self
    }

    /// Length of the queue, in calls; default 1,024, zero for no queue. Each queued call keeps its
    /// body, on a lane at most
    /// [`lane_body_bytes_max`](crate::TransportConfig::with_lane_body_bytes_max), and its task.
    /// Time usually bounds the queue sooner; the length bounds its memory.
    #[must_use]
    pub fn with_queue_len(mut self, calls: usize) -> Self {
        self.queue_len = calls;
        self
    }

    /// How long a call may be queued as a rule; default 5 ms, the target of CoDel (RFC 8289 section
    /// 4.4). When for an [interval](Self::with_queue_interval) no call of a caller got its permit
    /// within this time, its newest calls go first and older ones are rejected after about this
    /// time, until none of them is queued. A larger value bridges longer bursts and makes answers
    /// later.
    #[must_use]
    pub fn with_queue_target(mut self, time: Duration) -> Self {
        self.target = time;
        self
    }

    /// How long a call may be queued at most; default 100 ms, the interval of CoDel. It is at least
    /// the [target](Self::with_queue_target). A larger value bridges longer bursts and makes
    /// answers later. One that is shorter than the time in which a permit becomes free rejects
    /// calls that would have had one, so servers whose calls take a second and more need a larger
    /// one.
    #[must_use]
    pub fn with_queue_interval(mut self, time: Duration) -> Self {
        self.interval = time;
        self
    }

    fn with_limit(limit: Limit) -> Self {
        Self {
            limit,
            queue_len: 1_024,
            target: Duration::from_millis(5),
            interval: Duration::from_millis(100),
        }
    }

    fn bounds(&self) -> queue::QueueBounds {
        queue::QueueBounds {
            len_max: self.queue_len,
            target: self.target,
            interval: self.interval.max(self.target),
        }
    }
}

const FLOOR: usize = 2;
const CEILING: usize = 4_096;
