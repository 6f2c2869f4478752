//! Options of a call, from those of its method.

use std::sync::LazyLock;

use super::{CallOptions, IdempotencyKeys};
use crate::MethodOptions;

/// Options of one call on one connection, from those of its method.
pub(super) fn call_options(options: MethodOptions) -> CallOptions {
    static KEYS: LazyLock<IdempotencyKeys> = LazyLock::new(IdempotencyKeys::new);
    match options.generated_keys() {
        Some(true) => options.call_options().with_idempotency_key(KEYS.next_key()),
        _ => options.call_options(),
    }
}
