//! Addresses of simulated nodes: wrong ones, changes, and filters that let answers in alone.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use rpcnet_swim::unstable::DetectorHooks;
use rpcnet_swim::{ClusterConfig, Engine};

use super::Cluster;

impl<D: DetectorHooks> Cluster<D> {
    /// Starts a node that advertises an address at which it is not, and returns its number. Unlike
    /// an address in the configuration, it is not set by hand.
    ///
    /// # Panics
    /// If the configuration, the name or the address is invalid.
    pub fn add_advertising(
        &mut self,
        name: impl Into<String>,
        config: ClusterConfig,
        seeds: Vec<SocketAddr>,
        advertised: SocketAddr,
    ) -> usize {
        let node = self.add_slot(name.into(), config, seeds);
        self.nodes[node].advertised = Some(advertised);
        let epoch = self.next_epoch();
        self.start(node, epoch);
        node
    }

    /// Moves a running node: its datagrams come from this address from now on, and datagrams to the
    /// one before are lost.
    pub fn move_to(&mut self, node: usize, addr: SocketAddr) {
        let before = std::mem::replace(&mut self.nodes[node].location, addr);
        self.moved.remove(&before);
        self.moved.insert(addr, node);
    }

    /// Puts a filter in front of a node that lets in answers alone: datagrams of a node to which it
    /// sent something within the last `memory`. `None` removes it.
    pub fn filter_inbound(&mut self, node: usize, memory: Option<Duration>) {
        self.nodes[node].recent_contacts = memory.map(|memory| (memory, HashMap::new()));
    }

    /// The address at which a node is.
    #[must_use]
    pub fn location(&self, node: usize) -> SocketAddr {
        self.nodes[node].location
    }

    /// Tells a node to advertise another address.
    ///
    /// # Panics
    /// If no node could send to it.
    pub fn set_advertise_addr(&mut self, node: usize, addr: SocketAddr) {
        let set = |engine: &mut Engine<D>, now| engine.set_advertise_addr(now, addr);
        let mut result = Ok(());
        self.input(node, |engine, now| result = set(engine, now));
        result.expect("a usable address");
    }

    /// The node that receives what `from` sends to an address.
    pub(super) fn locate(&mut self, from: usize, to: SocketAddr) -> Option<usize> {
        let now = self.now;
        let node = match self.moved.get(&to) {
            Some(node) => *node,
            None => {
                let node = self.node_at(to)?;
                (self.nodes[node].location == to).then_some(node)?
            }
        };
        if let Some((_, contacts)) = &mut self.nodes[from].recent_contacts {
            contacts.insert(node, now);
        }
        let is_open = match &self.nodes[node].recent_contacts {
            Some((memory, contacts)) => contacts
                .get(&from)
                .is_some_and(|at| now.since(*at) <= *memory),
            None => true,
        };
        is_open.then_some(node)
    }
}
