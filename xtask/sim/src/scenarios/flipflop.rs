//! Some hear nothing for a while, hear again, hear nothing again.

use serde::Serialize;

use crate::{
    check::Check,
    cluster_setup::secs,
    detector::Cluster,
    fault_scenario::{FALSE_FAILURES, FaultScenario, FigurePanel, InjectFault, TRANSITIONS},
    scenario::{self, Cell, Extent},
};

/// Suresh et al. 2018 (Rapid), section 7: 1 % of members lose all that comes in for 20 s, then
/// nothing for 20 s. They should be held failed and stay so, and nobody else.
#[derive(Debug)]
pub(crate) struct Flipflop;

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Case {
    #[serde(skip)]
    nodes: usize,
    faulty: usize,
    deaf_s: u64,
    hearing_s: u64,
    seconds: u64,
}

impl FaultScenario for Flipflop {
    type Case = Case;

    const NAME: &'static str = "flipflop";
    const TITLE: &'static str = "some hear nothing for 20 s, then all for 20 s, and so on";

    fn cases(&self, extent: Extent) -> Vec<Case> {
        let case = |faulty: &usize| Case {
            nodes: 128,
            faulty: *faulty,
            deaf_s: 20,
            hearing_s: 20,
            seconds: extent.pick(160, 600),
        };
        let all: &[_] = extent.pick(&[2], &[2, 12]);
        all.iter().map(case).collect()
    }

    fn faulty_count(&self, case: &Case) -> usize {
        case.faulty
    }

    fn inject(&self, case: &Case, cluster: &mut Cluster, faulty: &[usize]) {
        let mut hear = |loss: f64, seconds: u64| {
            for node in faulty {
                cluster.network().set_ingress_loss(*node, loss);
            }
            cluster.run_for(secs(seconds));
        };
        for _ in 0..case.seconds / (case.deaf_s + case.hearing_s) {
            hear(1.0, case.deaf_s);
            hear(0.0, case.hearing_s);
        }
    }

    fn checks(&self, cell: &Cell<InjectFault<Self>>) -> Vec<Check> {
        vec![cell.no_false_failures(), cell.few_transitions(3.0)]
    }

    fn figure_panels(&self) -> Vec<FigurePanel> {
        vec![FALSE_FAILURES, TRANSITIONS]
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
        format!("{} of {} for {} s", self.faulty, self.nodes, self.seconds)
    }
}
