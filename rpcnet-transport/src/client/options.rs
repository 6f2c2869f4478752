//! What a caller may set for one call.

use std::time::Duration;

use tokio::time::Instant;

/// How one call is made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CallOptions {
    limit: Limit,
    pub(crate) attempt: u8,
    pub(crate) idempotent: bool,
    pub(crate) isolated: bool,
    pub(crate) replay_safe: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Limit {
    #[default]
    OfClient,
    Within(Duration),
    By(Instant),
    None,
}

impl CallOptions {
    /// A call with the client's default timeout, first attempt, not idempotent.
    pub fn new() -> Self {
        Self::default()
    }

    /// The call ends after this time at the latest, counted from when it is made. It replaces the client's default,
    /// [`TransportConfig::with_call_timeout`](crate::TransportConfig::with_call_timeout).
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.limit = Limit::Within(timeout);
        self
    }

    /// The call ends at this time at the latest.
    #[must_use]
    pub fn with_deadline(mut self, deadline: std::time::Instant) -> Self {
        self.limit = Limit::By(deadline.into());
        self
    }

    /// The call may take for ever: for streams that are meant to stay open. It still ends with its connection.
    #[must_use]
    pub fn without_deadline(mut self) -> Self {
        self.limit = Limit::None;
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

    /// The same call, with what is left of its time.
    pub(crate) fn until(mut self, deadline: Option<Instant>) -> Self {
        self.limit = deadline.map_or(Limit::None, Limit::By);
        self
    }

    pub(crate) fn deadline(&self, now: Instant, default: Duration) -> Option<Instant> {
        let after = |wait| now.checked_add(wait);
        match self.limit {
            Limit::OfClient => after(default),
            Limit::Within(timeout) => after(timeout),
            Limit::By(deadline) => Some(deadline),
            Limit::None => None,
        }
    }
}
