//! What a caller may set for one call.

use std::time::Duration;

use tokio::time::Instant;

use crate::{Priority, inherited};

/// How one call is made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CallOptions {
    limit: TimeLimit,
    pub(crate) attempt: u8,
    pub(crate) idempotent: bool,
    pub(crate) isolated: bool,
    pub(crate) replay_safe: bool,
    /// As it goes out: that is smaller to carry than a number.
    pub(crate) idempotency_key: Option<[u8; 16]>,
    priority: Option<Priority>,
    skips_inheritance: bool,
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
    /// A unary call with the client's default timeout or a stream without a deadline, first attempt, not idempotent.
    pub fn new() -> Self {
        Self::default()
    }

    /// The call ends after this time at the latest, counted from when it is made; for streams that is from their opening to their
    /// end. Default for unary calls [`TransportConfig::with_call_timeout`](crate::TransportConfig::with_call_timeout), for streams
    /// no limit.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.limit = TimeLimit::Within(timeout);
        self
    }

    /// The call ends at this time at the latest.
    #[must_use]
    pub fn with_deadline(mut self, deadline: std::time::Instant) -> Self {
        self.limit = TimeLimit::By(deadline.into());
        self
    }

    /// The call may take as long as its connection lasts, as streams may by default. A connection whose other side is gone ends
    /// after the [idle timeout](crate::TransportConfig::with_idle_timeout) and a keep-alive at the
    /// latest (20 s by default), and its calls with it. A reply that has begun has to come at a
    /// [least rate](crate::TransportConfig::with_transfer_rate_min) all the same.
    #[must_use]
    pub fn without_deadline(mut self) -> Self {
        self.limit = TimeLimit::None;
        self
    }

    /// Says which attempt this is, from 0, default 0. The handler sees it.
    #[must_use]
    pub fn with_attempt(mut self, attempt: u8) -> Self {
        self.attempt = attempt;
        self
    }

    /// Says that running the call twice does no harm, default `false`. The handler sees it; repeating a call is up to
    /// the caller.
    #[must_use]
    pub fn with_idempotent(mut self, idempotent: bool) -> Self {
        self.idempotent = idempotent;
        self
    }

    /// Gives the call a key that all its attempts share and no other call has: 16 random bytes will do. The handler sees it, and a
    /// server that [remembers keys](crate::Router::with_idempotency) runs the call once and answers repeats with the first
    /// reply. Default none. It costs 16 bytes of the request.
    #[must_use]
    pub fn with_idempotency_key(mut self, key: u128) -> Self {
        self.idempotency_key = Some(key.to_le_bytes());
        self
    }

    /// How much the call matters when the server has too much to do; default that of the call that is being served here
    /// ([`inherited`](crate::inherited)), or [`Priority::Critical`].
    #[must_use]
    pub fn with_priority(mut self, priority: Priority) -> Self {
        self.priority = Some(priority);
        self
    }

    /// The call takes over nothing from the one that is being served here: for work that outlives it. Otherwise it ends when that one
    /// does at the latest, and has its priority.
    #[must_use]
    pub fn without_inheritance(mut self) -> Self {
        self.skips_inheritance = true;
        self
    }

    /// Asks for a QUIC stream of its own, default `false`: a lost packet of other calls never delays it, at several
    /// times the price of a small call that shares a stream. Large bodies and streams have their own in any case.
    #[must_use]
    pub fn with_isolated(mut self, isolated: bool) -> Self {
        self.isolated = isolated;
        self
    }

    /// Says that running the call twice does no harm even if a stranger has it done, now or some time later; default `false`.
    /// On a connection that [`connect_early`](crate::Endpoint::connect_early) made, it goes out with the very first packet,
    /// before the handshake is over. Elsewhere it changes nothing. The method must be
    /// [declared so](crate::Router::with_replay_safe) by the server too, or the call waits for the handshake after all.
    #[must_use]
    pub fn with_replay_safe(mut self, replay_safe: bool) -> Self {
        self.replay_safe = replay_safe;
        self
    }

    /// Whether nothing was said of its time.
    pub(crate) fn has_default_time_limit(&self) -> bool {
        matches!(self.limit, TimeLimit::Default)
    }

    /// Takes over what there is to take over, once. Says until when the call may take; `default` is the time of calls that say
    /// nothing of it.
    #[inline(always)]
    pub(crate) fn resolve(&mut self, now: Instant, default: Option<Duration>) -> Option<Instant> {
        let mut deadline = self.deadline(now, default);
        if !self.skips_inheritance {
            let from = inherited();
            deadline = from.earlier_deadline(deadline);
            self.priority = self.priority.or_else(|| from.priority());
            self.skips_inheritance = true;
        }
        self.limit = deadline.map_or(TimeLimit::None, TimeLimit::By);
        deadline
    }

    /// Of options that were [settled](Self::settle).
    pub(crate) fn resolved_deadline(&self) -> Option<Instant> {
        match self.limit {
            TimeLimit::By(deadline) => Some(deadline),
            TimeLimit::Default | TimeLimit::Within(_) | TimeLimit::None => None,
        }
    }

    /// Of options that were [settled](Self::settle).
    pub(crate) fn priority(&self) -> Priority {
        self.priority.unwrap_or_default()
    }

    fn deadline(&self, now: Instant, default: Option<Duration>) -> Option<Instant> {
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
    fn a_call_takes_over_the_sooner_deadline_and_the_priority_once() {
        let now = Instant::now();
        let after = |secs| now + Duration::from_secs(secs);
        let default = Some(Duration::from_secs(10));
        let settled = |mut options: CallOptions| {
            let deadline = options.resolve(now, default);
            // What was settled does not change with the place.
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
        }
    }
}
