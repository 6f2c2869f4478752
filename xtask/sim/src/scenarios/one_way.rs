//! Some lose most of what comes in, and can send.

use serde::Serialize;

use crate::{
    check::Check,
    cluster_setup::secs,
    detector::Cluster,
    fault_scenario::{FALSE_FAILURES, FaultScenario, FigurePanel, InjectFault, TRANSITIONS},
    scenario::{self, Cell, Extent},
};

/// Suresh et al. 2018 (Rapid), section 7: 1 % of members lose 80 % of what comes in.
#[derive(Debug)]
pub(crate) struct OneWay;

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Case {
    #[serde(skip)]
    nodes: usize,
    faulty: usize,
    ingress_loss_percent: f64,
    seconds: u64,
}

impl FaultScenario for OneWay {
    type Case = Case;

    const NAME: &'static str = "one-way";
    const TITLE: &'static str = "some lose most of what comes in";

    fn cases(&self, extent: Extent) -> Vec<Case> {
        let case = |ingress_loss_percent: &f64| Case {
            nodes: 128,
            faulty: 2,
            ingress_loss_percent: *ingress_loss_percent,
            seconds: extent.pick(160, 600),
        };
        let all: &[_] = extent.pick(&[80.0], &[50.0, 80.0, 95.0, 100.0]);
        all.iter().map(case).collect()
    }

    fn faulty_count(&self, case: &Case) -> usize {
        case.faulty
    }

    fn inject(&self, case: &Case, cluster: &mut Cluster, faulty: &[usize]) {
        for node in faulty {
            let loss = case.ingress_loss_percent / 100.0;
            cluster.network().set_ingress_loss(*node, loss);
        }
        cluster.run_for(secs(case.seconds));
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
        let Self {
            nodes,
            faulty,
            ingress_loss_percent,
            seconds,
        } = self;
        format!("{faulty} of {nodes} lose {ingress_loss_percent} % for {seconds} s")
    }
}
