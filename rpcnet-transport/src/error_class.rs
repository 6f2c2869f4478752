//! Classification of call errors: where a retry may go, and whose fault an error is.

use std::error::Error as StdError;

use crate::{
    Code, CodecError, CodecErrorKind, ConnectError, Processed, RpcError, schema::Incompatibility,
};

/// Where the same call may be retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RetryScope {
    /// Nowhere: a retry would fail again, is forbidden, or may run the call twice.
    Nowhere,
    /// On another node. This one will not serve the call soon.
    OtherNode,
    /// On another node at once, and on this one later.
    AnyNode,
}

impl RpcError {
    /// Where the same call may be retried. It goes by what is certain: a request that no handler
    /// has seen may go anywhere, one that a handler may have seen only if the call is `repeatable`,
    /// so that running it twice does no harm. A call whose deadline was exceeded has no time left
    /// for a retry.
    #[must_use]
    pub fn retry_scope(&self, repeatable: bool) -> RetryScope {
        if self.code() == Code::DeadlineExceeded {
            return RetryScope::Nowhere;
        }
        if self.is_retryable() {
            return match self.code() {
                // A rollout: other nodes may be of the newer version already.
                Code::Unimplemented | Code::Incompatible => RetryScope::OtherNode,
                _ => RetryScope::AnyNode,
            };
        }
        if self.is_unreadable() {
            return RetryScope::OtherNode;
        }
        let may_differ = self.is_retryable_if_idempotent()
            || match self.code() {
                // The caller did not cancel: a server that stops cut it. Or its handler panicked:
                // that is no answer.
                Code::Cancelled | Code::Internal => self.processed() != Processed::Yes,
                _ => false,
            };
        match repeatable && may_differ && !self.forbids_retry() && !self.is_local() {
            true => RetryScope::AnyNode,
            false => RetryScope::Nowhere,
        }
    }

    /// Whether the node has the method and could not read the request, which another version of the
    /// node may.
    #[must_use]
    pub fn is_unreadable(&self) -> bool {
        self.code() == Code::InvalidRequest
            && self.processed() == Processed::No
            && !self.forbids_retry()
            && !self.is_local()
    }

    /// Whether the node does not serve the method at all to callers with the types of this one: it
    /// does not know the method, or the types of both do not fit. The same holds for each call of
    /// the method, until the node changes.
    #[must_use]
    pub fn rejects_method(&self) -> bool {
        self.is_retryable()
            && match self.code() {
                Code::Unimplemented => true,
                // Without a source, it is about a value in the request.
                Code::Incompatible => self.source().is_some() && self.not_sent().is_none(),
                _ => false,
            }
    }

    /// Why the types of caller and node do not fit, if that is the error: see
    /// [`MethodSchema::check_compatible`](crate::schema::MethodSchema::check_compatible).
    #[must_use]
    pub fn incompatibility(&self) -> Option<&Incompatibility> {
        self.source()?.downcast_ref()
    }

    /// Whether the node has answered, and this side could not decode the answer.
    #[must_use]
    pub fn is_undecodable(&self) -> bool {
        let source = self.source().and_then(|source| source.downcast_ref());
        source.is_some_and(|codec: &CodecError| codec.kind() != CodecErrorKind::Encode)
    }

    /// Whether the error is about the call, and not about the state of the node or of the
    /// connection.
    #[must_use]
    pub fn is_about_the_call(&self) -> bool {
        !matches!(
            self.code(),
            Code::Overloaded
                | Code::Draining
                | Code::Unavailable
                | Code::DeadlineExceeded
                | Code::Cancelled
                | Code::Internal
                | Code::TooEarly
        )
    }

    /// The error of connecting, if no connection could be made for the call.
    #[must_use]
    pub fn connect_error(&self) -> Option<&ConnectError> {
        self.source()?.downcast_ref()
    }
}

impl ConnectError {
    /// Where a call that needs the connection may be retried: nowhere after a fault of this
    /// process, on another node only if this one will not be reached soon, for example with a
    /// certificate that is not trusted.
    #[must_use]
    pub fn retry_scope(&self) -> RetryScope {
        if self.is_local() {
            RetryScope::Nowhere
        } else if self.is_retryable() {
            RetryScope::AnyNode
        } else {
            RetryScope::OtherNode
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_what_cannot_do_harm_is_retried() {
        use Code::{
            App, Cancelled, DeadlineExceeded, Draining, Incompatible, Internal, InvalidRequest,
            Overloaded, TooEarly, Unavailable, Unimplemented,
        };
        use Processed::{Maybe, No, Yes};
        use RetryScope::{AnyNode, Nowhere, OtherNode};
        let table = [
            (Overloaded, No, AnyNode, AnyNode),
            (Draining, No, AnyNode, AnyNode),
            (Unavailable, No, AnyNode, AnyNode),
            (Unavailable, Maybe, Nowhere, AnyNode),
            (Unimplemented, No, OtherNode, OtherNode),
            (Unimplemented, Yes, Nowhere, Nowhere),
            (Incompatible, No, OtherNode, OtherNode),
            (Incompatible, Yes, Nowhere, Nowhere),
            // A server that stops cuts what still runs.
            (Cancelled, Maybe, Nowhere, AnyNode),
            (Cancelled, Yes, Nowhere, Nowhere),
            // A handler that panicked, and one that said so.
            (Internal, Maybe, Nowhere, AnyNode),
            (Internal, Yes, Nowhere, Nowhere),
            (App, Yes, Nowhere, Nowhere),
            (InvalidRequest, No, OtherNode, OtherNode),
            (InvalidRequest, Yes, Nowhere, Nowhere),
            (DeadlineExceeded, Maybe, Nowhere, Nowhere),
            (DeadlineExceeded, Yes, Nowhere, Nowhere),
            (TooEarly, No, AnyNode, AnyNode),
        ];
        for (code, processed, ordinary, repeatable) in table {
            let error = RpcError::new(code, processed, "");
            assert_eq!(error.retry_scope(false), ordinary, "{error:?}");
            assert_eq!(error.retry_scope(true), repeatable, "{error:?}, repeatable");
            // Nothing is retried if the server says so.
            let error = error.with_retry_after(Duration::MAX);
            assert_eq!(error.retry_scope(true), Nowhere, "{error:?}");
        }
    }

    #[test]
    fn only_an_unprocessed_request_that_may_be_retried_is_unreadable() {
        use Processed::{No, Yes};
        let error = |code, processed| RpcError::new(code, processed, "");
        assert!(error(Code::InvalidRequest, No).is_unreadable());
        assert!(!error(Code::InvalidRequest, Yes).is_unreadable());
        assert!(!error(Code::Unimplemented, No).is_unreadable());
        let forbidden = error(Code::InvalidRequest, No).with_retry_after(Duration::MAX);
        assert!(!forbidden.is_unreadable());
    }

    #[test]
    fn a_node_rejects_a_method_if_it_does_not_know_it_or_its_types_do_not_fit() {
        let error = |code, processed| RpcError::new(code, processed, "");
        let unknown = error(Code::Unimplemented, Processed::No);
        assert!(unknown.rejects_method());
        assert!(!error(Code::Unimplemented, Processed::Yes).rejects_method());
        let of_a_value = error(Code::Incompatible, Processed::No);
        assert!(!of_a_value.rejects_method() && of_a_value.incompatibility().is_none());
        let of_types = of_a_value.with_source(CodecError::new(CodecErrorKind::Decode, ""));
        assert!(of_types.rejects_method());
        let forbidden = of_types.with_retry_after(Duration::MAX);
        assert!(!forbidden.rejects_method());
    }

    #[test]
    fn a_request_that_cannot_be_encoded_is_the_fault_of_this_process() {
        let unsent = RpcError::new(Code::Internal, Processed::No, "");
        assert!(!unsent.is_local());
        for (kind, is_local) in [
            (CodecErrorKind::Encode, true),
            (CodecErrorKind::Decode, false),
        ] {
            let error = unsent.clone().with_source(CodecError::new(kind, ""));
            assert_eq!(error.is_local(), is_local, "{kind:?}");
            let is_retried = error.retry_scope(true) != RetryScope::Nowhere;
            assert_eq!(is_retried, !is_local, "{kind:?}");
        }
    }

    #[test]
    fn only_an_answer_that_did_not_decode_is_undecodable() {
        let error = RpcError::new(Code::Internal, Processed::Yes, "");
        assert!(!error.is_undecodable());
        for (kind, is_undecodable) in [
            (CodecErrorKind::Decode, true),
            (CodecErrorKind::TrailingBytes, true),
            // There was no answer: the request was not sent.
            (CodecErrorKind::Encode, false),
        ] {
            let error = error.clone().with_source(CodecError::new(kind, ""));
            assert_eq!(error.is_undecodable(), is_undecodable, "{kind:?}");
        }
        assert!(
            !error
                .with_source(ConnectError::EndpointClosed)
                .is_undecodable()
        );
    }

    #[test]
    fn errors_of_the_node_or_the_connection_are_not_about_the_call() {
        use Code::{
            App, Cancelled, DeadlineExceeded, Draining, Incompatible, Internal, InvalidRequest,
            Overloaded, PayloadTooLarge, PermissionDenied, TooEarly, Unauthenticated, Unavailable,
            Unimplemented,
        };
        let about_the_call = |code| RpcError::new(code, Processed::No, "").is_about_the_call();
        let of_the_call = [
            App,
            Incompatible,
            InvalidRequest,
            PayloadTooLarge,
            PermissionDenied,
            Unauthenticated,
            Unimplemented,
        ];
        assert_eq!(of_the_call.map(about_the_call), [true; 7]);
        let of_the_node = [
            Cancelled,
            DeadlineExceeded,
            Draining,
            Internal,
            Overloaded,
            TooEarly,
            Unavailable,
        ];
        assert_eq!(of_the_node.map(about_the_call), [false; 7]);
    }

    #[test]
    fn a_connect_error_says_whether_this_node_may_be_tried_again() {
        let addr = ([127, 0, 0, 1], 7000).into();
        let reason = String::new;
        for (error, scope) in [
            (ConnectError::EndpointClosed, RetryScope::Nowhere),
            (
                ConnectError::Untrusted {
                    addr,
                    reason: reason(),
                },
                RetryScope::OtherNode,
            ),
            (
                ConnectError::Refused {
                    addr,
                    reason: reason(),
                },
                RetryScope::AnyNode,
            ),
        ] {
            assert_eq!(error.retry_scope(), scope, "{error}");
            let call = RpcError::from(error);
            assert!(call.connect_error().is_some(), "{call}");
            assert_eq!(
                call.retry_scope(true) == RetryScope::Nowhere,
                call.is_local()
            );
        }
    }
}
