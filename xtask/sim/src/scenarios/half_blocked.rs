//! Sockets of which one direction hangs.

use rpcnet_swim::sim::{Cluster, Half};
use serde::Serialize;

use crate::{
    affliction::{Afflicted, Affliction, HEALTHY_KILLED, Shown, TRANSITIONS},
    check::Check,
    scenario::{self, Cell, Extent},
    stage::secs,
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

impl Affliction for HalfBlocked {
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

    fn faulty(&self, case: &Case) -> usize {
        case.half_blocked
    }

    fn act(&self, case: &Case, cluster: &mut Cluster, faulty: &[usize]) {
        let half = match case.direction_left {
            "send" => Half::SendOnly,
            _ => Half::ReceiveOnly,
        };
        faulty
            .iter()
            .for_each(|node| cluster.half_block(*node, half));
        cluster.run_for(secs(case.seconds));
    }

    fn checks(&self, cell: &Cell<Afflicted<Self>>) -> Vec<Check> {
        vec![cell.nobody_healthy_failed()]
    }

    fn shown(&self) -> Vec<Shown> {
        vec![HEALTHY_KILLED, TRANSITIONS]
    }
}

impl scenario::Case for Case {
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
