//! Quota of one caller at an admission gate: the permits that it holds and may hold.

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use parking_lot::Mutex;

use super::{gate::AdmissionGate, queue::PermitSource, recent_callers::RecentCallers};
use crate::accounts::{FairShare, PeerMap};

/// The permits of a gate that one caller holds, over all its connections and in runs that outlive
/// them.
///
/// While no other caller has connected or called for a minute, a caller may hold every permit.
/// Otherwise it may hold four times as many as are free, and at least an equal share among the
/// recent callers and one more. So a caller with few calls gets a permit beside one with many
/// calls, however long calls take.
pub(in crate::server) struct CallerQuota {
    pub(super) gate: Arc<AdmissionGate>,
    name: Arc<str>,
    permits_held: AtomicUsize,
    /// When the caller was last seen, in seconds of the gate's clock plus one; zero for never.
    seen_s: AtomicU64,
}

/// All callers of a gate.
#[derive(Default)]
pub(super) struct GateCallers {
    pub(super) by_name: PeerMap<CallerQuota>,
    recent: Mutex<RecentCallers<Arc<str>>>,
    recent_count: AtomicUsize,
}

/// A caller, compared and hashed by identity.
#[derive(Debug, Clone)]
pub(super) struct CallerKey(pub(super) Arc<CallerQuota>);

/// Acquires permits of the gate for queued calls.
pub(super) struct GatePermits<'a> {
    pub(super) now: Duration,
    /// The caller whose call has just ended.
    pub(super) just_ended: Option<&'a CallerQuota>,
}

impl AdmissionGate {
    /// The quota of the caller with this name. It is the same one as long as a call or a connection
    /// of the caller exists.
    pub(in crate::server) fn quota_of(self: &Arc<Self>, name: Arc<str>) -> Arc<CallerQuota> {
        self.callers
            .by_name
            .get_or_create(name, |name| CallerQuota {
                gate: Arc::clone(self),
                name,
                permits_held: AtomicUsize::new(0),
                seen_s: AtomicU64::new(0),
            })
    }

    /// Fair share of a caller in the present limit.
    fn fair_share(&self) -> FairShare {
        caller_share(self.permits.limit(), self.callers.recent_count())
    }
}

impl GateCallers {
    /// Number of recent callers, as of the last time that a caller was seen.
    pub(super) fn recent_count(&self) -> usize {
        self.recent_count.load(SeqCst)
    }
}

impl CallerQuota {
    /// Records that the caller has connected, and so is likely to call.
    pub(in crate::server) fn record_connected(&self) {
        self.record_seen(self.gate.now());
    }

    /// Records that the caller makes a call, or that a call of it wants a permit or resumes.
    /// Returns whether the caller was not seen in this second before.
    pub(super) fn record_seen(&self, now: Duration) -> bool {
        let seen_s = now.as_secs() + 1;
        let is_new = self.seen_s.load(SeqCst) != seen_s;
        if is_new {
            self.add_to_recent(seen_s);
        }
        is_new
    }

    #[cold]
    fn add_to_recent(&self, seen_s: u64) {
        self.seen_s.store(seen_s, SeqCst);
        let callers = &self.gate.callers;
        let mut recent = callers.recent.lock();
        let count = recent.record(seen_s, &self.name);
        callers.recent_count.store(count, SeqCst);
    }

    /// Acquires a permit if one is free and the share of the caller allows it. If this fails, the
    /// gate has to look at its queue afterwards: for a moment the caller seemed to hold one more.
    pub(super) fn try_acquire(&self) -> bool {
        // Counted before the check, so that concurrent calls see each other.
        let own = self.permits_held.fetch_add(1, SeqCst);
        let share = self.gate.fair_share();
        let is_acquired = self
            .gate
            .permits
            .try_add(|running| share.allows(own, running, 1));
        if !is_acquired {
            self.permits_held.fetch_sub(1, SeqCst);
        }
        is_acquired
    }

    /// Whether a call that comes now would get a permit at once.
    pub(super) fn may_acquire(&self) -> bool {
        let running = self.gate.permits.running();
        self.gate
            .fair_share()
            .allows(self.permits_held(), running, 1)
    }

    /// Whether calls are queued and the caller holds more than its share, because other callers
    /// have come.
    pub(super) fn exceeds_share(&self) -> bool {
        let gate = &self.gate;
        if !gate.has_waiters() {
            return false;
        }
        if self.record_seen(gate.now()) {
            // Other callers may have been gone for a minute, and leave their share to queued calls.
            gate.grant_if_awaited(None);
        }
        let is_alone = gate.callers.recent_count() <= 1;
        let running = gate.permits.running();
        !is_alone && gate.fair_share().is_exceeded(self.permits_held(), running)
    }

    /// Releases a permit without granting it to a queued call.
    pub(super) fn release_without_grant(&self) {
        self.gate.permits.remove();
        self.permits_held.fetch_sub(1, SeqCst);
    }

    /// Counts one more call of the caller that runs without a permit.
    pub(super) fn begin_over_limit(&self) {
        self.permits_held.fetch_add(1, SeqCst);
        self.gate.permits.begin_over_limit();
    }

    /// Ends the count of a call that ran without a permit.
    pub(super) fn end_over_limit(&self) {
        self.gate.permits.end_over_limit();
        self.permits_held.fetch_sub(1, SeqCst);
        self.gate.grant_if_awaited(Some(self));
    }

    /// Permits that the caller holds, and calls that it runs without one.
    pub(super) fn permits_held(&self) -> usize {
        self.permits_held.load(SeqCst)
    }
}

impl Drop for CallerQuota {
    fn drop(&mut self) {
        self.gate.callers.by_name.remove_dropped(&self.name);
    }
}

impl PermitSource<CallerKey> for GatePermits<'_> {
    fn permits_held(&self, caller: &CallerKey) -> usize {
        caller.0.permits_held()
    }

    fn just_released(&self, caller: &CallerKey) -> bool {
        let same = |ended: &CallerQuota| std::ptr::eq(ended, Arc::as_ptr(&caller.0));
        self.just_ended.is_some_and(same)
    }

    fn try_acquire(&mut self, caller: &CallerKey) -> bool {
        // A caller with a queued call is there, however long the call has waited.
        caller.0.record_seen(self.now);
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
            .field("held", &self.permits_held())
            .finish_non_exhaustive()
    }
}

/// Share of each of so many recent callers.
fn caller_share(limit: usize, recent_count: usize) -> FairShare {
    if recent_count <= 1 {
        return FairShare::new(limit, limit);
    }
    let equal = limit / (recent_count + 1);
    FairShare::new(limit, equal.max(1)).with_factor(SHARE_FACTOR)
}

/// A caller may hold this many times the free permits: four fifths of what the others leave.
const SHARE_FACTOR: usize = 4;
