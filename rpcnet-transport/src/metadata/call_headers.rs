//! Headers of a call: its metadata and its trace context, and their encoding.

use bytes::{BufMut, Bytes, BytesMut};

use super::{Metadata, MetadataError, TRACE_CONTEXT_BYTES, TraceContext};
use crate::wire::{HeaderFlags, decode_headers};

/// Headers of a request or a reply. Most calls have none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CallHeaders {
    pub(crate) metadata: Metadata,
    pub(crate) trace: Option<TraceContext>,
    /// The caller reads metadata of the reply.
    pub(crate) wants_reply_metadata: bool,
}

impl CallHeaders {
    /// Headers of a reply.
    pub(crate) fn of_reply(metadata: Metadata) -> Self {
        Self {
            metadata,
            ..Self::default()
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds metadata, whose values go before those of the same keys.
    ///
    /// Both together may be more than is permitted, which the call finds.
    pub(crate) fn merge_metadata(&mut self, metadata: Metadata) {
        self.metadata = self.metadata.merged(&metadata);
    }

    /// Flags of the frame that carries the headers.
    pub(crate) fn flags(&self) -> HeaderFlags {
        HeaderFlags {
            has_trace: self.trace.is_some(),
            wants_reply_metadata: self.wants_reply_metadata,
        }
    }

    /// Bytes of the frame that carries the headers, without its fixed part.
    pub(crate) fn encoded_len(&self) -> usize {
        self.metadata.encoded_len() + self.trace.map_or(0, |_| TRACE_CONTEXT_BYTES)
    }

    /// Appends the bytes that follow the fixed part of the frame.
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        if let Some(trace) = self.trace {
            out.put_slice(&trace.encode());
        }
        out.put_slice(self.metadata.as_bytes());
    }

    /// Decodes the headers that another node has sent.
    pub(crate) fn decode(flags: HeaderFlags, bytes: Bytes) -> Result<Self, MetadataError> {
        let (trace, metadata) = decode_headers(flags, bytes)?;
        Ok(Self {
            metadata,
            trace,
            wants_reply_metadata: flags.wants_reply_metadata,
        })
    }
}
