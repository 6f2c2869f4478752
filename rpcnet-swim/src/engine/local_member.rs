//! Local member: this node's own record, incarnation and epoch.

use std::net::SocketAddr;
use std::sync::Arc;

use super::address::advertised_form;
use super::clock::EPOCH_MAX;
use super::entry::Entry;
use super::{DetectorHooks, Engine, Phase};
use crate::config::ClusterConfig;
use crate::error::ConfigError;
use crate::event::Event;
use crate::id::{NodeId, canonical_name, check_name};
use crate::tags::Tags;
use crate::time::Time;
use crate::unicast::is_usable;
use crate::wire::{Claim, Record};

/// Record of this node.
#[derive(Debug)]
pub(crate) struct LocalMember {
    pub(super) name: Arc<str>,
    pub(super) key: u64,
    pub(super) epoch: u64,
    pub(super) incarnation: u32,
    pub(super) addr: SocketAddr,
    pub(super) draining: bool,
    /// Whether the answers of all members take long.
    pub(super) slow: bool,
    /// Whether no ping arrives at the advertised address.
    pub(super) unreachable: bool,
    pub(super) tags: Tags,
}

impl LocalMember {
    /// Record of a node that starts, once its configuration, its name with the tags, its address
    /// and its epoch are checked.
    pub(super) fn new(
        config: &ClusterConfig,
        id: NodeId,
        addr: SocketAddr,
    ) -> Result<Self, ConfigError> {
        config.validate()?;
        let id = NodeId::new(canonical_name(&id.name), id.epoch);
        check_name(&id.name)?;
        config
            .tags
            .check_fits_with_name(&id.name)
            .map_err(ConfigError::TagsTooLargeWithName)?;
        let addr = advertised_form(addr);
        if !is_usable(addr) {
            return Err(ConfigError::UnusableAdvertiseAddr { addr });
        }
        if id.epoch > EPOCH_MAX {
            return Err(ConfigError::UnusableEpoch { epoch: id.epoch });
        }
        Ok(Self {
            key: id.key(),
            name: id.name,
            epoch: id.epoch,
            incarnation: 0,
            addr,
            draining: false,
            slow: false,
            unreachable: false,
            tags: config.tags.clone(),
        })
    }
}

impl<D: DetectorHooks> Engine<D> {
    pub(super) fn own_record(&self) -> Record {
        let claim = match self.phase {
            Phase::Active | Phase::Superseded => Claim::Alive(self.local.tags.clone()),
            Phase::Leaving | Phase::Left => Claim::Left,
        };
        Record {
            name: self.local.name.clone(),
            epoch: self.local.epoch,
            incarnation: self.local.incarnation,
            addr: self.local.addr,
            draining: self.local.draining,
            slow: self.local.slow,
            unreachable: self.local.unreachable,
            claim,
        }
    }

    pub(super) fn record_of(&self, key: u64) -> Option<Record> {
        match key == self.local.key {
            true => Some(self.own_record()),
            false => self.table.get(key).map(Entry::record),
        }
    }

    /// Raises the incarnation after a change of this node's record: only the node itself may (SWIM
    /// section 4.2).
    pub(super) fn raise_incarnation(&mut self, now: Time) {
        match self.local.incarnation.checked_add(1) {
            Some(next) => self.local.incarnation = next,
            // Only a forged claim is that high; this node has to exceed it all the same.
            None => return self.raise_epoch(now, self.local.epoch),
        }
        self.announce(now);
    }

    /// Starts a new instance of this node, as far as others can tell, and emits it as an event.
    pub(super) fn raise_epoch(&mut self, now: Time, above: u64) {
        // Higher epochs are refused on arrival: there is always a next one.
        let Some(epoch) = above.max(self.local.epoch).checked_add(1) else {
            return;
        };
        self.local.epoch = epoch;
        self.local.incarnation = 0;
        self.announce(now);
        self.emit(Event::NodeUpdated(self.local_member()));
    }

    pub(super) fn announce(&mut self, now: Time) {
        self.table
            .set_own_version(now, self.local.epoch, self.local.incarnation);
        self.enqueue_gossip(now, self.local.key);
    }
}
