//! Streams of a call, as its handler gets them.

use std::sync::Arc;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::handler_run::ReplyStream;
use crate::{
    endpoint::EndpointShared,
    server::{admission::YieldingPermits, caller::Caller},
    stream::{HandlerSide, RecvHalf, SendHalf, SenderContext, UntypedReceiver, UntypedSender},
};

/// Builder of the streams of a call, for its handler.
pub(super) struct HandlerStreams<'a> {
    pub(super) shared: &'a EndpointShared,
    pub(super) caller: &'a Caller,
    pub(super) deadline: Option<Instant>,
    pub(super) token: &'a CancellationToken,
    pub(super) permits: Option<&'a YieldingPermits>,
}

impl HandlerStreams<'_> {
    /// The requests for the handler, if they are a stream; otherwise the half stays here.
    pub(super) fn requests(
        &self,
        recv: RecvHalf,
        is_stream: bool,
    ) -> (Option<UntypedReceiver>, Option<RecvHalf>) {
        if !is_stream {
            return (None, Some(recv));
        }
        let counters = Arc::clone(&self.shared.counters);
        let runtime = self.shared.runtime.clone();
        let (peer, yielding) = (self.caller.peer.clone(), self.permits.cloned());
        let requests = UntypedReceiver::for_handler(recv, runtime, peer, counters, yielding);
        (Some(requests), None)
    }

    /// The sender for the handler, if the replies are a stream, and where the final reply is sent.
    pub(super) fn replies(
        &self,
        send: SendHalf,
        is_stream: bool,
    ) -> (Option<UntypedSender>, ReplyStream) {
        if !is_stream {
            return (None, ReplyStream::Owned(send));
        }
        let account = &self.caller.account.peer;
        let call = HandlerSide {
            cancelled: self.token.clone(),
            counters: Arc::clone(&self.shared.counters),
            permits: self.permits.cloned(),
            account: Arc::clone(account),
            stall_timer: self.caller.replies.stall_timer().clone(),
        };
        let context = SenderContext {
            runtime: self.shared.runtime.clone(),
            peer: self.caller.peer.clone(),
            message_bytes_max: self.shared.config.message_bytes_max,
            deadline: self.deadline,
        };
        let (replies, returned) = UntypedSender::for_handler(send, context, call);
        (Some(replies), ReplyStream::WithHandler(returned))
    }
}
