//! Impact of a fault: members held failed, transitions, and traffic.

use rpcnet_swim::{MemberState, Time};
use rpcnet_swim_sim::SimReport;
use serde::Serialize;
use xtask_report::median;

use crate::detector::Cluster;

/// Counts from a moment on.
#[derive(Debug)]
pub(crate) struct ImpactMeter {
    begin: Time,
    before: SimReport,
    transitions: usize,
}

/// Impact in one run.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct FaultImpact {
    pub(crate) false_failed_healthy: u64,
    pub(crate) false_failed_healthy_at_healthy: u64,
    pub(crate) failed_faulty: u64,
    /// Failures and returns, in a healthy member's view of a faulty one, on average.
    pub(crate) transitions_per_faulty: f64,
    pub(crate) suspicions: u64,
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    /// Members times seconds.
    pub(crate) node_seconds: f64,
}

/// Medians over the runs. Members are healthy or faulty by what the scenario does to them.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct FaultImpactFigures {
    /// Failures held of healthy members, in all views.
    pub(crate) false_failed_healthy: f64,
    /// Failures of healthy members in the views of healthy members.
    pub(crate) false_failed_healthy_at_healthy: f64,
    /// Failures of healthy members in all views of all runs, not a median.
    pub(crate) false_failed_healthy_of_all_seeds: u64,
    /// Failures held of faulty members, in all views.
    pub(crate) failed_faulty: f64,
    pub(crate) transitions_per_faulty: f64,
    /// Suspicions in all views.
    pub(crate) suspicions: f64,
    pub(crate) sent_per_node_s: f64,
    pub(crate) sent_bytes_per_node_s: f64,
}

impl ImpactMeter {
    pub(crate) fn new(cluster: &Cluster) -> Self {
        Self {
            begin: cluster.now(),
            before: cluster.report(),
            transitions: cluster.transitions().len(),
        }
    }

    /// Impact since the meter was made; `faulty` marks the faulty members.
    pub(crate) fn read(&self, cluster: &Cluster, faulty: &[bool]) -> FaultImpact {
        let after = cluster.report();
        let faulty_count = faulty.iter().filter(|it| **it).count();
        let mut impact = FaultImpact {
            suspicions: after.suspicions - self.before.suspicions,
            messages: after.sent - self.before.sent,
            bytes: after.sent_bytes - self.before.sent_bytes,
            node_seconds: cluster.now().since(self.begin).as_secs_f64() * faulty.len() as f64,
            ..FaultImpact::default()
        };
        let mut transitions = 0;
        for transition in &cluster.transitions()[self.transitions..] {
            let observer_faulty = faulty[transition.observer as usize];
            let subject_faulty = faulty[transition.subject as usize];
            let failed = transition.to == MemberState::Failed;
            impact.false_failed_healthy += u64::from(failed && !subject_faulty);
            impact.false_failed_healthy_at_healthy +=
                u64::from(failed && !subject_faulty && !observer_faulty);
            impact.failed_faulty += u64::from(failed && subject_faulty);
            transitions += u64::from(subject_faulty && !observer_faulty);
        }
        let pairs = faulty_count * (faulty.len() - faulty_count);
        impact.transitions_per_faulty = transitions as f64 / pairs.max(1) as f64;
        impact
    }
}

impl FaultImpactFigures {
    pub(crate) fn of<'a>(impacts: impl Iterator<Item = &'a FaultImpact> + Clone) -> Self {
        let of = |figure: fn(&FaultImpact) -> f64| {
            median(impacts.clone().map(figure).collect()).unwrap_or_default()
        };
        Self {
            false_failed_healthy: of(|it| it.false_failed_healthy as f64),
            false_failed_healthy_at_healthy: of(|it| it.false_failed_healthy_at_healthy as f64),
            false_failed_healthy_of_all_seeds: impacts
                .clone()
                .map(|it| it.false_failed_healthy)
                .sum(),
            failed_faulty: of(|it| it.failed_faulty as f64),
            transitions_per_faulty: of(|it| it.transitions_per_faulty),
            suspicions: of(|it| it.suspicions as f64),
            sent_per_node_s: of(|it| it.messages as f64 / it.node_seconds),
            sent_bytes_per_node_s: of(|it| it.bytes as f64 / it.node_seconds),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rpcnet_swim::ClusterConfig;

    use super::*;
    use crate::detector::Detector;

    #[test]
    fn a_blocked_member_holds_others_failed_and_is_held_failed() {
        // Without the witness, so that there is something to count.
        let (config, swim) = (ClusterConfig::lan(), Detector::swim());
        let mut cluster = Cluster::formed_with_detector(1, 8, config, swim);
        cluster.run_for(Duration::from_secs(5));
        let meter = ImpactMeter::new(&cluster);
        cluster.block(2);
        cluster.run_for(Duration::from_secs(30));
        let mut faulty = vec![false; 8];
        faulty[2] = true;
        let impact = meter.read(&cluster, &faulty);
        assert_eq!(
            impact.failed_faulty, 7,
            "each of the others holds it failed"
        );
        assert_eq!(impact.false_failed_healthy, 7, "and it all of them");
        assert_eq!(impact.false_failed_healthy_at_healthy, 0);
        assert_eq!(impact.transitions_per_faulty, 1.0);
        assert!(impact.messages > 8 * 30 && impact.bytes > 28 * impact.messages);
        assert_eq!(impact.node_seconds, 240.0);
        // A second meter counts from its own beginning.
        let none = ImpactMeter::new(&cluster).read(&cluster, &faulty);
        assert_eq!(none, FaultImpact::default());
    }

    #[test]
    fn figures_are_medians_but_for_the_sum() {
        let impact = |failed| FaultImpact {
            false_failed_healthy: failed,
            messages: 100 * failed,
            node_seconds: 50.0,
            ..FaultImpact::default()
        };
        let impacts = [impact(1), impact(9), impact(2)];
        let figures = FaultImpactFigures::of(impacts.iter());
        assert_eq!(figures.false_failed_healthy, 2.0);
        assert_eq!(figures.false_failed_healthy_of_all_seeds, 12);
        assert_eq!(figures.sent_per_node_s, 4.0);
    }
}
