//! A run: trouble, then calm.

use std::time::Duration;

use super::check::Violation;
use super::cluster::Cluster;
use super::link::Link;
use super::network::Division;
use super::plan::{Drawn, Kind, Plan};
use super::plight::{Half, Plight};
use super::report::Report;
use crate::config::ClusterConfig;
use crate::engine::Engine;
use crate::time::Time;

/// Runs a cluster through `plan`, with everything that it leaves open drawn from `seed`.
///
/// First comes trouble, in which safety is checked at every step. Then every cut is mended, every
/// stopped process goes on and nearly all that crashed start again; from then on the views have to
/// become equal to what is, within a time that follows from the configuration, and stay so.
/// The run ends with the first rule that is broken; [`Report::expect_ok`] turns it into a panic.
pub fn run(seed: u64, plan: Plan) -> Report {
    run_tampered(seed, plan, |_| {})
}

/// The same, with something done to the cluster when the calm comes.
pub(super) fn run_tampered(seed: u64, plan: Plan, tamper: impl FnOnce(&mut Cluster)) -> Report {
    let mut cluster = Cluster::new(seed);
    let drawn = plan.draw(&mut cluster.rng);
    let mut run = Run {
        drawn,
        cluster,
        undo: Vec::new(),
        renamed: 0,
    };
    run.make_trouble();
    tamper(&mut run.cluster);
    run.calm_down();
    run.cluster.report()
}

struct Run {
    drawn: Drawn,
    cluster: Cluster,
    /// What ends when.
    undo: Vec<(Time, Undo)>,
    renamed: usize,
}

#[derive(Clone, Copy, Debug)]
enum Undo {
    Start(usize),
    Resume(usize),
    Clean(usize),
    Mend(usize, usize),
    MendBetween(Division),
    Unite,
}

impl Run {
    fn make_trouble(&mut self) {
        let Drawn {
            nodes,
            trouble,
            link,
            check_every,
            no_false_failures,
            rotating,
            ..
        } = self.drawn;
        let cluster = &mut self.cluster;
        cluster.log_events(false);
        cluster.check_every(check_every);
        cluster.forbid_false_failures(no_false_failures);
        if self
            .drawn
            .kinds
            .iter()
            .all(|kind| kind.leaves_sides_clear())
        {
            cluster.forbid_both_sides(SIDES_ROUNDS * self.drawn.config.probe_interval);
        }
        cluster.network().default = link;
        let named = if rotating { nodes } else { nodes.min(3) };
        let seeds: Vec<_> = (0..named).map(super::cluster::addr_of).collect();
        for n in 0..nodes {
            let config = self.drawn.config.clone();
            let node = cluster.add(format!("n{n}"), config, seeds.clone());
            if rotating {
                cluster.rotate_seeds(node, 2);
            }
            let gap = cluster.rng.u64(..200);
            cluster.run_for(Duration::from_millis(gap));
        }
        cluster.report.nodes = nodes;
        cluster.run_for(Duration::from_secs(3));
        let end = cluster.now + trouble;
        while self.cluster.now < end && self.cluster.report.failure.is_none() {
            let gap = self
                .cluster
                .rng
                .u64(100..2 * trouble.as_millis() as u64 / 20);
            self.run_for(Duration::from_millis(gap));
            if !self.drawn.kinds.is_empty() {
                let kind = self.drawn.kinds[self.cluster.rng.usize(..self.drawn.kinds.len())];
                self.start(kind);
            }
        }
    }

    /// Lets time pass and ends what ends meanwhile.
    fn run_for(&mut self, time: Duration) {
        let end = self.cluster.now + time;
        loop {
            let next = (0..self.undo.len()).min_by_key(|at| self.undo[*at].0);
            match next.filter(|at| self.undo[*at].0 <= end) {
                Some(at) => {
                    let (when, undo) = self.undo.swap_remove(at);
                    self.cluster.run_for(when.since(self.cluster.now));
                    self.end(undo);
                }
                None => return self.cluster.run_for(end.since(self.cluster.now)),
            }
        }
    }

    fn start(&mut self, kind: Kind) {
        let Some(node) = self.pick() else { return };
        let cluster = &mut self.cluster;
        let later = cluster.now + Duration::from_millis(cluster.rng.u64(200..25_000));
        match kind {
            Kind::Crash => {
                cluster.crash(node);
                self.undo.push((later, Undo::Start(node)));
            }
            Kind::Restart => cluster.restart(node),
            Kind::RestartInThePast => {
                let epoch = cluster.epoch() - cluster.rng.u64(10_000..100_000);
                cluster.restart_with_epoch(node, epoch);
            }
            Kind::Rename => {
                self.renamed += 1;
                cluster.restart_as(node, format!("r{}", self.renamed));
            }
            Kind::Stall => {
                cluster.stall(node);
                self.undo.push((later, Undo::Resume(node)));
            }
            Kind::Block => {
                cluster.block(node);
                self.undo.push((later, Undo::Resume(node)));
            }
            Kind::HalfBlock => {
                let half = match cluster.rng.bool() {
                    true => Half::SendOnly,
                    false => Half::ReceiveOnly,
                };
                cluster.half_block(node, half);
                self.undo.push((later, Undo::Resume(node)));
            }
            Kind::Slow => {
                let per_message = Duration::from_millis(cluster.rng.u64(1..400));
                cluster.slow(node, per_message);
                self.undo.push((later, Undo::Resume(node)));
            }
            Kind::Lossy => {
                let (loss, ingress) = (cluster.rng.f64(), cluster.rng.bool());
                cluster.report.lossy += 1;
                match ingress {
                    true => cluster.network().set_ingress_loss(node, loss),
                    false => cluster.network().set_egress_loss(node, loss),
                }
                self.undo.push((later, Undo::Clean(node)));
            }
            Kind::OneWayPartition => {
                let all = 0..cluster.len();
                let (from, to): (Vec<_>, Vec<_>) = all.partition(|_| cluster.rng.bool());
                cluster.report.one_way_partitions += 1;
                let division = cluster.network().cut_between(&from, &to);
                self.undo.push((later, Undo::MendBetween(division)));
            }
            Kind::OneWayCut => {
                let other = cluster.rng.usize(..cluster.len());
                cluster.report.one_way_cuts += 1;
                cluster.network().cut(node, other);
                self.undo.push((later, Undo::Mend(node, other)));
            }
            Kind::Partition => {
                let side: Vec<_> = (0..cluster.len()).filter(|_| cluster.rng.bool()).collect();
                cluster.report.partitions += 1;
                cluster.network().unite();
                cluster.network().isolate(side, 1);
                self.undo.push((later, Undo::Unite));
            }
            Kind::Leave => {
                cluster.leave(node);
                self.undo
                    .push((later + Duration::from_secs(4), Undo::Start(node)));
            }
            Kind::Tags => {
                let (len, value) = (cluster.rng.usize(..200), cluster.rng.u32(..));
                let value = format!("{value:0len$}");
                let key = ["role", "zone", "load"][cluster.rng.usize(..3)];
                cluster.set_tag(node, key, &value).expect("small enough");
            }
            Kind::Drain => {
                let drains = cluster.engine(node).is_some_and(|e| e.me().draining);
                cluster.set_draining(node, !drains);
            }
        }
    }

    fn end(&mut self, undo: Undo) {
        match undo {
            // One that is leaving still is as good as down.
            Undo::Start(node) if self.cluster.is_active(node) => {}
            Undo::Start(node) => self.cluster.restart(node),
            Undo::Resume(node) => self.cluster.resume(node),
            Undo::Clean(node) => {
                self.cluster.network().set_ingress_loss(node, 0.0);
                self.cluster.network().set_egress_loss(node, 0.0);
            }
            Undo::MendBetween(division) => self.cluster.network().mend_between(division),
            Undo::Mend(from, to) => self.cluster.network().mend(from, to),
            Undo::Unite => self.cluster.network().unite(),
        }
    }

    /// A node that is up and free of other plights, if enough others are.
    fn pick(&mut self) -> Option<usize> {
        let cluster = &mut self.cluster;
        let well: Vec<_> = (0..cluster.len())
            .filter(|n| cluster.is_up(*n) && cluster.nodes[*n].plight == Plight::None)
            .collect();
        let enough = well.len() > 1 && 2 * well.len() > cluster.len();
        enough.then(|| well[cluster.rng.usize(..well.len())])
    }

    fn calm_down(&mut self) {
        let down = |undo: &(Time, Undo)| matches!(undo.1, Undo::Start(_));
        let mut undo = std::mem::take(&mut self.undo);
        undo.sort_by_key(|(at, _)| *at);
        // One may stay down for good, if the others are so many that it is no partition.
        let stays = undo.iter().position(down);
        if self.drawn.nodes >= 6
            && let Some(at) = stays
        {
            undo.remove(at);
        }
        undo.into_iter().for_each(|(_, undo)| self.end(undo));
        let cluster = &mut self.cluster;
        cluster.network().heal();
        cluster.network().default = Link::lan();
        let (start, base) = (cluster.now, convergence_bound(&self.drawn.config));
        let noticed = notice_bound(&self.drawn.config, cluster.len());
        let (mut to_notice, mut to_find) = (true, true);
        let found = found_bound(&self.drawn.config);
        loop {
            // A member that came and went is held down for a while, by the rules.
            let engines = (0..cluster.len()).filter_map(|n| cluster.engine(n));
            let held = engines.map(Engine::held_until).max().unwrap_or_default();
            let bound = held.since(start) + base;
            cluster.report.convergence_bound = bound;
            let passed = cluster.now.since(start);
            if passed >= noticed && std::mem::take(&mut to_notice) {
                cluster.require_noticed(passed);
            }
            let proofs = match held > start {
                true => 8 * self.drawn.config.redial_interval,
                false => Duration::ZERO,
            };
            let is_held = passed < held.since(start) + proofs + found;
            if !is_held && std::mem::take(&mut to_find) {
                cluster.require_found(passed);
            }
            if cluster.report.failure.is_some() {
                return;
            }
            match cluster.difference() {
                None if cluster.report.converged_after.is_none() => {
                    cluster.report.converged_after = Some(passed);
                    // Then nothing may happen any more.
                    cluster.run_for(10 * self.drawn.config.probe_interval);
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
                Some(_) => cluster.run_for(LOOK_EVERY),
            }
        }
    }
}

/// How long after the last trouble all views are equal at the latest, if nobody is held down for
/// flapping: the slowest of what has to happen one after the other.
fn convergence_bound(config: &ClusterConfig) -> Duration {
    let unit = config.probe_interval;
    // A crash from just before: found, agreed on, or timed out.
    let detection = 4 * unit + config.suspicion_max;
    // The longest waits of a lone node, of a failed member's dial, of a look at the seeds.
    let contact = (13 * unit).max(12 * config.redial_interval).max(38 * unit);
    // A sync that waits for the views to come to rest, backed off, and a second one.
    let repair = 10 * unit + 2 * 64 * unit;
    // A member that is held answers some dials more.
    let proofs = 8 * config.redial_interval;
    detection + contact + proofs + repair + config.partition_grace
}

/// How long after the last trouble each member is live in some other view at the latest, if
/// nobody is held down: one that waits for its last peers to be found failed, and then for a look
/// at its seeds or for somebody's dial.
fn found_bound(config: &ClusterConfig) -> Duration {
    let unit = config.probe_interval;
    let alone = 4 * unit + config.suspicion_max;
    alone + (38 * unit).max(12 * config.redial_interval)
}

/// How long after the last trouble every failure is known to all of `nodes` at the latest: one
/// that nobody told a node of, it finds in its own round, which is when all others had their turn,
/// and is as sure as it can be when the longest suspicion is over.
fn notice_bound(config: &ClusterConfig, nodes: usize) -> Duration {
    let pass = config.probe_interval * nodes as u32;
    2 * pass + config.suspicion_max
}

/// In how many probe intervals after a division one side at most serves, whatever is lost.
const SIDES_ROUNDS: u32 = 20;
/// How often the views are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
