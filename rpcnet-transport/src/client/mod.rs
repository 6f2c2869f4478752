//! Client side: one connection to one node, and the calls on it.

mod agreements;
mod call_error;
mod call_in_layers;
mod call_limits;
mod call_on_lane;
mod call_on_stream;
mod calls;
mod close_reason;
mod connection_shared;
mod connection_task;
mod early_call;
mod early_data;
mod early_handshake;
mod events;
mod idempotency_keys;
mod lanes;
mod method_options;
mod min_rate;
mod options;
pub(crate) mod reply;
mod rpc_client;
mod sent_call;
mod typed;
mod typed_calls;
mod typed_channel;
mod typed_streams;
mod typed_unary;
mod upload;

pub use self::{
    close_reason::CloseReason,
    events::ConnectionEvent,
    idempotency_keys::IdempotencyKeys,
    options::CallOptions,
    rpc_client::{RpcClient, WeakRpcClient},
    sent_call::{SentCall, SmallCall, SmallCallMethod},
    typed_calls::{EncodedReply, EncodedRequest},
    typed_streams::OpenedStream,
    upload::Upload,
};
pub(crate) use self::{
    connection_task::DRAINING_INTERVAL_MIN,
    lanes::LANE_METHODS_MAX,
    min_rate::{MinRateReader, MinReplyRate},
    typed::{decode_as as decode_reply, encode_error},
    typed_calls::native_encoding,
};
