//! Calls with streams of their own, from the request to the reply.

mod admit;
mod handler_end;
mod handler_run;
mod handler_streams;
mod run;

use std::{pin::pin, sync::Arc};

use tokio::time::Instant;

use self::admit::{AdmittedCall, RejectedCall};
use super::{
    caller::Caller,
    handshake_state::HandshakeState,
    read_request::{RequestFailure, read_header},
    send_reply::send_reply,
};
use crate::{
    endpoint::EndpointShared,
    stream::{RecvHalf, ResetCode, SendHalf},
};

/// Serves the call of one stream, from the first bytes after its preface to the acknowledgement of
/// its last byte.
pub(super) async fn serve(
    shared: Arc<EndpointShared>,
    caller: Arc<Caller>,
    (send, mut recv): (SendHalf, RecvHalf),
    arrived: Instant,
    early: Option<HandshakeState>,
) {
    let request = read_header(&shared, &mut recv, arrived).await;
    let request = match &early {
        Some(handshake) => {
            request.and_then(|request| handshake.check_replay_safe(&shared, request))
        }
        None => request,
    };
    let request = match request {
        Ok(request) => request,
        Err(why) => {
            let rejected = RejectedCall { why, headers: None };
            return reject(&shared, &caller, send, recv, rejected).await;
        }
    };
    // Before the check whether the server drains: a shutdown either sees this call or is seen by
    // it.
    let (_unacknowledged, _) = shared.served.unacknowledged.enter();
    match AdmittedCall::admit(&shared, &caller, &send, &mut recv, request).await {
        Ok(call) => call.run(&shared, &caller, send, recv).await,
        Err(rejected) => reject(&shared, &caller, send, recv, rejected).await,
    }
}

/// Ends a call that reaches no handler.
async fn reject(
    shared: &EndpointShared,
    caller: &Caller,
    mut send: SendHalf,
    mut recv: RecvHalf,
    RejectedCall { why, headers }: RejectedCall,
) {
    match why {
        RequestFailure::Reset(why) => {
            recv.stop(why);
            send.reset(why);
        }
        RequestFailure::Rejected(status) => {
            let stopped = pin!(send.stopped());
            let sending = caller.replies.begin(None, None);
            let reply = (Err(status), headers);
            send_reply(shared, sending, &mut send, stopped, reply).await;
            // Only now: a caller that is told to stop sending looks for its reply at once.
            recv.stop(ResetCode::Cancelled);
        }
    }
}
