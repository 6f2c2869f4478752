//! Scenarios, a file each; the fault scenarios are data in one file.

mod bootstrap;
mod churn;
mod crash;
pub(crate) mod faults;
mod lifeguard;
mod partition;
mod restart;
mod scale;
mod split_brain;
mod steady;

pub(crate) use bootstrap::Bootstrap;
pub(crate) use churn::Churn;
pub(crate) use crash::Crash;
pub(crate) use lifeguard::Lifeguard;
pub(crate) use partition::Partition;
pub(crate) use restart::Restart;
pub(crate) use scale::Scale;
pub(crate) use steady::Steady;
