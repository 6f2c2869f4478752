//! Cache of the routes of a client, by their filters.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use arc_swap::{ArcSwapOption, Guard};
use rpcnet_registry::WorkerRegistry;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::routes::Route;

/// Routes of a client, by their filters. Those of up to [`SLOTS`] valid filters are kept; calls
/// with others ask the registry.
///
/// A filter is looked for in a few slots, from one that its hash decides. The hash has a random
/// seed that does not leave the client, so that the users who write filters do not decide where
/// they collide. A route that is used keeps its slot while others come (second chance, or clock),
/// and one that was not used for long leaves it to the next.
#[derive(Debug)]
pub(super) struct RouteCache {
    /// Route of the calls without a filter.
    unfiltered: Arc<Route>,
    slots: [RouteSlot; SLOTS],
    hash_seed: u64,
    /// Position in the slots of a filter at which the next insertion looks for one to replace.
    hand: Mutex<usize>,
}

/// Route that was found. It holds no reference count, which threads would share.
pub(super) type FoundRoute = Guard<Option<Arc<Route>>>;

#[derive(Debug, Default)]
struct RouteSlot {
    /// Hash of the filter, or [`FREE`].
    hash: AtomicU64,
    route: ArcSwapOption<Route>,
    /// Whether it was found since the hand passed.
    is_used: AtomicBool,
}

impl Default for RouteCache {
    fn default() -> Self {
        Self {
            unfiltered: Arc::new(Route::new(None)),
            slots: std::array::from_fn(|_| RouteSlot::default()),
            hash_seed: RandomState::new().build_hasher().finish(),
            hand: Mutex::new(0),
        }
    }
}

impl RouteCache {
    /// The route of the calls without a filter.
    #[inline]
    pub(super) fn unfiltered(&self) -> &Arc<Route> {
        &self.unfiltered
    }

    /// The route of this filter, if it is kept.
    #[inline]
    pub(super) fn find(&self, filter: &str) -> Option<FoundRoute> {
        self.find_hashed(filter, self.hash(filter))
    }

    /// The route of this filter, which is kept from now on if it is valid and a slot can be had.
    pub(super) fn find_or_insert(
        &self,
        filter: &str,
        registry: &WorkerRegistry,
    ) -> Option<FoundRoute> {
        self.find(filter).or_else(|| self.insert(filter, registry))
    }

    /// The route of this filter, which the caller keeps.
    pub(super) fn find_or_new(
        &self,
        filter: Option<&str>,
        registry: &WorkerRegistry,
    ) -> Arc<Route> {
        let Some(text) = filter else {
            return Arc::clone(&self.unfiltered);
        };
        let found = self.find_or_insert(text, registry);
        let found = found.and_then(Guard::into_inner);
        found.unwrap_or_else(|| Arc::new(Route::new(filter)))
    }

    #[inline]
    fn find_hashed(&self, text: &str, hash: u64) -> Option<FoundRoute> {
        self.slots_of(hash).find_map(|slot| {
            if slot.hash.load(Relaxed) != hash {
                return None;
            }
            let found = slot.route.load();
            let filter = found.as_deref()?.filter();
            if filter != Some(text) {
                return None;
            }
            // A store by each call would make threads wait for the cache line.
            if !slot.is_used.load(Relaxed) {
                slot.is_used.store(true, Relaxed);
            }
            Some(found)
        })
    }

    /// Keeps the route of a filter that has none.
    #[cold]
    fn insert(&self, text: &str, registry: &WorkerRegistry) -> Option<FoundRoute> {
        // Invalid filters get no slot, and take none.
        let route = Route::prepared(text, registry)?;
        // Another caller inserts one: there is another call for this one.
        let mut hand = self.hand.try_lock().ok()?;
        let hash = self.hash(text);
        if let Some(found) = self.find_hashed(text, hash) {
            return Some(found);
        }
        let slot = self.slot_for(hash, &mut hand)?;
        slot.route.store(Some(Arc::new(route)));
        slot.hash.store(hash, Relaxed);
        Some(slot.route.load())
    }

    /// A slot for a new filter: a free one, or that at the hand if it was not used since the hand
    /// passed. Otherwise it has to be used again until the hand comes back.
    fn slot_for(&self, hash: u64, hand: &mut usize) -> Option<&RouteSlot> {
        let mut slots = self.slots_of(hash);
        if let Some(free) = slots.find(|slot| slot.hash.load(Relaxed) == FREE) {
            return Some(free);
        }
        let slot = self.slots_of(hash).nth(*hand)?;
        *hand = (*hand + 1) % PROBES_MAX;
        (!slot.is_used.swap(false, Relaxed)).then_some(slot)
    }

    /// Slots in which a filter with this hash may be.
    #[inline]
    fn slots_of(&self, hash: u64) -> impl Iterator<Item = &RouteSlot> {
        // The remainder is small enough for any target.
        let start = (hash % SLOTS as u64) as usize;
        (start..start + PROBES_MAX).map(move |at| &self.slots[at % SLOTS])
    }

    #[inline]
    fn hash(&self, text: &str) -> u64 {
        xxh3_64_with_seed(text.as_bytes(), self.hash_seed).max(FREE + 1)
    }
}

/// Number of routes that are kept, beside that of the calls without a filter.
const SLOTS: usize = 64;

/// Slots in which a route is looked for.
const PROBES_MAX: usize = 8;

/// Hash of no filter.
const FREE: u64 = 0;

#[cfg(test)]
mod tests {
    use rpcnet_registry::{LoadBalancingStrategy, StaticMembership};

    use super::*;

    struct Fixture {
        cache: RouteCache,
        registry: WorkerRegistry,
    }

    impl Fixture {
        fn new() -> Self {
            let members = StaticMembership::new();
            Self {
                cache: RouteCache::default(),
                registry: WorkerRegistry::new(members, LoadBalancingStrategy::RoundRobin),
            }
        }

        /// A call with a filter. Whether it had a route already.
        fn call(&self, filter: &str) -> bool {
            let is_found = self.cache.find(filter).is_some();
            let found = self.cache.find_or_insert(filter, &self.registry);
            if let Some(route) = found {
                let route = route.as_deref().expect("a route");
                assert_eq!(route.filter(), Some(filter));
            }
            is_found
        }

        fn kept(&self, filters: &[String]) -> usize {
            let is_kept = |filter: &&String| self.cache.find(filter).is_some();
            filters.iter().filter(is_kept).count()
        }
    }

    /// Valid filters, all of one length and with one end.
    fn filters(name: &str, count: usize) -> Vec<String> {
        (0..count).map(|n| format!("{name}{n:05}=x")).collect()
    }

    #[test]
    fn a_filter_has_one_route_whoever_asks() {
        let Fixture { cache, registry } = &Fixture::new();
        for filter in ["role=worker", "role=keeper", "a=b"] {
            let route = cache.find_or_new(Some(filter), registry);
            assert_eq!(route.filter(), Some(filter));
            let found = cache.find(filter).and_then(Guard::into_inner);
            assert!(Arc::ptr_eq(&found.expect("it is kept"), &route));
            assert!(Arc::ptr_eq(
                &cache.find_or_new(Some(filter), registry),
                &route
            ));
        }
        let route = cache.find_or_new(None, registry);
        assert!(Arc::ptr_eq(cache.unfiltered(), &route));
        assert_eq!(route.filter(), None);
    }

    #[test]
    fn filters_of_one_length_and_end_have_routes_beside_each_other() {
        let fixture = Fixture::new();
        let few = filters("tag", 32);
        for filter in &few {
            fixture.call(filter);
        }
        // The key of the hash decides which ones collide.
        let kept = fixture.kept(&few);
        assert!(kept >= 28, "{kept} of 32");
        let many = filters("other", 1_000);
        for filter in &many {
            fixture.call(filter);
        }
        let kept = fixture.kept(&many) + fixture.kept(&few);
        assert!((SLOTS * 3 / 4..=SLOTS).contains(&kept), "{kept} of {SLOTS}");
    }

    #[test]
    fn an_invalid_filter_takes_no_slot() {
        let fixture = Fixture::new();
        let Fixture { cache, registry } = &fixture;
        for n in 0..1_000 {
            let filter = format!("({n}");
            assert!(registry.group(Some(&filter)).is_err(), "it is invalid");
            assert!(!fixture.call(&filter));
            assert_eq!(
                cache.find_or_new(Some(&filter), registry).filter(),
                Some(&*filter)
            );
        }
        let is_free = |slot: &RouteSlot| slot.route.load().is_none();
        assert!(cache.slots.iter().all(is_free));
    }

    #[test]
    fn filters_of_one_call_each_do_not_displace_those_of_many() {
        let fixture = Fixture::new();
        let used = filters("used", 16);
        let (mut found, mut calls) = (0, 0);
        for junk in filters("junk", 4_000).chunks(8) {
            for filter in &used {
                found += usize::from(fixture.call(filter));
                calls += 1;
            }
            for filter in junk {
                assert!(!fixture.call(filter), "it is the first call");
            }
        }
        assert!(found * 10 >= calls * 9, "{found} of {calls}");
    }

    #[test]
    fn a_new_filter_has_a_route_after_some_calls_however_many_there_were() {
        let fixture = Fixture::new();
        let old = filters("old", 1_000);
        for filter in &old {
            fixture.call(filter);
        }
        for filter in filters("new", 100) {
            for slot in &fixture.cache.slots {
                slot.is_used.store(true, Relaxed);
            }
            let calls = (0..).take_while(|_| !fixture.call(&filter)).count();
            assert!(calls <= PROBES_MAX + 1, "{calls}");
        }
    }
}
