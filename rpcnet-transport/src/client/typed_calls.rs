//! Typed calls on a connection: by postcard where both sides have the same types, by names where
//! they differ and are compatible.

use std::fmt;

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    CallOptions, RpcClient, agreements::Agreement, early_call::EarlyOutcome,
    early_handshake::EarlyHandshake,
};
use crate::{
    Code, CodecError, Decode, MethodType, Processed, RpcError, UntypedMethod,
    codec::Encoding,
    metadata::{WithCallMetadata, outgoing_headers},
    method::{CalledMethod, TypedCall},
    schema::MethodSchema,
    wire::RequestFlags,
};

/// Reply of a typed call, still encoded.
#[derive(Debug, Clone)]
pub struct EncodedReply {
    /// Encoding of the bytes.
    pub encoding: Encoding,
    /// The reply.
    pub bytes: Bytes,
}

impl EncodedReply {
    /// Decodes the reply.
    ///
    /// # Errors
    ///
    /// If the bytes are no `T`: [`Code::Internal`], or [`Code::Incompatible`] for a reply in the
    /// named encoding, whose writer may have another version of the type.
    pub fn decode<T: Decode>(self) -> Result<T, RpcError> {
        super::typed::decode_as(self.bytes, self.encoding)
    }
}

/// Request of a typed call, as an attempt may need it.
#[derive(Clone, Copy)]
pub struct EncodedRequest<'a> {
    /// The request in postcard, or why it cannot be encoded so.
    pub postcard: &'a Result<Bytes, CodecError>,
    /// Encodes the request with names, where the types of the server differ.
    pub named: &'a (dyn Fn() -> Result<Bytes, CodecError> + Sync),
}

impl EncodedRequest<'_> {
    /// The request in this encoding.
    ///
    /// # Errors
    ///
    /// The fault of this side: [`RpcError::is_local`].
    pub(super) fn in_encoding(&self, encoding: Encoding) -> Result<Bytes, RpcError> {
        let body = match encoding {
            Encoding::Postcard => self.postcard.clone(),
            Encoding::Named => (self.named)(),
        };
        body.map_err(super::typed::encode_error)
    }
}

impl fmt::Debug for EncodedRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EncodedRequest")
            .field("postcard", self.postcard)
            .finish_non_exhaustive()
    }
}

impl RpcClient {
    /// Unary call of a typed method with an encoded request, for clients that make several
    /// attempts.
    ///
    /// # Errors
    ///
    /// As for [`call`](Self::call); [`Code::Incompatible`] if the types of the server do not fit.
    pub async fn call_encoded(
        &self,
        method: UntypedMethod,
        request: EncodedRequest<'_>,
        mut options: CallOptions,
    ) -> Result<EncodedReply, RpcError> {
        if let Some(early) = &self.0.early {
            return Box::pin(self.call_encoded_early(early, method, request, options)).await;
        }
        let agreement = self.0.agreements.get(method);
        let (Ok(body), None) = (request.postcard, agreement) else {
            return Box::pin(self.call_agreed(method, request, options)).await;
        };
        // Fixed here, as there may be a second exchange.
        let now = Instant::now();
        options.resolve(now, Some(self.0.limits.call_timeout));
        let call = called(TypedCall::unchecked(method, Encoding::Postcard));
        match self.call_borrowed(call, body, options, Some(now)).await {
            Ok(bytes) => Ok(EncodedReply {
                encoding: Encoding::Postcard,
                bytes,
            }),
            Err(error) if is_schema_mismatch(&error) => {
                Box::pin(self.call_rejected(method, request, error, options)).await
            }
            Err(error) => Err(error),
        }
    }

    /// Goes on with a typed call that was [sent](Self::try_send) and failed: if the server has
    /// other types, the call is made again as both sides can read it.
    ///
    /// # Errors
    ///
    /// As for [`call_encoded`](Self::call_encoded); the same error if the types are not to blame.
    pub async fn call_encoded_again(
        &self,
        method: UntypedMethod,
        request: EncodedRequest<'_>,
        error: RpcError,
        options: CallOptions,
    ) -> Result<EncodedReply, RpcError> {
        if !is_schema_mismatch(&error) {
            return Err(error);
        }
        self.call_rejected(method, request, error, options).await
    }

    /// Checks whether the types of a method fit those of the server, and calls nothing. The server
    /// is asked once for each method and connection; later checks and calls know the outcome.
    ///
    /// # Errors
    ///
    /// [`Code::Incompatible`] if they do not fit ([`RpcError::incompatibility`] says where) or the
    /// server has no schema to compare, [`Code::Unimplemented`] if it does not know the method, and
    /// the errors of a [call](Self::call) that did not reach it.
    pub async fn check_method(
        &self,
        method: UntypedMethod,
        mut options: CallOptions,
    ) -> Result<(), RpcError> {
        let deadline = options.resolve(Instant::now(), Some(self.0.limits.call_timeout));
        if let Some(early) = &self.0.early {
            let client = self.wait_for_handshake(early, deadline).await;
            let client = client.map_err(|e| self.with_peer_context(e))?;
            return Box::pin(client.check_method(method, options)).await;
        }
        let method_type = method.method_type().unwrap_or(MethodType::Unary);
        let agreed = self.agree(method, method_type.request_flags(), options);
        agreed.await.map(drop)
    }

    /// Makes a call at once if it may be sent as early data, otherwise after the handshake.
    async fn call_encoded_early(
        &self,
        early: &EarlyHandshake<Self>,
        method: UntypedMethod,
        request: EncodedRequest<'_>,
        mut options: CallOptions,
    ) -> Result<EncodedReply, RpcError> {
        let deadline = options.resolve(Instant::now(), Some(self.0.limits.call_timeout));
        let body = request.postcard.as_ref().ok().filter(|_| {
            early.accepts(&options) && native_encoding(method.schema()) == Encoding::Postcard
        });
        let (Some(layers), Some(body)) = (self.layers_for(&options), body) else {
            let call = self.call_encoded_after_layers(early, method, request, body, options);
            return call.await;
        };
        // They say whether the call has headers, which are no early data.
        let passed = self.pass_layers(layers, method.name(), body.len(), &mut options, deadline);
        let mut layered = passed.await?;
        let headers = layered.call().headers().clone();
        let call = self.call_encoded_after_layers(early, method, request, Some(body), options);
        let reply = WithCallMetadata::replaced(call, headers).await;
        layered.end_with_reply(reply.as_ref().map(|reply| reply.bytes.len()));
        reply
    }

    /// Makes a call with resolved options. `early_body` is the request of one that may be sent as
    /// early data, if it has no headers.
    async fn call_encoded_after_layers(
        &self,
        early: &EarlyHandshake<Self>,
        method: UntypedMethod,
        request: EncodedRequest<'_>,
        early_body: Option<&Bytes>,
        options: CallOptions,
    ) -> Result<EncodedReply, RpcError> {
        let deadline = options.resolved_deadline();
        if let Some(body) = early_body
            && early.accepts(&options)
            && outgoing_headers().is_none()
        {
            let call = called(TypedCall::unchecked(method, Encoding::Postcard));
            let call = self.try_early(early, call, body.clone(), &options, deadline);
            match call.await {
                Ok(EarlyOutcome::Ended(Ok(bytes))) => {
                    let encoding = Encoding::Postcard;
                    return Ok(EncodedReply { encoding, bytes });
                }
                Ok(EarlyOutcome::Rejected) => {}
                Ok(EarlyOutcome::Ended(Err(error))) if is_schema_mismatch(&error) => {}
                Ok(EarlyOutcome::Ended(Err(error))) | Err(error) => {
                    return Err(self.with_peer_context(error));
                }
            }
        }
        let client = self.wait_for_handshake(early, deadline).await;
        let client = client.map_err(|e| self.with_peer_context(e))?;
        Box::pin(client.call_encoded(method, request, options)).await
    }

    /// Unary call by the agreement on its method, which is reached first.
    pub(super) async fn call_agreed(
        &self,
        method: UntypedMethod,
        request: EncodedRequest<'_>,
        mut options: CallOptions,
    ) -> Result<EncodedReply, RpcError> {
        options.resolve(Instant::now(), Some(self.0.limits.call_timeout));
        let call = self.agree(method, RequestFlags::default(), options).await?;
        let encoding = call.encoding;
        let body = request.in_encoding(encoding);
        let body = body.map_err(|e| self.with_peer_context(e))?;
        let reply = self.call_borrowed(called(call), &body, options, None).await;
        let reply = reply.map_err(|error| error.with_details_encoding(encoding));
        Ok(EncodedReply {
            encoding,
            bytes: reply?,
        })
    }

    /// How a method is called on this connection: asks the server, the first time.
    pub(super) async fn agree(
        &self,
        method: UntypedMethod,
        flags: RequestFlags,
        options: CallOptions,
    ) -> Result<TypedCall, RpcError> {
        if let Some(agreement) = self.0.agreements.get(method) {
            return agreement.into_call(method);
        }
        if !self.0.shared.has_schemas {
            return Ok(TypedCall::unchecked(
                method,
                native_encoding(method.schema()),
            ));
        }
        match self.check_schema(method, flags, options).await {
            Ok(()) => {
                let agreement = self.agreement_of_equals(method);
                self.0.agreements.insert(method, agreement);
            }
            Err(error) if is_schema_mismatch(&error) => {
                self.resolve_mismatch(method, flags, error, options).await?;
            }
            Err(error) => return Err(error),
        }
        let agreement = self.0.agreements.get(method);
        agreement.expect("it was reached").into_call(method)
    }

    /// Compares the schemas of both sides, after the server has rejected a call for its schema.
    pub(super) async fn resolve_mismatch(
        &self,
        method: UntypedMethod,
        flags: RequestFlags,
        rejection: RpcError,
        options: CallOptions,
    ) -> Result<(), RpcError> {
        let mut rejection = rejection;
        if rejection.details().is_empty() {
            // They were too large for a lane, or this side has used the wrong encoding.
            match self.check_schema(method, flags, options).await {
                Err(error) if is_schema_mismatch(&error) => rejection = error,
                Err(error) => return Err(error),
                // Only the encoding was another.
                Ok(()) => {
                    let agreement = self.agreement_of_equals(method);
                    self.0.agreements.insert(method, agreement);
                    return Ok(());
                }
            }
        }
        let agreement = match self.compare(method, &rejection) {
            Ok(()) => Agreement::Compatible,
            Err(error) => Agreement::Incompatible(error),
        };
        self.0.agreements.insert(method, agreement);
        Ok(())
    }

    /// Compares the schemas of both sides; that of the server came with its rejection.
    ///
    /// # Errors
    ///
    /// The error of all calls of the method on this connection. It has a source, in contrast to
    /// that of one value: see [`RpcError::rejects_method`].
    fn compare(&self, method: UntypedMethod, rejection: &RpcError) -> Result<(), RpcError> {
        if rejection.details().is_empty() {
            return Err(rejection.clone().with_source(NoSchema));
        }
        let server = MethodSchema::decode(rejection.details()).map_err(|e| {
            let error = self.incompatible(method, &"the schema of the server cannot be read");
            error.with_source(e)
        })?;
        self.check_compatible(method, &server)
    }

    fn check_compatible(
        &self,
        method: UntypedMethod,
        server: &MethodSchema,
    ) -> Result<(), RpcError> {
        MethodSchema::check_compatible(method.schema(), server)
            .map_err(|e| self.incompatible(method, &e).with_source(e))
    }

    fn incompatible(&self, method: UntypedMethod, message: &dyn fmt::Display) -> RpcError {
        let message = format!("method {:?}: {message}", method.name());
        self.with_peer_context(RpcError::new(Code::Incompatible, Processed::No, message))
    }

    /// Agreement with a server whose schema of the method is the same. Types that need the encoding
    /// with names may be none that it carries.
    fn agreement_of_equals(&self, method: UntypedMethod) -> Agreement {
        match self.check_compatible(method, method.schema()) {
            Ok(()) => Agreement::Equal(native_encoding(method.schema())),
            Err(error) => Agreement::Incompatible(error),
        }
    }

    /// Asks the server whether its schema of the method is the same.
    async fn check_schema(
        &self,
        method: UntypedMethod,
        flags: RequestFlags,
        mut options: CallOptions,
    ) -> Result<(), RpcError> {
        let deadline = options.resolve(Instant::now(), Some(self.0.limits.call_timeout));
        let call = TypedCall::unchecked(method, native_encoding(method.schema()));
        let asked = self.ask_check(called(call), Bytes::new(), flags, &options, deadline);
        asked.await.map_err(|error| self.with_peer_context(error))
    }

    /// Asks the server whether it can read a request, before a stream is opened with it: the caller
    /// has a server of other types for a value that this one does not know. Sides with the same
    /// types need not ask.
    pub(super) async fn check_request(
        &self,
        call: TypedCall,
        body: &Bytes,
        flags: RequestFlags,
        mut options: CallOptions,
    ) -> Result<(), RpcError> {
        if !call.is_checked {
            return Ok(());
        }
        let deadline = options.resolve(Instant::now(), Some(self.0.limits.call_timeout));
        let asked = self.ask_check(called(call), body.clone(), flags, &options, deadline);
        asked.await.map_err(|error| self.with_peer_context(error))
    }
}

/// The server rejects the types of a method, and its schema is not there to be compared.
#[derive(Debug, thiserror::Error)]
#[error("the server sent no schema of the method")]
struct NoSchema;

/// Whether the server rejected a call because its schema of the method is another.
pub(super) fn is_schema_mismatch(error: &RpcError) -> bool {
    error.code() == Code::Incompatible
        && error.processed() == Processed::No
        && error.not_sent().is_none()
}

/// Encoding of calls between sides with this same schema.
pub(crate) fn native_encoding(schema: &MethodSchema) -> Encoding {
    match schema.needs_named_encoding() {
        true => Encoding::Named,
        false => Encoding::Postcard,
    }
}

pub(super) fn called(call: TypedCall) -> CalledMethod<'static> {
    CalledMethod {
        name: call.method.name(),
        typed: Some(call),
    }
}
