//! Streams of messages, in both directions of a call.

mod half;
mod rate;
mod receiver;
mod sender;
mod stall_timer;
mod write_turns;

pub(crate) use self::{
    half::{ReadFailure, RecvHalf, ResetCode, SendHalf, WriteFailure, reset_to_error},
    rate::{MinRateTracker, time_at_rate},
    receiver::{OutgoingCall, UntypedReceiver},
    sender::{
        IncomingCall, ReturnedHalf, SendAbort, UntypedSender, encode_call_head, message_too_large,
    },
    stall_timer::{Progress, StallTimer, Stalled, within_transfer_time},
    write_turns::WriteTurns,
};
pub use self::{receiver::Receiver, sender::Sender};
