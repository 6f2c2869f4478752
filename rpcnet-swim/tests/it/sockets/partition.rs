//! A partition between nodes on real sockets.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::test_socket::TestSocket;

#[tokio::test]
async fn a_partition_is_reported_on_both_sides_and_heals_without_seeds() {
    let is_partitioned = Arc::new(AtomicBool::new(false));
    let minority_ports = Arc::new(Mutex::new(BTreeSet::new()));
    let mut nodes: Vec<ClusterMembership> = Vec::new();
    for n in 0..5 {
        let in_minority = n < 2;
        let (partitioned, ports) = (Arc::clone(&is_partitioned), Arc::clone(&minority_ports));
        let socket = TestSocket::bind_filtered(move |other| {
            let other_in_minority = ports.lock().unwrap().contains(&other.port());
            !partitioned.load(Ordering::Relaxed) || other_in_minority == in_minority
        });
        let socket = socket.await;
        if in_minority {
            let port = socket.local_addr().unwrap().port();
            minority_ports.lock().unwrap().insert(port);
        }
        let seeds: Vec<String> = nodes
            .first()
            .map(|n| n.local_addr().to_string())
            .into_iter()
            .collect();
        let node = ClusterMembership::with_socket(local(&format!("n{n}")), Arc::new(socket));
        nodes.push(node.await.unwrap());
        nodes[n].join(seeds).await.unwrap();
    }
    until("all know all", || {
        nodes.iter().all(|node| live(node).len() == 5)
    })
    .await;
    let mut events = [nodes[0].subscribe(), nodes[4].subscribe()];

    is_partitioned.store(true, Ordering::Relaxed);
    for (events, (side, lost)) in events.iter_mut().zip([(2, true), (3, false)]) {
        let reported = event(events, |e| matches!(e, Event::PartitionDetected { .. })).await;
        // Two of five have no majority; three of five have.
        assert_eq!(
            reported,
            Event::PartitionDetected {
                reachable: side,
                expected: 5,
                minority: lost
            }
        );
    }
    let partitioned = PartitionStatus::Partitioned {
        reachable: 3,
        expected: 5,
        minority: false,
    };
    assert_eq!(nodes[4].partition_status(), partitioned);

    is_partitioned.store(false, Ordering::Relaxed);
    for events in &mut events {
        event(events, |e| matches!(e, Event::PartitionHealed)).await;
    }
    until("all know all again", || {
        nodes.iter().all(|node| live(node).len() == 5)
    })
    .await;
    until("views agree", || {
        nodes.iter().all(|n| n.view_hash() == nodes[0].view_hash())
    })
    .await;
}
