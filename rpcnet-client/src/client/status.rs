//! Conversion of a cluster error into the status of a handler.

use rpcnet_registry::SelectError;
use rpcnet_transport::{Code, Status};

use super::ClusterError;

/// A handler that calls on may end with `?`: its caller learns what the worker answered, or else
/// why there was no answer and who was tried, but not to retry, since the handler itself did run. A
/// handler that did nothing else says so with [`Status::not_processed`].
impl From<ClusterError> for Status {
    fn from(error: ClusterError) -> Self {
        let code = match error {
            ClusterError::Rpc { error, .. } => return error.into(),
            // A mistake of the handler.
            ClusterError::Select(SelectError::InvalidFilter(_)) => Code::Internal,
            ClusterError::Select(_) | ClusterError::Connect { .. } => Code::Unavailable,
            ClusterError::DeadlineExceeded { .. } => Code::DeadlineExceeded,
            _ => Code::Internal,
        };
        Self::new(code, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use rpcnet_transport::{Processed, RpcError};

    use super::{super::StopReason, *};

    #[test]
    fn an_answer_is_passed_on_and_other_errors_get_a_code() {
        let answer = ClusterError::Rpc {
            error: RpcError::new(Code::App, Processed::Yes, "no such customer"),
            attempts: Vec::new(),
            stop_reason: StopReason::NotRetryable,
        };
        let no_match = ClusterError::Select(SelectError::NoMatch {
            filter: "role=worker".into(),
        });
        let late = ClusterError::DeadlineExceeded {
            attempts: Vec::new(),
        };
        let malformed = "role==(".parse::<rpcnet_registry::Filter>();
        let malformed = SelectError::InvalidFilter(malformed.expect_err("no filter"));
        let table = [
            (ClusterError::Select(malformed), Code::Internal, "role==("),
            (answer, Code::App, "no such customer"),
            (no_match, Code::Unavailable, "role=worker"),
            (late, Code::DeadlineExceeded, "deadline"),
        ];
        for (error, code, part) in table {
            let status = Status::from(error);
            assert_eq!(status.code(), code, "{status}");
            assert!(status.message().contains(part), "{status}");
        }
    }
}
