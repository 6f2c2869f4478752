//! Properties of filters against a naive evaluation, and of registries against a naive model.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures::executor::block_on;
use proptest::prelude::*;
use rpcnet_registry::{
    ClusterEvent, Filter, LoadBalancingStrategy, NodeId, NodeInfo, NodeRegistry, NodeState,
    SelectError, StaticMembership, Tags, Worker, WorkerRegistry,
};

#[derive(Debug, Clone)]
enum Clause {
    Present(String),
    Absent(String),
    Equal(String, String),
    NotEqual(String, String),
    OneOf(String, Vec<String>),
}

impl Clause {
    fn holds(&self, tags: &BTreeMap<String, String>) -> bool {
        match self {
            Self::Present(key) => tags.contains_key(key),
            Self::Absent(key) => !tags.contains_key(key),
            Self::Equal(key, value) => tags.get(key) == Some(value),
            Self::NotEqual(key, value) => tags.get(key) != Some(value),
            Self::OneOf(key, values) => tags.get(key).is_some_and(|value| values.contains(value)),
        }
    }

    /// With white space wherever it is allowed, and everything in quotes or only what needs them.
    fn write(&self, space: &str, quote_all: bool) -> String {
        let written = |word: &String, others: &str| {
            let plain = |one: char| one.is_alphanumeric() || others.contains(one);
            if !quote_all && !word.is_empty() && word.chars().all(plain) {
                return word.clone();
            }
            quoted(word)
        };
        let key = |key: &String| written(key, "-_./");
        let word = |value: &String| written(value, "-_./:@+%");
        match self {
            Self::Present(of) => key(of),
            Self::Absent(of) => format!("!{space}{}", key(of)),
            Self::Equal(of, value) => format!("{}{space}={space}{}", key(of), word(value)),
            Self::NotEqual(of, value) => format!("{}{space}!={space}{}", key(of), word(value)),
            Self::OneOf(of, values) => {
                let values: Vec<_> = values.iter().map(word).collect();
                let values = values.join(&format!("{space}|{space}"));
                format!("{} in{space}({space}{values}{space})", key(of))
            }
        }
    }
}

fn quoted(word: &str) -> String {
    format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\""))
}

fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[ab]",
        1 => "in|role|eu-1|ä|zone.eu/1:2",
        1 => "[ab =!,()|\"\\\\\t\u{e4}]{0,4}",
    ]
}

fn clause() -> impl Strategy<Value = Clause> {
    prop_oneof![
        word().prop_map(Clause::Present),
        word().prop_map(Clause::Absent),
        (word(), word()).prop_map(|(key, value)| Clause::Equal(key, value)),
        (word(), word()).prop_map(|(key, value)| Clause::NotEqual(key, value)),
        (word(), prop::collection::vec(word(), 1..4))
            .prop_map(|(key, values)| Clause::OneOf(key, values)),
    ]
}

proptest! {
    #[test]
    fn a_filter_agrees_with_a_naive_evaluation(
        clauses in prop::collection::vec(clause(), 0..5),
        tags in prop::collection::btree_map(word(), word(), 0..6),
        space in "[ \t\n]{0,2}",
        quote_all in any::<bool>(),
    ) {
        let written: Vec<_> = clauses.iter().map(|one| one.write(&space, quote_all)).collect();
        let text = format!("{space}{}{space}", written.join(&format!("{space},{space}")));
        let filter: Filter = text.parse().map_err(|error| TestCaseError::fail(format!("{error}")))?;
        let expected = clauses.iter().all(|clause| clause.holds(&tags));
        let tags: Tags = tags.into_iter().collect();
        prop_assert_eq!(filter.matches(&tags), expected, "{}", text);

        let again: Filter = filter.to_string().parse().expect("the canonical form");
        prop_assert_eq!(again, filter);
    }

    #[test]
    fn any_key_and_value_of_a_tag_can_be_written(key in ".*", value in ".*") {
        let tags = Tags::from([(key.clone(), value.clone())]);
        let (key, value) = (quoted(&key), quoted(&value));
        for (text, holds) in [
            (key.clone(), true),
            (format!("!{key}"), false),
            (format!("{key}={value}"), true),
            (format!("{key}!={value}"), false),
            (format!("{key} in ({value}|x)"), true),
        ] {
            // The only bound is that of the length.
            let Ok(filter) = text.parse::<Filter>() else {
                prop_assert!(text.len() > Filter::BYTES_MAX, "{}", text);
                continue;
            };
            prop_assert_eq!(filter.matches(&tags), holds, "{}", text);
            prop_assert_eq!(filter.to_string().parse::<Filter>(), Ok(filter));
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic(
        text in prop_oneof![".*", "[ab =!,()|\"\\\\inü:<>&*';]{0,20}"],
    ) {
        match text.parse::<Filter>() {
            Ok(filter) => prop_assert_eq!(filter.to_string().parse::<Filter>(), Ok(filter)),
            Err(error) => {
                prop_assert!(text.is_char_boundary(error.position()));
                prop_assert_eq!(error.expression(), &text);
                let shown = error.to_string();
                let lines = 3 + usize::from(error.hint().is_some());
                prop_assert_eq!(shown.lines().count(), lines, "{}", shown);
                // The text before the position is valid by itself: every character of it was
                // parsed.
                prop_assert_eq!(error.found(), text[error.position()..].chars().next());
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Op {
    Insert {
        name: usize,
        epoch: u64,
        zone: usize,
    },
    Remove(usize),
    Fail(usize),
    Suspect(usize),
    Recover(usize),
    Drain(usize),
    SetZone {
        name: usize,
        zone: usize,
    },
    Call(usize),
    Finish(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let (name, zone) = (0..NAMES.len(), 0..ZONES.len());
    prop_oneof![
        3 => (name.clone(), 1..4_u64, zone.clone())
            .prop_map(|(name, epoch, zone)| Op::Insert { name, epoch, zone }),
        1 => name.clone().prop_map(Op::Remove),
        1 => name.clone().prop_map(Op::Fail),
        1 => name.clone().prop_map(Op::Suspect),
        2 => name.clone().prop_map(Op::Recover),
        1 => name.clone().prop_map(Op::Drain),
        2 => (name, zone.clone()).prop_map(|(name, zone)| Op::SetZone { name, zone }),
        5 => zone.prop_map(Op::Call),
        2 => any::<usize>().prop_map(Op::Finish),
    ]
}

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const ZONES: [&str; 3] = ["x", "y", "z"];

#[derive(Debug, Clone, PartialEq)]
struct Known {
    epoch: u64,
    zone: usize,
    state: NodeState,
}

/// Model of a registry: the source's list, and the nodes that left.
#[derive(Debug, Default)]
struct RegistryModel {
    listed: BTreeMap<usize, Known>,
    left: BTreeMap<usize, Known>,
    /// The number of processes of each name.
    processes: BTreeMap<usize, u64>,
}

impl RegistryModel {
    fn apply(&mut self, op: &Op) {
        let state = |naive: &mut Self, name: &usize, state| {
            if let Some(known) = naive.listed.get_mut(name) {
                known.state = state;
            }
        };
        match op {
            Op::Insert { name, epoch, zone } => {
                if self
                    .listed
                    .get(name)
                    .is_none_or(|known| known.epoch <= *epoch)
                {
                    let known = Known {
                        epoch: *epoch,
                        zone: *zone,
                        state: NodeState::Alive,
                    };
                    let left = self.left.remove(name);
                    let before = self.listed.insert(*name, known).or(left);
                    if before.is_none_or(|before| before.epoch != *epoch) {
                        *self.processes.entry(*name).or_default() += 1;
                    }
                }
            }
            Op::Remove(name) => {
                if let Some(mut known) = self.listed.remove(name) {
                    known.state = NodeState::Left;
                    self.left.insert(*name, known);
                }
            }
            Op::Fail(name) => state(self, name, NodeState::Failed),
            Op::Suspect(name) => state(self, name, NodeState::Suspect),
            Op::Recover(name) => state(self, name, NodeState::Alive),
            Op::Drain(name) => state(self, name, NodeState::Draining),
            Op::SetZone { name, zone } => {
                if let Some(known) = self.listed.get_mut(name) {
                    known.zone = *zone;
                }
            }
            Op::Call(_) | Op::Finish(_) => {}
        }
    }

    fn view(&self) -> BTreeMap<usize, Known> {
        let mut view = self.listed.clone();
        view.extend(self.left.clone());
        view
    }

    fn in_zone(&self, zone: usize, state: NodeState) -> BTreeSet<usize> {
        let view = self.view();
        let matching = view
            .iter()
            .filter(|(_, one)| one.zone == zone && one.state == state);
        matching.map(|(name, _)| *name).collect()
    }
}

fn apply(cluster: &StaticMembership, op: &Op) {
    let tags = |zone: usize| Tags::from([("zone", ZONES[zone])]);
    match op {
        Op::Insert { name, epoch, zone } => {
            let id = NodeId::new(NAMES[*name], *epoch);
            let addr = ([127, 0, 0, 1], 7000).into();
            cluster.insert(NodeInfo::new(id, addr).with_tags(tags(*zone)));
        }
        Op::Remove(name) => drop(cluster.remove(NAMES[*name])),
        Op::Fail(name) => drop(cluster.fail(NAMES[*name])),
        Op::Suspect(name) => drop(cluster.suspect(NAMES[*name], 8.0)),
        Op::Recover(name) => drop(cluster.recover(NAMES[*name])),
        Op::Drain(name) => drop(cluster.drain(NAMES[*name])),
        Op::SetZone { name, zone } => drop(cluster.set_tags(NAMES[*name], tags(*zone))),
        Op::Call(_) | Op::Finish(_) => {}
    }
}

fn known(nodes: &[Arc<NodeInfo>]) -> BTreeMap<usize, Known> {
    let index = |list: &[&str], one: &str| list.iter().position(|other| *other == one).unwrap();
    nodes
        .iter()
        .map(|node| {
            let zone = index(&ZONES, node.tags.value("zone").unwrap());
            let known = Known {
                epoch: node.id.epoch,
                zone,
                state: node.state,
            };
            (index(&NAMES, &node.id.name), known)
        })
        .collect()
}

proptest! {
    #[test]
    fn registries_agree_with_a_naive_model(
        before in prop::collection::vec(op(), 0..10),
        after in prop::collection::vec(op(), 0..60),
        strategy in prop::sample::select(LoadBalancingStrategy::ALL),
    ) {
        let (cluster, mut naive) = (StaticMembership::new(), RegistryModel::default());
        for op in &before {
            apply(&cluster, op);
            naive.apply(op);
        }
        // Nodes that left before the start are not known.
        naive.left.clear();

        let nodes = NodeRegistry::new(cluster.clone()).with_event_capacity(1000);
        let mut events = nodes.subscribe();
        let workers = WorkerRegistry::new(cluster.clone(), strategy);
        block_on(nodes.start());
        block_on(workers.start());
        let mut calls: Vec<(Worker, usize, u64)> = Vec::new();
        // Nodes that failed before the start never joined: they are in the snapshot alone.
        let mut replayed: BTreeMap<Arc<str>, Arc<NodeInfo>> = nodes
            .snapshot()
            .iter()
            .filter(|node| node.state.is_gone())
            .map(|node| (Arc::clone(&node.id.name), Arc::clone(node)))
            .collect();

        for op in &after {
            apply(&cluster, op);
            naive.apply(op);
            match op {
                Op::Call(zone) => {
                    let filter = format!("zone={}", ZONES[*zone]);
                    let [alive, suspect] = [NodeState::Alive, NodeState::Suspect]
                        .map(|state| naive.in_zone(*zone, state));
                    let expected = if alive.is_empty() { suspect } else { alive };
                    match block_on(workers.select_worker(Some(&filter))) {
                        Ok(worker) => {
                            let name = worker.id().name.as_ref();
                            let index = NAMES.iter().position(|one| *one == name).unwrap();
                            prop_assert!(expected.contains(&index), "{name}, not {expected:?}");
                            calls.push((worker, index, naive.processes[&index]));
                        }
                        Err(error) => {
                            prop_assert!(expected.is_empty(), "{error}, not {expected:?}");
                            let gone = [NodeState::Failed, NodeState::Draining];
                            let matching: usize =
                                gone.map(|state| naive.in_zone(*zone, state).len()).iter().sum();
                            let expected = if matching == 0 {
                                SelectError::NoMatch { filter }
                            } else {
                                SelectError::NoneReachable { filter, matching }
                            };
                            prop_assert_eq!(error, expected);
                        }
                    }
                }
                Op::Finish(index) if !calls.is_empty() => {
                    calls.swap_remove(index % calls.len());
                }
                _ => {}
            }

            prop_assert_eq!(known(&nodes.snapshot()), naive.view());
            let listed = workers.workers(None).unwrap();
            let listed: Vec<_> = listed.into_iter().map(|one| (one.node, one.in_flight)).collect();
            let states: Vec<_> = listed.iter().map(|(node, _)| Arc::clone(node)).collect();
            prop_assert_eq!(known(&states), naive.view());
            for (node, in_flight) in listed {
                let index = NAMES.iter().position(|one| *one == &*node.id.name).unwrap();
                let process = naive.processes[&index];
                let running = calls.iter().filter(|call| (call.1, call.2) == (index, process));
                prop_assert_eq!(in_flight as usize, running.count(), "{}", node.id);
            }

            // A subscriber that follows the events has the same state.
            while let Some(event) = events.try_recv() {
                let node = event.node().expect("an event of a node");
                replayed.insert(Arc::clone(&node.id.name), Arc::clone(node));
            }
            let replayed: Vec<_> = replayed.values().cloned().collect();
            prop_assert_eq!(known(&replayed), naive.view());
        }
    }
}

#[test]
fn lagging_is_not_about_a_node() {
    assert!(ClusterEvent::Lagged(1).node().is_none());
}
