//! What a trouble costs: who was held failed by whom, and what was sent.

use rpcnet_swim::{
    MemberState, Time,
    sim::{Cluster, Report},
};
use serde::Serialize;
use xtask_report::median;

/// Counts from a moment on.
#[derive(Debug)]
pub(crate) struct Meter {
    begin: Time,
    before: Report,
    transitions: usize,
}

/// What it counted in one run.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Toll {
    pub(crate) false_failed_healthy: u64,
    pub(crate) false_failed_healthy_at_healthy: u64,
    pub(crate) failed_faulty: u64,
    /// Failures and returns, in a healthy member's view of a faulty one, on average.
    pub(crate) transitions_per_faulty: f64,
    pub(crate) suspicions: u64,
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    /// Members times seconds.
    node_seconds: f64,
}

/// Medians over the runs. Members are healthy or faulty by what the scenario does to them.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct TollFigures {
    /// Failures held of healthy members, in all views.
    pub(crate) false_failed_healthy: f64,
    /// Those in the views of healthy members.
    pub(crate) false_failed_healthy_at_healthy: f64,
    /// Those in all views of all runs, not a median.
    pub(crate) false_failed_healthy_of_all_seeds: u64,
    /// Failures held of faulty members, in all views.
    pub(crate) failed_faulty: f64,
    pub(crate) transitions_per_faulty: f64,
    /// In all views.
    pub(crate) suspicions: f64,
    pub(crate) sent_per_node_s: f64,
    pub(crate) sent_bytes_per_node_s: f64,
}

impl Meter {
    pub(crate) fn new(cluster: &Cluster) -> Self {
        Self {
            begin: cluster.now(),
            before: cluster.report(),
            transitions: cluster.transitions().len(),
        }
    }

    /// What there was since, if `faulty` says who was faulty.
    pub(crate) fn read(&self, cluster: &Cluster, faulty: &[bool]) -> Toll {
        let after = cluster.report();
        let faulty_count = faulty.iter().filter(|it| **it).count();
        let mut toll = Toll {
            suspicions: after.suspicions - self.before.suspicions,
            messages: after.sent - self.before.sent,
            bytes: after.sent_bytes - self.before.sent_bytes,
            node_seconds: cluster.now().since(self.begin).as_secs_f64() * faulty.len() as f64,
            ..Toll::default()
        };
        let mut transitions = 0;
        for transition in &cluster.transitions()[self.transitions..] {
            let observer_faulty = faulty[transition.observer as usize];
            let subject_faulty = faulty[transition.subject as usize];
            let failed = transition.to == MemberState::Failed;
            toll.false_failed_healthy += u64::from(failed && !subject_faulty);
            toll.false_failed_healthy_at_healthy +=
                u64::from(failed && !subject_faulty && !observer_faulty);
            toll.failed_faulty += u64::from(failed && subject_faulty);
            transitions += u64::from(subject_faulty && !observer_faulty);
        }
        let pairs = faulty_count * (faulty.len() - faulty_count);
        toll.transitions_per_faulty = transitions as f64 / pairs.max(1) as f64;
        toll
    }
}

impl TollFigures {
    pub(crate) fn of<'a>(tolls: impl Iterator<Item = &'a Toll> + Clone) -> Self {
        let of = |figure: fn(&Toll) -> f64| {
            median(tolls.clone().map(figure).collect()).unwrap_or_default()
        };
        Self {
            false_failed_healthy: of(|it| it.false_failed_healthy as f64),
            false_failed_healthy_at_healthy: of(|it| it.false_failed_healthy_at_healthy as f64),
            false_failed_healthy_of_all_seeds: tolls
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
