//! Idempotency: calls with a key run once, however often they are made.

mod cache;
mod detached_result;
mod detached_run;
mod key_table;
mod lookup;

pub use self::cache::IdempotencyCache;
