//! The simulated network: links, zones, cuts and partitions between nodes.
//!
//! Deciding about a datagram takes constant time, however the network is divided.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use fastrand::Rng;

use super::link::Link;

/// The links between nodes, by the number of the node at each end.
///
/// The link of a datagram is the one set for its two ends, else the one set for their zones, else
/// [`Network::default`]. The loss of its sender and of its receiver comes on top.
#[derive(Clone, Debug)]
pub struct Network {
    /// Link of all pairs that have no other one.
    pub default: Link,
    links: HashMap<(usize, usize), Link>,
    zone_links: HashMap<(u8, u8), Link>,
    cuts: HashSet<(usize, usize)>,
    /// Link state by node number; nodes beyond have the default.
    nodes: Vec<NodeLinkState>,
    /// Bit set of the current one-way partitions.
    one_way_partitions: u64,
}

/// State of the network at one node.
#[derive(Clone, Copy, Debug, Default)]
struct NodeLinkState {
    zone: u8,
    /// Nodes of different groups do not reach each other.
    group: Option<u32>,
    /// One-way partitions in which the node is among the senders.
    blocked_sending: u64,
    blocked_receiving: u64,
    /// Number of single cuts that start or end here.
    cuts: u32,
    ingress_loss: f64,
    egress_loss: f64,
}

/// A one-way partition, for [`Network::restore_between`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OneWayPartition(u32);

/// Outcome of one datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    Once(Duration),
    Twice(Duration, Duration),
    Lost,
    /// Dropped as larger than the path MTU of the link.
    TooLarge,
    Cut,
}

impl Network {
    pub(super) fn new() -> Self {
        Self {
            default: Link::lan(),
            links: HashMap::new(),
            zone_links: HashMap::new(),
            cuts: HashSet::new(),
            nodes: Vec::new(),
            one_way_partitions: 0,
        }
    }

    /// Gives one direction between two nodes a link of its own.
    pub fn set_link(&mut self, from: usize, to: usize, link: Link) {
        self.links.insert((from, to), link);
    }

    /// Puts a node into a zone. All nodes start in zone 0.
    pub fn set_zone(&mut self, node: usize, zone: u8) {
        self.node_mut(node).zone = zone;
    }

    /// Gives one direction between two zones a link of its own, or all links within one zone.
    pub fn set_zone_link(&mut self, from: u8, to: u8, link: Link) {
        self.zone_links.insert((from, to), link);
    }

    /// Assigns the first `nodes` nodes to three zones in turn, so that node `n` is in zone `n % 3`.
    /// Within a zone the link is [`Link::lan`]; zones 0 and 1 are 10 ms apart, 1 and 2 as
    /// [`Link::wan`], 0 and 2 40 ms, one way each, with a tenth of it as jitter.
    pub fn set_three_zones(&mut self, nodes: usize) {
        for node in 0..nodes {
            self.set_zone(node, (node % 3) as u8);
        }
        let apart = |millis| Link::lan().with_delay(Duration::from_millis(millis));
        for zone in 0..3 {
            self.set_zone_link(zone, zone, Link::lan());
        }
        for (a, b, link) in [(0, 1, apart(10)), (1, 2, Link::wan()), (0, 2, apart(40))] {
            self.set_zone_link(a, b, link);
            self.set_zone_link(b, a, link);
        }
    }

    /// The zone that a node is in.
    #[must_use]
    pub fn zone(&self, node: usize) -> u8 {
        self.node(node).zone
    }

    /// Chance that a datagram to this node is lost, whichever node sent it, on top of the link's
    /// own. 0.0 ends it.
    pub fn set_ingress_loss(&mut self, node: usize, loss: f64) {
        self.node_mut(node).ingress_loss = loss;
    }

    /// Chance that a datagram from this node is lost, whichever node it is for, on top of the
    /// link's own. 0.0 ends it.
    pub fn set_egress_loss(&mut self, node: usize, loss: f64) {
        self.node_mut(node).egress_loss = loss;
    }

    /// Cuts one direction.
    pub fn cut(&mut self, from: usize, to: usize) {
        if self.cuts.insert((from, to)) {
            self.node_mut(from).cuts += 1;
            self.node_mut(to).cuts += 1;
        }
    }

    /// Ends the cut of one direction.
    pub fn restore(&mut self, from: usize, to: usize) {
        if self.cuts.remove(&(from, to)) {
            self.node_mut(from).cuts -= 1;
            self.node_mut(to).cuts -= 1;
        }
    }

    /// Cuts one direction between two groups of nodes: no datagram of `from` reaches any of `to`.
    /// [`Network::restore_between`] ends it, and so do [`Network::heal_partitions`] and
    /// [`Network::heal`].
    ///
    /// # Panics
    /// If there are 64 of these already.
    pub fn cut_between(&mut self, from: &[usize], to: &[usize]) -> OneWayPartition {
        let free = self.one_way_partitions.trailing_ones();
        assert!(free < u64::BITS, "at most 64 one-way partitions at a time");
        let bit = 1 << free;
        self.one_way_partitions |= bit;
        from.iter()
            .for_each(|n| self.node_mut(*n).blocked_sending |= bit);
        to.iter()
            .for_each(|n| self.node_mut(*n).blocked_receiving |= bit);
        OneWayPartition(free)
    }

    /// Ends a one-way partition of [`Network::cut_between`].
    pub fn restore_between(&mut self, OneWayPartition(bit): OneWayPartition) {
        let others = !(1 << bit);
        self.one_way_partitions &= others;
        for state in &mut self.nodes {
            state.blocked_sending &= others;
            state.blocked_receiving &= others;
        }
    }

    /// Divides the network: `nodes` reach each other and no other node.
    pub fn isolate(&mut self, nodes: impl IntoIterator<Item = usize>, group: u32) {
        for node in nodes {
            self.node_mut(node).group = Some(group);
        }
    }

    /// Ends every cut, every partition and every node's own loss, and removes all links of single
    /// pairs. Zones stay.
    pub fn heal(&mut self) {
        self.heal_partitions();
        self.cuts.clear();
        self.links.clear();
        for state in &mut self.nodes {
            *state = NodeLinkState {
                zone: state.zone,
                ..NodeLinkState::default()
            };
        }
    }

    /// Ends every partition, one-way ones too.
    pub fn heal_partitions(&mut self) {
        self.one_way_partitions = 0;
        for state in &mut self.nodes {
            state.group = None;
            (state.blocked_sending, state.blocked_receiving) = (0, 0);
        }
    }

    /// The side that a node is on while the network is divided.
    pub(super) fn group(&self, node: usize) -> Option<u32> {
        self.node(node).group
    }

    /// Whether what `from` sends can reach `to`.
    #[must_use]
    pub fn is_open(&self, from: usize, to: usize) -> bool {
        let (sender, receiver) = (self.node(from), self.node(to));
        sender.group == receiver.group
            && sender.blocked_sending & receiver.blocked_receiving == 0
            && (sender.cuts == 0 || !self.cuts.contains(&(from, to)))
    }

    /// Whether a node's datagrams are impaired in particular: it is at an end of a cut, on a side
    /// of a one-way partition, in a group of [`Network::isolate`], or has loss of its own. Nodes in
    /// no group are the ones still connected.
    #[must_use]
    pub fn is_impaired(&self, node: usize) -> bool {
        let state = self.node(node);
        state.group.is_some()
            || state.cuts > 0
            || state.blocked_sending | state.blocked_receiving != 0
            || state.ingress_loss > 0.0
            || state.egress_loss > 0.0
    }

    /// Decides about an IP packet of so many bytes.
    pub(super) fn delivery(&self, rng: &mut Rng, from: usize, to: usize, bytes: u64) -> Delivery {
        if !self.is_open(from, to) {
            return Delivery::Cut;
        }
        let link = self.link(from, to);
        if bytes > link.mtu as u64 {
            return Delivery::TooLarge;
        }
        if rng.f64() < link.loss {
            return Delivery::Lost;
        }
        let own = [self.node(from).egress_loss, self.node(to).ingress_loss];
        if own.iter().any(|loss| *loss > 0.0 && rng.f64() < *loss) {
            return Delivery::Lost;
        }
        match rng.f64() < link.duplicate {
            true => Delivery::Twice(link.sample_delay(rng), link.sample_delay(rng)),
            false => Delivery::Once(link.sample_delay(rng)),
        }
    }

    fn link(&self, from: usize, to: usize) -> &Link {
        let own = match self.links.is_empty() {
            true => None,
            false => self.links.get(&(from, to)),
        };
        let zones = || match self.zone_links.is_empty() {
            true => None,
            false => self.zone_links.get(&(self.zone(from), self.zone(to))),
        };
        own.or_else(zones).unwrap_or(&self.default)
    }

    fn node(&self, node: usize) -> NodeLinkState {
        self.nodes.get(node).copied().unwrap_or_default()
    }

    fn node_mut(&mut self, node: usize) -> &mut NodeLinkState {
        if node >= self.nodes.len() {
            self.nodes.resize(node + 1, NodeLinkState::default());
        }
        &mut self.nodes[node]
    }
}

#[cfg(test)]
mod tests;
