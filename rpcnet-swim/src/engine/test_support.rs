//! Test support: engines, records and claims that the tests of the engine share.

use std::net::SocketAddr;

use super::merge::RecordSource;
use super::{DetectorHooks, Engine};
use crate::config::ClusterConfig;
use crate::event::Event;
use crate::id::NodeId;
use crate::tags::Tags;
use crate::time::Time;
use crate::wire::{Claim, Record};

/// Loopback address of this port.
pub(crate) fn addr(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Engine with the settings of [`ClusterConfig::lan`].
pub(crate) fn engine(name: &str, epoch: u64, port: u16) -> Engine {
    engine_with(ClusterConfig::lan(), name, epoch, port)
}

/// Engine with these settings.
pub(crate) fn engine_with(config: ClusterConfig, name: &str, epoch: u64, port: u16) -> Engine {
    Engine::new(config, NodeId::new(name, epoch), addr(port), Time::ZERO, 7).unwrap()
}

/// Record of a member at a loopback address.
pub(crate) fn record(name: &str, epoch: u64, incarnation: u32, port: u16, claim: Claim) -> Record {
    Record {
        name: name.into(),
        epoch,
        incarnation,
        addr: addr(port),
        draining: false,
        slow: false,
        unreachable: false,
        claim,
    }
}

/// Claim of a member without tags.
pub(crate) fn alive() -> Claim {
    Claim::Alive(Tags::new())
}

/// All events that the engine has emitted.
pub(crate) fn events(engine: &mut Engine) -> Vec<Event> {
    std::iter::from_fn(|| engine.poll_event()).collect()
}

impl<D: DetectorHooks> Engine<D> {
    /// Merges a record that came by gossip, at the start of time.
    pub(crate) fn merge_gossip(&mut self, record: Record) {
        self.merge(Time::ZERO, record, RecordSource::Gossip);
    }
}
