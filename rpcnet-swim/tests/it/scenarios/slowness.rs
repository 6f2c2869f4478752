//! Slow members and how they are told from failed ones.

use std::time::Duration;

use super::*;

/// What `observer` says of the health of the node at `node`.
fn health(cluster: &Cluster, observer: usize, node: usize) -> Option<HealthState> {
    let id = cluster.view_of(observer, node)?.id;
    let health = cluster.engine(observer)?.health(&id, cluster.now())?;
    Some(health.state)
}

/// Each round trip between `node` and the others takes from 400 to 700 ms; or none of that.
fn set_slow(cluster: &mut Cluster, node: usize, slow: bool) {
    for other in (0..cluster.len()).filter(|n| *n != node) {
        let link = match slow {
            true => Link {
                reorder: 1.0,
                reorder_delay_max: millis(150),
                ..Link::lan().with_delay(millis(200))
            },
            false => Link::lan(),
        };
        cluster.network().set_link(node, other, link);
        cluster.network().set_link(other, node, link);
    }
}

#[test]
fn a_slow_member_is_told_from_a_failed_one() {
    for (seed, nodes) in [(0, 3), (1, 5), (2, 10), (3, 10), (4, 32)] {
        let mut cluster = settled(seed, nodes);
        let (slow, dead) = (1, nodes - 1);
        let others: Vec<_> = (0..nodes).filter(|n| *n != slow).collect();
        set_slow(&mut cluster, slow, true);
        let took = run_until_all_say(&mut cluster, &others, slow, HealthState::Slow);
        println!("{nodes} nodes: slow everywhere after {took:?}");
        cluster.run_for(secs(60));
        // Reported by itself too, so members that have not probed it for long know.
        assert!(cluster.engine(slow).unwrap().local_member().slow);
        check_round_trips(&cluster, &others, slow);
        check_responsive(&cluster, &others);
        cluster.crash(dead);
        let failed = |c: &Cluster| health(c, 0, dead) == Some(HealthState::Failed);
        let took = cluster.run_until(secs(8), failed).expect("it is found");
        println!("{nodes} nodes: a crash beside it is known after {took:?}");
        set_slow(&mut cluster, slow, false);
        let others: Vec<_> = others.iter().copied().filter(|n| *n != dead).collect();
        let took = run_until_all_say(&mut cluster, &others, slow, HealthState::Responsive);
        println!("{nodes} nodes: responsive everywhere after {took:?}");
        cluster.run_for(secs(60));
        cluster.expect_safe();
        check_reported_once(&cluster, &others, dead);
    }
}

/// Lets time pass until all observers say this of the node. Gives how long it took.
fn run_until_all_say(
    cluster: &mut Cluster,
    observers: &[usize],
    node: usize,
    state: HealthState,
) -> Duration {
    let limit = match state {
        HealthState::Slow => secs(30),
        _ => secs(60),
    };
    let took = cluster.run_until(limit, |cluster| {
        let mut states = observers.iter().map(|n| health(cluster, *n, node));
        states.all(|said| said == Some(state))
    });
    took.unwrap_or_else(|| panic!("not all say that it is {state:?}"))
}

/// Checks the round trips that were measured lately to the slow node.
fn check_round_trips(cluster: &Cluster, observers: &[usize], slow: usize) {
    let id = cluster.view_of(0, slow).unwrap().id;
    let said = observers.iter().filter_map(|n| {
        let health = cluster.engine(*n).unwrap().health(&id, cluster.now())?;
        Some((health.round_trip?, health.measured_ago?))
    });
    let trips: Vec<_> = said.filter(|(_, age)| *age < secs(30)).collect();
    assert!(!trips.is_empty());
    let is_expected = |trip| (millis(400)..millis(900)).contains(trip);
    assert!(trips.iter().all(|(trip, _)| is_expected(trip)), "{trips:?}");
}

/// Checks that no node says of these members that one is slow, not even a slow node.
fn check_responsive(cluster: &Cluster, members: &[usize]) {
    for observer in all(cluster) {
        for member in members.iter().copied().filter(|member| *member != observer) {
            let said = health(cluster, observer, member);
            let responsive = Some(HealthState::Responsive);
            assert_eq!(said, responsive, "{observer} of {member}");
        }
    }
}

/// Checks that each observer reported that n1 is slow once, and its end once, and no failure but
/// that of the dead node.
fn check_reported_once(cluster: &Cluster, observers: &[usize], dead: usize) {
    for node in observers {
        let of_slow = |m: &rpcnet_swim::Member| &*m.id.name == "n1";
        let reported = |e: &Event| matches!(e, Event::NodeSlow(m) if of_slow(m));
        assert_eq!(count(cluster, &[*node], reported), 1, "{node}");
        let reported = |e: &Event| matches!(e, Event::NodeResponsive(m) if of_slow(m));
        assert_eq!(count(cluster, &[*node], reported), 1, "{node}");
        assert_eq!(count(cluster, &[*node], failed_but(dead)), 0);
    }
    let slow_dead =
        |e: &Event| matches!(e, Event::NodeSlow(m) if *m.id.name == *format!("n{dead}"));
    assert_eq!(count(cluster, &all(cluster), slow_dead), 0);
}

/// A failure of any other member.
fn failed_but(dead: usize) -> impl Fn(&Event) -> bool {
    move |event| matches!(event, Event::NodeFailed(m) if *m.id.name != *format!("n{dead}"))
}

#[test]
fn answers_that_come_after_their_round_are_answers() {
    for seed in 0..4 {
        let mut cluster = settled(seed, 10);
        for other in (0..10).filter(|n| *n != 4) {
            // A round trip of 1.4 s and more, when a round takes one.
            let far = Link::lan().with_delay(millis(700));
            cluster.network().set_link(4, other, far);
            cluster.network().set_link(other, 4, far);
        }
        cluster.run_for(secs(60));
        let suspicions = cluster.report().suspicions;
        cluster.run_for(secs(240));
        assert_eq!(
            count(&cluster, &all(&cluster), is_failure),
            0,
            "seed {seed}"
        );
        println!(
            "seed {seed}: {suspicions} suspicions, {} later",
            cluster.report().suspicions - suspicions
        );
        let late: u64 = (0..10)
            .map(|n| cluster.engine(n).unwrap().stats().late_answers)
            .sum();
        assert!(late > 0);
        let blamed =
            (0..10).filter(|n| *n != 4 && health(&cluster, *n, 4) == Some(HealthState::Slow));
        assert_eq!(blamed.count(), 9);
    }
}

#[test]
fn one_slow_link_is_known_at_its_ends_alone() {
    let mut cluster = settled(3, 5);
    for (from, to) in [(1, 2), (2, 1)] {
        cluster
            .network()
            .set_link(from, to, Link::lan().with_delay(millis(250)));
    }
    cluster.run_for(secs(60));
    for observer in 0..5 {
        for member in (0..5).filter(|m| *m != observer) {
            let ends = [(1, 2), (2, 1)].contains(&(observer, member));
            let state = if ends {
                HealthState::Slow
            } else {
                HealthState::Responsive
            };
            assert_eq!(
                health(&cluster, observer, member),
                Some(state),
                "{observer} of {member}"
            );
        }
    }
}

#[test]
fn a_node_that_hears_a_slow_member_alone_is_not_slow_itself() {
    let mut cluster = settled(3, 3);
    // The third answers node 0 through the slow one alone.
    set_slow(&mut cluster, 1, true);
    cluster.network().cut(0, 2);
    cluster.network().cut(2, 0);
    cluster.run_for(secs(120));
    let calls_itself_slow = |n| cluster.engine(n).unwrap().local_member().slow;
    assert_eq!([0, 1, 2].map(calls_itself_slow), [false, true, false]);
}

#[test]
fn loss_is_not_slowness() {
    let mut cluster = settled(3, 10);
    cluster.network().default = Link::lan().with_loss(0.3);
    cluster.run_for(secs(300));
    let slow = |e: &Event| matches!(e, Event::NodeSlow(_));
    assert_eq!(count(&cluster, &all(&cluster), slow), 0);
}
