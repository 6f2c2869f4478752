//! Streams of messages, in both directions of a call.

mod item_budget;
mod item_writer;
mod min_rate;
mod receiver;
mod recv_half;
mod reset_code;
mod send_half;
mod sender;
mod stall_timer;
mod untyped_receiver;
mod untyped_sender;
mod write_turns;

pub(crate) use self::{
    min_rate::{MinRateTracker, time_at_rate},
    recv_half::{ReadFailure, RecvHalf},
    reset_code::{ResetCode, reset_to_error},
    send_half::{SendHalf, WriteFailure},
    stall_timer::{Progress, StallTimer, Stalled, within_transfer_time},
    untyped_receiver::{CallerSide, UntypedReceiver},
    untyped_sender::{
        HandlerSide, ReturnedHalf, SendAbort, SenderContext, UntypedSender, encode_call_head,
        message_too_large,
    },
    write_turns::WriteTurns,
};
pub use self::{receiver::Receiver, sender::Sender};
