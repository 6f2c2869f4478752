//! Rejected methods: which workers do not know a method, or cannot read requests for it.

mod unreadable_requests;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rpcnet_balance::Time;

use self::unreadable_requests::{UnreadableRequests, is_unchanged};
use crate::{NodeInfo, WorkerRegistry};

/// Memory of the workers that rejected a method before running it, as calls found out.
///
/// Calls of a method pass these workers over ([`PickContext::with_incompatible`]). One call is sent
/// there again, as a probe, after 5 s, and after twice as long each time, up to 5 min.
///
/// Bounded: 256 methods, of each 1,024 workers. Method names are the caller's own, and may be made
/// up. A read takes no lock; nearly always nothing is remembered, and a read is one atomic load.
///
/// [`PickContext::with_incompatible`]: rpcnet_balance::PickContext::with_incompatible
#[derive(Debug, Default)]
pub struct RejectedMethods {
    /// Whether there are any. Nearly always there are none, and a pick reads no more than this.
    is_any: AtomicBool,
    methods: ArcSwap<Methods>,
    /// Held while a table is made out of the one before.
    writer: Mutex<()>,
    unreadable: UnreadableRequests,
}

/// By the names of methods, and then by the types that callers use.
type Methods = HashMap<Arc<str>, Vec<(u64, Arc<RejectingWorkers>)>>;

/// A method as its caller knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MethodOfTypes<'a> {
    /// Name of the method.
    pub name: &'a str,
    /// Number of the types that the caller uses, which a worker may reject where it serves others;
    /// 0 if they are not known.
    pub types: u64,
}

/// A method whose types are not known.
impl<'a> From<&'a str> for MethodOfTypes<'a> {
    fn from(name: &'a str) -> Self {
        Self { name, types: 0 }
    }
}

/// The workers that rejected one method. Immutable, except for the times of probes.
#[derive(Debug)]
pub struct RejectingWorkers {
    /// Endpoint ids, in ascending order.
    ids: Box<[u64]>,
    /// The workers, in the same order.
    workers: Box<[Arc<RejectingWorker>]>,
    /// No probe is due before, in nanoseconds.
    probe_at: AtomicU64,
    /// When the latest one was recorded.
    recorded_at: Time,
    /// Counter of the rotation that applies when all workers reject.
    rotation: AtomicUsize,
}

#[derive(Debug)]
struct RejectingWorker {
    id: u64,
    /// The worker as it was known then: another process, address or set of tags may know the
    /// method.
    node: Arc<NodeInfo>,
    /// When the next probe is due, in nanoseconds.
    probe_at: AtomicU64,
    /// Number of probes so far.
    probes: AtomicU32,
}

impl RejectedMethods {
    /// The workers that rejected this method, if any.
    #[must_use]
    pub fn workers_rejecting<'a>(
        &self,
        method: impl Into<MethodOfTypes<'a>>,
    ) -> Option<Arc<RejectingWorkers>> {
        if !self.is_any.load(Relaxed) {
            return None;
        }
        find(&self.methods.load(), method.into()).cloned()
    }

    /// Whether nothing is remembered, and no requests are counted that a worker could not read. Two
    /// atomic reads.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        !self.is_any.load(Relaxed) && self.unreadable.is_empty()
    }

    /// Counts a request that a worker could not read and another worker has served. `true` after
    /// three in a row: the worker is to be recorded as rejecting the method.
    pub fn record_unreadable(&self, method: &str, id: u64) -> bool {
        self.unreadable.count(method, id)
    }

    /// Counts a request of a stream that a worker could not read. `true` after three in a row, if
    /// the worker has read none and another one has served the method meanwhile: the worker is to
    /// be recorded as rejecting the method. Otherwise the requests may be to blame.
    pub fn record_unreadable_stream(&self, method: &str, worker: (u64, &NodeInfo)) -> bool {
        self.unreadable.count_stream(method, worker)
    }

    /// Records that a worker, given by its endpoint id and node, has rejected this method; unless
    /// `is_current` does not hold for it any more.
    pub fn record_rejection<'a>(
        &self,
        method: impl Into<MethodOfTypes<'a>>,
        (id, node): (u64, &Arc<NodeInfo>),
        now: Time,
        is_current: impl FnOnce(&NodeInfo) -> bool,
    ) {
        let method = method.into();
        if self
            .workers_rejecting(method)
            .is_some_and(|known| known.contains(id))
        {
            return;
        }
        let _writing = self.writer.lock();
        let methods = self.methods.load();
        // Changes are told after they can be looked up: what is current here is removed when it is
        // not any more.
        if !is_current(node) {
            return;
        }
        let before = find(&methods, method);
        let mut workers: Vec<_> = before.map_or_else(Vec::new, |known| known.workers.to_vec());
        let Err(index) = workers.binary_search_by_key(&id, |worker| worker.id) else {
            return;
        };
        if workers.len() >= WORKERS_MAX {
            return;
        }
        workers.insert(index, Arc::new(RejectingWorker::new(id, node, now)));
        let mut methods = Methods::clone(&methods);
        if !methods.contains_key(method.name) && methods.len() >= METHODS_MAX {
            let latest = |of_types: &Vec<(u64, Arc<RejectingWorkers>)>| {
                of_types.iter().map(|(_, one)| one.recorded_at).max()
            };
            let oldest = methods.iter().min_by_key(|(_, types)| latest(types));
            let oldest = oldest.map(|(name, _)| Arc::clone(name));
            oldest.and_then(|name| methods.remove(&name));
        }
        let of_types = methods.entry(method.name.into()).or_default();
        of_types.retain(|(types, _)| *types != method.types);
        of_types.push((method.types, Arc::new(RejectingWorkers::new(workers, now))));
        self.store(methods);
    }

    /// Records that a worker has served this method: it rejects the method no longer.
    pub fn on_served<'a>(&self, method: impl Into<MethodOfTypes<'a>>, id: u64) {
        let method = method.into();
        self.unreadable.on_served(method.name, id);
        self.forget(method, id);
    }

    /// Records that a worker has replied to a stream of this method.
    pub fn on_stream_served<'a>(
        &self,
        method: impl Into<MethodOfTypes<'a>>,
        worker: (u64, &Arc<NodeInfo>),
    ) {
        let method = method.into();
        self.unreadable.on_stream_served(method.name, worker);
        self.forget(method, worker.0);
    }

    fn forget(&self, method: MethodOfTypes<'_>, id: u64) {
        if self
            .workers_rejecting(method)
            .is_some_and(|known| known.contains(id))
        {
            self.retain(|other, worker| other != method || worker.id != id);
        }
    }

    /// Forgets the workers that are not current any more: what rejected was another process, at
    /// another address, or with other tags.
    pub fn retain_nodes(&self, mut is_current: impl FnMut(&NodeInfo) -> bool) {
        if self.is_any.load(Relaxed) {
            self.retain(|_, worker| is_current(&worker.node));
        }
    }

    fn retain(&self, mut keeps: impl FnMut(MethodOfTypes<'_>, &RejectingWorker) -> bool) {
        let _writing = self.writer.lock();
        let mut methods = Methods::clone(&self.methods.load());
        methods.retain(|name, of_types| {
            of_types.retain_mut(|(types, rejecting)| {
                let method = MethodOfTypes {
                    name,
                    types: *types,
                };
                let all = rejecting.workers.iter();
                let kept: Vec<_> = all.filter(|one| keeps(method, one)).cloned().collect();
                if kept.len() < rejecting.workers.len() {
                    *rejecting = Arc::new(RejectingWorkers::new(kept, rejecting.recorded_at));
                }
                !rejecting.workers.is_empty()
            });
            !of_types.is_empty()
        });
        self.store(methods);
    }

    fn store(&self, methods: Methods) {
        let is_any = !methods.is_empty();
        self.methods.store(Arc::new(methods));
        self.is_any.store(is_any, Relaxed);
    }
}

fn find<'a>(methods: &'a Methods, method: MethodOfTypes<'_>) -> Option<&'a Arc<RejectingWorkers>> {
    let mut of_types = methods.get(method.name)?.iter();
    of_types.find_map(|(types, rejecting)| (*types == method.types).then_some(rejecting))
}

impl RejectingWorkers {
    fn new(workers: Vec<Arc<RejectingWorker>>, recorded_at: Time) -> Self {
        let probe_at = workers.iter().map(|one| one.probe_at.load(Relaxed)).min();
        Self {
            ids: workers.iter().map(|worker| worker.id).collect(),
            workers: workers.into(),
            probe_at: AtomicU64::new(probe_at.unwrap_or(u64::MAX)),
            recorded_at,
            rotation: AtomicUsize::new(0),
        }
    }

    /// One of them, in rotation: for a call of a method that all workers reject.
    pub fn next_in_rotation(&self) -> &Arc<NodeInfo> {
        let turn = self.rotation.fetch_add(1, Relaxed);
        &self.workers[turn % self.workers.len()].node
    }

    /// Their endpoint ids, in ascending order.
    #[must_use]
    pub fn ids(&self) -> &[u64] {
        &self.ids
    }

    /// Whether the worker with this endpoint id is one of them.
    #[must_use]
    pub fn contains(&self, id: u64) -> bool {
        self.ids.binary_search(&id).is_ok()
    }

    /// Claims the probe of a worker, if one is due and `pick` gives something for that worker. Its
    /// next probe is due later, whatever comes of this one; a worker that cannot be picked stays
    /// due. A call that is not repeatable fails if the worker still rejects: it probes a worker
    /// only when no other call has for a minute. Without a time no probe is due.
    pub fn claim_probe<T>(
        &self,
        now: impl Into<Option<Time>>,
        is_repeatable: bool,
        pick: impl Fn(&NodeInfo) -> Option<T>,
    ) -> Option<T> {
        let now = now.into()?;
        let extra_delay = if is_repeatable {
            Duration::ZERO
        } else {
            UNREPEATABLE_PROBE_DELAY
        };
        let due = |probe_at: &AtomicU64| {
            probe_at
                .load(Relaxed)
                .saturating_add(extra_delay.as_nanos() as u64)
        };
        if now.as_nanos() < due(&self.probe_at) {
            return None;
        }
        let all = self.workers.iter();
        let all = all.filter(|one| now.as_nanos() >= due(&one.probe_at));
        // Picked before it is claimed, or the probe of a worker without a connection would be lost.
        let claimed = all.take(PROBE_CANDIDATES_MAX).find_map(|one| {
            let picked = pick(&one.node)?;
            one.claim_probe(now).then_some(picked)
        });
        let next = self.workers.iter().map(|one| one.probe_at.load(Relaxed));
        self.probe_at.store(next.min().unwrap_or(u64::MAX), Relaxed);
        claimed
    }
}

impl RejectingWorker {
    fn new(id: u64, node: &Arc<NodeInfo>, now: Time) -> Self {
        Self {
            id,
            node: Arc::clone(node),
            probe_at: AtomicU64::new((now + PROBE_AFTER_MIN).as_nanos()),
            probes: AtomicU32::new(0),
        }
    }

    fn claim_probe(&self, now: Time) -> bool {
        let due = self.probe_at.load(Relaxed);
        if now.as_nanos() < due {
            return false;
        }
        let doubled = 2_u32.saturating_pow(self.probes.load(Relaxed).saturating_add(1));
        let wait = PROBE_AFTER_MIN.saturating_mul(doubled).min(PROBE_AFTER_MAX);
        let next = (now + wait).as_nanos();
        let claimed = self.probe_at.compare_exchange(due, next, Relaxed, Relaxed);
        if claimed.is_ok() {
            self.probes.fetch_add(1, Relaxed);
        }
        claimed.is_ok()
    }
}

impl WorkerRegistry {
    /// Whether a worker is the same process, at the same address and with the same tags, as
    /// selection knows it now.
    #[must_use]
    pub fn is_as_known(&self, known: &NodeInfo) -> bool {
        self.node(&known.id.name)
            .is_some_and(|node| !node.state.is_gone() && is_unchanged(&node, known))
    }
}

/// Time for which a worker is passed over for a method at first. Doubled with each probe that it
/// rejects.
const PROBE_AFTER_MIN: Duration = Duration::from_secs(5);

/// Longest time for which a worker is passed over for a method.
const PROBE_AFTER_MAX: Duration = Duration::from_secs(300);

/// Extra delay of the probe of a call that cannot be repeated.
const UNREPEATABLE_PROBE_DELAY: Duration = Duration::from_secs(60);

/// Limit of the due workers that one call looks at for one that can be picked.
const PROBE_CANDIDATES_MAX: usize = 4;

/// Limit of methods that are remembered. Past it, the one whose latest rejection is the oldest is
/// forgotten.
const METHODS_MAX: usize = 256;

/// Limit of workers that are remembered for each method.
const WORKERS_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NodeId;

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    fn node(id: u64) -> Arc<NodeInfo> {
        let id = NodeId::new(format!("w{id}"), 1);
        Arc::new(NodeInfo::new(id, ([127, 0, 0, 1], 7000).into()))
    }

    fn recorded(rejected: &RejectedMethods, method: &str, id: u64, now: Time) {
        rejected.record_rejection(method, (id, &node(id)), now, |_| true);
    }

    /// The worker that a call probes if each of them can be picked.
    fn claim(rejecting: &RejectingWorkers, second: u64, is_repeatable: bool) -> Option<String> {
        rejecting.claim_probe(at(second), is_repeatable, |node| Some(node.id.to_string()))
    }

    fn ids(rejected: &RejectedMethods, method: &str) -> Vec<u64> {
        let rejecting = rejected.workers_rejecting(method);
        rejecting.map_or_else(Vec::new, |rejecting| rejecting.ids().to_vec())
    }

    #[test]
    fn a_call_that_cannot_be_repeated_probes_later_than_others() {
        let rejected = RejectedMethods::default();
        recorded(&rejected, "m", 1, at(0));
        let rejecting = rejected.workers_rejecting("m").unwrap();
        assert!(claim(&rejecting, 64, false).is_none());
        assert!(claim(&rejecting, 65, false).is_some());
        assert!(claim(&rejecting, 66, false).is_none(), "one alone");
    }

    #[test]
    fn a_worker_that_cannot_be_picked_keeps_its_probe() {
        let rejected = RejectedMethods::default();
        (1..=3).for_each(|id| recorded(&rejected, "m", id, at(0)));
        let rejecting = rejected.workers_rejecting("m").unwrap();
        let none = rejecting.claim_probe(at(9), true, |_| None::<()>);
        assert!(none.is_none());
        let third = |node: &NodeInfo| (&*node.id.name == "w3").then_some(());
        assert!(rejecting.claim_probe(at(9), true, third).is_some());
        assert!(
            rejecting.claim_probe(at(9), true, third).is_none(),
            "one alone"
        );
        let others = [claim(&rejecting, 9, true), claim(&rejecting, 9, true)];
        assert_eq!(others.map(Option::unwrap), ["w1", "w2"]);
        assert!(claim(&rejecting, 9, true).is_none());
    }

    #[test]
    fn a_worker_is_passed_over_for_the_method_that_it_rejected() {
        let rejected = RejectedMethods::default();
        for id in [3, 1, 2, 3] {
            recorded(&rejected, "new", id, at(0));
        }
        assert_eq!(ids(&rejected, "new"), [1, 2, 3]);
        assert_eq!(ids(&rejected, "old"), [0; 0]);
        rejected.on_served("new", 2);
        rejected.on_served("old", 1);
        assert_eq!(ids(&rejected, "new"), [1, 3]);
        rejected.record_rejection("new", (9, &node(9)), at(0), |_| false);
        rejected.retain_nodes(|node| &*node.id.name != "w1");
        assert_eq!(ids(&rejected, "new"), [3]);
        rejected.on_served("new", 3);
        assert!(rejected.workers_rejecting("new").is_none() && !rejected.is_any.load(Relaxed));
    }

    #[test]
    fn the_types_of_callers_are_told_apart() {
        let rejected = RejectedMethods::default();
        let [old, new] = [1, 2].map(|types| MethodOfTypes { name: "m", types });
        for (method, id) in [(old, 1), (new, 2), (new, 3)] {
            rejected.record_rejection(method, (id, &node(id)), at(0), |_| true);
        }
        let ids = |method: MethodOfTypes<'_>| {
            let rejecting = rejected.workers_rejecting(method);
            rejecting.map_or_else(Vec::new, |rejecting| rejecting.ids().to_vec())
        };
        assert_eq!(
            (ids(old), ids(new), ids("m".into())),
            (vec![1], vec![2, 3], vec![])
        );
        rejected.on_served(new, 2);
        rejected.on_served(old, 3);
        assert_eq!((ids(old), ids(new)), (vec![1], vec![3]));
        rejected.retain_nodes(|_| false);
        assert!(!rejected.is_any.load(Relaxed));
    }

    #[test]
    fn probes_of_a_worker_become_rarer() {
        let rejected = RejectedMethods::default();
        recorded(&rejected, "new", 1, at(0));
        let mut probed = Vec::new();
        for second in 0..1_500 {
            let rejecting = rejected.workers_rejecting("new").expect("one");
            if claim(&rejecting, second, true).is_some() {
                probed.push(second);
                assert!(claim(&rejecting, second, true).is_none(), "one alone");
            }
            // It still rejects, also the call that asked it since all do.
            recorded(&rejected, "new", 1, at(second));
        }
        assert_eq!(probed, [5, 15, 35, 75, 155, 315, 615, 915, 1_215]);
    }

    #[test]
    fn each_worker_has_its_own_time_and_all_have_their_turn() {
        let rejected = RejectedMethods::default();
        recorded(&rejected, "new", 1, at(0));
        recorded(&rejected, "new", 2, at(3));
        let rejecting = rejected.workers_rejecting("new").expect("two");
        let claim = |second| claim(&rejecting, second, true);
        assert_eq!((claim(4), claim(5)), (None, Some("w1".to_owned())));
        assert_eq!((claim(7), claim(8)), (None, Some("w2".to_owned())));
        assert_eq!(claim(9), None);
        let both = [claim(30), claim(30), claim(30)];
        assert_eq!(both.map(|one| one.is_some()), [true, true, false]);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let rejected = RejectedMethods::default();
        for index in 0..2 * METHODS_MAX as u64 {
            recorded(&rejected, &format!("made up {index}"), 1, at(index));
        }
        assert_eq!(rejected.methods.load().len(), METHODS_MAX);
        assert_eq!(ids(&rejected, "made up 0"), [0; 0]);
        assert_eq!(ids(&rejected, "made up 511"), [1]);
        for id in 0..2 * WORKERS_MAX as u64 {
            recorded(&rejected, "new", id, at(1_000));
        }
        assert_eq!(ids(&rejected, "new").len(), WORKERS_MAX);
    }
}
