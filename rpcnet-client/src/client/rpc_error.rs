//! Conversion of a cluster error into the error of a typed call.

use rpcnet_registry::SelectError;
use rpcnet_transport::{Code, Processed, RpcError};

use super::{Attempt, ClusterError};

impl ClusterError {
    /// The cluster error behind the error of a typed call over a
    /// [`WorkerChannel`](super::WorkerChannel): every attempt, and why no other followed.
    ///
    /// `None` for errors of other channels, and for errors of streams that were opened: they come
    /// from one worker, which is the [peer](RpcError::peer).
    #[must_use]
    pub fn of(error: &RpcError) -> Option<&Self> {
        std::error::Error::source(error)?.downcast_ref()
    }

    /// The error as an [`RpcError`] with this code, whose source it is.
    pub(super) fn into_rpc_error(self, code: Code) -> RpcError {
        let message = self.to_string();
        RpcError::new(code, self.processed(), message).with_source(self)
    }
}

/// Typed calls end with an [`RpcError`], whatever they are made over. [`ClusterError::of`] is the
/// way back.
///
/// An answer of the handler is passed on as it is, with its details. The message of any other error
/// ends with the number of attempts, if there were several, and the node of the last one.
/// [`processed`](RpcError::processed) is that of all attempts taken together.
impl From<ClusterError> for RpcError {
    fn from(error: ClusterError) -> Self {
        let last = match &error {
            ClusterError::Rpc { error, .. } => error.clone(),
            // No other node helps.
            ClusterError::Connect { error, .. } if error.is_local() => {
                Self::new(Code::Internal, Processed::No, error.to_string())
            }
            ClusterError::Connect { error, .. } => error.clone().into(),
            ClusterError::DeadlineExceeded { attempts } => {
                let message = match attempts[..] {
                    [] => "deadline exceeded before a worker was called",
                    _ => "deadline exceeded",
                };
                Self::new(Code::DeadlineExceeded, Processed::No, message)
            }
            ClusterError::Select(SelectError::InvalidFilter(error)) => {
                // One line: the picture with the caret is in the text of the source.
                let (filter, told) = (error.expression(), error.to_string());
                let why = told.lines().next().unwrap_or_default();
                let message = format!("malformed tag filter {filter:?}: {why}");
                Self::new(Code::InvalidRequest, Processed::No, message)
            }
            ClusterError::Select(reason) if reason.is_retryable() => {
                return error.into_rpc_error(Code::Unavailable);
            }
            _ => return error.into_rpc_error(Code::Internal),
        };
        let message = match error.attempts() {
            _ if last.processed() == Processed::Yes => None,
            [] => None,
            [_] if last.peer().is_some() => None,
            attempts if last.code() == Code::DeadlineExceeded => {
                Some(format!("{}, {}", last.message(), attempt_times(attempts)))
            }
            [only] => Some(format!("{}, tried on {}", last.message(), only.node)),
            [.., latest] => Some(format!(
                "{}, tried {} times, last on {}",
                last.message(),
                error.attempts().len(),
                latest.node
            )),
        };
        let told = match message {
            Some(message) => last.with_message(message),
            None => last,
        };
        told.with_processed(error.processed()).with_source(error)
    }
}

/// Which worker each attempt was on, and for how long.
fn attempt_times(attempts: &[Attempt]) -> String {
    let mut text = match attempts.len() {
        1 => "tried on ".to_owned(),
        many => format!("tried {many} times: "),
    };
    for (index, attempt) in attempts.iter().enumerate() {
        if index > 0 {
            text.push_str(", ");
        }
        text.push_str(&format!("{} for {:?}", attempt.node, attempt.shown_time()));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rpcnet_balance::retry::{AttemptReason, StopReason};
    use rpcnet_registry::NodeId;
    use rpcnet_transport::{CodecError, CodecErrorKind, ConnectError, Status};

    use super::*;

    fn rpc(code: Code, processed: Processed, message: &str) -> RpcError {
        RpcError::new(code, processed, message)
    }

    fn attempt(node: &str, error: RpcError) -> Attempt {
        Attempt {
            node: NodeId::new(node, 1),
            addr: ([10, 0, 0, 1], 7000).into(),
            reason: AttemptReason::First,
            took: Duration::from_millis(3),
            error,
        }
    }

    fn failed(errors: &[RpcError]) -> ClusterError {
        let attempts = errors.iter().zip(["w1", "w2", "w3"]);
        ClusterError::Rpc {
            error: errors.last().expect("an attempt").clone(),
            attempts: attempts
                .map(|(error, node)| attempt(node, error.clone()))
                .collect(),
            stop_reason: StopReason::NotRetryable,
        }
    }

    #[test]
    fn an_error_tells_the_attempts_and_the_last_node_and_leads_back_to_the_cluster_error() {
        let lost = rpc(Code::Unavailable, Processed::Maybe, "the server shut down");
        let busy = rpc(Code::Overloaded, Processed::No, "9 calls wait");
        let error = RpcError::from(failed(&[lost, busy.clone()]));
        assert_eq!(error.message(), "9 calls wait, tried 2 times, last on w2");
        assert_eq!(error.code(), Code::Overloaded);
        // The first attempt may have run.
        assert_eq!(error.processed(), Processed::Maybe);
        let behind = ClusterError::of(&error).expect("its source");
        assert_eq!(behind.attempts().len(), 2);
        assert!(ClusterError::of(&busy).is_none());
        let once = RpcError::from(failed(&[busy]));
        assert_eq!(once.message(), "9 calls wait, tried on w1");
        assert!(once.is_retryable());
    }

    #[test]
    fn a_deadline_tells_how_long_each_attempt_took() {
        let late = || rpc(Code::DeadlineExceeded, Processed::Maybe, "too late");
        let exceeded = |nodes: &[&str]| {
            let attempts = nodes.iter().map(|node| attempt(node, late())).collect();
            RpcError::from(ClusterError::DeadlineExceeded { attempts })
        };
        for (nodes, message) in [
            (&["w1"][..], "deadline exceeded, tried on w1 for 3ms"),
            (
                &["w1", "w2"],
                "deadline exceeded, tried 2 times: w1 for 3ms, w2 for 3ms",
            ),
        ] {
            let error = exceeded(nodes);
            assert_eq!(error.message(), message);
            assert_eq!(error.processed(), Processed::Maybe);
        }
    }

    #[test]
    fn a_malformed_filter_is_an_invalid_request_that_is_not_retryable() {
        let malformed = "role==(".parse::<rpcnet_registry::Filter>();
        let malformed = malformed.expect_err("no filter");
        let told = ClusterError::Select(SelectError::InvalidFilter(malformed.clone()));
        let error = RpcError::from(told);
        assert_eq!(error.code(), Code::InvalidRequest);
        assert!(!error.is_retryable() && !error.is_retryable_if_idempotent());
        let start = "malformed tag filter \"role==(\": expected ";
        assert!(error.message().starts_with(start), "{error}");
        assert!(!error.message().contains('\n'), "{error}");
        let behind = ClusterError::of(&error).expect("its source").to_string();
        assert_eq!(behind, malformed.to_string());
    }

    #[test]
    fn an_answer_of_the_handler_is_passed_on_with_its_details() {
        let busy = rpc(Code::Overloaded, Processed::No, "9 calls wait");
        let answer = rpc(Code::App, Processed::Yes, "no such customer");
        let error = RpcError::from(failed(&[busy, answer]));
        assert_eq!(error.message(), "no such customer");
        assert_eq!(
            (error.code(), error.processed()),
            (Code::App, Processed::Yes)
        );
        assert_eq!(
            ClusterError::of(&error)
                .expect("its source")
                .attempts()
                .len(),
            2
        );
        assert_eq!(Status::from(error).message(), "no such customer");
    }

    #[test]
    fn an_error_of_each_kind_may_be_retried_as_its_cluster_error_may() {
        use Code::{DeadlineExceeded, Internal, Unavailable};
        let connect = |error: ConnectError| ClusterError::Connect {
            attempts: vec![attempt("w1", error.clone().into())],
            error,
            stop_reason: StopReason::NoEndpointLeft,
        };
        let no_match = SelectError::NoMatch {
            filter: "role=worker".to_owned(),
        };
        let refused = ConnectError::Refused {
            addr: ([10, 0, 0, 1], 7000).into(),
            reason: "full".to_owned(),
        };
        let error = CodecError::new(CodecErrorKind::Encode, "too deep");
        let late = ClusterError::DeadlineExceeded {
            attempts: Vec::new(),
        };
        let undecodable = ClusterError::Decode {
            node: NodeId::new("w1", 1),
            error: error.clone(),
        };
        let not_started = ClusterError::Select(SelectError::NotStarted);
        let closed = connect(ConnectError::EndpointClosed);
        for (error, code, part) in [
            (ClusterError::Select(no_match), Unavailable, "role=worker"),
            (not_started, Internal, "not started"),
            (ClusterError::Encode(error), Internal, "cannot encode"),
            (connect(refused), Unavailable, "full, tried on w1"),
            (closed, Internal, "closed"),
            (late, DeadlineExceeded, "before a worker was called"),
            (undecodable, Internal, "reply of w1"),
        ] {
            let told = RpcError::from(error.clone());
            assert_eq!(told.code(), code, "{told}");
            assert_eq!(told.processed(), error.processed(), "{told}");
            assert_eq!(told.is_retryable(), error.is_retryable(), "{told}");
            assert!(told.message().contains(part), "{told}");
        }
    }
}
