//! Every link loses some of what is sent.

use rpcnet_swim::sim::Link;
use serde::Serialize;

use crate::{
    check::Check,
    cluster_setup::secs,
    detector::Cluster,
    fault_scenario::{FALSE_FAILURES, FaultScenario, FigurePanel, InjectFault, SENT_BYTES},
    scenario::{self, Cell, Extent, ScenarioCase as _},
};

/// Nobody is faulty: whoever is held failed is so wrongly.
#[derive(Debug)]
pub(crate) struct Loss;

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Case {
    #[serde(skip)]
    nodes: usize,
    loss_percent: f64,
    seconds: u64,
}

impl FaultScenario for Loss {
    type Case = Case;

    const NAME: &'static str = "loss";
    const TITLE: &'static str = "every link loses some of what is sent";

    fn cases(&self, extent: Extent) -> Vec<Case> {
        let losses: &[f64] = extent.pick(&[10.0, 30.0], &[10.0, 30.0, 50.0]);
        let seconds = extent.pick(60, 300);
        let case = |loss_percent: &f64| Case {
            nodes: 128,
            loss_percent: *loss_percent,
            seconds,
        };
        losses.iter().map(case).collect()
    }

    fn faulty_count(&self, _: &Case) -> usize {
        0
    }

    fn inject(&self, case: &Case, cluster: &mut Cluster, _: &[usize]) {
        cluster.network().default = Link::lan().with_loss(case.loss_percent / 100.0);
        cluster.run_for(secs(case.seconds));
    }

    fn checks(&self, cell: &Cell<InjectFault<Self>>) -> Vec<Check> {
        let mut checks = vec![cell.no_false_failures()];
        if cell.row.case.loss_percent == 30.0 {
            let bytes = cell.row.figures.impact.sent_bytes_per_node_s;
            let what = format!("{}: bytes sent a node", cell.row.case.label());
            checks.push(Check::new(what, bytes / 1e3, 10.0, "KB/s"));
        }
        checks
    }

    fn figure_panels(&self) -> Vec<FigurePanel> {
        vec![FALSE_FAILURES, SENT_BYTES]
    }
}

impl scenario::ScenarioCase for Case {
    fn nodes(&self) -> usize {
        self.nodes
    }

    fn seconds(&self) -> f64 {
        (self.seconds as f64) * (1.0 + self.loss_percent / 5.0)
    }

    fn label(&self) -> String {
        format!("{} % lost", self.loss_percent)
    }
}
