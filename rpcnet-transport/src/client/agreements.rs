//! Agreements of a connection: how the typed calls of each method are made on it.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use parking_lot::RwLock;

use crate::{
    RpcError, UntypedMethod,
    codec::Encoding,
    method::{MethodKey, TypedCall},
};

/// How the calls of a method are made on a connection.
#[derive(Debug, Clone)]
pub(super) enum Agreement {
    /// Both sides have the same schema.
    Equal(Encoding),
    /// The schemas differ and are compatible.
    Compatible,
    /// No call of the method succeeds on this connection, with this error.
    Incompatible(RpcError),
}

/// The agreements that were reached on a connection. There is none for a unary method whose schemas
/// are equal: its calls need none.
#[derive(Debug, Default)]
pub(super) struct Agreements {
    /// Whether there are any, readable without the lock.
    is_used: AtomicBool,
    /// One for each method of this program at most.
    reached: RwLock<HashMap<(&'static str, MethodKey), Agreement>>,
}

impl Agreements {
    /// The agreement on a method, if one was reached.
    #[inline]
    pub(super) fn get(&self, method: UntypedMethod) -> Option<Agreement> {
        if !self.is_used.load(Relaxed) {
            return None;
        }
        let reached = self.reached.read();
        reached.get(&(method.name(), method.key())).cloned()
    }

    pub(super) fn insert(&self, method: UntypedMethod, agreement: Agreement) {
        let mut reached = self.reached.write();
        reached.insert((method.name(), method.key()), agreement);
        self.is_used.store(true, Relaxed);
    }
}

impl Agreement {
    /// The call that the agreement permits.
    pub(super) fn into_call(self, method: UntypedMethod) -> Result<TypedCall, RpcError> {
        let (encoding, is_checked) = match self {
            Self::Equal(encoding) => (encoding, false),
            Self::Compatible => (Encoding::Named, true),
            Self::Incompatible(error) => return Err(error),
        };
        Ok(TypedCall {
            method,
            encoding,
            is_checked,
        })
    }
}
