//! Method without its types, as routers, lanes and connections handle it.

use std::{collections::BTreeMap, fmt, sync::OnceLock};

use parking_lot::RwLock;

use super::MethodType;
use crate::{
    Code, Processed, RpcError,
    codec::Encoding,
    schema::{MethodSchema, service_hash, service_of},
    wire::CallSchema,
};

/// A method without its types: its name, and the function that describes them.
#[derive(Clone, Copy)]
pub struct UntypedMethod {
    name: &'static str,
    describe: fn(u32) -> MethodSchema,
    since: u32,
    /// Its type, if that is known.
    method_type: Option<MethodType>,
    /// All methods of its service, if that is known.
    service: Option<fn() -> &'static [Self]>,
}

impl UntypedMethod {
    pub(super) const fn new(
        name: &'static str,
        describe: fn(u32) -> MethodSchema,
        since: u32,
    ) -> Self {
        Self {
            name,
            describe,
            since,
            method_type: None,
            service: None,
        }
    }

    pub(super) const fn with_type(mut self, method_type: MethodType) -> Self {
        self.method_type = Some(method_type);
        self
    }

    pub(super) const fn in_service(mut self, methods: fn() -> &'static [Self]) -> Self {
        self.service = Some(methods);
        self
    }

    /// Name of the method on the wire.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Whether its requests and replies are streams. `None` for an
    /// [opaque](crate::Method::opaque) method.
    #[must_use]
    pub const fn method_type(&self) -> Option<MethodType> {
        self.method_type
    }

    /// Schema of its messages, computed at the first use of their types in this process.
    #[must_use]
    pub fn schema(&self) -> &'static MethodSchema {
        let key = self.key();
        let schemas = SCHEMAS.get_or_init(RwLock::default);
        if let Some(schema) = schemas.read().get(&key) {
            return schema;
        }
        // Outside of the lock, as it runs code of the user's types. One that loses the race stays.
        let described: &'static MethodSchema = Box::leak(Box::new((self.describe)(self.since)));
        schemas.write().entry(key).or_insert(described)
    }

    /// Name of its service: see [`service_of`].
    #[must_use]
    pub fn service(&self) -> &'static str {
        service_of(self.name)
    }

    /// Hash of its service as this program knows it: see [`service_hash`]. `None` for a method that
    /// was not declared [in a service](crate::Method::in_service) although its name says so: the
    /// other methods are not known then.
    ///
    /// Computed anew by each call.
    #[must_use]
    pub fn service_hash(&self) -> Option<u64> {
        let service = self.service();
        let hashed = |method: &Self| (method.name, method.schema().hash());
        match self.service {
            Some(methods) => {
                let methods = methods().iter();
                let methods = methods.filter(|method| method.service() == service);
                Some(service_hash(methods.map(hashed)))
            }
            None => (service == self.name).then(|| service_hash([hashed(self)])),
        }
    }

    /// Number of its types, which tells them from those of other methods in this process; never 0.
    #[must_use]
    pub fn types_id(&self) -> u64 {
        let (describe, since) = self.key();
        // Code has addresses that differ in their lower half.
        describe as u64 ^ u64::from(since) << 32
    }

    /// Identity of its types in this process, without their schema.
    pub(crate) fn key(&self) -> MethodKey {
        // Of types that are described twice under one address, the code is the same, and so the
        // schema. Types with two addresses are described twice.
        (self.describe as usize, self.since)
    }
}

impl fmt::Debug for UntypedMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("UntypedMethod").field(&self.name).finish()
    }
}

/// Identity of the types of a method within this process.
pub(crate) type MethodKey = (usize, u32);

/// One schema for the types of each method that this program names.
static SCHEMAS: OnceLock<RwLock<BTreeMap<MethodKey, &'static MethodSchema>>> = OnceLock::new();

/// Method of a call: its name, and the schema of a typed call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CalledMethod<'a> {
    pub(crate) name: &'a str,
    pub(crate) typed: Option<TypedCall>,
}

/// How a typed call is made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TypedCall {
    pub(crate) method: UntypedMethod,
    pub(crate) encoding: Encoding,
    /// The schemas of both sides were compared.
    pub(crate) is_checked: bool,
}

impl TypedCall {
    /// A call whose schema the server compares with its own.
    pub(crate) const fn unchecked(method: UntypedMethod, encoding: Encoding) -> Self {
        Self {
            method,
            encoding,
            is_checked: false,
        }
    }

    /// The schema of the call for its header.
    ///
    /// # Errors
    ///
    /// An error as of the server, if the types need another encoding.
    pub(crate) fn schema(&self) -> Result<CallSchema, RpcError> {
        let schema = self.method.schema();
        if schema.needs_named_encoding() && self.encoding == Encoding::Postcard {
            let message = "the types of the method need the named encoding";
            return Err(RpcError::new(Code::Incompatible, Processed::No, message));
        }
        Ok(CallSchema {
            hash: schema.hash(),
            encoding: self.encoding,
            is_checked: self.is_checked,
            only_checks: false,
        })
    }
}

impl<'a> CalledMethod<'a> {
    /// A method whose types are not known.
    pub(crate) const fn untyped(name: &'a str) -> Self {
        Self { name, typed: None }
    }
}
