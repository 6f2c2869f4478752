//! Scenarios, a file each; the fault scenarios share one.

mod bootstrap;
mod churn;
mod crash;
mod faults;
mod lifeguard;
mod partition;
mod restart;
mod scale;
mod split_brain;
mod steady;

use crate::scenario::Scenario;

/// The scenarios with members, by name.
pub(crate) static ALL: [&Scenario; 14] = [
    &bootstrap::BOOTSTRAP,
    &churn::CHURN,
    &crash::CRASH,
    &faults::FLIPFLOP,
    &faults::HALF_BLOCKED,
    &lifeguard::LIFEGUARD,
    &faults::LOSS,
    &faults::ONE_WAY,
    &partition::PARTITION,
    &restart::RESTART,
    &scale::SCALE,
    &faults::SLOW,
    &faults::STALL,
    &steady::STEADY,
];
