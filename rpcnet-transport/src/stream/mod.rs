//! Messages one after the other, in both directions of a call.

mod half;
mod patience;
mod receiver;
mod sender;
mod turns;

pub(crate) use self::{
    half::{Cut, ReadFailure, RecvHalf, SendHalf, WriteFailure, cut_to_error},
    patience::{LeastRate, Patience, Progress, Stalled, time_of, within_transfer_time},
    receiver::{MadeCall, RecvCore},
    sender::{GivenBack, SendCore, SenderCut, ServedCall, begin_call, too_large},
    turns::Turns,
};
pub use self::{receiver::Receiver, sender::Sender};
