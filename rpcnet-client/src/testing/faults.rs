//! Faults of the network between the nodes.

use std::{ops::RangeInclusive, time::Duration};

use super::{TestCluster, TestNode};

/// Faults of the network. They are between addresses, so a restarted node still has them.
impl TestCluster {
    /// Partitions two groups of nodes: nothing that is sent between them from now on arrives.
    pub fn partition<'a>(
        &self,
        one: impl IntoIterator<Item = &'a TestNode>,
        other: impl IntoIterator<Item = &'a TestNode>,
    ) {
        let one: Vec<&TestNode> = one.into_iter().collect();
        let other: Vec<&TestNode> = other.into_iter().collect();
        let line = format!("partition: {} | {}", names(&one), names(&other));
        self.shared.log.add(&line);
        for (a, b) in pairs(&one, &other) {
            self.shared.network.partition(a.addr(), b.addr());
        }
    }

    /// One-way partition: nothing that the first node sends to the second one from now on arrives;
    /// what the second one sends does.
    pub fn one_way(&self, from: &TestNode, to: &TestNode) {
        let line = format!("one-way partition: {} to {}", from.name(), to.name());
        self.shared.log.add(&line);
        self.shared
            .network
            .partition_one_way(from.addr(), to.addr());
    }

    /// Ends all partitions, one-way ones too. What was lost stays lost.
    pub fn heal(&self) {
        self.shared.log.add("partitions healed");
        let nodes = self.shared.nodes.lock();
        for (index, a) in nodes.iter().enumerate() {
            for b in &nodes[..index] {
                self.shared.network.heal(a.addr(), b.addr());
            }
        }
    }

    /// Loses datagrams between all nodes with this probability from now on, drawn from the seed;
    /// initially none is lost, as with 0.
    ///
    /// # Panics
    ///
    /// If it is no probability.
    pub fn lose(&self, probability: f64) {
        self.shared.log.add(&format!("loss {probability}"));
        let seed = self.shared.seed;
        self.shared.network.set_loss(per_mille(probability), seed);
    }

    /// Loses datagrams between two nodes, in both directions, with this probability, in place of
    /// that of [`lose`](Self::lose).
    ///
    /// # Panics
    ///
    /// If it is no probability.
    pub fn lose_between(&self, a: &TestNode, b: &TestNode, probability: f64) {
        let line = format!("loss {probability}: {} and {}", a.name(), b.name());
        self.shared.log.add(&line);
        let loss = per_mille(probability);
        for (from, to) in [(a, b), (b, a)] {
            let network = &self.shared.network;
            network.set_link_loss(from.addr(), to.addr(), Some(loss));
        }
    }

    /// Delays datagrams between all nodes from now on by a time of this range, drawn from the seed
    /// for each; initially 1 to 3 ms. Datagrams between two nodes do not overtake each other.
    pub fn delay(&self, one_way: RangeInclusive<Duration>) {
        self.shared.log.add(&format!("delay {one_way:?}"));
        self.shared.network.set_delay_range(one_way);
    }

    /// Delays datagrams between two nodes, in both directions, in place of the
    /// [delay](Self::delay) of the network.
    pub fn delay_between(&self, a: &TestNode, b: &TestNode, one_way: RangeInclusive<Duration>) {
        let line = format!("delay {one_way:?}: {} and {}", a.name(), b.name());
        self.shared.log.add(&line);
        for (from, to) in [(a, b), (b, a)] {
            let network = &self.shared.network;
            network.set_link_delay(from.addr(), to.addr(), Some(one_way.clone()));
        }
    }
}

fn per_mille(probability: f64) -> u16 {
    let is_probability = (0.0..=1.0).contains(&probability);
    assert!(is_probability, "{probability} is no probability");
    (probability * 1_000.0).round() as u16
}

fn pairs<'a>(
    one: &'a [&'a TestNode],
    other: &'a [&'a TestNode],
) -> impl Iterator<Item = (&'a TestNode, &'a TestNode)> {
    one.iter()
        .flat_map(move |a| other.iter().map(move |b| (*a, *b)))
}

fn names(nodes: &[&TestNode]) -> String {
    let names: Vec<&str> = nodes.iter().map(|node| node.name()).collect();
    names.join(" ")
}
