//! Tests of process faults: which datagrams wait, pass and are lost.

use rpcnet_swim::{ClusterConfig, MemberState};

use super::super::process_fault::{PENDING_MAX, PendingQueue};
use super::*;
use crate::{Link, Traffic, TransitionLog};

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Eight nodes that know each other and have nothing more to tell.
fn settled() -> Cluster {
    let mut cluster = Cluster::bootstrap(5, 8, ClusterConfig::lan());
    let converged = cluster.run_until(secs(10), Cluster::is_converged);
    converged.expect("all know all");
    cluster.run_for(secs(10));
    cluster
}

/// Traffic of a node in the next `time`.
fn traffic(cluster: &mut Cluster, node: usize, time: Duration) -> Traffic {
    let before = cluster.traffic(node);
    cluster.run_for(time);
    cluster.traffic(node) - before
}

fn waiting(cluster: &Cluster, node: usize) -> (usize, usize) {
    let waiting = &cluster.nodes[node].pending;
    (waiting.inbound_count, waiting.len() - waiting.inbound_count)
}

fn timeouts(cluster: &Cluster, node: usize) -> u64 {
    cluster.nodes[node].steps
}

#[test]
fn a_stalled_node_does_nothing() {
    let mut cluster = settled();
    cluster.stall(3);
    assert!(!cluster.is_healthy(3) && cluster.is_up(3));
    let steps = timeouts(&cluster, 3);
    let during = traffic(&mut cluster, 3, secs(2));
    assert_eq!((during, timeouts(&cluster, 3)), (Traffic::default(), steps));
    let (inbound, outbound) = waiting(&cluster, 3);
    assert!(inbound > 0 && outbound == 0);
    cluster.resume(3);
    assert!(cluster.is_healthy(3));
    assert_eq!(waiting(&cluster, 3), (0, 0));
    assert!(traffic(&mut cluster, 3, secs(2)).sent > 0);
}

#[test]
fn a_blocked_node_withholds_both_directions_while_its_timers_run() {
    let mut cluster = settled();
    cluster.block(3);
    let steps = timeouts(&cluster, 3);
    assert_eq!(traffic(&mut cluster, 3, secs(2)), Traffic::default());
    assert!(timeouts(&cluster, 3) > steps);
    let (inbound, outbound) = waiting(&cluster, 3);
    assert!(inbound > 0 && outbound > 0);
    let before = cluster.traffic(3);
    cluster.resume(3);
    let at_once = cluster.traffic(3) - before;
    assert_eq!(at_once.received, inbound as u64);
    assert!(at_once.sent >= outbound as u64);
}

#[test]
fn a_half_blocked_node_has_one_direction_left() {
    let mut cluster = settled();
    cluster.half_block(3, OpenDirection::SendOnly);
    let during = traffic(&mut cluster, 3, secs(2));
    assert!(during.sent > 0 && during.received == 0, "{during:?}");
    let (inbound, outbound) = waiting(&cluster, 3);
    assert!(inbound > 0 && outbound == 0);
    assert!(!cluster.is_healthy(3));
    // A new fault ends the one before: the datagrams that waited are handled.
    cluster.half_block(3, OpenDirection::ReceiveOnly);
    assert_eq!(waiting(&cluster, 3).0, 0);
    let during = traffic(&mut cluster, 3, secs(2));
    assert!(during.sent == 0 && during.received > 0, "{during:?}");
    let (inbound, outbound) = waiting(&cluster, 3);
    assert!(inbound == 0 && outbound > 0);
    cluster.resume(3);
    let during = traffic(&mut cluster, 3, secs(2));
    assert!(during.sent > 0 && during.received > 0);
    let report = cluster.report();
    assert_eq!((report.half_blocks, report.blocks), (2, 0));
}

#[test]
fn a_node_is_found_failed_whichever_direction_is_blocked() {
    let failed = |half| {
        let mut cluster = settled();
        cluster.half_block(3, half);
        cluster.run_for(secs(30));
        cluster.expect_safe();
        let held = |n: &usize| cluster.view_of(*n, 3).unwrap().state == MemberState::Failed;
        (0..8).filter(|n| *n != 3).filter(held).count()
    };
    // Neither answers any node.
    assert_eq!(failed(OpenDirection::ReceiveOnly), 7);
    assert_eq!(failed(OpenDirection::SendOnly), 7);
}

#[test]
fn a_slow_node_does_one_message_at_a_time() {
    let mut cluster = settled();
    let free = traffic(&mut cluster, 3, secs(10));
    cluster.slow(3, Duration::from_millis(250));
    assert!(!cluster.is_healthy(3));
    let steps = timeouts(&cluster, 3);
    let during = traffic(&mut cluster, 3, secs(10));
    // Four a second, in and out together, from when the first one came.
    let done = during.sent + during.received;
    assert!(done == 39 || done == 40, "{done} of {free:?}");
    assert!(during.sent > 0 && during.received > 0, "{during:?}");
    assert!(
        timeouts(&cluster, 3) - steps > during.received,
        "timers run"
    );
    cluster.resume(3);
    assert_eq!(waiting(&cluster, 3), (0, 0));
    cluster.run_for(secs(30));
    let again = traffic(&mut cluster, 3, secs(10));
    // Three rounds in two seconds, and as many of others: 60 on average.
    assert!(again.sent + again.received > 45, "{again:?}");
}

#[test]
fn a_slightly_slow_node_delays_datagrams_and_loses_none() {
    let mut cluster = settled();
    let round_trip = |cluster: &Cluster| cluster.engine(3).unwrap().mean_rtt();
    let before = round_trip(&cluster);
    cluster.slow(3, Duration::from_millis(10));
    let sent = cluster.report().sent;
    cluster.run_for(secs(30));
    assert!(cluster.report().sent > sent);
    assert_eq!(cluster.report().overflowed, 0);
    assert_eq!(cluster.report().failures, 0);
    // One out, one in, as far as the mean has come.
    let after = round_trip(&cluster);
    assert!(after > before + 0.01, "from {before} to {after} s");
}

#[test]
fn pending_datagrams_are_bounded() {
    let mut waiting = PendingQueue::default();
    let to = crate::cluster::addr_of(1);
    for _ in 0..PENDING_MAX {
        let datagram = Vec::new();
        assert!(waiting.push(PendingDatagram::Inbound { from: 0, datagram }));
        let datagram = Vec::new();
        assert!(waiting.push(PendingDatagram::Outbound { to, datagram }));
    }
    let datagram = Vec::new();
    assert!(!waiting.push(PendingDatagram::Inbound { from: 0, datagram }));
    let datagram = Vec::new();
    assert!(!waiting.push(PendingDatagram::Outbound { to, datagram }));
    assert!(matches!(
        waiting.pop(),
        Some(PendingDatagram::Inbound { .. })
    ));
    let datagram = Vec::new();
    assert!(waiting.push(PendingDatagram::Inbound { from: 0, datagram }));
}

#[test]
fn a_queue_that_overflows_is_counted() {
    let mut cluster = settled();
    cluster.slow(3, secs(3_600));
    let from = cluster.addr(0);
    for _ in 0..PENDING_MAX {
        cluster.push(
            cluster.now,
            SimEvent::DatagramArrival {
                from: cluster.node_at(from).unwrap() as u32,
                to: 3,
                number: 0,
                datagram: vec![0; 30],
            },
        );
    }
    cluster.run_for(secs(5));
    assert!(cluster.report().overflowed > 0);
    assert_eq!(waiting(&cluster, 3).0, PENDING_MAX);
}

#[test]
fn a_crash_loses_the_pending_datagrams() {
    let mut cluster = settled();
    cluster.slow(3, Duration::from_millis(250));
    cluster.run_for(secs(5));
    assert_ne!(waiting(&cluster, 3), (0, 0));
    cluster.crash(3);
    assert_eq!(waiting(&cluster, 3), (0, 0));
    assert!(!cluster.is_healthy(3));
    cluster.restart(3);
    assert!(cluster.is_healthy(3));
    cluster.run_for(secs(5));
    cluster.expect_safe();
}

#[test]
fn traffic_counts_headers_and_adds_up_to_the_report() {
    let mut cluster = settled();
    cluster.network().default = Link::lan().with_loss(0.1);
    cluster.run_for(secs(5));
    let all = (0..8).fold(Traffic::default(), |all, node| all + cluster.traffic(node));
    let report = cluster.report();
    assert_eq!((all.sent, all.sent_bytes), (report.sent, report.sent_bytes));
    assert_eq!(all.received, report.delivered);
    assert!(all.received < all.sent);
    let of_engines = (0..8).map(|n| cluster.engine(n).unwrap().stats().sent_bytes);
    assert_eq!(all.sent_bytes, of_engines.sum::<u64>() + 28 * all.sent);
}

#[test]
fn transitions_record_which_nodes_were_healthy() {
    let mut cluster = settled();
    assert_eq!(cluster.transitions(), [], "all are suspicions, if anything");
    cluster.crash(3);
    cluster.run_for(secs(10));
    let crash = cluster.take_transitions();
    assert_eq!(crash.len(), 7);
    for transition in &crash {
        assert_eq!(
            (transition.subject, transition.to),
            (3, MemberState::Failed)
        );
        assert!(transition.observer_healthy && !transition.subject_healthy);
    }
    let mut observers: Vec<_> = crash.iter().map(|t| t.observer).collect();
    observers.sort_unstable();
    assert_eq!(observers, [0, 1, 2, 4, 5, 6, 7]);
    cluster.restart(3);
    cluster.run_for(secs(10));
    let restart = cluster.take_transitions();
    assert_eq!(restart.len(), 7);
    assert!(restart.iter().all(|t| t.to == MemberState::Alive));
    assert!(
        restart
            .iter()
            .all(|t| t.observer_healthy && t.subject_healthy)
    );
    // One that believes something of others while it is itself cut off.
    cluster.network().isolate([1], 1);
    cluster.run_for(secs(30));
    let cut = cluster.take_transitions();
    assert!(cut.iter().any(|t| t.subject == 1));
    for transition in cut {
        assert_eq!(transition.observer_healthy, transition.observer != 1);
        assert_eq!(transition.subject_healthy, transition.subject != 1);
    }
}

#[test]
fn a_failure_of_a_former_instance_is_not_one_of_a_healthy_node() {
    let mut cluster = settled();
    cluster.restart(3);
    cluster.run_for(secs(10));
    let failed: Vec<_> = cluster
        .transitions()
        .iter()
        .filter(|t| t.to == MemberState::Failed)
        .collect();
    assert_eq!(failed.len(), 7, "the former instance, in every view");
    assert!(failed.iter().all(|t| !t.subject_healthy));
}

#[test]
fn transition_logs_keep_the_selected_transitions() {
    let count = |log, state| {
        let mut cluster = Cluster::bootstrap(5, 8, ClusterConfig::lan());
        cluster.log_transitions(log);
        cluster.run_for(secs(10));
        cluster.stall(3);
        cluster.run_for(secs(2));
        cluster.resume(3);
        cluster.run_for(secs(10));
        assert!(cluster.report().suspicions > 0);
        let transitions = cluster.transitions().iter();
        transitions.filter(|t| t.to == state).count()
    };
    assert_eq!(count(TransitionLog::Nothing, MemberState::Alive), 0);
    assert_eq!(count(TransitionLog::Failures, MemberState::Alive), 0);
    assert_eq!(count(TransitionLog::Failures, MemberState::Suspect), 0);
    assert!(
        count(TransitionLog::All, MemberState::Alive) > 56,
        "and recoveries"
    );
    assert!(count(TransitionLog::All, MemberState::Suspect) > 0);
}

#[test]
fn clusters_are_send() {
    fn is_send<T: Send>() {}
    is_send::<Cluster>();
}
