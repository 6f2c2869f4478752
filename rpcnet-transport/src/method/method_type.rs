//! Type of a method: which of its two sides stream.

use std::fmt;

use crate::wire::RequestFlags;

/// Type of a method, as in gRPC: whether its requests and its replies are one message or a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MethodType {
    /// One request, one reply.
    Unary,
    /// A stream of requests, one reply.
    ClientStreaming,
    /// One request, a stream of replies.
    ServerStreaming,
    /// A stream of requests, and a stream of replies.
    BidirectionalStreaming,
}

impl MethodType {
    const ALL: [Self; 4] = [
        Self::Unary,
        Self::ClientStreaming,
        Self::ServerStreaming,
        Self::BidirectionalStreaming,
    ];

    pub(super) const fn new(streams_requests: bool, streams_replies: bool) -> Self {
        match (streams_requests, streams_replies) {
            (false, false) => Self::Unary,
            (true, false) => Self::ClientStreaming,
            (false, true) => Self::ServerStreaming,
            (true, true) => Self::BidirectionalStreaming,
        }
    }

    /// Flags of the requests of such a method.
    pub(crate) fn request_flags(self) -> RequestFlags {
        RequestFlags {
            streams_requests: matches!(self, Self::ClientStreaming | Self::BidirectionalStreaming),
            streams_replies: matches!(self, Self::ServerStreaming | Self::BidirectionalStreaming),
            idempotent: false,
        }
    }

    /// The type with this name, which is that of [`Display`](fmt::Display).
    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Unary => "unary",
            Self::ClientStreaming => "client-streaming",
            Self::ServerStreaming => "server-streaming",
            Self::BidirectionalStreaming => "bidirectional-streaming",
        }
    }
}

impl fmt::Display for MethodType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
