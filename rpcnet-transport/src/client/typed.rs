//! Encoding of requests and decoding of replies.

use bytes::Bytes;

use crate::{Code, Decode, Encode, Processed, RpcError};

pub(super) fn encode<Req: Encode + ?Sized>(request: &Req) -> Result<Bytes, RpcError> {
    request.encode().map_err(|e| {
        RpcError::new(
            Code::Internal,
            Processed::No,
            "the request could not be encoded",
        )
        .with_source(e)
    })
}

pub(super) fn decode<Resp: Decode>(reply: Bytes) -> Result<Resp, RpcError> {
    Resp::decode(reply).map_err(|e| {
        RpcError::new(
            Code::Internal,
            Processed::Yes,
            "malformed response: the reply could not be decoded",
        )
        .with_source(e)
    })
}
