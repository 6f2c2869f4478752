//! A node's place in the cluster, and what may keep it from its work.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

use super::check::Watch;
use crate::config::ClusterConfig;
use crate::engine::Engine;
use crate::event::Event;
use crate::time::Time;

/// A place in the cluster and the node that lives there, or lived.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) addr: SocketAddr,
    pub(super) config: ClusterConfig,
    pub(super) seeds: Vec<SocketAddr>,
    pub(super) engine: Option<Engine>,
    pub(super) epoch: u64,
    /// When its next wake-up is due, so that there is one at a time.
    pub(super) wake: Option<Time>,
    pub(super) plight: Plight,
    /// What waits at its door, or on its way out, until its plight is over.
    pub(super) inbox: VecDeque<(SocketAddr, Vec<u8>)>,
    pub(super) outbox: VecDeque<(SocketAddr, Vec<u8>)>,
    /// The last time that it was not well: stalled, blocked or cut off.
    pub(super) unwell_at: Option<Time>,
    pub(super) watch: Watch,
    pub(super) steps: u64,
    pub(super) events: Vec<(Time, Event)>,
    /// Number of the last datagram that arrived from each node.
    pub(super) arrived: HashMap<usize, u64>,
}

/// What keeps a running process from doing its work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Plight {
    #[default]
    None,
    /// Neither messages nor timers: the process is stopped.
    Stalled,
    /// Timers but no messages: they wait, in and out.
    Blocked,
}
