//! Options of one call.

use std::time::Duration;

use tokio::time::Instant;

use crate::{Priority, inherited};

/// Options of one call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CallOptions {
    limit: TimeLimit,
    pub(crate) attempt: u8,
    pub(crate) idempotent: bool,
    pub(crate) isolated: bool,
    pub(crate) replay_safe: bool,
    /// In the byte order of the wire: an array has no alignment, which keeps call futures small.
    pub(crate) idempotency_key: Option<[u8; 16]>,
    priority: Option<Priority>,
    skips_inheritance: bool,
    /// The layers of the client have let the call pass.
    pub(crate) has_passed_layers: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum TimeLimit {
    #[default]
    Default,
    Within(Duration),
    By(Instant),
    None,
}

impl CallOptions {
    /// Unary call with the client's default timeout, or stream without a deadline; first attempt,
    /// not idempotent.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            limit: TimeLimit::Default,
            attempt: 0,
            idempotent: false,
            isolated: false,
            replay_safe: false,
            idempotency_key: None,
            priority: None,
            skips_inheritance: false,
            has_passed_layers: false,
        }
    }

    /// Timeout of the call, counted from when it is made; of a stream from its opening to its end.
    /// Default for unary calls:
    /// [`TransportConfig::with_call_timeout`](crate::TransportConfig::with_call_timeout); for
    /// streams: none.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.limit = TimeLimit::Within(timeout);
        self
    }

    /// Deadline of the call.
    #[must_use]
    pub fn with_deadline(mut self, deadline: std::time::Instant) -> Self {
        self.limit = TimeLimit::By(deadline.into());
        self
    }

    /// The call may take as long as its connection lasts, which is the default of streams. The
    /// connection of a peer that is gone ends after the [idle
    /// timeout](crate::TransportConfig::with_idle_timeout) and a keep-alive interval at the latest
    /// (20 s by default), and its calls with it. A reply that has begun has to arrive at the
    /// [minimum rate](crate::TransportConfig::with_transfer_rate_min) all the same.
    #[must_use]
    pub fn without_deadline(mut self) -> Self {
        self.limit = TimeLimit::None;
        self
    }

    /// Number of this attempt, from 0; default 0. The handler sees it.
    #[must_use]
    pub fn with_attempt(mut self, attempt: u8) -> Self {
        self.attempt = attempt;
        self
    }

    /// Declares that running the call twice does no harm; default `false`. The handler sees it;
    /// retrying is up to the caller.
    #[must_use]
    pub fn with_idempotent(mut self, idempotent: bool) -> Self {
        self.idempotent = idempotent;
        self
    }

    /// Idempotency key that all attempts of the call share and no other call has, such as 16 random
    /// bytes; default none. The handler sees it, and a server with an [idempotency
    /// cache](crate::Router::with_idempotency) runs the call once and answers repeats with the
    /// first reply. It adds 16 bytes to the request.
    #[must_use]
    pub fn with_idempotency_key(mut self, key: u128) -> Self {
        self.idempotency_key = Some(key.to_le_bytes());
        self
    }

    /// Priority of the call on an overloaded server. Default: that of the call that is being served
    /// here ([`inherited`](crate::inherited)), or [`Priority::Critical`].
    #[must_use]
    pub fn with_priority(mut self, priority: Priority) -> Self {
        self.priority = Some(priority);
        self
    }

    /// The call does not inherit from the call that is being served here: for work that outlives
    /// it. By default a call ends at the deadline of that call at the latest, and has its priority.
    #[must_use]
    pub fn without_inheritance(mut self) -> Self {
        self.skips_inheritance = true;
        self
    }

    /// Asks for a QUIC stream of its own, default `false`: lost packets of other calls never delay
    /// it, at several times the cost of a small call on a lane. Large bodies and streaming calls
    /// have streams of their own in any case.
    #[must_use]
    pub fn with_isolated(mut self, isolated: bool) -> Self {
        self.isolated = isolated;
        self
    }

    /// Declares that running the call twice does no harm even if an attacker replays it, now or
    /// some time later; default `false`. On a connection of
    /// [`connect_early`](crate::Endpoint::connect_early) such a call is sent with the first
    /// packets, before the handshake completes. Elsewhere the option has no effect. The server has
    /// to [declare the method replay-safe](crate::Router::with_replay_safe) too, and the call must
    /// have no metadata, no trace context and no use of reply metadata, or it waits for the
    /// handshake.
    #[must_use]
    pub fn with_replay_safe(mut self, replay_safe: bool) -> Self {
        self.replay_safe = replay_safe;
        self
    }

    /// Fixes the deadline and the priority of a call that is made at `now`, with what it inherits
    /// there: for the attempts of one call, which may be made later and elsewhere. `timeout` is for
    /// options that set no time limit.
    #[must_use]
    #[inline]
    pub fn resolved(mut self, now: std::time::Instant, timeout: Option<Duration>) -> Self {
        let is_default = self.has_default_time_limit();
        if self.resolve(now.into(), timeout).is_none() && is_default {
            // The opening of a stream has a limit all the same.
            self.limit = TimeLimit::Default;
        }
        self
    }

    /// Deadline that was [set](Self::with_deadline), or that [`resolved`](Self::resolved) has
    /// fixed.
    #[must_use]
    #[inline]
    pub fn deadline(&self) -> Option<std::time::Instant> {
        self.resolved_deadline().map(Instant::into_std)
    }

    /// Whether the call has an [idempotency key](Self::with_idempotency_key).
    #[must_use]
    #[inline]
    pub fn has_idempotency_key(&self) -> bool {
        self.idempotency_key.is_some()
    }

    /// Whether a [priority](Self::with_priority) was set, and is not inherited.
    #[must_use]
    #[inline]
    pub fn has_priority(&self) -> bool {
        self.priority.is_some()
    }

    /// Whether no time limit was set.
    pub(crate) fn has_default_time_limit(&self) -> bool {
        matches!(self.limit, TimeLimit::Default)
    }

    /// Whether nothing is left that depends on when and where the call is made.
    #[inline]
    pub(crate) fn is_resolved(&self) -> bool {
        self.skips_inheritance && matches!(self.limit, TimeLimit::By(_) | TimeLimit::None)
    }

    /// Applies inheritance once, and returns the deadline of the call; `default` is the timeout of
    /// calls without a time limit.
    #[inline(always)]
    pub(crate) fn resolve(&mut self, now: Instant, default: Option<Duration>) -> Option<Instant> {
        let mut deadline = self.deadline_from(now, default);
        if !self.skips_inheritance {
            let from = inherited();
            deadline = from.earlier_deadline(deadline);
            self.priority = self.priority.or_else(|| from.priority());
            self.skips_inheritance = true;
        }
        self.limit = deadline.map_or(TimeLimit::None, TimeLimit::By);
        deadline
    }

    /// Deadline of options that were [resolved](Self::resolve).
    pub(crate) fn resolved_deadline(&self) -> Option<Instant> {
        match self.limit {
            TimeLimit::By(deadline) => Some(deadline),
            TimeLimit::Default | TimeLimit::Within(_) | TimeLimit::None => None,
        }
    }

    /// Priority of options that were [resolved](Self::resolve).
    pub(crate) fn priority(&self) -> Priority {
        self.priority.unwrap_or_default()
    }

    fn deadline_from(&self, now: Instant, default: Option<Duration>) -> Option<Instant> {
        let after = |wait| now.checked_add(wait);
        match self.limit {
            TimeLimit::Default => default.and_then(after),
            TimeLimit::Within(timeout) => after(timeout),
            TimeLimit::By(deadline) => Some(deadline),
            TimeLimit::None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Inherited;

    #[test]
    fn a_call_inherits_the_earlier_deadline_and_the_priority_once() {
        let now = Instant::now();
        let after = |secs| now + Duration::from_secs(secs);
        let default = Some(Duration::from_secs(10));
        let settled = |mut options: CallOptions| {
            let deadline = options.resolve(now, default);
            // Resolved options do not change in another scope.
            let again = Inherited::new(Some(now), Priority::CriticalPlus).enter();
            assert_eq!(options.resolve(now, default), deadline);
            drop(again);
            (deadline, options.priority())
        };
        let new = CallOptions::new;
        let second = Duration::from_secs(1);
        use Priority::{Critical, Sheddable, SheddablePlus};
        assert_eq!(settled(new()), (Some(after(10)), Critical));
        assert_eq!(settled(new().without_deadline()), (None, Critical));
        let _scope = Inherited::new(Some(after(5)), Sheddable).enter();
        let table = [
            (new(), Some(after(5)), Sheddable),
            (new().with_timeout(second), Some(after(1)), Sheddable),
            (new().without_deadline(), Some(after(5)), Sheddable),
            (
                new().with_priority(SheddablePlus),
                Some(after(5)),
                SheddablePlus,
            ),
            (new().without_inheritance(), Some(after(10)), Critical),
            (
                new().without_inheritance().without_deadline(),
                None,
                Critical,
            ),
        ];
        for (options, deadline, priority) in table {
            assert_eq!(settled(options), (deadline, priority), "{options:?}");
            let resolved = options.resolved(now.into_std(), Some(Duration::from_secs(10)));
            assert_eq!(resolved.deadline(), deadline.map(Instant::into_std));
            assert_eq!(settled(resolved), (deadline, priority), "{options:?}");
        }
    }

    #[test]
    fn only_resolved_options_without_any_limit_keep_that_of_the_transport() {
        let now = std::time::Instant::now();
        let new = CallOptions::new;
        for (options, timeout, is_default) in [
            (new(), None, true),
            (new(), Some(Duration::from_secs(1)), false),
            (new().without_deadline(), None, false),
        ] {
            let resolved = options.resolved(now, timeout);
            assert_eq!(resolved.has_default_time_limit(), is_default, "{options:?}");
            assert_eq!(resolved.is_resolved(), !is_default, "{options:?}");
            assert!(!options.is_resolved(), "{options:?}");
        }
    }
}
