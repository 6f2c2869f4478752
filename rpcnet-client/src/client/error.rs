//! Errors of calls to workers: every attempt, whose fault, whether to retry.

use std::{error::Error as StdError, fmt, net::SocketAddr, time::Duration};

use rpcnet_balance::retry::{AttemptReason, StopReason};
use rpcnet_registry::{NodeId, SelectError};
use rpcnet_transport::{Code, CodecError, ConnectError, Processed, RpcError, Status};
use serde::de::DeserializeOwned;

/// Error of a call to a worker, after all attempts that were safe to make.
///
/// [`attempts`](Self::attempts) has the worker and the error of every attempt,
/// [`processed`](Self::processed) says whether the request may have had an effect. The text names
/// every attempt and its error; [`source`](StdError::source) is what the text does not say, so a
/// chain of errors says each thing once.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ClusterError {
    /// No worker can be selected. Nothing was sent. Worth another try when the cluster has changed,
    /// unless the filter is wrong.
    Select(SelectError),
    /// The request does not encode. The caller's fault; nothing was sent, and it will not encode
    /// another time.
    Encode(CodecError),
    /// No connection could be made to the worker tried last. The fault of that node or of the
    /// network; nothing was processed, so the call may be made again, later.
    Connect {
        /// Error of the last attempt.
        error: ConnectError,
        /// Every attempt, in order.
        attempts: Vec<Attempt>,
        /// Why no other attempt followed.
        stop_reason: StopReason,
    },
    /// A worker answered with an error, or the connection to it broke. Whose fault it is and
    /// whether the request was processed is in the error.
    ///
    /// It is the error of the last attempt, unless an earlier one shows that the request is to
    /// blame and the last one failed for a transient reason: that a worker could not read it
    /// (`invalid request`), or did not know the method or its types (`unimplemented`,
    /// `incompatible`) while no connection could be made to another worker.
    Rpc {
        /// Error of the attempt.
        error: RpcError,
        /// Every attempt, in order.
        attempts: Vec<Attempt>,
        /// Why no other attempt followed.
        stop_reason: StopReason,
    },
    /// Deadline exceeded, the one over all attempts. [`processed`](Self::processed) says whether
    /// the request may have run.
    DeadlineExceeded {
        /// Every attempt, in order; none if the deadline was exceeded before the first.
        attempts: Vec<Attempt>,
    },
    /// Malformed response: the reply is no value of the type asked for. Caller and worker disagree
    /// on the method; it did run.
    Decode {
        /// The node that replied.
        node: NodeId,
        /// Error of the decoder.
        error: CodecError,
    },
}

/// One attempt of a call, which has failed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Attempt {
    /// The node that was tried.
    pub node: NodeId,
    /// The address that was tried.
    pub addr: SocketAddr,
    /// Why the attempt was made.
    pub reason: AttemptReason,
    /// Duration of the attempt.
    pub took: Duration,
    /// Error of the attempt. When no connection could be made, its source is a [`ConnectError`].
    pub error: RpcError,
}

impl ClusterError {
    /// Every attempt, in order. Empty if no worker could be selected.
    #[must_use]
    pub fn attempts(&self) -> &[Attempt] {
        match self {
            Self::Connect { attempts, .. }
            | Self::Rpc { attempts, .. }
            | Self::DeadlineExceeded { attempts } => attempts,
            Self::Select(_) | Self::Encode(_) | Self::Decode { .. } => &[],
        }
    }

    /// Why the call was not tried again.
    #[must_use]
    pub fn stop_reason(&self) -> StopReason {
        match self {
            Self::Connect { stop_reason, .. } | Self::Rpc { stop_reason, .. } => *stop_reason,
            Self::DeadlineExceeded { .. } => StopReason::Deadline,
            Self::Select(_) => StopReason::NoEndpointLeft,
            Self::Encode(_) | Self::Decode { .. } => StopReason::NotRetryable,
        }
    }

    /// The node of the error: as a rule the one that was tried last.
    #[must_use]
    pub fn node(&self) -> Option<&NodeId> {
        match self {
            Self::Decode { node, .. } => Some(node),
            Self::Rpc {
                error, attempts, ..
            } => {
                let mut attempts = attempts.iter().rev();
                let attempt = attempts.find(|attempt| attempt.error.code() == error.code());
                attempt.map(|attempt| &attempt.node)
            }
            other => other.attempts().last().map(|attempt| &attempt.node),
        }
    }

    /// The error of the call to the worker, if that is what the call ended with: its code, its
    /// message and what the handler sent along.
    #[must_use]
    pub fn rpc(&self) -> Option<&RpcError> {
        match self {
            Self::Rpc { error, .. } => Some(error),
            _ => None,
        }
    }

    /// The handler's own error, which it gave to [`Status::app`](rpcnet_transport::Status::app).
    /// `None` if the call ended in another way, or if what the handler sent is no `E`.
    #[must_use]
    pub fn app<E: DeserializeOwned>(&self) -> Option<E> {
        self.rpc()?.app()
    }

    /// Whether a handler has seen the request, all attempts taken together.
    #[must_use]
    pub fn processed(&self) -> Processed {
        match self {
            Self::Decode { .. } => Processed::Yes,
            other => {
                let attempts = other.attempts().iter();
                let processed = attempts.map(|attempt| attempt.error.processed());
                processed.max().unwrap_or(Processed::No)
            }
        }
    }

    /// Whether the same call may be made again later, whatever it does, and may succeed then:
    /// nothing was processed, and the reason lies with the cluster. So too if no worker knows the
    /// method ([`Code::Unimplemented`]): one that joins later may.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.processed() == Processed::No
            && match self {
                Self::Select(error) => error.is_retryable(),
                Self::Rpc { error, .. } => error.is_retryable(),
                Self::Connect { error, .. } => error.is_retryable(),
                Self::DeadlineExceeded { .. } => true,
                Self::Encode(_) | Self::Decode { .. } => false,
            }
    }
}

impl fmt::Display for ClusterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Select(error) => fmt::Display::fmt(error, f),
            Self::Encode(_) => f.write_str("cannot encode the request"),
            Self::Connect { .. } => self.fmt_attempts(f, "cannot connect to a worker"),
            Self::Rpc { .. } => self.fmt_attempts(f, "the call to a worker failed"),
            Self::DeadlineExceeded { attempts } if attempts.is_empty() => {
                f.write_str("deadline exceeded before a worker was called")
            }
            Self::DeadlineExceeded { .. } => self.fmt_attempts(f, "deadline exceeded"),
            Self::Decode { node, .. } => {
                write!(f, "malformed response: cannot decode the reply of {node}")
            }
        }
    }
}

impl ClusterError {
    /// Writes what has failed, every attempt, and why no other followed unless that is clear.
    fn fmt_attempts(&self, f: &mut fmt::Formatter<'_>, head: &str) -> fmt::Result {
        f.write_str(head)?;
        let attempts = self.attempts();
        match attempts.len() {
            0 => {}
            1 => f.write_str(": ")?,
            many => write!(f, ", tried {many} times: ")?,
        }
        let is_late = matches!(self, Self::DeadlineExceeded { .. });
        for (index, attempt) in attempts.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            if is_late {
                attempt.fmt_after_deadline(f)?;
            } else {
                write!(f, "{attempt}")?;
            }
        }
        match self.stop_reason() {
            StopReason::NotRetryable if self.processed() == Processed::Maybe => {
                f.write_str("; not retryable: the request may have been processed")
            }
            StopReason::NotRetryable => Ok(()),
            StopReason::Deadline if is_late => Ok(()),
            StopReason::NoEndpointLeft => f.write_str("; no other worker is available"),
            stop_reason => write!(f, "; {stop_reason}"),
        }
    }
}

impl StdError for ClusterError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Select(error) => error.source(),
            Self::Encode(error) | Self::Decode { error, .. } => Some(error),
            Self::Connect {
                error, attempts, ..
            } => unprinted_source(error, attempts),
            Self::Rpc {
                error, attempts, ..
            } => unprinted_source(error, attempts),
            Self::DeadlineExceeded { .. } => None,
        }
    }
}

impl From<SelectError> for ClusterError {
    fn from(error: SelectError) -> Self {
        Self::Select(error)
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_head(f)?;
        f.write_str(": ")?;
        // Without the peer, which is the node.
        Status::new(self.error.code(), self.error.message()).fmt(f)
    }
}

impl Attempt {
    /// Error of connecting, if the attempt failed there.
    #[must_use]
    pub fn connect_error(&self) -> Option<&ConnectError> {
        self.error.connect_error()
    }

    /// Worker, reason and duration.
    fn fmt_head(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let took = self.shown_time();
        write!(
            f,
            "{} at {} ({}, {took:?})",
            self.node, self.addr, self.reason
        )
    }

    /// Duration as it is shown: more digits would not be read.
    pub(super) fn shown_time(&self) -> Duration {
        Duration::from_micros(self.took.as_micros() as u64)
    }

    /// The attempt after "deadline exceeded", which it does not repeat.
    fn fmt_after_deadline(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.error.code();
        if code != Code::DeadlineExceeded {
            return fmt::Display::fmt(self, f);
        }
        self.fmt_head(f)?;
        let told = Status::new(code, self.error.message()).to_string();
        let rest = told.strip_prefix("deadline exceeded").unwrap_or(&told);
        match rest.trim_start_matches([' ', ':']) {
            "" => Ok(()),
            rest => write!(f, ": {rest}"),
        }
    }
}

/// First cause of the error of an attempt that [`Display`](fmt::Display) does not print.
fn unprinted_source<'a>(
    error: &'a (dyn StdError + 'static),
    attempts: &[Attempt],
) -> Option<&'a (dyn StdError + 'static)> {
    if attempts.is_empty() {
        return Some(error);
    }
    let printed = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source.filter(|cause| printed.contains(&cause.to_string())) {
        source = cause.source();
    }
    source
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(error: RpcError) -> Attempt {
        Attempt {
            node: NodeId::new("w1", 1),
            addr: ([10, 0, 0, 1], 7000).into(),
            reason: AttemptReason::First,
            took: Duration::from_millis(3),
            error,
        }
    }

    fn rpc(code: Code, message: &str) -> RpcError {
        RpcError::new(code, Processed::No, message)
    }

    /// The texts of an error and of its sources, as reporters of errors print them.
    fn chain(error: &ClusterError) -> Vec<String> {
        let first = Some(error as &(dyn StdError + 'static));
        let all = std::iter::successors(first, |&error| error.source());
        all.map(|error| error.to_string()).collect()
    }

    fn failed(error: RpcError) -> ClusterError {
        ClusterError::Rpc {
            attempts: vec![attempt(error.clone())],
            error,
            stop_reason: StopReason::AttemptLimit,
        }
    }

    #[test]
    fn an_attempt_says_its_code_once() {
        let of = |code, message| attempt(rpc(code, message)).to_string();
        let head = "w1 at 10.0.0.1:7000 (first, 3ms)";
        for (message, told) in [
            ("deadline exceeded before the reply arrived", None),
            ("", Some("deadline exceeded")),
            ("too late", Some("deadline exceeded: too late")),
        ] {
            let told = format!("{head}: {}", told.unwrap_or(message));
            assert_eq!(of(Code::DeadlineExceeded, message), told);
        }
        assert_eq!(
            of(Code::Overloaded, "9 calls wait"),
            format!("{head}: overloaded: 9 calls wait")
        );
    }

    #[test]
    fn a_chain_of_errors_says_each_thing_once() {
        let head = "w1 at 10.0.0.1:7000 (first, 3ms)";
        let rejected = failed(rpc(Code::Overloaded, "9 calls wait"));
        assert_eq!(
            chain(&rejected),
            [format!(
                "the call to a worker failed: {head}: overloaded: 9 calls wait; \
                 the limit of attempts is reached"
            )]
        );
        // What the text says already is left out, what is behind it is not.
        let refused = ConnectError::Refused {
            addr: ([10, 0, 0, 1], 7000).into(),
            reason: "no".into(),
        };
        let connect = ClusterError::Connect {
            attempts: vec![attempt(refused.clone().into())],
            error: refused.clone(),
            stop_reason: StopReason::NoEndpointLeft,
        };
        assert_eq!(chain(&connect).len(), 1, "{:?}", chain(&connect));
        assert!(chain(&connect)[0].contains("connection refused by 10.0.0.1:7000: no"));
        assert_eq!(chain(&failed(refused.into())).len(), 1);
        let cause = std::io::Error::other("out of paper");
        let broken = failed(rpc(Code::Internal, "malformed response").with_source(cause));
        let told = chain(&broken);
        assert_eq!((told.len(), &*told[1]), (2, "out of paper"));
        // Without a history the error itself is the source.
        let bare = ClusterError::Rpc {
            error: rpc(Code::App, "no such customer"),
            attempts: Vec::new(),
            stop_reason: StopReason::NotRetryable,
        };
        let told = [
            "the call to a worker failed",
            "application error: no such customer",
        ];
        assert_eq!(chain(&bare), told);
    }

    #[test]
    fn a_deadline_is_said_once() {
        let late = |message| ClusterError::DeadlineExceeded {
            attempts: vec![
                attempt(rpc(Code::Overloaded, "9 calls wait")),
                attempt(rpc(Code::DeadlineExceeded, message)),
            ],
        };
        let head = "w1 at 10.0.0.1:7000 (first, 3ms)";
        let first = format!("deadline exceeded, tried 2 times: {head}: overloaded: 9 calls wait");
        for (message, rest) in [
            (
                "deadline exceeded before the reply arrived",
                ": before the reply arrived",
            ),
            ("deadline exceeded", ""),
            ("", ""),
            ("too late", ": too late"),
        ] {
            assert_eq!(chain(&late(message)), [format!("{first}; {head}{rest}")]);
        }
        let none = ClusterError::DeadlineExceeded {
            attempts: Vec::new(),
        };
        assert_eq!(
            chain(&none),
            ["deadline exceeded before a worker was called"]
        );
    }

    #[test]
    fn a_call_that_may_have_been_processed_says_why_it_was_not_retried() {
        let end = |processed| {
            let error = RpcError::new(Code::Unavailable, processed, "connection lost");
            let error = ClusterError::Rpc {
                attempts: vec![attempt(error.clone())],
                error,
                stop_reason: StopReason::NotRetryable,
            };
            let text = error.to_string();
            let (_, end) = text.split_once("connection lost").expect("the error");
            end.to_owned()
        };
        let why = "; not retryable: the request may have been processed";
        assert_eq!(end(Processed::Maybe), why);
        // The handler's answer is final, which needs no words.
        assert_eq!(end(Processed::Yes), "");
        assert_eq!(end(Processed::No), "");
    }

    #[test]
    fn a_call_whose_deadline_was_exceeded_before_it_ran_may_be_made_again() {
        let message = "deadline exceeded before the request was sent";
        for processed in [Processed::No, Processed::Maybe, Processed::Yes] {
            let error = RpcError::new(Code::DeadlineExceeded, processed, message);
            let expected = processed == Processed::No;
            assert_eq!(error.is_retryable(), expected);
            assert_eq!(error.is_retryable_if_idempotent(), expected);
            assert_eq!(failed(error.clone()).is_retryable(), expected);
            let late = ClusterError::DeadlineExceeded {
                attempts: vec![attempt(error)],
            };
            assert_eq!(late.is_retryable(), expected);
        }
    }

    #[test]
    fn an_attempt_escapes_control_characters() {
        let attempt = attempt(rpc(Code::Internal, "done\nERROR \u{1b}[31mforged"));
        let shown = "internal error: done\\nERROR \\u{1b}[31mforged";
        assert!(attempt.to_string().ends_with(shown), "{attempt}");
    }
}
