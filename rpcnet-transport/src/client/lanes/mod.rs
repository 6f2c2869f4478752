//! Lanes: streams that many small calls share, client side.

mod call_table;
mod fresh_replies;
mod lane;
mod lane_call;
mod lane_choice;
mod lane_set;
mod lane_task;
mod method_numbers;
mod reopen_backoff;

pub(crate) use self::method_numbers::LANE_METHODS_MAX;
pub(super) use self::{
    lane::{LaneCallRequest, NotStarted},
    lane_call::{LaneCall, LaneCallOutcome, StartedCall},
    lane_set::{LaneLimits, Lanes},
};
