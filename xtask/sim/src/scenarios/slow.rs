//! Processes take their time for each message, as on an overloaded machine.

use std::time::Duration;

use serde::Serialize;

use crate::{
    check::Check,
    cluster_setup::secs,
    detector::Cluster,
    fault_scenario::{FaultScenario, InjectFault},
    scenario::{self, Cell, Extent},
};

/// Their queues grow until what they hear is long past: then they must not hold the others
/// failed.
#[derive(Debug)]
pub(crate) struct Slow;

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Case {
    #[serde(skip)]
    nodes: usize,
    slow: usize,
    per_message_ms: u64,
    seconds: u64,
}

impl FaultScenario for Slow {
    type Case = Case;

    const NAME: &'static str = "slow";
    const TITLE: &'static str = "processes take their time for each message";

    fn cases(&self, extent: Extent) -> Vec<Case> {
        let case = |(slow, per_message_ms): &(usize, u64)| Case {
            nodes: 128,
            slow: *slow,
            per_message_ms: *per_message_ms,
            seconds: extent.pick(60, 150),
        };
        let all: &[_] = extent.pick(&[(8, 250)], &[(8, 25), (8, 100), (8, 250), (32, 250)]);
        all.iter().map(case).collect()
    }

    fn faulty_count(&self, case: &Case) -> usize {
        case.slow
    }

    fn inject(&self, case: &Case, cluster: &mut Cluster, faulty: &[usize]) {
        let per_message = Duration::from_millis(case.per_message_ms);
        faulty
            .iter()
            .for_each(|node| cluster.slow(*node, per_message));
        cluster.run_for(secs(case.seconds));
    }

    fn checks(&self, cell: &Cell<InjectFault<Self>>) -> Vec<Check> {
        vec![cell.no_false_failures()]
    }
}

impl scenario::ScenarioCase for Case {
    fn nodes(&self) -> usize {
        self.nodes
    }

    fn seconds(&self) -> f64 {
        self.seconds as f64
    }

    fn label(&self) -> String {
        let Self {
            nodes,
            slow,
            per_message_ms,
            ..
        } = self;
        format!("{slow} of {nodes} at {per_message_ms} ms a message")
    }
}
