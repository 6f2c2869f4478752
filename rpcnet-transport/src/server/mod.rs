//! Server: handlers, and what connects them to the network.
//!
//! A connection passes `accept`, which limits handshakes, `authorization`, which decides whether
//! its caller may connect, and `accepted_connection`, which accepts its streams. `stream_dispatch`
//! reads the preface of a stream: it carries one call (`stream_call`) or many (`lane`). Both check
//! a call (`call_checks`), let it pass its gates (`admission`), run its handler, and send its
//! reply.

mod abort_signal;
mod accept;
mod accepted_connection;
mod admission;
mod authorization;
mod call_attachments;
mod call_checks;
mod call_parts;
mod call_properties;
mod call_status;
mod call_type;
mod caller;
mod connection_replies;
mod context;
mod control_stream;
mod detached_call;
mod early_data;
mod handler;
mod handler_future;
mod handler_result;
mod handshake_limiter;
mod handshake_state;
mod idempotency;
mod lane;
mod method_config;
mod method_start;
mod poll_cost;
mod queue_delay;
mod read_request;
mod router;
mod router_layers;
mod router_methods;
mod rpc_server;
mod send_reply;
mod stream_call;
mod stream_dispatch;

pub(crate) use self::{
    accept::{AcceptLimits, serve_connections},
    admission::{AdmissionGate, PeerWait, YieldingPermits},
    call_attachments::CallAttachments,
    call_properties::CallProperties,
    call_status::panicked as handler_panicked,
    handler::LocalInput,
    queue_delay::QueueDelay,
};
pub use self::{
    admission::{Admission, AdmissionState},
    context::CallContext,
    handler_result::{IntoReply, MethodReply, ResultReply, ValueReply},
    idempotency::IdempotencyCache,
    poll_cost::Dispatch,
    router::Router,
    rpc_server::RpcServer,
};
#[cfg(feature = "tower")]
pub(crate) use self::{
    handler_future::{HandlerFuture, StartHandler},
    method_start::HandlerWrapper,
};
