//! Schemas of services: which workers announce other types than those of a caller.
//!
//! A worker announces one hash for the types of each service that it serves
//! ([`SCHEMA_TAG_PREFIX`](crate::SCHEMA_TAG_PREFIX)), and a caller knows that of its own. For a
//! method of a caller, a worker is one of these:
//!
//! - It announces the same hash, or none: it is selected as any other.
//! - It announces another hash, whose types are known to fit the method: likewise.
//! - It announces another hash, whose types are known not to fit: it is passed over, before a call
//!   is spent on it.
//! - It announces another hash, and it is not known whether its types fit: it is passed over while
//!   another worker can be selected, and a [check](SchemaMismatches::claim_check) beside the calls
//!   finds out.
//!
//! What a call or a check of one worker has found out holds for all workers with the same hash,
//! also those that join later, since a hash stands for certain types. A worker may announce the
//! types of others by mistake or with intent, so this has limits:
//!
//! - A rejection by a worker that announces the hash of the caller itself is recorded for that
//!   worker alone, as [rejected method](crate::rejections).
//! - A hash whose types are known not to fit is checked again after 1 min, and after twice as long
//!   each time, up to 10 min, by another worker with that hash if there is one. If its types fit,
//!   those of the hash are known to fit, and later rejections are recorded for one worker each.

mod check;
mod compatibility_table;
mod fitting_methods;
mod mismatches;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU64, AtomicUsize,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rpcnet_balance::Time;

pub use self::{
    check::SchemaCheck, compatibility_table::Compatibility, mismatches::SchemaMismatches,
};
use self::{
    compatibility_table::{CompatibilityTable, SchemaPair},
    fitting_methods::{FilteredMethod, FittingMethods},
    mismatches::{CheckTarget, SchemaVersion},
};
use crate::{
    Filter, NodeInfo, WorkerRegistry,
    rejections::MethodOfTypes,
    schema_tag::{parse_schema_tag_value, schema_tag_key},
};

/// Memory of a caller of which workers have types that fit, as calls and checks found out.
///
/// Bounded: 4,096 pairs of a method and a hash that workers announce; past that, the one that was
/// met first is forgotten. A look-up takes no lock and allocates nothing, unless workers or what is
/// known about their types have changed; nearly always all workers fit, and it reads a few numbers.
#[derive(Debug, Default)]
pub struct ServiceSchemas {
    /// Nearly always all workers fit, and a pick reads no more than this.
    fitting: FittingMethods,
    methods: ArcSwap<MethodsByName>,
    /// Held while a method is added.
    writer: Mutex<()>,
    table: Mutex<CompatibilityTable>,
    /// Number that rises with each change of the table.
    knowledge: AtomicU64,
    /// Whether a call could teach something.
    is_learning: AtomicBool,
    checks_in_flight: Arc<AtomicUsize>,
    passed_over: PassedOverCount,
}

/// Count of attempts that passed workers over, apart from what calls only read.
#[derive(Debug, Default)]
#[repr(align(128))]
struct PassedOverCount(AtomicU64);

/// By the names of methods, and then by the types that callers use and the filters of workers.
type MethodsByName = HashMap<Arc<str>, Vec<Arc<MethodMismatches>>>;

/// Latest mismatches of a method that is called, among the workers that match a filter.
#[derive(Debug)]
struct MethodMismatches {
    name: Arc<str>,
    types: u64,
    filter_text: Box<str>,
    filter: Filter,
    /// Key of the tag by which workers announce the service of the method.
    tag_key: String,
    /// Hash of the service as the caller has it, if it knows.
    own_hash: Option<u64>,
    latest: ArcSwap<SchemaMismatches>,
    /// Held while the mismatches are made anew.
    build: Mutex<()>,
}

/// Service of a method, as its caller has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallerService<'a> {
    /// Name of the service.
    pub name: &'a str,
    /// Hash of its schemas; `None` if it is not known.
    pub hash: Option<u64>,
}

impl ServiceSchemas {
    /// The workers that match `filter`, all without one, and whose types are not known to fit this
    /// method; `None` if there are none, or if the filter cannot be parsed. The service is asked
    /// for at the first call of the method.
    pub fn mismatches<'a>(
        &self,
        registry: &WorkerRegistry,
        (method, filter): (MethodOfTypes<'_>, Option<&str>),
        service: impl FnOnce() -> CallerService<'a>,
    ) -> Option<Arc<SchemaMismatches>> {
        let version = self.version(registry);
        let call = FilteredMethod {
            method,
            filter: filter.unwrap_or(""),
        };
        if version.tags == 0 || self.fitting.contains(call, version) {
            return None;
        }
        if let Some(called) = find(&self.methods.load(), call) {
            let latest = called.latest.load();
            if latest.version == version {
                return self.if_any(call, &latest);
            }
        }
        self.latest_mismatches(registry, call, service)
    }

    /// Whether a call to a worker could teach whether the types of the worker fit.
    #[must_use]
    pub fn is_learning(&self) -> bool {
        self.is_learning.load(Relaxed)
    }

    /// Records whether the types of a method fit those of a worker that was called or checked,
    /// unless `is_current` does not hold for the worker any more. `Incompatible` is for the outcome
    /// of a comparison of the schemas of both sides, and for no other rejection. Returns whether it
    /// is news; `None` if it says nothing about other workers, as the worker announces no types of
    /// the service, or those of the caller itself, or rejects what another worker with the same
    /// hash serves.
    pub fn record(
        &self,
        (method, service): (MethodOfTypes<'_>, CallerService<'_>),
        compatibility: Compatibility,
        (node, now): (&Arc<NodeInfo>, Time),
        is_current: impl FnOnce(&NodeInfo) -> bool,
    ) -> Option<bool> {
        let hash = announced_hash(node, &schema_tag_key(service.name))
            .filter(|hash| service.hash != Some(*hash))?;
        let pair = SchemaPair {
            method: method.name.into(),
            types: method.types,
            hash,
        };
        let mut table = self.table.lock();
        // Changes are told after they can be looked up: what is current here is forgotten when it
        // is not any more.
        if !is_current(node) {
            return Some(false);
        }
        let is_news = table.learn(pair, compatibility, (node, now))?;
        if is_news {
            self.on_changed(&table);
        }
        Some(is_news)
    }

    /// Forgets what was learned less than 30 s ago from processes that are not current any more:
    /// the answer may have been that of their successors, which the source had not told of yet.
    pub fn retain_nodes(&self, now: Time, is_current: impl FnMut(&NodeInfo) -> bool) {
        let mut table = self.table.lock();
        if table.retain_nodes(now, is_current) {
            self.on_changed(&table);
        }
    }

    /// Counts an attempt of a call that passes workers over because of their types.
    pub fn count_passed_over(&self) {
        self.passed_over.0.fetch_add(1, Relaxed);
    }

    /// Attempts that have passed workers over because of their types.
    #[must_use]
    pub fn passed_over(&self) -> u64 {
        self.passed_over.0.load(Relaxed)
    }

    fn version(&self, registry: &WorkerRegistry) -> SchemaVersion {
        SchemaVersion {
            tags: registry.schema_version(),
            knowledge: self.knowledge.load(Acquire),
        }
    }

    fn on_changed(&self, table: &CompatibilityTable) {
        self.is_learning.store(!table.is_all_compatible(), Relaxed);
        self.knowledge.fetch_add(1, Release);
    }

    #[cold]
    fn latest_mismatches<'a>(
        &self,
        registry: &WorkerRegistry,
        call: FilteredMethod<'_>,
        service: impl FnOnce() -> CallerService<'a>,
    ) -> Option<Arc<SchemaMismatches>> {
        let known = find(&self.methods.load(), call).cloned();
        let called = match known {
            Some(called) => called,
            // Without a valid filter no worker is selected.
            None => self.add_method(call, call.filter.parse().ok()?, service()),
        };
        let _building = called.build.lock();
        // Read before the workers and the table: a change meanwhile is seen by the next call.
        let version = self.version(registry);
        let mut latest = called.latest.load_full();
        if latest.version != version {
            latest = Arc::new(self.find_mismatches(registry, &called, version));
            called.latest.store(Arc::clone(&latest));
        }
        self.if_any(call, &latest)
    }

    fn if_any(
        &self,
        call: FilteredMethod<'_>,
        latest: &Arc<SchemaMismatches>,
    ) -> Option<Arc<SchemaMismatches>> {
        if latest.is_empty() {
            self.fitting.insert(call, latest.version);
            return None;
        }
        Some(Arc::clone(latest))
    }

    fn add_method(
        &self,
        call: FilteredMethod<'_>,
        filter: Filter,
        service: CallerService<'_>,
    ) -> Arc<MethodMismatches> {
        let _writing = self.writer.lock();
        let mut methods = MethodsByName::clone(&self.methods.load());
        if let Some(added) = find(&methods, call) {
            return Arc::clone(added);
        }
        if methods.values().map(Vec::len).sum::<usize>() >= METHODS_MAX {
            methods.clear();
        }
        let (version, none) = (SchemaVersion::default(), Default::default());
        let none = SchemaMismatches::new(version, none, Vec::new(), &self.checks_in_flight);
        let called = Arc::new(MethodMismatches {
            name: call.method.name.into(),
            types: call.method.types,
            filter_text: call.filter.into(),
            filter,
            tag_key: schema_tag_key(service.name),
            own_hash: service.hash,
            latest: ArcSwap::from_pointee(none),
            build: Mutex::default(),
        });
        let of_types = methods.entry(Arc::clone(&called.name)).or_default();
        of_types.push(Arc::clone(&called));
        self.methods.store(Arc::new(methods));
        called
    }

    fn find_mismatches(
        &self,
        registry: &WorkerRegistry,
        called: &MethodMismatches,
        version: SchemaVersion,
    ) -> SchemaMismatches {
        let nodes = registry.selectable_nodes();
        let nodes = nodes.filter(|node| called.filter.matches(&node.tags));
        // In an order that does not vary between runs.
        let mut by_hash: BTreeMap<u64, Vec<Arc<NodeInfo>>> = BTreeMap::new();
        for node in nodes {
            if let Some(hash) = announced_hash(&node, &called.tag_key) {
                by_hash.entry(hash).or_default().push(node);
            }
        }
        let (mut incompatible, mut rechecks, mut unchecked) = (Vec::new(), Vec::new(), Vec::new());
        let mut table = self.table.lock();
        // Types of this process: each rejection is recorded for its worker alone.
        by_hash.retain(|hash, _| called.own_hash != Some(*hash));
        for (hash, workers) in by_hash {
            let pair = SchemaPair {
                method: Arc::clone(&called.name),
                types: called.types,
                hash,
            };
            match table.known(&pair) {
                Some(learned) if learned.compatibility == Compatibility::Compatible => {}
                Some(learned) => {
                    rechecks.push(CheckTarget {
                        workers: others_if_any(&workers, &learned.node),
                        schedule: Arc::clone(&learned.rechecks),
                    });
                    incompatible.extend(workers);
                }
                None => unchecked.push(CheckTarget {
                    workers,
                    schedule: table.schedule(pair),
                }),
            }
        }
        self.is_learning.store(!table.is_all_compatible(), Relaxed);
        let incompatible = (incompatible, rechecks);
        SchemaMismatches::new(version, incompatible, unchecked, &self.checks_in_flight)
    }
}

fn find<'a>(
    methods: &'a MethodsByName,
    call: FilteredMethod<'_>,
) -> Option<&'a Arc<MethodMismatches>> {
    let of_name = methods.get(call.method.name)?;
    let is_it = |called: &&Arc<MethodMismatches>| {
        called.types == call.method.types && *called.filter_text == *call.filter
    };
    of_name.iter().find(is_it)
}

/// The workers other than one of them; that one if there is no other.
fn others_if_any(workers: &[Arc<NodeInfo>], one: &NodeInfo) -> Vec<Arc<NodeInfo>> {
    let others = workers
        .iter()
        .filter(|worker| worker.id.name != one.id.name);
    let others: Vec<_> = others.cloned().collect();
    match others.is_empty() {
        true => workers.to_vec(),
        false => others,
    }
}

/// The hash that a worker announces by the tag of this key.
fn announced_hash(node: &NodeInfo, tag_key: &str) -> Option<u64> {
    parse_schema_tag_value(node.tags.value(tag_key)?)
}

/// Limit of the methods, with their types and filters, whose mismatches are kept. Past it, they are
/// made anew.
const METHODS_MAX: usize = 1_024;

#[cfg(test)]
mod tests;
