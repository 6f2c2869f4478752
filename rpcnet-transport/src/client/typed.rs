//! Encoding of requests and decoding of replies.

use bytes::Bytes;

use crate::{Code, CodecError, Decode, Encode, Processed, RpcError, codec::Encoding};

pub(super) fn encode<Req: Encode + ?Sized>(request: &Req) -> Result<Bytes, RpcError> {
    request.encode().map_err(encode_error)
}

pub(crate) fn encode_error(error: CodecError) -> RpcError {
    let message = "the request could not be encoded";
    RpcError::new(Code::Internal, Processed::No, message).with_source(error)
}

pub(super) fn decode<Resp: Decode>(reply: Bytes) -> Result<Resp, RpcError> {
    decode_as(reply, Encoding::Postcard)
}

pub(crate) fn decode_as<Resp: Decode>(reply: Bytes, encoding: Encoding) -> Result<Resp, RpcError> {
    Resp::decode_as(reply, encoding).map_err(|e| {
        let (code, message) = match encoding {
            Encoding::Postcard => (
                Code::Internal,
                "malformed response: the reply could not be decoded",
            ),
            // A variant that this side does not know, or a number out of its range.
            Encoding::Named => (
                Code::Incompatible,
                "the reply could not be decoded by the types of this side",
            ),
        };
        RpcError::new(code, Processed::Yes, message).with_source(e)
    })
}
