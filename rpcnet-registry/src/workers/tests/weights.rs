//! Tests of the tag `weight`.

use super::*;

fn weighted(weights: &[(&str, &str)]) -> StaticMembership {
    let node = |&(name, weight)| node(name, 1, &[("role", "worker"), ("weight", weight)]);
    weights.iter().map(node).collect()
}

#[test]
fn the_tag_weight_sets_the_weight_of_a_worker() {
    let cluster = weighted(&[
        ("a", "2.5"),
        ("b", "-3"),
        ("c", "much"),
        ("d", "inf"),
        ("e", "NaN"),
        ("f", "0"),
        ("g", " 2"),
    ]);
    let registry = started(&cluster, LoadBalancingStrategy::RoundRobin);
    let weights = || -> Vec<f32> {
        let workers = registry.workers(None).unwrap();
        workers.iter().map(|one| one.weight).collect()
    };
    assert_eq!(weights(), [2.5, 0.0, 1.0, 1000.0, 1.0, 0.0, 2.0]);
    cluster.set_tags("a", Tags::from([("role", "worker")]));
    assert_eq!(weights()[0], 1.0);
}

#[test]
fn a_worker_without_weight_gets_no_calls_while_another_has_weight() {
    for &strategy in ALL {
        let cluster = weighted(&[("a", "0"), ("b", "1"), ("c", "1")]);
        let registry = started(&cluster, strategy);
        assert_eq!(selected(&registry, "role=worker"), ["b", "c"], "{strategy}");
        // It is not used for a probe or a retry either.
        let tried = [id_of(&registry, "b"), id_of(&registry, "c")];
        let cx = PickContext::new().with_excluded(&tried);
        let last = registry.select(Some("role=worker"), &cx).unwrap();
        assert_eq!(last.id().to_string(), "a", "nothing else is left");
        drop(last);

        let weight = |name: &str, weight: &str| {
            cluster.set_tags(name, Tags::from([("role", "worker"), ("weight", weight)]));
        };
        weight("b", "-1");
        assert_eq!(selected(&registry, "role=worker"), ["c"], "{strategy}");
        // Where all have none, they are equal.
        weight("c", "0.0");
        assert_eq!(
            selected(&registry, "role=worker"),
            ["a", "b", "c"],
            "{strategy}"
        );
        weight("a", "0.5");
        assert_eq!(selected(&registry, "role=worker"), ["a"], "{strategy}");
        // A call to all includes it.
        assert_eq!(registry.select_all(Some("role=worker")).unwrap().len(), 3);
    }
}

#[test]
fn an_unreachable_worker_comes_before_one_without_weight() {
    let cluster = weighted(&[("a", "0"), ("b", "1")]);
    let registry = started(&cluster, LoadBalancingStrategy::RoundRobin);
    let workers = registry.select_all(None).unwrap();
    registry.on_unreachable(workers[1].endpoint());
    assert_eq!(selected(&registry, "role=worker"), ["b"]);
    // A worker that drains comes last.
    registry.set_draining(workers[1].endpoint(), true);
    assert_eq!(selected(&registry, "role=worker"), ["a"]);
}

/// The invalid tags that were reported.
fn invalid(events: &mut Events) -> Vec<String> {
    std::iter::from_fn(|| events.try_recv())
        .filter_map(|event| match event {
            ClusterEvent::InvalidTag {
                node,
                key,
                value,
                effective: taken,
            } => Some(format!("{}: {key}={value:?} is {taken}", node.id.name)),
            _ => None,
        })
        .collect()
}

#[test]
fn an_invalid_weight_is_reported_once_for_each_change() {
    let cluster = weighted(&[("a", "1e39"), ("b", " 2"), ("c", "")]);
    let registry = WorkerRegistry::new(cluster.clone(), LoadBalancingStrategy::RoundRobin);
    let mut events = registry.subscribe();
    block_on(registry.start());
    let at_start = ["a: weight=\"1e39\" is 1000", "c: weight=\"\" is 1"];
    assert_eq!(invalid(&mut events), at_start);

    cluster.suspect("a", 9.0);
    cluster.recover("a");
    cluster.set_tags("a", Tags::from([("weight", "1e39"), ("zone", "eu-1")]));
    assert_eq!(
        invalid(&mut events),
        [""; 0],
        "nothing new about the weight"
    );
    cluster.set_tags("a", Tags::from([("weight", "-2")]));
    cluster.set_tags("a", Tags::from([("weight", "2")]));
    cluster.set_tags("a", Tags::from([("weight", "two")]));
    cluster.set_tags("a", Tags::new());
    let reported = ["a: weight=\"-2\" is 0", "a: weight=\"two\" is 1"];
    assert_eq!(invalid(&mut events), reported);
}

#[test]
fn invalid_weights_are_listed_for_late_subscribers() {
    let cluster = weighted(&[("a", "heavy"), ("b", "2"), ("c", "-1"), ("d", "much")]);
    cluster.insert(node("local", 1, &[("weight", "nan")]).with_local(true));
    let registry = started(&cluster, LoadBalancingStrategy::RoundRobin);
    let mut events = registry.subscribe();
    let listed = || -> Vec<String> {
        let tags = registry.invalid_tags().into_iter();
        tags.map(|tag| {
            assert_eq!(&*tag.key, "weight");
            format!("{}: {:?} is {}", tag.node.id, tag.value, tag.effective)
        })
        .collect()
    };
    assert_eq!(
        listed(),
        [
            "a: \"heavy\" is 1",
            "c: \"-1\" is 0",
            "d: \"much\" is 1",
            "local: \"nan\" is 1"
        ]
    );
    cluster.set_tags("a", Tags::from([("weight", "3")]));
    cluster.fail("d");
    assert_eq!(listed(), ["c: \"-1\" is 0", "local: \"nan\" is 1"]);
    assert_eq!(invalid(&mut events), [""; 0], "a late subscriber");
}
