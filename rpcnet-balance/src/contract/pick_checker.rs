//! Checks of a single pick.

use super::violation::{ContractRule, ContractViolation};
use crate::{Balancer, PickContext, View};

/// Checks single picks.
#[derive(Clone, Copy)]
pub(super) struct PickChecker {
    pub(super) seed: u64,
}

impl PickChecker {
    /// Picks, and checks every rule that holds for a single pick.
    pub(super) fn checked_pick(
        self,
        balancer: &dyn Balancer,
        view: &View,
        cx: &PickContext<'_>,
    ) -> Result<Option<usize>, ContractViolation> {
        let possible = view.endpoints().iter().any(|endpoint| cx.allows(endpoint));
        let picked = balancer.pick(view, cx);
        let of = view.len();
        match picked {
            Some(index) if index >= of => {
                self.violation(ContractRule::InRange, format!("picked {index} of {of}"))
            }
            Some(index) if !possible => self.violation(
                ContractRule::NothingToPick,
                format!("picked {index} of {of} though none was allowed"),
            ),
            Some(index) if !cx.allows(&view[index]) => self.violation(
                ContractRule::Exclusion,
                format!(
                    "picked {index} of {of}, which is excluded or flagged, though others are not"
                ),
            ),
            None if possible => self.violation(
                ContractRule::AlwaysPicks,
                format!("picked none of {of} with {:?} excluded", cx.excluded()),
            ),
            _ => Ok(picked),
        }
    }

    pub(super) fn check_idle(self, view: &View) -> Result<(), ContractViolation> {
        match view
            .endpoints()
            .iter()
            .find(|endpoint| endpoint.in_flight() != 0)
        {
            None => Ok(()),
            Some(endpoint) => self.violation(
                ContractRule::InFlight,
                format!(
                    "{} calls in flight after all have ended",
                    endpoint.in_flight()
                ),
            ),
        }
    }

    pub(super) fn violation<T>(
        self,
        rule: ContractRule,
        detail: String,
    ) -> Result<T, ContractViolation> {
        Err(ContractViolation {
            rule,
            seed: self.seed,
            detail,
        })
    }
}
