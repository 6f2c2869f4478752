//! Reply to a unary call, on both sides.

use bytes::Bytes;

use crate::Metadata;

/// Reply to a unary call: its body and its metadata. A service that replies with [`Bytes`] has no
/// metadata.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallReply {
    body: Bytes,
    metadata: Metadata,
}

impl CallReply {
    /// A reply without metadata.
    #[must_use]
    pub fn new(body: impl Into<Bytes>) -> Self {
        Self {
            body: body.into(),
            metadata: Metadata::new(),
        }
    }

    /// Replaces the metadata.
    #[must_use]
    pub fn with_metadata(mut self, metadata: Metadata) -> Self {
        self.metadata = metadata;
        self
    }

    /// Replaces the body.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The metadata. It is empty unless the caller
    /// [reads](super::CallRequest::with_reply_metadata) metadata and the handler has set some.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The body and the metadata.
    #[must_use]
    pub fn into_parts(self) -> (Bytes, Metadata) {
        (self.body, self.metadata)
    }
}

impl From<Bytes> for CallReply {
    fn from(body: Bytes) -> Self {
        Self::new(body)
    }
}
