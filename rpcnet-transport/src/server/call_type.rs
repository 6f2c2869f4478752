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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_a_request_name_its_call_type() {
        for (streams_requests, streams_replies, text) in [
            (false, false, "unary"),
            (true, false, "client-streaming"),
            (false, true, "server-streaming"),
            (true, true, "bidirectional streaming"),
        ] {
            let flags = RequestFlags {
                streams_requests,
                streams_replies,
                idempotent: true,
            };
            assert_eq!(CallType::from(flags).to_string(), text);
        }
    }
}
