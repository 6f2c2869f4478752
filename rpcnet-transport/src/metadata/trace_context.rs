//! Trace context of a call: the `traceparent` of W3C Trace Context, in 25 bytes.

use std::{fmt, str::FromStr};

use thiserror::Error;

/// Trace context of a call, the `traceparent` of W3C Trace Context (level 1, section 3.2): which
/// trace the call belongs to, and the span of its caller.
///
/// It is 25 bytes of a request and nothing of a request without one. Its text form is that of the
/// header:
///
/// ```
/// use rpcnet_transport::TraceContext;
///
/// # fn main() -> Result<(), rpcnet_transport::TraceContextError> {
/// let header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// let trace: TraceContext = header.parse()?;
/// assert!(trace.is_sampled());
/// assert_eq!(trace.to_string(), header);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceContext {
    trace_id: [u8; 16],
    parent_id: [u8; 8],
    flags: u8,
}

/// Reason for which text or bytes are no trace context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TraceContextError {
    /// The text is not `version-trace_id-parent_id-flags`, in lower-case hexadecimal digits.
    #[error("the text is no traceparent: 2, 32, 16 and 2 hexadecimal digits, separated by '-'")]
    Malformed,
    /// The version is 255, which is none.
    #[error("traceparent of the invalid version ff")]
    InvalidVersion,
    /// The trace id has no bit set.
    #[error("the trace id is zero")]
    ZeroTraceId,
    /// The id of the caller's span has no bit set.
    #[error("the parent id is zero")]
    ZeroParentId,
}

impl TraceContext {
    /// Trace context of a call that a span makes.
    ///
    /// # Errors
    ///
    /// [`TraceContextError`] if an id is zero.
    pub const fn new(
        trace_id: [u8; 16],
        parent_id: [u8; 8],
        flags: u8,
    ) -> Result<Self, TraceContextError> {
        if u128::from_ne_bytes(trace_id) == 0 {
            return Err(TraceContextError::ZeroTraceId);
        }
        if u64::from_ne_bytes(parent_id) == 0 {
            return Err(TraceContextError::ZeroParentId);
        }
        Ok(Self {
            trace_id,
            parent_id,
            flags,
        })
    }

    /// Id of the trace.
    #[must_use]
    pub const fn trace_id(&self) -> [u8; 16] {
        self.trace_id
    }

    /// Id of the span that makes the call.
    #[must_use]
    pub const fn parent_id(&self) -> [u8; 8] {
        self.parent_id
    }

    /// Flags; bit 0 says that the caller may have recorded the trace.
    #[must_use]
    pub const fn flags(&self) -> u8 {
        self.flags
    }

    /// Whether the caller may have recorded the trace.
    #[must_use]
    pub const fn is_sampled(&self) -> bool {
        self.flags & 1 != 0
    }

    /// The same trace, as of a call that another span makes.
    ///
    /// # Errors
    ///
    /// [`TraceContextError::ZeroParentId`].
    pub const fn with_parent_id(self, parent_id: [u8; 8]) -> Result<Self, TraceContextError> {
        Self::new(self.trace_id, parent_id, self.flags)
    }

    pub(crate) fn encode(self) -> [u8; TRACE_CONTEXT_BYTES] {
        let mut bytes = [0; TRACE_CONTEXT_BYTES];
        bytes[..16].copy_from_slice(&self.trace_id);
        bytes[16..24].copy_from_slice(&self.parent_id);
        bytes[24] = self.flags;
        bytes
    }

    pub(crate) fn decode(bytes: [u8; TRACE_CONTEXT_BYTES]) -> Result<Self, TraceContextError> {
        let (trace_id, rest) = bytes.split_first_chunk::<16>().expect("it has 25 bytes");
        let (parent_id, flags) = rest.split_first_chunk::<8>().expect("nine are left");
        Self::new(*trace_id, *parent_id, flags[0])
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let trace_id = u128::from_be_bytes(self.trace_id);
        let parent_id = u64::from_be_bytes(self.parent_id);
        write!(f, "00-{trace_id:032x}-{parent_id:016x}-{:02x}", self.flags)
    }
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraceContext({self})")
    }
}

impl FromStr for TraceContext {
    type Err = TraceContextError;

    /// Parses a header. Later versions are read as the standard says: what follows the flags is
    /// ignored.
    fn from_str(text: &str) -> Result<Self, TraceContextError> {
        let malformed = TraceContextError::Malformed;
        let (known, rest) = text.split_at_checked(TEXT_BYTES).ok_or(malformed)?;
        let mut parts = known.split('-');
        let mut digits = |count| parts.next().and_then(|part| hexadecimal(part, count));
        let version = digits(2).ok_or(malformed)?;
        let trace_id = digits(32).ok_or(malformed)?;
        let parent_id = digits(16).ok_or(malformed)?;
        let flags = digits(2).ok_or(malformed)?;
        if version == 0xff {
            return Err(TraceContextError::InvalidVersion);
        }
        let has_more = !rest.is_empty();
        if has_more && (version == 0 || !rest.starts_with('-')) {
            return Err(malformed);
        }
        let (parent_id, flags) = (parent_id as u64, flags as u8);
        Self::new(trace_id.to_be_bytes(), parent_id.to_be_bytes(), flags)
    }
}

/// The number that so many lower-case hexadecimal digits stand for.
fn hexadecimal(digits: &str, count: usize) -> Option<u128> {
    let is_digit = |c: u8| matches!(c, b'0'..=b'9' | b'a'..=b'f');
    if digits.len() != count || !digits.bytes().all(is_digit) {
        return None;
    }
    u128::from_str_radix(digits, 16).ok()
}

pub(crate) const TRACE_CONTEXT_BYTES: usize = 25;

/// Length of the text of version 0.
const TEXT_BYTES: usize = 55;
