//! Log lines of events: warnings where an operator has to act, info for members that come and go.

use crate::event::Event;

/// Writes the log line of an event, if it has one; suspicions come and go, and updates are many, so
/// these have none.
pub(super) fn log(event: &Event) {
    log_member(event);
    log_partition(event);
    log_identity(event);
    log_refusal(event);
    log_address(event);
}

/// Members that join, leave, fail or recover, and whether they can be reached.
fn log_member(event: &Event) {
    match event {
        Event::NodeJoined(member) => {
            let epoch = member.id.epoch;
            tracing::info!(node = %member.id, epoch, addr = %member.addr, "node joined");
        }
        Event::NodeLeft(member) => {
            let epoch = member.id.epoch;
            tracing::info!(node = %member.id, epoch, addr = %member.addr, "node left");
        }
        Event::NodeFailed(member) => {
            let epoch = member.id.epoch;
            tracing::warn!(node = %member.id, epoch, addr = %member.addr, "node failed, or a newer instance replaced it");
        }
        Event::NodeRecovered(member) => {
            tracing::info!(node = %member.id, addr = %member.addr, "node recovered");
        }
        Event::NodeUnreachable(member) => tracing::warn!(
            node = %member.id,
            addr = %member.addr,
            "node is alive but unreachable: it refutes suspicions, and probes of its address fail, \
             or it says so itself"
        ),
        Event::NodeReachable(member) => {
            tracing::info!(node = %member.id, addr = %member.addr, "node is reachable again");
        }
        _ => {}
    }
}

/// Partitions, and the isolation of this node.
fn log_partition(event: &Event) {
    match event {
        Event::PartitionDetected {
            reachable,
            expected,
            minority,
        } => tracing::warn!(
            reachable,
            expected,
            minority,
            "partition: half of the members or a large part of them are unreachable"
        ),
        Event::PartitionHealed => tracing::info!("partition healed"),
        Event::Isolated { expected } => {
            tracing::warn!(expected, "isolated: this node hears no other member");
        }
        Event::IsolationEnded => tracing::info!("isolation ended"),
        _ => {}
    }
}

/// Names that two nodes use, and epochs of clocks that are too far apart.
fn log_identity(event: &Event) {
    match event {
        Event::NameConflict { name, older, newer } => tracing::error!(
            %name, %older, %newer,
            "name conflict: two nodes use one name; give each process a name of its own"
        ),
        Event::Superseded { by, addr } => tracing::error!(
            name = %by, newer = %addr, epoch = by.epoch,
            "superseded: a newer node has the name of this one, which no longer takes part; \
             give each process a name and a certificate of its own"
        ),
        Event::SupersessionEnded { by, addr } => tracing::warn!(
            name = %by, newer = %addr,
            "supersession ended: the newer node of this name has left, failed or no longer answers; \
             this node joins again"
        ),
        Event::ClockSkew {
            addr,
            ahead,
            is_own: true,
        } => tracing::error!(
            member = %addr, ?ahead,
            "clock skew: the member refuses this node's epoch as too far ahead of its clock"
        ),
        Event::ClockSkew {
            addr,
            ahead,
            is_own: false,
        } => tracing::warn!(
            member = %addr, ?ahead,
            "clock skew: an epoch is too far ahead of this node's clock and refused"
        ),
        _ => {}
    }
}

/// Datagrams, seeds, joins and newcomers that are refused.
fn log_refusal(event: &Event) {
    match event {
        Event::DatagramRefused { from, reason } => {
            tracing::warn!(%from, %reason, "gossip datagram refused");
        }
        Event::SeedRefused { seed, reason } => {
            tracing::warn!(%seed, %reason, "seed refuses this node");
        }
        Event::TableFull {
            members,
            evicted,
            refused,
        } => tracing::warn!(
            members,
            evicted,
            refused,
            "member table full: members were forgotten or newcomers refused"
        ),
        Event::JoinRefused { by, reason } => tracing::warn!(
            member = %by, %reason,
            "join refused; the node goes on trying"
        ),
        _ => {}
    }
}

/// Advertised addresses that do not lead to their node.
fn log_address(event: &Event) {
    match event {
        Event::AddressUnreachable { addr, observed } => tracing::warn!(
            %addr,
            observed = observed.map(tracing::field::display),
            "advertised address is unreachable for peers; advertise one that leads to this node"
        ),
        Event::AddressReachable { addr } => {
            tracing::info!(%addr, "advertised address is no longer known to be unreachable");
        }
        Event::AddressConflict { addr, older, newer } => tracing::error!(
            %addr,
            older,
            newer,
            "address conflict: two nodes advertise one address; give each an address of its own"
        ),
        _ => {}
    }
}
