//! A caller at a gate: how many places it holds, and how many it may hold.

use std::{
    collections::HashMap,
    fmt,
    hash::{Hash, Hasher},
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use parking_lot::Mutex;

use super::{gate::AdmissionGate, queue::PermitSource, recent_callers::RecentCallers};
use crate::accounts::FairShare;

/// The places of a gate that one caller holds, over all its connections, and in runs that outlive
/// them.
///
/// While no other caller has connected or made a call for a minute, a caller may hold every place.
/// Otherwise it may hold four times as many as are free; up to an equal part among the callers
/// that were seen lately and one more it takes any that is free. So a caller with few calls finds
/// a place beside one with many, whatever the time that a call takes.
pub(in crate::server) struct CallerQuota {
    pub(super) gate: Arc<AdmissionGate>,
    name: Arc<str>,
    held: AtomicUsize,
    /// When the caller was last noted, in seconds of the gate's clock, and one; zero for never.
    seen_s: AtomicU64,
}

/// The callers of a gate.
#[derive(Default)]
pub(super) struct GateCallers {
    by_name: Mutex<HashMap<Arc<str>, Weak<CallerQuota>>>,
    recent: Mutex<RecentCallers<Arc<str>>>,
    recent_count: AtomicUsize,
}

/// A caller, to be compared and hashed by identity.
#[derive(Debug, Clone)]
pub(super) struct CallerKey(pub(super) Arc<CallerQuota>);

/// Takes places for calls that wait.
pub(super) struct GatePermits<'a> {
    pub(super) now: Duration,
    /// The caller whose call has ended.
    pub(super) just_ended: Option<&'a CallerQuota>,
}

impl AdmissionGate {
    /// The caller of this name. It stays the same as long as a call or a connection of it does.
    pub(in crate::server) fn quota_of(self: &Arc<Self>, name: Arc<str>) -> Arc<CallerQuota> {
        let mut by_name = self.callers.by_name.lock();
        if let Some(caller) = by_name.get(&name).and_then(Weak::upgrade) {
            return caller;
        }
        let caller = Arc::new(CallerQuota {
            gate: Arc::clone(self),
            name: Arc::clone(&name),
            held: AtomicUsize::new(0),
            seen_s: AtomicU64::new(0),
        });
        by_name.insert(name, Arc::downgrade(&caller));
        caller
    }

    /// How much one of the callers may hold of as many places as there are now.
    fn fair_share(&self) -> FairShare {
        let limit = self.limit.load(SeqCst);
        caller_share(limit, self.callers.recent_count())
    }
}

impl GateCallers {
    /// How many callers were seen lately, when a caller was last noted.
    pub(super) fn recent_count(&self) -> usize {
        self.recent_count.load(SeqCst)
    }
}

impl CallerQuota {
    /// The caller has connected, and is likely to call.
    pub(in crate::server) fn note_connected(&self) {
        self.note_seen(self.gate.now());
    }

    /// The caller makes a call, or a call of it wants a place or goes on. Says whether the caller
    /// was not noted in this second before.
    pub(super) fn note_seen(&self, now: Duration) -> bool {
        let noted_s = now.as_secs() + 1;
        let is_new = self.seen_s.load(SeqCst) != noted_s;
        if is_new {
            self.record_seen(noted_s);
        }
        is_new
    }

    #[cold]
    fn record_seen(&self, noted_s: u64) {
        self.seen_s.store(noted_s, SeqCst);
        let callers = &self.gate.callers;
        let mut recent = callers.recent.lock();
        let count = recent.note(noted_s, &self.name);
        callers.recent_count.store(count, SeqCst);
    }

    /// Takes a place if one is free and the caller may have it. Who fails has to look at those that
    /// wait afterwards: for a moment the caller seemed to hold one more.
    pub(super) fn try_acquire(&self) -> bool {
        // Counted before it is judged, so that calls that come at the same time see each other.
        let own = self.held.fetch_add(1, SeqCst);
        let share = self.gate.fair_share();
        let more = |running| share.allows(own, running, 1).then_some(running + 1);
        let is_taken = self.gate.running.fetch_update(SeqCst, SeqCst, more).is_ok();
        if !is_taken {
            self.held.fetch_sub(1, SeqCst);
        }
        is_taken
    }

    /// Whether a call that comes now would have a place.
    pub(super) fn may_acquire(&self) -> bool {
        let running = self.gate.running.load(SeqCst);
        self.gate.fair_share().allows(self.held(), running, 1)
    }

    /// Whether calls wait and the caller holds more than its share, since others have come.
    pub(super) fn exceeds_share(&self) -> bool {
        let gate = &self.gate;
        if !gate.has_waiters() {
            return false;
        }
        if self.note_seen(gate.now()) {
            // Others may be gone for a minute, and leave their part to those that wait.
            gate.grant_if_awaited(None);
        }
        let is_alone = gate.callers.recent_count() <= 1;
        let running = gate.running.load(SeqCst);
        !is_alone && gate.fair_share().is_exceeded(self.held(), running)
    }

    /// Gives back a place, without a look at those that wait.
    pub(super) fn release_without_grant(&self) {
        self.gate.running.fetch_sub(1, SeqCst);
        self.held.fetch_sub(1, SeqCst);
    }

    /// The caller has one more call that goes on without a place.
    pub(super) fn begin_over_limit(&self) {
        self.held.fetch_add(1, SeqCst);
        self.gate.over_limit.fetch_add(1, SeqCst);
    }

    /// A call that went on without a place does no longer.
    pub(super) fn end_over_limit(&self) {
        self.gate.over_limit.fetch_sub(1, SeqCst);
        self.held.fetch_sub(1, SeqCst);
        self.gate.grant_if_awaited(Some(self));
    }

    /// Places that the caller holds, and calls that it has without one.
    pub(super) fn held(&self) -> usize {
        self.held.load(SeqCst)
    }
}

impl Drop for CallerQuota {
    fn drop(&mut self) {
        let mut by_name = self.gate.callers.by_name.lock();
        // A new one may have come in between.
        let is_gone = |caller: &Weak<Self>| caller.strong_count() == 0;
        if by_name.get(&self.name).is_some_and(is_gone) {
            by_name.remove(&self.name);
        }
    }
}

impl PermitSource<CallerKey> for GatePermits<'_> {
    fn held(&self, caller: &CallerKey) -> usize {
        caller.0.held()
    }

    fn just_released(&self, caller: &CallerKey) -> bool {
        let same = |ended: &CallerQuota| std::ptr::eq(ended, Arc::as_ptr(&caller.0));
        self.just_ended.is_some_and(same)
    }

    fn try_acquire(&mut self, caller: &CallerKey) -> bool {
        // It is there, however long it has waited.
        caller.0.note_seen(self.now);
        caller.0.try_acquire()
    }
}

impl PartialEq for CallerKey {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for CallerKey {}

impl Hash for CallerKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

impl fmt::Debug for CallerQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallerQuota")
            .field("name", &self.name)
            .field("held", &self.held())
            .finish_non_exhaustive()
    }
}

/// How much one of so many callers may hold.
fn caller_share(limit: usize, recent_count: usize) -> FairShare {
    if recent_count <= 1 {
        return FairShare::new(limit, limit);
    }
    let equal = limit / (recent_count + 1);
    FairShare::new(limit, equal.max(1)).with_factor(SHARE_FACTOR)
}

/// A caller may hold so many times what is free: four fifths of what the others leave.
const SHARE_FACTOR: usize = 4;
