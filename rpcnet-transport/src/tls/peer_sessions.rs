//! TLS sessions of one node, and the result of verifying its certificate.

use std::{collections::VecDeque, fmt, sync::Arc, time::Duration};

use parking_lot::Mutex;
use rustls::{
    NamedGroup,
    client::{
        ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue, WebPkiServerVerifier,
        danger::ServerCertVerifier,
    },
    time_provider::TimeProvider,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::time::Instant;

use super::verify_failure::VerifyFailure;

/// State that the verifier and the session store of one node share.
pub(super) struct PeerSessions {
    verifier: Arc<WebPkiServerVerifier>,
    lifetime: Duration,
    clock: Arc<dyn TimeProvider>,
    pub(super) state: Mutex<PeerState>,
}

#[derive(Default)]
pub(super) struct PeerState {
    pub(super) failure: Option<VerifyFailure>,
    /// Chain that was verified in the last full handshake.
    pub(super) verified: Option<VerifiedChain>,
    /// Oldest first.
    pub(super) tickets: VecDeque<Tls13ClientSessionValue>,
    group: Option<NamedGroup>,
    pub(super) message_bytes_max: Option<u32>,
}

pub(super) struct VerifiedChain {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) since: Instant,
}

impl PeerSessions {
    /// No sessions yet; those to come can be resumed for `lifetime`.
    pub(super) fn new(
        verifier: Arc<WebPkiServerVerifier>,
        lifetime: Duration,
        clock: Arc<dyn TimeProvider>,
    ) -> Self {
        Self {
            verifier,
            lifetime,
            clock,
            state: Mutex::default(),
        }
    }

    pub(super) fn verifier(&self) -> &WebPkiServerVerifier {
        &self.verifier
    }

    /// Stores the result of verifying a certificate.
    pub(super) fn on_verified(&self, result: Result<Vec<CertificateDer<'static>>, VerifyFailure>) {
        let mut state = self.state.lock();
        match result {
            Ok(chain) => {
                let since = Instant::now();
                state.failure = None;
                // Sessions stand for the certificates that they began with.
                if (state.verified.as_ref()).is_some_and(|before| before.chain != chain) {
                    state.tickets.clear();
                }
                state.verified = Some(VerifiedChain { chain, since });
            }
            Err(failure) => {
                state.failure = Some(failure);
                state.clear_sessions();
            }
        }
    }

    /// Newest ticket, if the certificate behind it would still be accepted. TLS itself does not
    /// verify it again.
    pub(super) fn take_ticket(
        &self,
        name: &ServerName<'_>,
        now: UnixTime,
        instant: Instant,
    ) -> Option<Tls13ClientSessionValue> {
        let mut state = self.state.lock();
        let ticket = state.tickets.pop_back()?;
        let verified = state.verified.as_ref()?;
        let is_fresh = instant.saturating_duration_since(verified.since) <= self.lifetime;
        if is_fresh && self.is_trusted(&verified.chain, name, now) {
            return Some(ticket);
        }
        state.clear_sessions();
        None
    }

    fn now(&self) -> UnixTime {
        self.clock.current_time().unwrap_or_else(UnixTime::now)
    }

    fn is_trusted(
        &self,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> bool {
        let Some((end_entity, intermediates)) = chain.split_first() else {
            return false;
        };
        self.verifier
            .verify_server_cert(end_entity, intermediates, name, &[], now)
            .is_ok()
    }
}

impl PeerState {
    fn clear_sessions(&mut self) {
        self.verified = None;
        self.tickets.clear();
    }
}

impl ClientSessionStore for PeerSessions {
    fn set_kx_hint(&self, _name: ServerName<'static>, group: NamedGroup) {
        self.state.lock().group = Some(group);
    }

    fn kx_hint(&self, _name: &ServerName<'_>) -> Option<NamedGroup> {
        self.state.lock().group
    }

    fn set_tls12_session(&self, _name: ServerName<'static>, _value: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _name: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _name: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        let mut state = self.state.lock();
        if self.lifetime.is_zero() || state.verified.is_none() {
            return;
        }
        if state.tickets.len() == TICKETS_MAX {
            state.tickets.pop_front();
        }
        state.tickets.push_back(ticket);
    }

    fn take_tls13_ticket(&self, name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.take_ticket(name, self.now(), Instant::now())
    }
}

impl fmt::Debug for PeerSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerSessions").finish_non_exhaustive()
    }
}

/// Most tickets of one node: connections that can be resumed concurrently.
pub(super) const TICKETS_MAX: usize = 4;
