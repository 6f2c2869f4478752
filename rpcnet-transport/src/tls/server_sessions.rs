//! Server session cache: single-use sessions that callers can resume.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use rustls::server::StoresServerSessions;
use tokio::time::Instant;

use crate::stats::Counters;

/// Sessions of one identity of one endpoint, each for one use.
///
/// They are kept here and not in the tickets, so a ticket is worthless once it was used, once this
/// cache is gone (with a reload or a restart), and on another node. That protects early data
/// against replay: single-use tickets of RFC 8446 section 8.1. A replayed first flight names a
/// session that is gone; it starts a full handshake, and its early data is never decrypted.
pub(crate) struct ServerSessions {
    lifetime: Duration,
    counters: Arc<Counters>,
    stored: Mutex<Stored>,
}

#[derive(Default)]
struct Stored {
    by_ticket: HashMap<Vec<u8>, Session>,
    /// Oldest first; includes some that were taken since.
    order: VecDeque<Vec<u8>>,
}

struct Session {
    value: Vec<u8>,
    since: Instant,
}

impl ServerSessions {
    /// Cache whose sessions can be resumed for `lifetime`.
    pub(crate) fn new(lifetime: Duration, counters: Arc<Counters>) -> Self {
        Self {
            lifetime,
            counters,
            stored: Mutex::default(),
        }
    }

    fn put_at(&self, now: Instant, ticket: Vec<u8>, value: Vec<u8>) {
        let mut stored = self.stored.lock();
        stored.evict(now, self.lifetime);
        stored.order.push_back(ticket.clone());
        stored
            .by_ticket
            .insert(ticket, Session { value, since: now });
    }

    fn take_at(&self, now: Instant, ticket: &[u8]) -> Option<Vec<u8>> {
        let session = self.stored.lock().by_ticket.remove(ticket)?;
        let age = now.saturating_duration_since(session.since);
        (age <= self.lifetime).then_some(session.value)
    }
}

impl Stored {
    /// Makes room for one more session.
    fn evict(&mut self, now: Instant, lifetime: Duration) {
        while let Some(oldest) = self.order.front() {
            let is_wanted = self.by_ticket.get(oldest).is_some_and(|session| {
                self.by_ticket.len() < SESSIONS_MAX
                    && now.saturating_duration_since(session.since) <= lifetime
            });
            if is_wanted {
                break;
            }
            self.by_ticket.remove(oldest);
            self.order.pop_front();
        }
        if self.order.len() >= 2 * SESSIONS_MAX {
            self.order
                .retain(|ticket| self.by_ticket.contains_key(ticket));
        }
    }
}

impl StoresServerSessions for ServerSessions {
    fn put(&self, ticket: Vec<u8>, value: Vec<u8>) -> bool {
        self.put_at(Instant::now(), ticket, value);
        true
    }

    /// Sessions of TLS 1.2, which is not supported.
    fn get(&self, _ticket: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn take(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        self.take_at(Instant::now(), ticket)
            .inspect(|_| self.counters.sessions_resumed.add_one())
    }

    fn can_cache(&self) -> bool {
        true
    }
}

impl fmt::Debug for ServerSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerSessions").finish_non_exhaustive()
    }
}

/// Most sessions in the cache; one with a certificate takes one or two kilobytes.
const SESSIONS_MAX: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    const LIFETIME: Duration = Duration::from_secs(60);

    fn ticket(n: usize) -> Vec<u8> {
        n.to_le_bytes().to_vec()
    }

    fn sessions() -> ServerSessions {
        ServerSessions::new(LIFETIME, Arc::default())
    }

    #[test]
    fn a_session_can_be_taken_once() {
        let sessions = sessions();
        assert!(sessions.put(ticket(1), vec![7]));
        assert_eq!(sessions.take(&ticket(2)), None);
        assert_eq!(sessions.take(&ticket(1)), Some(vec![7]));
        assert_eq!(sessions.take(&ticket(1)), None);
        assert_eq!(sessions.counters.snapshot().sessions_resumed, 1);
    }

    #[test]
    fn a_session_expires_after_its_lifetime() {
        let sessions = sessions();
        let begun = Instant::now();
        let tick = Duration::from_nanos(1);
        sessions.put_at(begun, ticket(1), vec![1]);
        sessions.put_at(begun, ticket(2), vec![2]);
        assert_eq!(
            sessions.take_at(begun + LIFETIME, &ticket(1)),
            Some(vec![1])
        );
        assert_eq!(sessions.take_at(begun + LIFETIME + tick, &ticket(2)), None);
        // Expired sessions are removed when the next one is stored.
        sessions.put_at(begun, ticket(3), vec![3]);
        sessions.put_at(begun + LIFETIME + tick, ticket(4), vec![4]);
        assert_eq!(sessions.stored.lock().by_ticket.len(), 1);
    }

    #[test]
    fn the_oldest_sessions_are_evicted_and_the_cache_stays_bounded() {
        let sessions = sessions();
        let now = Instant::now();
        for n in 0..=SESSIONS_MAX {
            sessions.put_at(now, ticket(n), vec![]);
        }
        assert_eq!(sessions.stored.lock().by_ticket.len(), SESSIONS_MAX);
        assert_eq!(sessions.take_at(now, &ticket(0)), None);
        assert_eq!(sessions.take_at(now, &ticket(1)), Some(vec![]));
        // One session stays while others are stored and taken behind it.
        for n in 1..5 * SESSIONS_MAX {
            sessions.put_at(now, ticket(SESSIONS_MAX + n), vec![]);
            sessions.take_at(now, &ticket(SESSIONS_MAX + n));
        }
        let stored = sessions.stored.lock();
        assert!(stored.order.len() <= 2 * SESSIONS_MAX);
        assert!(stored.by_ticket.contains_key(&ticket(2)));
    }
}
