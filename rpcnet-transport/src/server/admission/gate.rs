//! Places and the queue for them, shared by all tasks of a server.

use std::{
    fmt,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, timeout},
};

use super::{
    Admission, AdmissionState, Limit,
    limiter::{Limiter, Sample},
    queue::{self, Pushed, Queue, Rank, Why},
};
use crate::{Peer, Priority};

/// So many may pass at a time; others wait. Taking a place that is free, and giving it back while nobody waits, is an atomic
/// operation each.
pub(crate) struct Gate {
    limit: AtomicUsize,
    running: AtomicUsize,
    /// Calls that had a place, lent it, and want it back.
    returning: AtomicUsize,
    returned: Notify,
    /// Whether the next place that is wanted by both goes to the queue.
    is_turn_of_queue: AtomicBool,
    /// Length of the queue, to be read without its lock.
    waiting: AtomicUsize,
    interval: Duration,
    epoch: Instant,
    queue: Mutex<Queue<Name, Waiter>>,
    limiter: Option<Mutex<Limiter>>,
}

/// By which callers are told apart.
type Name = Arc<str>;

type Waiter = oneshot::Sender<Result<Place, Turned>>;

/// A call that wants to pass.
#[derive(Debug, Clone)]
pub(in crate::server) struct Newcomer {
    pub(in crate::server) peer: Peer,
    pub(in crate::server) priority: Priority,
    pub(in crate::server) is_retry: bool,
    pub(in crate::server) deadline: Option<Instant>,
}

/// What became of a call that came.
#[derive(Debug)]
pub(super) enum Passed {
    Through(Place),
    Waits(Ticket),
    Turned(Turned),
}

/// Why a call did not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turned {
    /// The queue is full.
    Refused { retry_after: Duration },
    /// It has waited, and others matter more or it was too long.
    Shed { retry_after: Duration },
    /// Its deadline passed while it waited.
    Expired,
}

/// The right to run, until it is dropped.
pub(in crate::server) struct Place {
    /// `None` once it is given back.
    gate: Option<Arc<Gate>>,
    /// When it began, if somebody wants to know how long it takes.
    began: Option<Duration>,
    well: bool,
    /// It is lent back while the call waits for its caller.
    is_paused: bool,
}

/// A call that waits. Dropped, it waits no longer.
#[derive(Debug)]
pub(in crate::server) struct Ticket {
    gate: Arc<Gate>,
    place: queue::Place<Name>,
    verdict: oneshot::Receiver<Result<Place, Turned>>,
}

impl Gate {
    pub(crate) fn new(admission: &Admission) -> Self {
        let (limit, limiter) = match admission.limit {
            Limit::Fixed(calls) => (calls, None),
            Limit::Adaptive { floor, ceiling } => {
                let limiter = Limiter::new(floor, ceiling);
                (limiter.limit(), Some(Mutex::new(limiter)))
            }
        };
        Self {
            limit: AtomicUsize::new(limit),
            running: AtomicUsize::new(0),
            returning: AtomicUsize::new(0),
            returned: Notify::new(),
            is_turn_of_queue: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            interval: admission.interval,
            epoch: Instant::now(),
            queue: Mutex::new(Queue::new(admission.bounds())),
            limiter,
        }
    }

    pub(crate) fn state(&self) -> AdmissionState {
        AdmissionState {
            limit: self.limit.load(SeqCst),
            running: self.running.load(SeqCst),
            waiting: self.waiting.load(SeqCst),
        }
    }

    /// Whether callers better go elsewhere.
    pub(crate) fn is_busy(&self) -> bool {
        let AdmissionState {
            limit,
            running,
            waiting,
        } = self.state();
        waiting > 0 || running >= limit.saturating_mul(4).div_ceil(5)
    }

    /// A call comes.
    pub(super) fn pass(self: &Arc<Self>, who: impl FnOnce() -> Newcomer) -> Passed {
        // Who comes later does not pass those that wait.
        if self.waiting.load(SeqCst) == 0 && self.returning.load(SeqCst) == 0 && self.take() {
            return Passed::Through(self.place());
        }
        let now = self.now();
        let rank = self.rank(&who());
        let (tell, verdict) = oneshot::channel();
        let (pushed, retry_after) = {
            let mut queue = self.queue.lock();
            let pushed = queue.push(now, rank, tell);
            self.waiting.store(queue.len(), SeqCst);
            (pushed, queue.retry_after())
        };
        match pushed {
            Pushed::Refused => Passed::Turned(Turned::Refused { retry_after }),
            Pushed::Waits { place, shed } => {
                if let Some(shed) = shed {
                    let _ = shed.send(Err(Turned::Shed { retry_after }));
                }
                // A place may have become free before this one was seen to wait.
                self.promote();
                let gate = Arc::clone(self);
                Passed::Waits(Ticket {
                    gate,
                    place,
                    verdict,
                })
            }
        }
    }

    /// Why a call that comes now would be refused, if it would.
    pub(super) fn refusal(&self, who: &Newcomer) -> Option<Turned> {
        let AdmissionState { limit, running, .. } = self.state();
        if running < limit {
            return None;
        }
        let queue = self.queue.lock();
        let retry_after = queue.retry_after();
        let is_refused = !queue.has_room(&self.rank(who));
        is_refused.then_some(Turned::Refused { retry_after })
    }

    fn rank(&self, who: &Newcomer) -> Rank<Name> {
        Rank {
            priority: who.priority,
            is_retry: who.is_retry,
            peer: who.peer.shared_name(),
            deadline: who
                .deadline
                .map(|at| at.saturating_duration_since(self.epoch)),
        }
    }

    /// Gives free places to those that wait.
    fn promote(self: &Arc<Self>) {
        loop {
            let mut shed = Vec::new();
            let (next, retry_after) = {
                let mut queue = self.queue.lock();
                if queue.len() == 0 || !self.take() {
                    return;
                }
                let next = queue.pop(self.now(), |waiter, why| shed.push((waiter, why)));
                self.waiting.store(queue.len(), SeqCst);
                (next, queue.retry_after())
            };
            // Not under the lock: who is told may be gone, and then its place comes back.
            for (waiter, why) in shed {
                let _ = waiter.send(Err(match why {
                    Why::Late => Turned::Shed { retry_after },
                    Why::Expired => Turned::Expired,
                }));
            }
            let place = self.place();
            let unwanted = match next {
                Some(waiter) => waiter.send(Ok(place)).err().and_then(Result::ok),
                None => Some(place),
            };
            if let Some(place) = unwanted {
                place.give_back();
            }
        }
    }

    fn take(&self) -> bool {
        let limit = self.limit.load(SeqCst);
        let more = |running| (running < limit).then_some(running + 1);
        self.running.fetch_update(SeqCst, SeqCst, more).is_ok()
    }

    /// Of a place that was taken.
    fn place(self: &Arc<Self>) -> Place {
        Place {
            gate: Some(Arc::clone(self)),
            began: None,
            well: false,
            is_paused: false,
        }
    }

    fn release(self: &Arc<Self>, sample: Option<(Duration, bool)>) {
        if let (Some((began, well)), Some(limiter)) = (sample, &self.limiter) {
            let mut limiter = limiter.lock();
            limiter.on_end(Sample {
                began,
                ended: self.now(),
                well,
                running: self.running.load(SeqCst),
            });
            self.limit.store(limiter.limit(), SeqCst);
        }
        self.running.fetch_sub(1, SeqCst);
        // Seen by one of both: this sees who waits, or who begins to wait sees the place.
        let is_awaited = self.waiting.load(SeqCst) > 0;
        let is_wanted_back = self.returning.load(SeqCst) > 0;
        // Calls that have not begun and those that go on take turns.
        if is_awaited && (!is_wanted_back || self.is_turn_of_queue.fetch_xor(true, SeqCst)) {
            self.promote();
        }
        if is_wanted_back {
            self.returned.notify_one();
        }
    }

    /// Waits until a place is free again for a call that has lent its own.
    pub(super) async fn regain(self: Arc<Self>) {
        let _returning = Returning::enter(&self);
        loop {
            let mut returned = pin!(self.returned.notified());
            // From here on no free place is missed.
            returned.as_mut().enable();
            if self.take() {
                return;
            }
            returned.await;
        }
    }

    /// Gives back a place that was regained for a call that has ended.
    pub(super) fn give_up_regained(self: &Arc<Self>) {
        self.release(None);
    }

    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }
}

/// A call that wants its place back, until it is dropped.
struct Returning<'a>(&'a Arc<Gate>);

impl<'a> Returning<'a> {
    fn enter(gate: &'a Arc<Gate>) -> Self {
        gate.returning.fetch_add(1, SeqCst);
        Self(gate)
    }
}

impl Drop for Returning<'_> {
    fn drop(&mut self) {
        let left = self.0.returning.fetch_sub(1, SeqCst) - 1;
        // It may have been told of a place that it does not take, or kept others from one.
        if left > 0 {
            self.0.returned.notify_one();
        } else if self.0.waiting.load(SeqCst) > 0 {
            self.0.promote();
        }
    }
}

impl Place {
    /// What it is used for takes time that says something about the server.
    pub(super) fn measure(&mut self) {
        if let Some(gate) = &self.gate
            && gate.limiter.is_some()
        {
            self.began.get_or_insert_with(|| gate.now());
        }
    }

    /// The call was answered.
    pub(super) fn note_reply(&mut self) {
        self.well = true;
    }

    /// Lets another call run while this one waits for its caller.
    pub(super) fn pause(&mut self) {
        if let Some(gate) = &self.gate
            && !std::mem::replace(&mut self.is_paused, true)
        {
            gate.release(None);
        }
    }

    /// The gate of a place that is lent.
    pub(super) fn lent_gate(&self) -> Option<Arc<Gate>> {
        self.gate.as_ref().filter(|_| self.is_paused).cloned()
    }

    /// The place was [regained](Gate::regain).
    pub(super) fn note_regained(&mut self) {
        self.is_paused = false;
    }

    /// The call goes on, beside the one that took its place if there is one.
    pub(super) fn resume(&mut self) {
        if let Some(gate) = &self.gate
            && std::mem::take(&mut self.is_paused)
        {
            gate.running.fetch_add(1, SeqCst);
        }
    }

    /// Of a place that nobody has used, without a look at who waits.
    fn give_back(mut self) {
        if let Some(gate) = self.gate.take() {
            gate.running.fetch_sub(1, SeqCst);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(gate) = self.gate.take().filter(|_| !self.is_paused) {
            gate.release(self.began.map(|began| (began, self.well)));
        }
    }
}

impl Ticket {
    /// Until it is the call's turn or there is no hope for it.
    pub(super) async fn turn(mut self) -> Result<Place, Turned> {
        match timeout(self.gate.interval, &mut self.verdict).await {
            Ok(Ok(verdict)) => verdict,
            // It is removed when it is dropped.
            Ok(Err(_)) | Err(_) => {
                let retry_after = self.gate.queue.lock().retry_after();
                Err(Turned::Shed { retry_after })
            }
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let removed = {
            let mut queue = self.gate.queue.lock();
            let removed = queue.remove(&self.place);
            self.gate.waiting.store(queue.len(), SeqCst);
            removed
        };
        drop(removed);
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.state().fmt(f)
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").finish_non_exhaustive()
    }
}
