//! Tests of the network: losses, cuts, zones and partitions.

use super::*;

/// How many of 10,000 datagrams do not arrive.
fn lost(network: &Network, from: usize, to: usize) -> usize {
    let mut rng = Rng::with_seed(1);
    let fates = std::iter::repeat_with(|| network.delivery(&mut rng, from, to, 100));
    let arrives = |fate: &Delivery| matches!(fate, Delivery::Once(_) | Delivery::Twice(..));
    fates.take(10_000).filter(|fate| !arrives(fate)).count()
}

/// The least and the mean time of 10,000 datagrams, in microseconds.
fn times(network: &Network, from: usize, to: usize) -> (u128, u128) {
    let mut rng = Rng::with_seed(1);
    let times: Vec<_> =
        std::iter::repeat_with(|| match network.delivery(&mut rng, from, to, 100) {
            Delivery::Once(after) => after.as_micros(),
            fate => panic!("{fate:?}"),
        })
        .take(10_000)
        .collect();
    (
        times.iter().copied().min().unwrap(),
        times.iter().sum::<u128>() / times.len() as u128,
    )
}

#[test]
fn loss_of_a_node_is_its_own_and_of_one_direction() {
    let mut network = Network::new();
    assert_eq!(lost(&network, 0, 1), 0);
    network.set_ingress_loss(1, 0.8);
    assert!((7_800..8_200).contains(&lost(&network, 0, 1)));
    assert_eq!(lost(&network, 1, 0), 0);
    assert!(network.is_impaired(1) && !network.is_impaired(0));
    network.set_ingress_loss(1, 0.0);
    network.set_egress_loss(1, 0.3);
    assert_eq!(lost(&network, 0, 1), 0);
    assert!((2_800..3_200).contains(&lost(&network, 1, 0)));
    // On top of the link's: 1 - 0.5 * 0.7.
    network.default = Link::lan().with_loss(0.5);
    assert!((6_300..6_700).contains(&lost(&network, 1, 0)));
    network.set_egress_loss(1, 0.0);
    assert!((4_800..5_200).contains(&lost(&network, 1, 0)));
    assert!(!network.is_impaired(1));
}

#[test]
fn a_one_way_partition_cuts_one_direction_and_ends_alone() {
    let mut network = Network::new();
    let (first, second) = (
        network.cut_between(&[0, 1], &[2, 3]),
        network.cut_between(&[3], &[0]),
    );
    assert_ne!(first, second);
    let open = |network: &Network| {
        let pairs = [(0, 2), (1, 3), (2, 0), (3, 0), (0, 1), (2, 3), (0, 9)];
        pairs.map(|(from, to)| network.is_open(from, to))
    };
    assert_eq!(
        open(&network),
        [false, false, true, false, true, true, true]
    );
    assert_eq!(lost(&network, 0, 2), 10_000);
    assert!(network.is_impaired(2) && !network.is_impaired(4));
    network.restore_between(first);
    assert_eq!(open(&network), [true, true, true, false, true, true, true]);
    assert!(!network.is_impaired(2));
    network.heal_partitions();
    assert_eq!(open(&network), [true; 7]);
    // All 64 can be had again.
    for _ in 0..64 {
        network.cut_between(&[0], &[1]);
    }
    network.heal();
    assert_eq!(open(&network), [true; 7]);
}

#[test]
fn zone_links_override_the_default_and_pair_links_override_both() {
    let mut network = Network::new();
    network.set_zone(1, 4);
    network.set_zone_link(0, 4, Link::wan());
    let (least, mean) = times(&network, 0, 1);
    assert!((30_000..30_100).contains(&least), "{least}");
    assert!((32_800..33_200).contains(&mean), "{mean}");
    // The way back is another link.
    assert!(times(&network, 1, 0).1 < 600);
    network.set_link(0, 1, Link::lan());
    assert!(times(&network, 0, 1).1 < 600);
    network.heal();
    assert!(
        times(&network, 0, 1).1 > 30_000,
        "zones stay when the faults end"
    );
}

#[test]
fn three_zones_have_the_documented_delays() {
    let mut network = Network::new();
    network.set_three_zones(6);
    let least = |from, to| times(&network, from, to).0 / 1_000;
    assert_eq!(network.zone(5), 2);
    assert_eq!((least(0, 3), least(2, 5)), (0, 0));
    assert_eq!((least(0, 1), least(4, 3)), (10, 10));
    assert_eq!((least(1, 2), least(5, 4)), (30, 30));
    assert_eq!((least(0, 5), least(2, 3)), (40, 40));
}

#[test]
fn isolated_nodes_are_impaired_and_the_others_are_not() {
    let mut network = Network::new();
    network.isolate([3, 4], 1);
    assert!(network.is_open(3, 4) && network.is_open(0, 1));
    assert!(!network.is_open(0, 3) && !network.is_open(3, 0));
    assert!(network.is_impaired(3) && !network.is_impaired(0));
    network.cut(0, 1);
    assert!(network.is_impaired(0) && network.is_impaired(1));
    network.restore(0, 1);
    network.heal_partitions();
    assert!((0..5).all(|node| !network.is_impaired(node)));
}
