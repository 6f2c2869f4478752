//! Tests of the mismatches of a method, and of what a caller remembers.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures::executor::block_on;
use proptest::prelude::*;

use super::*;
use crate::{
    LoadBalancingStrategy, NodeId, StaticMembership, Tags,
    schema_tag::{schema_tag_key, schema_tag_value},
};

const OWN: u64 = 7;

fn method(name: &str) -> MethodOfTypes<'_> {
    MethodOfTypes { name, types: 1 }
}

fn service() -> CallerService<'static> {
    CallerService {
        name: "Render",
        hash: Some(OWN),
    }
}

/// Tags that announce this hash of the service.
fn tags(hash: Option<u64>) -> Tags {
    let value = hash.map(schema_tag_value);
    let tags = value.map(|value| (schema_tag_key("Render"), value));
    tags.into_iter().collect()
}

/// Workers on a list, and what a caller knows of their types.
struct Cluster {
    list: StaticMembership,
    registry: WorkerRegistry,
    schemas: ServiceSchemas,
}

impl Cluster {
    fn new() -> Self {
        let list = StaticMembership::new();
        let registry = WorkerRegistry::new(list.clone(), LoadBalancingStrategy::RoundRobin);
        block_on(registry.start());
        Self {
            list,
            registry,
            schemas: ServiceSchemas::default(),
        }
    }

    fn join(&self, name: &str, hash: Option<u64>) {
        let node = NodeInfo::new(NodeId::new(name, 1), ([127, 0, 0, 1], 7000).into());
        self.list.insert(node.with_tags(tags(hash)));
    }

    fn mismatches(&self, name: &str) -> Option<Arc<SchemaMismatches>> {
        self.filtered_mismatches(name, None)
    }

    fn filtered_mismatches(
        &self,
        name: &str,
        filter: Option<&str>,
    ) -> Option<Arc<SchemaMismatches>> {
        let call = (method(name), filter);
        self.schemas.mismatches(&self.registry, call, service)
    }

    fn learn(&self, name: &str, worker: &str, compatibility: Compatibility) -> Option<bool> {
        let node = self.registry.node(worker).expect("it is listed");
        let (called, learned) = ((method(name), service()), (&node, Time::ZERO));
        let is_current = |node: &NodeInfo| self.registry.is_as_known(node);
        self.schemas
            .record(called, compatibility, learned, is_current)
    }

    fn id(&self, name: &str) -> u64 {
        let worker = self
            .registry
            .select_named(None, name)
            .expect("it is listed");
        worker.endpoint_id()
    }
}

use Compatibility::{Compatible, Incompatible};

#[test]
fn workers_of_the_same_types_or_without_a_word_are_no_mismatches() {
    let cluster = Cluster::new();
    cluster.join("untagged", None);
    assert!(cluster.mismatches("m").is_none());
    assert!(
        cluster.schemas.methods.load().is_empty(),
        "no schema is announced"
    );
    cluster.join("same", Some(OWN));
    cluster.list.insert(
        NodeInfo::new(NodeId::new("odd", 1), ([127, 0, 0, 1], 7000).into())
            .with_tag(schema_tag_key("Render"), "no hash")
            .with_tag(schema_tag_key("Other"), schema_tag_value(9)),
    );
    assert!(cluster.mismatches("m").is_none());
    assert!(!cluster.schemas.is_learning());
}

#[test]
fn what_was_learned_from_one_worker_holds_for_all_with_its_hash() {
    let cluster = Cluster::new();
    for (name, hash) in [("new", OWN), ("old-1", 1), ("old-2", 1), ("older", 2)] {
        cluster.join(name, Some(hash));
    }
    let all = cluster.mismatches("m").expect("three");
    assert_eq!((all.ids().len(), all.incompatible_ids().len()), (3, 0));
    assert!(all.has_unchecked() && cluster.schemas.is_learning());
    assert!(Arc::ptr_eq(
        &all,
        &cluster.mismatches("m").expect("the same")
    ));
    assert_eq!(cluster.learn("m", "old-1", Incompatible), Some(true));
    assert_eq!(cluster.learn("m", "old-2", Incompatible), Some(false));
    assert_eq!(cluster.learn("m", "older", Compatible), Some(true));
    cluster.join("old-3", Some(1));
    let left = cluster.mismatches("m").expect("three");
    let mut old = ["old-1", "old-2", "old-3"].map(|name| cluster.id(name));
    old.sort_unstable();
    assert_eq!((left.ids(), left.incompatible_ids()), (&old[..], &old[..]));
    assert!(!left.has_unchecked() && left.claim_check(Time::ZERO).is_none());
    assert!(cluster.schemas.is_learning(), "one may have been wrong");
    // Another method of the service is another matter, and so are other types.
    assert!(
        cluster
            .mismatches("n")
            .expect("all but one")
            .has_unchecked()
    );
    // Restarted as a new one.
    for name in ["old-1", "old-2", "old-3"] {
        cluster.list.set_tags(name, tags(Some(OWN)));
    }
    assert!(cluster.mismatches("m").is_none());
}

#[test]
fn only_workers_that_match_the_filter_are_mismatches() {
    let cluster = Cluster::new();
    cluster.join("new", Some(OWN));
    let old = NodeInfo::new(NodeId::new("old", 1), ([127, 0, 0, 1], 7000).into());
    cluster
        .list
        .insert(old.with_tags(tags(Some(1))).with_tag("zone", "eu"));
    let count = |filter| {
        let found = cluster.filtered_mismatches("m", filter);
        found.map_or(0, |found| found.ids().len())
    };
    for _ in 0..2 {
        let of_filters = [None, Some("zone=eu"), Some("zone=us"), Some("zone==")].map(count);
        assert_eq!(of_filters, [1, 1, 0, 0]);
    }
    cluster
        .list
        .set_tags("old", tags(Some(1)).with("zone", "us"));
    assert_eq!([Some("zone=eu"), Some("zone=us")].map(count), [0, 1]);
}

#[test]
fn a_worker_of_the_callers_own_hash_or_of_none_teaches_nothing_about_others() {
    let cluster = Cluster::new();
    for (name, hash) in [("same", Some(OWN)), ("untagged", None), ("old", Some(1))] {
        cluster.join(name, hash);
    }
    for name in ["same", "untagged"] {
        assert_eq!(cluster.learn("m", name, Incompatible), None);
        assert_eq!(cluster.learn("m", name, Compatible), None);
    }
    let mismatches = cluster.mismatches("m").expect("one of another hash");
    assert_eq!(mismatches.ids(), [cluster.id("old")]);
    // What a caller of other types has learned of the hash is not about its own callers.
    let other = CallerService {
        name: "Render",
        hash: Some(1),
    };
    let node = cluster.registry.node("same").expect("it is listed");
    let called = (method("m"), other);
    let schemas = &cluster.schemas;
    let recorded = schemas.record(called, Incompatible, (&node, Time::ZERO), |_| true);
    assert_eq!(recorded, Some(true));
    let mismatches = cluster.mismatches("m").expect("one of another hash");
    assert_eq!(mismatches.ids(), [cluster.id("old")]);
}

#[test]
fn types_that_one_worker_has_rejected_are_checked_again_on_another_one() {
    let cluster = Cluster::new();
    cluster.join("new", Some(OWN));
    cluster.join("a", Some(1));
    assert!(cluster.mismatches("m").expect("one").has_unchecked());
    cluster.learn("m", "a", Incompatible);
    let at = |seconds| Time::ZERO + Duration::from_secs(seconds);
    let claim = |seconds| cluster.mismatches("m")?.claim_check(at(seconds));
    assert!(claim(59).is_none());
    let alone = claim(60).expect("it is due");
    assert_eq!(&*alone.node().id.name, "a", "there is no other");
    drop(alone);
    for name in ["b", "c"] {
        cluster.join(name, Some(1));
    }
    assert!(claim(179).is_none());
    let second = claim(180).expect("it is due");
    assert_ne!(&*second.node().id.name, "a");
    assert_eq!(cluster.learn("m", "b", Incompatible), Some(false));
    drop(second);
    let third = claim(420).expect("it is due");
    assert_ne!(&*third.node().id.name, "a");
    assert_eq!(cluster.learn("m", "c", Compatible), Some(true));
    drop(third);
    assert!(cluster.mismatches("m").is_none());
    // From here on what a worker rejects is its own affair.
    assert_eq!(cluster.learn("m", "a", Incompatible), None);
    assert!(cluster.mismatches("m").is_none());
}

#[test]
fn a_caller_that_does_not_know_its_own_hash_learns_that_of_the_others() {
    let cluster = Cluster::new();
    cluster.join("one", Some(OWN));
    let service = || CallerService {
        name: "Render",
        hash: None,
    };
    let mismatches = || {
        let schemas = &cluster.schemas;
        schemas.mismatches(&cluster.registry, (method("m"), None), service)
    };
    assert!(mismatches().expect("one").has_unchecked());
    let node = cluster.registry.node("one").expect("it is listed");
    let (called, learned) = ((method("m"), service()), (&node, Time::ZERO));
    let recorded = cluster
        .schemas
        .record(called, Compatible, learned, |_| true);
    assert_eq!(recorded, Some(true));
    assert!(mismatches().is_none());
}

#[test]
fn a_pair_is_checked_once_until_the_check_ends() {
    let cluster = Cluster::new();
    cluster.join("new", Some(OWN));
    for name in ["a", "b"] {
        cluster.join(name, Some(1));
    }
    let claim = || cluster.mismatches("m")?.claim_check(Time::ZERO);
    let check = claim().expect("none has begun");
    assert!(claim().is_none());
    // Also after a change of the cluster.
    cluster.join("c", Some(1));
    assert!(claim().is_none());
    cluster.join("d", Some(2));
    assert_eq!(&*claim().expect("of the other hash").node().id.name, "d");
    cluster.learn("m", &check.node().id.name, Compatible);
    drop(check);
    assert_eq!(
        cluster.mismatches("m").expect("one").ids(),
        [cluster.id("d")]
    );
}

#[test]
fn what_a_process_said_that_was_replaced_at_once_is_forgotten() {
    let cluster = Cluster::new();
    cluster.join("new", Some(OWN));
    cluster.join("old", Some(1));
    let node = cluster.registry.node("old").expect("it is listed");
    cluster.learn("m", "old", Incompatible);
    cluster.list.set_tags("old", tags(Some(2)));
    let is_current = |node: &NodeInfo| cluster.registry.is_as_known(node);
    let late = ((method("m"), service()), (&node, Time::ZERO));
    let recorded = cluster
        .schemas
        .record(late.0, Incompatible, late.1, is_current);
    assert_eq!(recorded, Some(false), "it is another one by now");
    cluster.schemas.retain_nodes(Time::ZERO, is_current);
    cluster.join("old-2", Some(1));
    let mismatches = cluster.mismatches("m").expect("two");
    assert!(mismatches.incompatible_ids().is_empty());
}

#[test]
fn methods_beyond_the_limit_are_made_anew() {
    let cluster = Cluster::new();
    cluster.join("old", Some(1));
    cluster.learn("0", "old", Incompatible);
    for number in 0..=METHODS_MAX {
        assert!(cluster.mismatches(&number.to_string()).is_some());
    }
    assert!(cluster.schemas.methods.load().len() <= METHODS_MAX);
    let known = cluster.mismatches("0").expect("it is incompatible");
    assert!(known.is_incompatible(cluster.id("old")));
}

/// A change of a cluster, or something that is learned.
#[derive(Debug, Clone)]
enum Change {
    Join(usize, Option<u64>),
    Retag(usize, Option<u64>),
    Fail(usize),
    Learn(usize, bool),
}

const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

fn change() -> impl Strategy<Value = Change> {
    let hash = || prop_oneof![Just(None), Just(Some(OWN)), (1_u64..4).prop_map(Some)];
    let name = || 0..NAMES.len();
    prop_oneof![
        (name(), hash()).prop_map(|(name, hash)| Change::Join(name, hash)),
        (name(), hash()).prop_map(|(name, hash)| Change::Retag(name, hash)),
        name().prop_map(Change::Fail),
        (name(), any::<bool>()).prop_map(|(name, fits)| Change::Learn(name, fits)),
    ]
}

proptest! {
    #[test]
    fn mismatches_are_those_of_the_tags_and_of_what_was_learned(
        changes in proptest::collection::vec(change(), 0..40),
    ) {
        let cluster = Cluster::new();
        let mut listed: BTreeMap<usize, Option<u64>> = BTreeMap::new();
        let mut learned: BTreeMap<u64, bool> = BTreeMap::new();
        for change in changes {
            match change {
                Change::Join(name, hash) => {
                    cluster.list.remove(NAMES[name]);
                    cluster.join(NAMES[name], hash);
                    listed.insert(name, hash);
                }
                Change::Retag(name, hash) => {
                    if let Some(known) = listed.get_mut(&name) {
                        cluster.list.set_tags(NAMES[name], tags(hash));
                        *known = hash;
                    }
                }
                Change::Fail(name) => {
                    cluster.list.fail(NAMES[name]);
                    listed.remove(&name);
                }
                Change::Learn(name, fits) => {
                    if let Some(Some(hash)) = listed.get(&name) {
                        let compatibility = if fits { Compatible } else { Incompatible };
                        cluster.learn("m", NAMES[name], compatibility);
                        // What was served once fits, and nothing is known of the caller's own hash.
                        if *hash != OWN {
                            *learned.entry(*hash).or_insert(fits) |= fits;
                        }
                    }
                }
            }
            let ids = |is_one: &dyn Fn(u64) -> bool| -> BTreeSet<u64> {
                let hashes = listed.iter().filter_map(|(name, hash)| Some((name, (*hash)?)));
                let those = hashes.filter(|(_, hash)| is_one(*hash));
                those.map(|(name, _)| cluster.id(NAMES[*name])).collect()
            };
            let incompatible = ids(&|hash| learned.get(&hash) == Some(&false));
            let all = ids(&|hash| learned.get(&hash).map_or(hash != OWN, |fits| !fits));
            let found = cluster.mismatches("m");
            let found = found.as_deref();
            let set = |ids: &[u64]| ids.iter().copied().collect::<BTreeSet<_>>();
            prop_assert_eq!(found.map(|it| set(it.ids())).unwrap_or_default(), all);
            let known = found.map(|it| set(it.incompatible_ids())).unwrap_or_default();
            prop_assert_eq!(known, incompatible);
        }
    }
}
