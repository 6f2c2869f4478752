//! Calls of services by a server, and the statuses of those that fail.

use std::{error::Error as StdError, future::poll_fn};

use bytes::Bytes;
use tower_service::Service;

use super::{CallReply, ServerRequest, server_request::HandlerProgress};
use crate::{CallContext, Processed, RpcError, Status};

pub(super) type BoxError = Box<dyn StdError + Send + Sync>;

/// Failure of a service.
pub(super) struct ServiceFailure {
    status: Status,
    /// `false` if it did not become ready.
    was_called: bool,
}

/// Waits until the service is ready, and calls it.
pub(super) async fn call_when_ready<S>(
    mut service: S,
    request: ServerRequest,
) -> Result<CallReply, ServiceFailure>
where
    S: Service<ServerRequest, Response: Into<CallReply>, Error: Into<BoxError>>,
{
    let ready = poll_fn(|task| service.poll_ready(task)).await;
    ready.map_err(|error| ServiceFailure::new(error, false))?;
    let reply = service.call(request).await;
    let reply = reply.map_err(|error| ServiceFailure::new(error, true))?;
    Ok(reply.into())
}

/// The body of a reply, whose metadata goes to the context of its call.
pub(super) fn into_body(reply: CallReply, cx: &CallContext) -> Bytes {
    let (body, metadata) = reply.into_parts();
    if !metadata.is_empty() {
        cx.set_reply_metadata(metadata);
    }
    body
}

impl ServiceFailure {
    fn new(error: impl Into<BoxError>, was_called: bool) -> Self {
        Self {
            status: status_of(error.into()),
            was_called,
        }
    }

    /// Status of a service that serves a method.
    pub(super) fn into_status(self) -> Status {
        match self.was_called {
            true => self.status,
            false => self.status.not_processed(),
        }
    }

    /// Status of a layer around a handler. Whatever a layer says, the request was not processed if
    /// its handler has not started, and may have been if the handler was stopped.
    pub(super) fn into_status_around(self, handler: HandlerProgress) -> Status {
        match handler {
            HandlerProgress::NotStarted => self.status.not_processed(),
            HandlerProgress::Unfinished => self.status.with_processed(Processed::Maybe),
            HandlerProgress::Returned => self.status,
        }
    }
}

/// The status that an error is or was caused by, or that of the call that has failed with it.
/// Otherwise the service has failed, and may have processed the request.
fn status_of(error: BoxError) -> Status {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(&*error);
    while let Some(known) = cause {
        if let Some(status) = known.downcast_ref::<Status>() {
            return status.clone();
        }
        if let Some(error) = known.downcast_ref::<RpcError>() {
            return error.clone().into();
        }
        cause = known.source();
    }
    Status::internal(error.to_string()).with_processed(Processed::Maybe)
}

#[cfg(test)]
mod tests {
    use std::{io, time::Duration};

    use super::*;
    use crate::Code;

    #[derive(Debug, thiserror::Error)]
    #[error("it failed")]
    struct Outer(#[source] BoxError);

    #[test]
    fn a_status_is_found_among_the_causes() {
        let status = Status::overloaded("full").with_retry_after(Duration::from_secs(1));
        assert_eq!(status_of(status.clone().into()), status);
        assert_eq!(status_of(Outer(status.clone().into()).into()), status);
        let error = RpcError::new(Code::Unavailable, Processed::No, "gone");
        let converted = status_of(Outer(error.into()).into());
        assert_eq!(converted, Status::new(Code::Unavailable, "gone"));
    }

    #[test]
    fn other_errors_are_internal_and_may_have_been_processed() {
        let status = status_of(Outer(io::Error::other("disk").into()).into());
        assert_eq!(
            (status.code(), status.message()),
            (Code::Internal, "it failed")
        );
        assert_eq!(status.processed, Processed::Maybe);
    }

    #[test]
    fn the_handler_decides_whether_a_request_was_processed() {
        let processed = |status: Status, progress| {
            let failure = ServiceFailure::new(status, true);
            failure.into_status_around(progress).processed
        };
        let answer = || Status::internal("failed");
        let rejection = || Status::overloaded("full");
        use HandlerProgress::{NotStarted, Returned, Unfinished};
        assert_eq!(processed(answer(), NotStarted), Processed::No);
        assert_eq!(processed(rejection(), Unfinished), Processed::Maybe);
        assert_eq!(processed(answer(), Returned), Processed::Yes);
        assert_eq!(processed(rejection(), Returned), Processed::No);
    }
}
