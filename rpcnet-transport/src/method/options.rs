//! Options of the calls of a method.

use std::time::Duration;

use crate::{CallOptions, Priority};

/// How the calls of a method are made: its defaults, or what one call says in their place. What is
/// not set is left to the channel.
///
/// A single connection has no use for attempts, hedges and sticky keys; the client of a cluster
/// has.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct MethodOptions {
    timeout: Option<Duration>,
    attempt_timeout: Option<Duration>,
    idempotent: Option<bool>,
    replay_safe: Option<bool>,
    isolated: Option<bool>,
    generated_keys: Option<bool>,
    priority: Option<Priority>,
    hedge_quantile: Option<f64>,
    sticky_key: Option<u64>,
}

macro_rules! options {
    ($($(#[doc = $doc:literal])+ $with:ident $name:ident: $type:ty,)+) => {
        impl MethodOptions {
            $(
                $(#[doc = $doc])+
                #[must_use]
                pub const fn $with(mut self, $name: $type) -> Self {
                    self.$name = Some($name);
                    self
                }

                #[doc = concat!("What [`", stringify!($with), "`](Self::", stringify!($with), ") set.")]
                #[must_use]
                pub const fn $name(&self) -> Option<$type> {
                    self.$name
                }
            )+

            /// These options, and where they say nothing the `defaults`.
            #[must_use]
            pub fn or(self, defaults: Self) -> Self {
                Self {
                    $($name: self.$name.or(defaults.$name),)+
                }
            }
        }
    };
}

options! {
    /// Timeout of a call with all its attempts; of a stream to its end.
    with_timeout timeout: Duration,
    /// Timeout of each attempt of a call that may be repeated.
    with_attempt_timeout attempt_timeout: Duration,
    /// Whether running a call twice does no harm.
    with_idempotent idempotent: bool,
    /// Whether running a call twice does no harm even if an attacker replays it; see
    /// [`CallOptions::with_replay_safe`]. A router declares such a method replay-safe.
    with_replay_safe replay_safe: bool,
    /// Whether a call has a QUIC stream of its own; see [`CallOptions::with_isolated`].
    with_isolated isolated: bool,
    /// Whether each call gets an idempotency key of its own, which its attempts share.
    with_generated_keys generated_keys: bool,
    /// Priority of a call on an overloaded server.
    with_priority priority: Priority,
    /// Quantile of the latencies of the method, above 0 and below 1, after which a call goes to
    /// another worker as well. Such a method counts as idempotent.
    with_hedge_quantile hedge_quantile: f64,
    /// Hash of what the call is about, for balancers that send equal keys to the same worker.
    with_sticky_key sticky_key: u64,
}

impl MethodOptions {
    /// Options that say nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            timeout: None,
            attempt_timeout: None,
            idempotent: None,
            replay_safe: None,
            isolated: None,
            generated_keys: None,
            priority: None,
            hedge_quantile: None,
            sticky_key: None,
        }
    }

    /// The part of them that one attempt on one connection has.
    #[must_use]
    pub fn call_options(&self) -> CallOptions {
        let mut options = CallOptions::new()
            .with_idempotent(self.idempotent.unwrap_or_default())
            .with_replay_safe(self.replay_safe.unwrap_or_default())
            .with_isolated(self.isolated.unwrap_or_default());
        if let Some(timeout) = self.timeout {
            options = options.with_timeout(timeout);
        }
        if let Some(priority) = self.priority {
            options = options.with_priority(priority);
        }
        options
    }
}
