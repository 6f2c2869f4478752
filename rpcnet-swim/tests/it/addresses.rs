//! Advertised addresses that lead nowhere, change, are shared or let answers in alone, in virtual
//! time.

use std::net::SocketAddr;
use std::time::Duration;

use rpcnet_swim::{AddressStatus, ClusterConfig, Event, HealthState, MemberState, NodeId};
use rpcnet_swim_sim::Cluster;

use crate::{lan, millis, secs};

/// Bound to all interfaces, so that the address is a guess.
fn guessing() -> ClusterConfig {
    lan().with_bind_addr(addr("0.0.0.0:7946"))
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A cluster in which all know all.
fn settled(seed: u64, nodes: usize) -> Cluster {
    let mut cluster = Cluster::bootstrap(seed, nodes, lan());
    let took = cluster.run_until(secs(10), Cluster::is_converged);
    took.expect("all know all");
    cluster.run_for(secs(5));
    cluster
}

fn seeds(cluster: &Cluster) -> Vec<SocketAddr> {
    (0..cluster.len().min(2)).map(|n| cluster.addr(n)).collect()
}

/// Number of events like this one that a node reported.
fn count(cluster: &Cluster, node: usize, like: impl Fn(&Event) -> bool) -> usize {
    let events = cluster.events(node).iter();
    events.filter(|(_, event)| like(event)).count()
}

fn is_about(event: &Event, name: &str) -> bool {
    let member = match event {
        Event::NodeSuspect { member, .. }
        | Event::NodeRecovered(member)
        | Event::NodeFailed(member) => member,
        _ => return false,
    };
    &*member.id.name == name
}

fn is_unreachable(event: &Event, name: &str) -> bool {
    matches!(event, Event::NodeUnreachable(member) if &*member.id.name == name)
}

fn is_reachable(event: &Event, name: &str) -> bool {
    matches!(event, Event::NodeReachable(member) if &*member.id.name == name)
}

fn is_address_problem(event: &Event) -> bool {
    matches!(
        event,
        Event::AddressUnreachable { .. } | Event::AddressConflict { .. }
    )
}

fn status(cluster: &Cluster, node: usize) -> AddressStatus {
    cluster.engine(node).expect("it is up").address_status()
}

/// Whether all others see a node alive and where it is.
fn is_found(cluster: &Cluster, node: usize) -> bool {
    (0..cluster.len()).filter(|n| *n != node).all(|observer| {
        let seen = cluster.view_of(observer, node);
        seen.is_some_and(|member| {
            member.state == MemberState::Alive && member.addr == cluster.location(node)
        })
    })
}

#[test]
fn an_unreachable_guess_is_corrected_before_any_member_knows_it() {
    for wrong in ["127.0.1.1:7946", "192.168.7.7:7946", "[fd00::7]:7946"] {
        for others in [1, 5] {
            let mut cluster = settled(1, others);
            let seeds = seeds(&cluster);
            let node = cluster.add_advertising("late", guessing(), seeds, addr(wrong));
            let took = cluster.run_until(secs(5), |cluster| is_found(cluster, node));
            took.unwrap_or_else(|| panic!("{wrong}, {others} others"));
            cluster.run_for(secs(60));
            cluster.expect_safe();
            assert!(is_found(&cluster, node));
            for observer in 0..others {
                assert_eq!(count(&cluster, observer, |e| is_about(e, "late")), 0);
            }
            assert_eq!(count(&cluster, node, is_address_problem), 0);
            assert_eq!(status(&cluster, node), AddressStatus::Reachable);
        }
    }
}

#[test]
fn a_port_that_is_translated_is_followed() {
    let mut cluster = settled(2, 5);
    let seeds = seeds(&cluster);
    let node = cluster.add_advertising("late", lan(), seeds, addr("10.9.9.9:7946"));
    cluster.move_to(node, addr("203.0.113.5:50123"));
    let took = cluster.run_until(secs(20), |cluster| is_found(cluster, node));
    took.expect("it is found where it is seen");
    cluster.run_for(secs(60));
    cluster.expect_safe();
    assert!(is_found(&cluster, node));
}

#[test]
fn a_node_whose_address_changes_is_found_at_the_new_one() {
    for nodes in [2, 3, 8, 40] {
        let mut cluster = settled(3, nodes);
        cluster.move_to(1, addr("10.200.0.1:7946"));
        let took = cluster.run_until(secs(30), |cluster| is_found(cluster, 1));
        cluster.expect_safe();
        took.unwrap_or_else(|| panic!("{nodes} nodes: {:?}", cluster.view_of(0, 1)));
        cluster.run_for(secs(30));
        assert!(is_found(&cluster, 1), "{nodes} nodes");
        let updated = |event: &Event| matches!(event, Event::NodeUpdated(m) if m.addr == addr("10.200.0.1:7946"));
        for node in 0..nodes {
            assert_eq!(count(&cluster, node, updated), 1, "{nodes} nodes");
        }
        assert_eq!(status(&cluster, 1), AddressStatus::Reachable);
    }
}

/// It changed while no node could hear of it, so it is failed in all views by then.
#[test]
fn a_node_that_comes_back_elsewhere_after_it_was_declared_failed_is_found() {
    for nodes in [2, 3, 8] {
        let mut cluster = settled(4, nodes);
        for _ in 0..3 {
            cluster.network().isolate([1], 1);
            cluster.run_for(secs(15));
            cluster.network().heal_partitions();
            cluster.run_for(secs(12));
        }
        cluster.network().isolate([1], 1);
        cluster.run_for(secs(15));
        cluster.move_to(1, addr("10.200.0.1:7946"));
        cluster.network().heal_partitions();
        let took = cluster.run_until(secs(150), |cluster| is_found(cluster, 1));
        cluster.expect_safe();
        took.unwrap_or_else(|| panic!("{nodes} nodes: {:?}", cluster.view_of(0, 1)));
    }
}

#[test]
fn an_unreachable_address_set_by_hand_is_reported_and_can_be_corrected() {
    let mut cluster = settled(5, 8);
    let config = lan().with_advertise_addr(addr("192.0.2.1:7946"));
    let seeds = seeds(&cluster);
    let node = cluster.add("late", config, seeds);
    let id = NodeId::new("late", cluster.engine(node).unwrap().id().epoch);
    let reported = |event: &Event| {
        matches!(event, Event::AddressUnreachable { addr: reported, observed: Some(seen) }
            if *reported == addr("192.0.2.1:7946") && *seen == addr("10.0.0.9:7946"))
    };
    let took = cluster.run_until(secs(30), |cluster| count(cluster, node, reported) == 1);
    took.expect("it is reported");
    assert_eq!(status(&cluster, node), AddressStatus::Unreachable);
    cluster.run_for(secs(120));
    cluster.expect_safe();
    assert_eq!(count(&cluster, node, is_address_problem), 1);
    for observer in 0..8 {
        let seen = cluster.view_of(observer, node).expect("it is known");
        assert!(seen.state.is_live() && seen.unreachable, "{seen:?}");
        // Reported again by an observer that had declared it failed in between.
        let reported = count(&cluster, observer, |e| is_unreachable(e, "late"));
        assert!(
            (1..=2).contains(&reported),
            "{reported} times at {observer}"
        );
        assert_eq!(count(&cluster, observer, |e| is_reachable(e, "late")), 0);
        // All this before every member knew.
        let before = count(&cluster, observer, |e| is_about(e, "late"));
        assert!(before <= 20, "{before} events at {observer}");
        let engine = cluster.engine(observer).unwrap();
        let health = engine.health(&id, cluster.now()).expect("it is known");
        assert_eq!(health.state, HealthState::Unreachable);
    }

    let location = cluster.location(node);
    cluster.set_advertise_addr(node, location);
    let corrected = |cluster: &Cluster| {
        is_found(cluster, node)
            && status(cluster, node) == AddressStatus::Reachable
            && (0..8).all(|observer| !cluster.view_of(observer, node).unwrap().unreachable)
    };
    let took = cluster.run_until(secs(30), corrected);
    took.expect("it is reachable");
    let again = |event: &Event| matches!(event, Event::AddressReachable { .. });
    assert_eq!(count(&cluster, node, again), 1);
    for observer in 0..8 {
        assert_eq!(count(&cluster, observer, |e| is_reachable(e, "late")), 1);
    }
    cluster.expect_safe();
}

#[test]
fn nodes_that_share_an_advertised_address_report_it_and_rejoin_with_their_own() {
    let mut cluster = settled(6, 5);
    let shared = addr("198.51.100.7:7946");
    let config = || lan().with_advertise_addr(shared);
    let first = cluster.len();
    for n in 0..4 {
        let seeds = seeds(&cluster);
        cluster.add(format!("twin{n}"), config(), seeds);
        cluster.run_for(secs(2));
    }
    cluster.move_to(first + 3, shared);
    cluster.run_for(secs(60));
    cluster.expect_safe();
    for n in 0..3 {
        let reported = |event: &Event| {
            matches!(event, Event::AddressConflict { addr, older, newer }
                if *addr == shared && *older == format!("twin{n}") && newer.starts_with("twin"))
        };
        assert_eq!(status(&cluster, first + n), AddressStatus::Conflict, "{n}");
        assert!(
            count(&cluster, first + n, reported) >= 1,
            "twin{n} reports it"
        );
        let others = (0..5).map(|node| count(&cluster, node, reported));
        assert!(others.sum::<usize>() >= 1, "others tell of twin{n}");
    }
    assert!(is_live(&cluster, 0, first + 3));
    // The operator gives one of them an address of its own.
    let location = cluster.location(first);
    cluster.set_advertise_addr(first, location);
    let took = cluster.run_until(secs(60), |cluster| {
        (0..5).all(|observer| is_live(cluster, observer, first))
            && status(cluster, first) == AddressStatus::Reachable
    });
    took.unwrap_or_else(|| panic!("{:?}", cluster.view_of(0, first)));
    // The node that has the address goes; another one of them is no longer in conflict.
    cluster.crash(first + 3);
    cluster.run_for(secs(150));
    let free = |n: &usize| status(&cluster, first + n) != AddressStatus::Conflict;
    assert!([1, 2].iter().any(free));
}

fn is_live(cluster: &Cluster, observer: usize, node: usize) -> bool {
    let seen = cluster.view_of(observer, node);
    seen.is_some_and(|member| member.state.is_live())
}

/// Answers come in, and pings by a way that is still open for one: the shorter, the fewer.
#[test]
fn a_member_that_lets_answers_in_alone_ends_as_unreachable_and_does_not_flap() {
    for seed in 60..84 {
        let_answers_in_alone(seed, 3, millis(20));
        let_answers_in_alone(seed, 8, millis(20));
    }
    for seed in 11..15 {
        let_answers_in_alone(seed, 32, secs(5));
    }
}

fn let_answers_in_alone(seed: u64, nodes: usize, memory: Duration) {
    let shape = format!("seed {seed}, {nodes} nodes, {memory:?}");
    let mut cluster = settled(seed, nodes);
    cluster.filter_inbound(2, Some(memory));
    let others: Vec<usize> = (0..nodes).filter(|n| *n != 2).collect();
    let flaps = |cluster: &Cluster| -> usize {
        let reported = |n: &usize| count(cluster, *n, |e| is_about(e, "n2"));
        others.iter().map(reported).sum()
    };
    cluster.run_for(secs(120));
    let before = flaps(&cluster);
    cluster.run_for(secs(120));
    cluster.expect_safe();
    let more = flaps(&cluster) - before;
    println!("{shape}: {before} events in 120 s, {more} in the next");
    // Without an end to the flapping each observer reports 36.
    assert!(more <= 8 * others.len(), "{shape}: {more}");
    let mut marked = 0;
    for n in &others {
        let seen = cluster.view_of(*n, 2).expect("it is known");
        assert!(seen.state.is_live(), "{shape}: {seen:?}");
        let reported = count(&cluster, *n, |e| is_unreachable(e, "n2"));
        assert!(reported <= 3, "{shape}: {reported} times by n{n}");
        marked += usize::from(seen.unreachable);
    }
    // Where both nodes happen to probe at the same time, the way is open.
    assert!(2 * marked >= others.len(), "{shape}: {marked}");

    cluster.filter_inbound(2, None);
    let took = cluster.run_until(secs(240), |cluster| {
        others.iter().all(|n| {
            let seen = cluster.view_of(*n, 2).unwrap();
            seen.state == MemberState::Alive && !seen.unreachable
        })
    });
    println!("{shape}: reachable everywhere after {took:?}");
    took.unwrap_or_else(|| panic!("{shape}"));
}

/// Its answers of before prove nothing, and what it says of itself would bring it back.
#[test]
fn a_node_that_hears_nothing_any_more_does_not_call_itself_unreachable() {
    for seed in 1..=8 {
        let mut cluster = settled(seed, 8);
        cluster.filter_inbound(2, Some(millis(20)));
        cluster.run_for(secs(8));
        cluster.network().set_ingress_loss(2, 1.0);
        cluster.run_for(secs(100));
        assert_eq!(count(&cluster, 2, is_address_problem), 0, "seed {seed}");
    }
}

#[test]
fn a_crash_of_an_unreachable_member_is_found() {
    let mut cluster = settled(7, 8);
    let config = lan().with_advertise_addr(addr("192.0.2.1:7946"));
    let seeds = seeds(&cluster);
    let node = cluster.add("late", config, seeds);
    cluster.run_for(secs(60));
    assert!(is_live(&cluster, 0, node));
    cluster.crash(node);
    let took = cluster.run_until(secs(40), |cluster| {
        (0..8).all(|observer| !is_live(cluster, observer, node))
    });
    cluster.expect_safe();
    println!("found after {took:?}");
    took.expect("it is declared failed");
}

/// A working address is not asked about: it costs nothing while pings arrive.
#[test]
fn a_cluster_that_is_well_sends_nothing_about_addresses() {
    let mut cluster = settled(8, 16);
    let before: Vec<_> = (0..16).map(|n| cluster.traffic(n)).collect();
    cluster.run_for(secs(120));
    let bytes: u64 = (0..16)
        .map(|n| (cluster.traffic(n) - before[n]).sent_bytes)
        .sum();
    let rate = bytes as f64 / 16.0 / 120.0;
    println!("{rate} B/s a node");
    assert!((270.0..=290.0).contains(&rate), "{rate} B/s a node");
    for n in 0..16 {
        assert_eq!(status(&cluster, n), AddressStatus::Reachable);
        assert_eq!(count(&cluster, n, is_address_problem), 0);
    }
}

/// Loss is no reason to pass a member over: it is suspected now and then, and answers.
#[test]
fn loss_makes_no_member_unreachable() {
    for (nodes, loss) in [(8, 0.1), (16, 0.3)] {
        let mut cluster = settled(9, nodes);
        let link = &mut cluster.network().default;
        *link = link.with_loss(loss);
        cluster.run_for(secs(120));
        cluster.expect_safe();
        let reported = |n| count(&cluster, n, |e| matches!(e, Event::NodeUnreachable(_)));
        let unreachable: usize = (0..nodes).map(reported).sum();
        let most = (0..nodes).flat_map(|n| (0..nodes).map(move |m| (n, m)));
        let most = most
            .map(|(n, m)| count(&cluster, n, |e| is_about(e, &format!("n{m}"))))
            .max();
        println!("{nodes} nodes, loss {loss}: {unreachable} times, {most:?} events of one member");
        let problems: usize = (0..nodes)
            .map(|n| count(&cluster, n, is_address_problem))
            .sum();
        assert_eq!((unreachable, problems), (0, 0));
    }
}
