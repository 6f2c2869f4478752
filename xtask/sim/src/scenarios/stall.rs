//! Processes stop for a while, as in a pause for garbage or on a busy machine.

use rpcnet_swim::sim::Link;
use serde::Serialize;

use crate::{
    check::Check,
    cluster_setup::secs,
    detector::Cluster,
    fault_scenario::{FaultScenario, InjectFault},
    scenario::{self, Cell, Extent},
};

/// Those that are stalled may well be held failed meanwhile; when they go on they must not
/// hold the others failed for what they missed.
#[derive(Debug)]
pub(crate) struct Stall;

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Case {
    #[serde(skip)]
    nodes: usize,
    stalled: usize,
    stalled_s: u64,
    loss_percent: f64,
}

impl FaultScenario for Stall {
    type Case = Case;

    const NAME: &'static str = "stall";
    const TITLE: &'static str = "processes stop for a while";

    fn cases(&self, extent: Extent) -> Vec<Case> {
        let case = |(stalled, stalled_s, loss_percent): &(usize, u64, f64)| Case {
            nodes: 128,
            stalled: *stalled,
            stalled_s: *stalled_s,
            loss_percent: *loss_percent,
        };
        let all: &[_] = extent.pick(
            &[(16, 30, 20.0)],
            &[(16, 2, 0.0), (16, 30, 0.0), (16, 30, 20.0), (64, 30, 0.0)],
        );
        all.iter().map(case).collect()
    }

    fn faulty_count(&self, case: &Case) -> usize {
        case.stalled
    }

    fn inject(&self, case: &Case, cluster: &mut Cluster, faulty: &[usize]) {
        cluster.network().default = Link::lan().with_loss(case.loss_percent / 100.0);
        cluster.run_for(secs(5));
        faulty.iter().for_each(|node| cluster.stall(*node));
        cluster.run_for(secs(case.stalled_s));
        faulty.iter().for_each(|node| cluster.resume(*node));
        // What they make of it shows now.
        cluster.run_for(secs(60));
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
        (65.0 + self.stalled_s as f64) * (1.0 + self.loss_percent / 5.0)
    }

    fn label(&self) -> String {
        let Self {
            stalled,
            stalled_s,
            loss_percent,
            nodes,
        } = self;
        format!("{stalled} of {nodes} for {stalled_s} s, {loss_percent} % lost")
    }
}
