//! What happens to clusters, a file each.

mod bootstrap;
mod churn;
mod crash;
mod flipflop;
mod half_blocked;
mod lifeguard;
mod loss;
mod one_way;
mod partition;
mod restart;
mod scale;
mod slow;
mod split_brain;
mod stall;
mod steady;

pub(crate) use bootstrap::Bootstrap;
pub(crate) use churn::Churn;
pub(crate) use crash::Crash;
pub(crate) use flipflop::Flipflop;
pub(crate) use half_blocked::HalfBlocked;
pub(crate) use lifeguard::Lifeguard;
pub(crate) use loss::Loss;
pub(crate) use one_way::OneWay;
pub(crate) use partition::Partition;
pub(crate) use restart::Restart;
pub(crate) use scale::Scale;
pub(crate) use slow::Slow;
pub(crate) use stall::Stall;
pub(crate) use steady::Steady;
