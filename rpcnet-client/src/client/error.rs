//! Why a call to a worker did not end with a reply.

use std::{error::Error as StdError, fmt, net::SocketAddr, time::Duration};

use rpcnet_registry::{NodeId, SelectError};
use rpcnet_transport::{CodecError, ConnectError, Processed, RpcError};
use serde::de::DeserializeOwned;
use thiserror::Error;

use super::retry::is_unreadable;

/// Why a call to a worker did not end with a reply, after all attempts that were safe to make.
///
/// [`attempts`](Self::attempts) says who was tried and what came of it, [`processed`](Self::processed) whether the request
/// may have had an effect.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// No worker can be selected. Nothing was sent. Worth another try when the cluster has changed,
    /// unless the filter is wrong.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// The request does not encode. The caller's fault; nothing was sent, and it will not encode another time.
    #[error("cannot encode the request")]
    Encode(#[source] CodecError),
    /// No connection could be made to the worker tried last. The fault of that node or of the way to it; nothing was
    /// processed, so the call may be made again, later.
    #[error("cannot connect to a worker{}", history(attempts, *gave_up))]
    Connect {
        /// Why not, at the last attempt.
        #[source]
        error: ConnectError,
        /// Every attempt, in order.
        attempts: Vec<Attempt>,
        /// Why no other one followed.
        gave_up: GaveUp,
    },
    /// A worker answered with an error, or the connection to it broke. Whose fault it is and
    /// whether the request was processed is in the error.
    ///
    /// It is the error of the last attempt, with one exception: if a worker could not read the
    /// request (`invalid request`) and the last attempt failed for a reason that may pass, it is
    /// that of the worker that could not read it.
    #[error("the call to a worker failed{}", history(attempts, *gave_up))]
    Rpc {
        /// What the attempt ended with.
        #[source]
        error: RpcError,
        /// Every attempt, in order.
        attempts: Vec<Attempt>,
        /// Why no other one followed.
        gave_up: GaveUp,
    },
    /// Deadline exceeded, the one over all attempts. [`processed`](Self::processed) says whether
    /// the request may have run.
    #[error("deadline exceeded{}", history(attempts, GaveUp::Final))]
    DeadlineExceeded {
        /// Every attempt, in order; none if the deadline was exceeded before the first.
        attempts: Vec<Attempt>,
    },
    /// The worker's reply is no value of the type asked for. Caller and worker disagree on the method; it did run.
    #[error("malformed response: cannot decode the reply of {node}")]
    Decode {
        /// The node that replied.
        node: NodeId,
        /// What is wrong.
        #[source]
        error: CodecError,
    },
}

/// Why a call was not tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GaveUp {
    /// The error is not retryable: the handler has answered, or the request may have been processed
    /// and must not be repeated.
    Final,
    /// There were as many attempts [as there may be](super::ClusterClientConfig::with_attempts_max).
    AttemptsMax,
    /// The [budget](super::ClusterClientConfig::with_retry_budget) was empty.
    Budget,
    /// The deadline was exceeded, or would have been before the next attempt.
    Deadline,
    /// The worker asked [not to](rpcnet_transport::Status::do_not_retry).
    Forbidden,
    /// No worker was left that might serve the call soon.
    NobodyLeft,
}

/// Why an attempt was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AttemptReason {
    /// It was the first.
    First,
    /// The one before had failed.
    Retry {
        /// For how long it was waited, so as not to come back too soon; zero for another worker.
        after: Duration,
    },
    /// The one before took long; see [`Hedging`](super::Hedging).
    Hedge,
}

/// One attempt of a call, which has failed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Attempt {
    /// The node that was tried.
    pub node: NodeId,
    /// Where: the address that was dialled.
    pub addr: SocketAddr,
    /// Why.
    pub reason: AttemptReason,
    /// How long it took.
    pub took: Duration,
    /// What it ended with. When no connection could be made, its source is a [`ConnectError`].
    pub error: RpcError,
}

impl ClusterError {
    /// Every attempt, in order. Empty if no worker could be selected.
    pub fn attempts(&self) -> &[Attempt] {
        match self {
            Self::Connect { attempts, .. }
            | Self::Rpc { attempts, .. }
            | Self::DeadlineExceeded { attempts } => attempts,
            Self::Select(_) | Self::Encode(_) | Self::Decode { .. } => &[],
        }
    }

    /// Why the call was not tried again.
    pub fn gave_up(&self) -> GaveUp {
        match self {
            Self::Connect { gave_up, .. } | Self::Rpc { gave_up, .. } => *gave_up,
            Self::DeadlineExceeded { .. } => GaveUp::Deadline,
            Self::Select(_) => GaveUp::NobodyLeft,
            Self::Encode(_) | Self::Decode { .. } => GaveUp::Final,
        }
    }

    /// The node that the error is of: as a rule the one that was tried last.
    pub fn node(&self) -> Option<&NodeId> {
        match self {
            Self::Decode { node, .. } => Some(node),
            Self::Rpc {
                error, attempts, ..
            } if is_unreadable(error) => {
                let mut attempts = attempts.iter().rev();
                let attempt = attempts.find(|attempt| is_unreadable(&attempt.error));
                attempt.map(|attempt| &attempt.node)
            }
            other => other.attempts().last().map(|attempt| &attempt.node),
        }
    }

    /// The error of the call to the worker, if that is what the call ended with: its code, its
    /// message and what the handler sent along.
    pub fn rpc(&self) -> Option<&RpcError> {
        match self {
            Self::Rpc { error, .. } => Some(error),
            _ => None,
        }
    }

    /// The handler's own error, which it gave to [`Status::app`](rpcnet_transport::Status::app).
    /// `None` if the call ended in another way, or if what the handler sent is no `E`.
    pub fn app<E: DeserializeOwned>(&self) -> Option<E> {
        self.rpc()?.app()
    }

    /// Whether a handler has seen the request, all attempts taken together.
    pub fn processed(&self) -> Processed {
        match self {
            Self::Decode { .. } => Processed::Yes,
            other => {
                let attempts = other.attempts().iter();
                attempts.fold(Processed::No, |worst, attempt| {
                    match (worst, attempt.error.processed()) {
                        (Processed::Yes, _) | (_, Processed::Yes) => Processed::Yes,
                        (Processed::Maybe, _) | (_, Processed::Maybe) => Processed::Maybe,
                        _ => Processed::No,
                    }
                })
            }
        }
    }

    /// Whether the same call may be made again later, whatever it does, and may succeed then: nothing was processed, and
    /// the reason lies with the cluster.
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

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {} ({}, ", self.node, self.addr, self.reason)?;
        // More would not be read.
        let micros = self.took.as_micros();
        write!(f, "{:?}): ", Duration::from_micros(micros as u64))?;
        match self.error.message() {
            "" => write!(f, "{}", self.error.code()),
            message => write!(f, "{}: {message}", self.error.code()),
        }
    }
}

impl Attempt {
    /// Why there was no connection, if that was it.
    pub fn connect_error(&self) -> Option<&ConnectError> {
        self.error.source()?.downcast_ref()
    }
}

impl fmt::Display for AttemptReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::First => f.write_str("first"),
            Self::Retry { after } if after.is_zero() => f.write_str("retry"),
            Self::Retry { after } => write!(f, "retry after {after:?}"),
            Self::Hedge => f.write_str("hedge"),
        }
    }
}

impl fmt::Display for GaveUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Final => "not retryable",
            Self::AttemptsMax => "the limit of attempts is reached",
            Self::Budget => "the retry budget is exhausted",
            Self::Deadline => "the deadline leaves no time for another attempt",
            Self::Forbidden => "the worker forbids a retry",
            Self::NobodyLeft => "no other worker is available",
        })
    }
}

fn history(attempts: &[Attempt], gave_up: GaveUp) -> String {
    let told: Vec<_> = attempts.iter().map(Attempt::to_string).collect();
    let mut history = match told.len() {
        0 => String::new(),
        1 => format!(": {}", told[0]),
        many => format!(", tried {many} times: {}", told.join("; ")),
    };
    if gave_up != GaveUp::Final {
        history.push_str(&format!("; {gave_up}"));
    }
    history
}
