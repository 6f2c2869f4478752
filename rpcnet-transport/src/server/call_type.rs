//! Call type: in which directions a call or a method streams.

use std::fmt;

use crate::wire::RequestFlags;

/// Directions in which a call streams, by the names of gRPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallType {
    Unary,
    ClientStreaming,
    ServerStreaming,
    BidirectionalStreaming,
}

impl From<RequestFlags> for CallType {
    fn from(flags: RequestFlags) -> Self {
        match (flags.streams_requests, flags.streams_replies) {
            (false, false) => Self::Unary,
            (true, false) => Self::ClientStreaming,
            (false, true) => Self::ServerStreaming,
            (true, true) => Self::BidirectionalStreaming,
        }
    }
}

impl fmt::Display for CallType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unary => "unary",
            Self::ClientStreaming => "client-streaming",
            Self::ServerStreaming => "server-streaming",
            Self::BidirectionalStreaming => "bidirectional streaming",
        })
    }
}
