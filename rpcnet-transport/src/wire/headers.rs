//! Headers of a call: a trace context and metadata.

use bytes::Bytes;

use super::HeaderFlags;
use crate::{Metadata, MetadataError, TraceContext, metadata::TRACE_CONTEXT_BYTES};

/// Decodes the bytes that follow the fixed part of headers.
///
/// # Errors
///
/// [`MetadataError`] if they are no trace context or no metadata.
pub fn decode_headers(
    flags: HeaderFlags,
    mut bytes: Bytes,
) -> Result<(Option<TraceContext>, Metadata), MetadataError> {
    let mut trace = None;
    if flags.has_trace {
        let encoded = bytes.first_chunk::<TRACE_CONTEXT_BYTES>();
        trace = Some(TraceContext::decode(
            *encoded.ok_or(MetadataError::Truncated)?,
        )?);
        bytes = bytes.split_off(TRACE_CONTEXT_BYTES);
    }
    Ok((trace, Metadata::decode(bytes)?))
}
