//! Sockets of which one direction hangs.

use rpcnet_swim::sim::OpenDirection;
use serde::Serialize;

use crate::{
    check::Check,
    cluster_setup::secs,
    detector::Cluster,
    fault_scenario::{FALSE_FAILURES, FaultScenario, FigurePanel, InjectFault, TRANSITIONS},
    scenario::{self, Cell, Extent},
};

/// Some can send and not receive, or the reverse. They should be held failed, and nobody else.
#[derive(Debug)]
pub(crate) struct HalfBlocked;

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Case {
    #[serde(skip)]
    nodes: usize,
    half_blocked: usize,
    direction_left: &'static str,
    seconds: u64,
}

impl FaultScenario for HalfBlocked {
    type Case = Case;

    const NAME: &'static str = "half-blocked";
    const TITLE: &'static str = "sockets of which one direction hangs";

    fn cases(&self, extent: Extent) -> Vec<Case> {
        let case = |(half_blocked, direction_left): &(usize, &'static str)| Case {
            nodes: 128,
            half_blocked: *half_blocked,
            direction_left,
            seconds: extent.pick(60, 150),
        };
        let all: &[_] = extent.pick(
            &[(4, "send"), (4, "receive")],
            &[(4, "send"), (4, "receive"), (32, "send"), (32, "receive")],
        );
        all.iter().map(case).collect()
    }

    fn faulty_count(&self, case: &Case) -> usize {
        case.half_blocked
    }

    fn inject(&self, case: &Case, cluster: &mut Cluster, faulty: &[usize]) {
        let half = match case.direction_left {
            "send" => OpenDirection::SendOnly,
            _ => OpenDirection::ReceiveOnly,
        };
        faulty
            .iter()
            .for_each(|node| cluster.half_block(*node, half));
        cluster.run_for(secs(case.seconds));
    }

    fn checks(&self, cell: &Cell<InjectFault<Self>>) -> Vec<Check> {
        vec![cell.no_false_failures()]
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
            half_blocked,
            direction_left,
            ..
        } = self;
        format!("{half_blocked} of {nodes} can only {direction_left}")
    }
}
