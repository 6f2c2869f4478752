//! Setup of clusters for experiments, and waits for their recovery.

use std::time::Duration;

use rpcnet_swim::{MemberState, Time};
use rpcnet_swim_sim::Transition;

use crate::{
    detector::{Cluster, OURS},
    scenario::Trial,
};

/// Text of a rule that was broken.
pub(crate) type SafetyViolation = String;

/// A cluster in which all have known all for a while.
pub(crate) fn settled_cluster(trial: &Trial<'_>) -> Result<Cluster, SafetyViolation> {
    let mut cluster = trial.formed(trial.nodes);
    limit_checks(&mut cluster);
    cluster.run_for(SETTLE_TIME);
    check_safety(&cluster).map(|()| cluster)
}

/// Settled cluster whose seeds have left: no member can ask them.
pub(crate) fn settled_cluster_without_seeds(trial: &Trial<'_>) -> Result<Cluster, SafetyViolation> {
    let mut cluster = trial.formed(trial.nodes + SEEDS);
    limit_checks(&mut cluster);
    cluster.run_for(SETTLE_TIME);
    (0..SEEDS).for_each(|seed| cluster.leave(seed));
    cluster.run_for(SETTLE_TIME);
    check_safety(&cluster).map(|()| cluster)
}

/// Members that a fault is to befall, and for each member whether it is one of them.
pub(crate) fn choose_faulty(trial: &Trial<'_>, count: usize) -> (Vec<usize>, Vec<bool>) {
    let chosen = trial.rng().choose_multiple(0..trial.nodes, count);
    let is_faulty = |node| chosen.contains(&node);
    let faulty = (0..trial.nodes).map(is_faulty).collect();
    (chosen, faulty)
}

/// Looks at views so often that it costs about as much as what happens between two looks.
pub(crate) fn limit_checks(cluster: &mut Cluster) {
    cluster.check_every(cluster.len().max(1) as u64);
    cluster.log_events(false);
}

/// Whether every member that is up counts as many as are up.
pub(crate) fn all_views_full(cluster: &Cluster) -> bool {
    let up = (0..cluster.len()).filter(|node| cluster.is_up(*node));
    let count = up.clone().count();
    up.filter_map(|node| cluster.engine(node))
        .all(|engine| engine.live_count() == count)
}

/// Lets time pass until all views are right, and says how many seconds it took; infinitely many if
/// it was more than `limit`. To ours it must come sooner or later.
pub(crate) fn wait_for_recovery(
    cluster: &mut Cluster,
    trial: &Trial<'_>,
    limit: Duration,
) -> Result<f64, SafetyViolation> {
    let took = cluster.run_until(limit, Cluster::is_converged);
    if took.is_none() && trial.detector.name() == OURS {
        let calm = cluster.converge(RECOVERY_TIMEOUT);
        calm.map_err(|failure| failure.to_string())?;
    }
    check_safety(cluster)?;
    Ok(took.map_or(f64::INFINITY, |it| it.as_secs_f64()))
}

/// Lets time pass until all other members believe this of all of these, and looks at each
/// interval. For each of them the seconds from now on until the first observer did, and until all
/// did: infinite if that was not so within the limit.
pub(crate) fn wait_until_known(
    cluster: &mut Cluster,
    subjects: &[usize],
    to: MemberState,
    interval: Duration,
    limit: Duration,
) -> Vec<(f64, f64)> {
    let (begin, mark) = (cluster.now(), cluster.transitions().len());
    let is_observer = |node: &usize| cluster.is_up(*node) && !subjects.contains(node);
    let observers = (0..cluster.len()).filter(is_observer).count();
    let mut known: Vec<Vec<f64>> = vec![Vec::new(); subjects.len()];
    while known.iter().any(|by| by.len() < observers) && cluster.now().since(begin) < limit {
        cluster.run_for(interval);
        let transitions = &cluster.transitions()[mark..];
        let when = |subject: &usize| {
            let learnt = first_transitions(transitions, *subject, to, begin);
            learnt.into_iter().map(|(_, seconds)| seconds).collect()
        };
        known = subjects.iter().map(when).collect();
    }
    let first_and_all = |by: Vec<f64>| {
        let first = by.iter().copied().fold(f64::INFINITY, f64::min);
        match by.len() >= observers {
            true => (first, by.into_iter().fold(0.0, f64::max)),
            false => (first, f64::INFINITY),
        }
    };
    known.into_iter().map(first_and_all).collect()
}

/// First transition of each observer to this state of a member, in seconds from `begin` on.
pub(crate) fn first_transitions(
    transitions: &[Transition],
    subject: usize,
    to: MemberState,
    begin: Time,
) -> Vec<(usize, f64)> {
    let mut learnt: Vec<(usize, f64)> = transitions
        .iter()
        .filter(|it| it.subject as usize == subject && it.to == to && it.at >= begin)
        .map(|it| (it.observer as usize, it.at.since(begin).as_secs_f64()))
        .collect();
    // Each counts once, the first time.
    learnt.sort_by_key(|(observer, _)| *observer);
    learnt.dedup_by_key(|(observer, _)| *observer);
    learnt
}

/// Fails if a rule of safety was broken so far.
pub(crate) fn check_safety(cluster: &Cluster) -> Result<(), SafetyViolation> {
    let failure = cluster.report().failure;
    failure.map_or(Ok(()), |failure| Err(failure.to_string()))
}

pub(crate) const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Time before an experiment: probe rounds run everywhere.
const SETTLE_TIME: Duration = secs(15);
/// In calm all views of ours are right after this at the latest: some members may be held down for
/// flapping, for 16 minutes at most.
const RECOVERY_TIMEOUT: Duration = secs(20 * 60);
/// Seeds of [`Cluster::formed`].
pub(crate) const SEEDS: usize = 3;

#[cfg(test)]
mod tests {
    use rpcnet_swim::ClusterConfig;

    use super::*;
    use crate::detector::Detector;

    #[test]
    fn each_learns_of_a_crash_once() {
        let mut cluster =
            Cluster::formed_with_detector(1, 8, ClusterConfig::lan(), Detector::rpcnet());
        limit_checks(&mut cluster);
        cluster.run_for(secs(5));
        let begin = cluster.now();
        cluster.crash(3);
        assert!(!all_views_full(&cluster));
        cluster.run_for(secs(20));
        assert!(all_views_full(&cluster));
        let learnt = first_transitions(cluster.transitions(), 3, MemberState::Failed, begin);
        let observers: Vec<_> = learnt.iter().map(|(observer, _)| *observer).collect();
        assert_eq!(observers, [0, 1, 2, 4, 5, 6, 7]);
        assert!(
            learnt
                .iter()
                .all(|(_, seconds)| (0.5..20.0).contains(seconds))
        );
    }
}
