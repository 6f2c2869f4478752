//! A run: faults drawn from a seed, then a quiet phase that must converge.

use std::time::Duration;

use rpcnet_swim::unstable::{DetectorHooks, PhiSwim};
use rpcnet_swim::{ClusterConfig, Engine, Time};

use super::check::Violation;
use super::cluster::Cluster;
use super::config::{FaultKind, ResolvedSimConfig, SimConfig};
use super::link::Link;
use super::network::OneWayPartition;
use super::process_fault::{OpenDirection, ProcessFault};
use super::report::SimReport;

/// Runs a cluster through `plan`, with everything that it leaves open drawn from `seed`.
///
/// First faults are injected, while safety is checked at every step. Then every cut is ended, every
/// stopped process goes on and nearly all that crashed start again; from then on the views have to
/// become equal to the ground truth, within a time that follows from the configuration, and stay
/// so. The run ends with the first invariant that is broken; [`SimReport::expect_ok`] turns it into
/// a panic.
#[must_use]
pub fn run(seed: u64, plan: SimConfig) -> SimReport {
    run_with_detector(seed, plan, PhiSwim)
}

/// Runs a cluster of another failure detector, else as [`run`].
pub fn run_with_detector<D: DetectorHooks>(seed: u64, plan: SimConfig, detector: D) -> SimReport {
    run_tampered(seed, plan, detector, |_| {})
}

/// Like [`run`], with something done to the cluster when the faults end.
pub(super) fn run_tampered<D: DetectorHooks>(
    seed: u64,
    plan: SimConfig,
    detector: D,
    tamper: impl FnOnce(&mut Cluster<D>),
) -> SimReport {
    let mut cluster = Cluster::with_detector(seed, detector);
    let resolved = plan.resolve(&mut cluster.rng);
    let mut run = FaultRun {
        resolved,
        cluster,
        scheduled_ends: Vec::new(),
        renamed: 0,
    };
    run.inject_faults();
    tamper(&mut run.cluster);
    run.heal_and_converge();
    run.cluster.report()
}

struct FaultRun<D: DetectorHooks> {
    resolved: ResolvedSimConfig,
    cluster: Cluster<D>,
    /// Faults to end, each with its time.
    scheduled_ends: Vec<(Time, FaultEnd)>,
    renamed: usize,
}

#[derive(Clone, Copy, Debug)]
enum FaultEnd {
    Restart(usize),
    Resume(usize),
    ClearLoss(usize),
    RestoreLink(usize, usize),
    RestoreBetween(OneWayPartition),
    HealPartitions,
}

impl<D: DetectorHooks> FaultRun<D> {
    fn inject_faults(&mut self) {
        let ResolvedSimConfig {
            nodes,
            fault_duration,
            link,
            check_every,
            no_false_failures,
            rotating_seeds,
            ..
        } = self.resolved;
        let cluster = &mut self.cluster;
        cluster.log_events(false);
        cluster.check_every(check_every);
        cluster.forbid_false_failures(no_false_failures);
        if self
            .resolved
            .fault_kinds
            .iter()
            .all(|kind| kind.keeps_sides_distinct())
        {
            cluster.forbid_split_brain(
                SPLIT_BRAIN_GRACE_INTERVALS * self.resolved.config.probe_interval(),
            );
        }
        cluster.network().default = link;
        let named = if rotating_seeds { nodes } else { nodes.min(3) };
        let seeds: Vec<_> = (0..named).map(super::cluster::addr_of).collect();
        for n in 0..nodes {
            let config = self.resolved.config.clone();
            let node = cluster.add(format!("n{n}"), config, seeds.clone());
            if rotating_seeds {
                cluster.rotate_seeds(node, 2);
            }
            let gap = cluster.rng.u64(..200);
            cluster.run_for(Duration::from_millis(gap));
        }
        cluster.report.nodes = nodes;
        cluster.run_for(Duration::from_secs(3));
        let end = cluster.now + fault_duration;
        while self.cluster.now < end && self.cluster.report.failure.is_none() {
            let gap = self
                .cluster
                .rng
                .u64(100..2 * fault_duration.as_millis() as u64 / 20);
            self.run_for(Duration::from_millis(gap));
            if !self.resolved.fault_kinds.is_empty() {
                let kind = self.resolved.fault_kinds
                    [self.cluster.rng.usize(..self.resolved.fault_kinds.len())];
                self.inject(kind);
            }
        }
    }

    /// Lets time pass and ends the faults whose time comes.
    fn run_for(&mut self, time: Duration) {
        let end = self.cluster.now + time;
        loop {
            let next = (0..self.scheduled_ends.len()).min_by_key(|at| self.scheduled_ends[*at].0);
            match next.filter(|at| self.scheduled_ends[*at].0 <= end) {
                Some(at) => {
                    let (when, fault_end) = self.scheduled_ends.swap_remove(at);
                    self.cluster.run_for(when.since(self.cluster.now));
                    self.end_fault(fault_end);
                }
                None => return self.cluster.run_for(end.since(self.cluster.now)),
            }
        }
    }

    fn inject(&mut self, kind: FaultKind) {
        let Some(node) = self.pick_healthy_node() else {
            return;
        };
        let cluster = &mut self.cluster;
        let mut later = cluster.now + Duration::from_millis(cluster.rng.u64(200..25_000));
        let fault_end = match kind {
            FaultKind::Crash => {
                cluster.crash(node);
                Some(FaultEnd::Restart(node))
            }
            FaultKind::Restart | FaultKind::RestartInThePast | FaultKind::Rename => {
                self.restart(kind, node);
                None
            }
            FaultKind::Stall => {
                cluster.stall(node);
                Some(FaultEnd::Resume(node))
            }
            FaultKind::Block => {
                cluster.block(node);
                Some(FaultEnd::Resume(node))
            }
            FaultKind::HalfBlock => {
                let half = match cluster.rng.bool() {
                    true => OpenDirection::SendOnly,
                    false => OpenDirection::ReceiveOnly,
                };
                cluster.half_block(node, half);
                Some(FaultEnd::Resume(node))
            }
            FaultKind::Slow => {
                let per_message = Duration::from_millis(cluster.rng.u64(1..400));
                cluster.slow(node, per_message);
                Some(FaultEnd::Resume(node))
            }
            FaultKind::Lossy => Some(self.lose_datagrams(node)),
            FaultKind::OneWayPartition => Some(self.partition_one_way()),
            FaultKind::OneWayCut => Some(self.cut_one_way(node)),
            FaultKind::Partition => Some(self.partition()),
            FaultKind::Leave => {
                cluster.leave(node);
                later += Duration::from_secs(4);
                Some(FaultEnd::Restart(node))
            }
            FaultKind::TagChange | FaultKind::Drain => {
                self.update(kind, node);
                None
            }
        };
        self.scheduled_ends
            .extend(fault_end.map(|fault_end| (later, fault_end)));
    }

    /// Restarts a node: as it was, with an epoch from the past, or under another name.
    fn restart(&mut self, kind: FaultKind, node: usize) {
        let cluster = &mut self.cluster;
        match kind {
            FaultKind::RestartInThePast => {
                let epoch = cluster.next_epoch() - cluster.rng.u64(10_000..100_000);
                cluster.restart_with_epoch(node, epoch);
            }
            FaultKind::Rename => {
                self.renamed += 1;
                cluster.restart_as(node, format!("r{}", self.renamed));
            }
            _ => cluster.restart(node),
        }
    }

    /// Changes what a node announces: a tag, or whether it drains.
    fn update(&mut self, kind: FaultKind, node: usize) {
        let cluster = &mut self.cluster;
        if kind == FaultKind::TagChange {
            let (len, value) = (cluster.rng.usize(..200), cluster.rng.u32(..));
            let value = format!("{value:0len$}");
            let key = ["role", "zone", "load"][cluster.rng.usize(..3)];
            cluster.set_tag(node, key, &value).expect("small enough");
        } else {
            let drains = cluster
                .engine(node)
                .is_some_and(|e| e.local_member().draining);
            cluster.set_draining(node, !drains);
        }
    }

    /// Loses a share of what a node receives, or of what it sends.
    fn lose_datagrams(&mut self, node: usize) -> FaultEnd {
        let cluster = &mut self.cluster;
        let (loss, ingress) = (cluster.rng.f64(), cluster.rng.bool());
        cluster.report.lossy_nodes += 1;
        match ingress {
            true => cluster.network().set_ingress_loss(node, loss),
            false => cluster.network().set_egress_loss(node, loss),
        }
        FaultEnd::ClearLoss(node)
    }

    /// Cuts all links from one side to the other.
    fn partition_one_way(&mut self) -> FaultEnd {
        let cluster = &mut self.cluster;
        let all = 0..cluster.len();
        let (from, to): (Vec<_>, Vec<_>) = all.partition(|_| cluster.rng.bool());
        cluster.report.one_way_partitions += 1;
        FaultEnd::RestoreBetween(cluster.network().cut_between(&from, &to))
    }

    /// Cuts the link from a node to another one.
    fn cut_one_way(&mut self, node: usize) -> FaultEnd {
        let cluster = &mut self.cluster;
        let other = cluster.rng.usize(..cluster.len());
        cluster.report.one_way_cuts += 1;
        cluster.network().cut(node, other);
        FaultEnd::RestoreLink(node, other)
    }

    /// Divides the network in two.
    fn partition(&mut self) -> FaultEnd {
        let cluster = &mut self.cluster;
        let side: Vec<_> = (0..cluster.len()).filter(|_| cluster.rng.bool()).collect();
        cluster.report.partitions += 1;
        cluster.network().heal_partitions();
        cluster.network().isolate(side, 1);
        FaultEnd::HealPartitions
    }

    fn end_fault(&mut self, fault_end: FaultEnd) {
        match fault_end {
            // A node that is still leaving counts as down.
            FaultEnd::Restart(node) if self.cluster.is_active(node) => {}
            FaultEnd::Restart(node) => self.cluster.restart(node),
            FaultEnd::Resume(node) => self.cluster.resume(node),
            FaultEnd::ClearLoss(node) => {
                self.cluster.network().set_ingress_loss(node, 0.0);
                self.cluster.network().set_egress_loss(node, 0.0);
            }
            FaultEnd::RestoreBetween(division) => self.cluster.network().restore_between(division),
            FaultEnd::RestoreLink(from, to) => self.cluster.network().restore(from, to),
            FaultEnd::HealPartitions => self.cluster.network().heal_partitions(),
        }
    }

    /// A node that is up and has no process fault, if enough others are.
    fn pick_healthy_node(&mut self) -> Option<usize> {
        let cluster = &mut self.cluster;
        let well: Vec<_> = (0..cluster.len())
            .filter(|n| cluster.is_up(*n) && cluster.nodes[*n].fault == ProcessFault::None)
            .collect();
        let enough = well.len() > 1 && 2 * well.len() > cluster.len();
        enough.then(|| well[cluster.rng.usize(..well.len())])
    }

    fn heal_and_converge(&mut self) {
        let down = |fault_end: &(Time, FaultEnd)| matches!(fault_end.1, FaultEnd::Restart(_));
        let mut ends = std::mem::take(&mut self.scheduled_ends);
        ends.sort_by_key(|(at, _)| *at);
        // One node may stay down for good, if the others are so many that it is no partition.
        let stays = ends.iter().position(down);
        if self.resolved.nodes >= 6
            && let Some(at) = stays
        {
            ends.remove(at);
        }
        ends.into_iter()
            .for_each(|(_, fault_end)| self.end_fault(fault_end));
        let cluster = &mut self.cluster;
        cluster.network().heal();
        cluster.network().default = Link::lan();
        let (start, base) = (cluster.now, convergence_bound(&self.resolved.config));
        let noticed = detection_bound(&self.resolved.config, cluster.len());
        let (mut to_notice, mut to_find) = (true, true);
        let found = discovery_bound(&self.resolved.config);
        loop {
            // A member that came and went is held down for a while, by the protocol's rules.
            let engines = (0..cluster.len()).filter_map(|n| cluster.engine(n));
            let held = engines.map(Engine::held_until).max().unwrap_or_default();
            let bound = held.since(start) + base;
            cluster.report.convergence_bound = bound;
            let passed = cluster.now.since(start);
            if passed >= noticed && std::mem::take(&mut to_notice) {
                cluster.require_crashes_detected(passed);
            }
            let proofs = match held > start {
                true => 8 * self.resolved.config.redial_interval(),
                false => Duration::ZERO,
            };
            let is_held = passed < held.since(start) + proofs + found;
            if !is_held && std::mem::take(&mut to_find) {
                cluster.require_members_discovered(passed);
            }
            if cluster.report.failure.is_some() {
                return;
            }
            match cluster.difference() {
                None if cluster.report.converged_after.is_none() => {
                    cluster.report.converged_after = Some(passed);
                    // From now on nothing may happen any more.
                    cluster.run_for(10 * self.resolved.config.probe_interval());
                }
                None => return,
                Some((node, difference))
                    if passed > bound || cluster.report.converged_after.is_some() =>
                {
                    let violation = Violation::NotConverged {
                        after: passed,
                        difference,
                    };
                    return cluster.violate(node, violation);
                }
                Some(_) => cluster.run_for(CONVERGENCE_CHECK_INTERVAL),
            }
        }
    }
}

/// Longest time from the end of the faults until all views are equal, if no member is held down for
/// flapping: the slowest of what has to happen one after the other.
fn convergence_bound(config: &ClusterConfig) -> Duration {
    let unit = config.probe_interval();
    // A crash from just before: found, agreed on, or timed out.
    let detection = 4 * unit + config.suspicion_max();
    // The longest waits of a lone node, of a redial, of a lookup of the seeds.
    let contact = (13 * unit)
        .max(12 * config.redial_interval())
        .max(38 * unit);
    // A sync that waits until the views no longer change, backed off, and a second one.
    let repair = 10 * unit + 2 * 64 * unit;
    // A member that is held down answers some more redials.
    let proofs = 8 * config.redial_interval();
    detection + contact + proofs + repair + config.partition_grace()
}

/// Longest time from the end of the faults until each member is live in another view, if no member
/// is held down: it waits for its last peers to be found failed, and then for a lookup of its seeds
/// or for a redial.
fn discovery_bound(config: &ClusterConfig) -> Duration {
    let unit = config.probe_interval();
    let alone = 4 * unit + config.suspicion_max();
    alone + (38 * unit).max(12 * config.redial_interval())
}

/// Longest time from the end of the faults until every failure is known to all of `nodes`: a node
/// that did not learn of it finds it in its own round, which comes when all others had their turn,
/// and is as sure as it can be when the longest suspicion is over.
fn detection_bound(config: &ClusterConfig, nodes: usize) -> Duration {
    let pass = config.probe_interval() * nodes as u32;
    2 * pass + config.suspicion_max()
}

/// Probe intervals after a division in which at most one side serves, whatever is lost.
const SPLIT_BRAIN_GRACE_INTERVALS: u32 = 20;
/// Interval at which the views are compared.
const CONVERGENCE_CHECK_INTERVAL: Duration = Duration::from_millis(250);
