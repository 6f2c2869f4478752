//! Join state: hellos and challenges in progress, known addresses, and whether this node is in.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use super::Sender;
use super::bounded_queue::BoundedQueue;
use super::compact_addr::CompactAddr;
use super::prf::{INPUT_BYTES, PrfKey};
use super::seeds::Seeds;
use crate::error::JoinRefusal;
use crate::time::Time;

/// Progress of a node into its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum JoinStage {
    Joining,
    /// A seed let this node in, or it needs none.
    Joined,
    /// The view has agreed with another member's since.
    ViewComplete,
}

/// Progress of joining, and known addresses of the cluster.
#[derive(Debug)]
pub(crate) struct JoinState {
    stage: JoinStage,
    /// View hash of the member that let this node in, as it was then.
    pub(super) peer_view: Option<u64>,
    pub(super) seeds: Seeds,
    /// Addresses of forgotten members, to be dialled by a node that is alone.
    pub(super) address_book: BoundedQueue<SocketAddr, ADDRESS_BOOK_MAX>,
    /// Unanswered hellos: counter and address.
    pending_hellos: BoundedQueue<(u64, SocketAddr), HELLOS_MAX>,
    /// Counters of recent datagrams whose challenge was answered, so that a replayed challenge is
    /// not.
    challenged: BTreeSet<u64>,
    conflict_reported: bool,
    /// Member that refused this node, and why.
    pub(super) refusal: Option<(SocketAddr, JoinRefusal)>,
    cookie_key: PrfKey,
}

impl JoinState {
    pub(crate) fn new(cookie_key: PrfKey) -> Self {
        Self {
            stage: JoinStage::Joining,
            peer_view: None,
            seeds: Seeds::new(),
            address_book: BoundedQueue::default(),
            pending_hellos: BoundedQueue::default(),
            challenged: BTreeSet::new(),
            conflict_reported: false,
            refusal: None,
            cookie_key,
        }
    }

    pub(crate) fn is_joined(&self) -> bool {
        self.stage != JoinStage::Joining
    }

    /// Records that this node is in. Says whether that is new.
    pub(crate) fn enter(&mut self) -> bool {
        let is_new = !self.is_joined();
        if is_new {
            self.stage = JoinStage::Joined;
        }
        is_new
    }

    pub(super) fn is_view_complete(&self) -> bool {
        self.stage == JoinStage::ViewComplete
    }

    /// Records that the view agrees with another member's.
    pub(super) fn complete_view(&mut self) {
        if self.is_joined() {
            self.stage = JoinStage::ViewComplete;
        }
    }

    /// Keeps the address of a forgotten member.
    pub(crate) fn remember_addr(&mut self, addr: SocketAddr) {
        self.address_book.retain(|known| *known != addr);
        self.address_book.push(addr);
    }

    /// Marks the conflict as reported. True the first time.
    pub(crate) fn report_conflict(&mut self) -> bool {
        !std::mem::replace(&mut self.conflict_reported, true)
    }

    /// Starts over as a node that has not joined; known addresses are kept.
    pub(super) fn reset(&mut self) {
        self.stage = match self.seeds.reset() {
            true => JoinStage::Joining,
            false => JoinStage::Joined,
        };
        (self.peer_view, self.refusal) = (None, None);
    }

    /// Whether `addr` is the only seed.
    pub(super) fn has_only_seed(&self, addr: SocketAddr) -> bool {
        self.seeds.addrs() == [addr]
    }

    /// Addresses where members may be, beside those of the table.
    pub(super) fn candidate_addrs(&self) -> impl Iterator<Item = SocketAddr> {
        let seeds = self.seeds.addrs().iter();
        seeds.chain(self.address_book.iter()).copied()
    }

    #[cfg(feature = "unstable")]
    pub(crate) fn pending_hellos_len(&self) -> usize {
        self.pending_hellos.len()
    }

    pub(super) fn record_hello(&mut self, counter: u64, addr: SocketAddr) {
        self.pending_hellos.push((counter, addr));
    }

    /// Whether `echo`, the counter of a recent datagram, is challenged for the first time.
    pub(super) fn accept_challenge(&mut self, echo: u64, counter: u64) -> bool {
        let oldest = counter.saturating_sub(ECHO_AGE_MAX);
        self.challenged = self.challenged.split_off(&oldest);
        (oldest..=counter).contains(&echo) && self.challenged.insert(echo)
    }

    /// Whether `echo` answers a hello that was sent to `addr`; it does so once.
    pub(super) fn accept_hello_answer(&mut self, echo: u64, addr: SocketAddr) -> bool {
        let found = self
            .pending_hellos
            .iter()
            .position(|hello| *hello == (echo, addr));
        found.is_some_and(|at| self.pending_hellos.remove(at).is_some())
    }

    /// Destination of the pending hello of this counter, if it is pending.
    pub(super) fn pending_hello_addr(&self, counter: u64) -> Option<SocketAddr> {
        let hello = self.pending_hellos.iter().find(|hello| hello.0 == counter);
        hello.map(|hello| hello.1)
    }

    /// Whether a hello of this counter to this address is pending.
    pub(crate) fn has_hello_to(&self, counter: u64, addr: SocketAddr) -> bool {
        self.pending_hellos.contains(&(counter, addr))
    }

    /// Proof that `sender` received something at its address in the period of `now`.
    pub(super) fn cookie(&self, sender: Sender, now: Time) -> u64 {
        self.cookie_of(sender, cookie_period(now))
    }

    /// Number that only this node knows until it is sent, for the datagram of this counter. Never
    /// zero, which means that there is none.
    pub(super) fn nonce(&self, counter: u64, key: u64) -> u64 {
        // No cookie has this last byte in its input.
        let mut input = [0xff; INPUT_BYTES];
        input[..8].copy_from_slice(&counter.to_le_bytes());
        input[8..16].copy_from_slice(&key.to_le_bytes());
        self.cookie_key.value(&input).max(1)
    }

    fn cookie_of(&self, sender: Sender, period: u64) -> u64 {
        let (mut who, mut addr) = ([0; INPUT_BYTES], [0; INPUT_BYTES]);
        who[..8].copy_from_slice(&sender.instance().to_le_bytes());
        who[8..16].copy_from_slice(&period.to_le_bytes());
        let bytes = CompactAddr::from(sender.addr).to_bytes();
        addr[..bytes.len()].copy_from_slice(&bytes);
        // Zero means that there is no cookie.
        self.cookie_key.derive(&who).value(&addr).max(1)
    }

    /// Whether the cookie was given to `sender` in this period or the one before.
    pub(super) fn is_valid_cookie(&self, cookie: u64, sender: Sender, now: Time) -> bool {
        let period = cookie_period(now);
        [period, period.saturating_sub(1)]
            .into_iter()
            .any(|period| self.cookie_of(sender, period) == cookie)
    }
}

fn cookie_period(now: Time) -> u64 {
    now.as_micros() / COOKIE_PERIOD.as_micros() as u64
}

/// A cookie is valid for one to two of these periods; members are remembered longer.
const COOKIE_PERIOD: Duration = Duration::from_secs(30);
/// Age of a datagram whose challenge is answered, in datagrams.
pub(crate) const ECHO_AGE_MAX: u64 = 4_096;
/// Most hellos that wait for an answer.
pub(crate) const HELLOS_MAX: usize = 64;
/// Most addresses of forgotten members.
const ADDRESS_BOOK_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn sender(port: u16, epoch: u64) -> Sender {
        Sender {
            addr: addr(port),
            key: 7,
            epoch,
            counter: 1,
            sealed_with: None,
            bytes: 100,
        }
    }

    fn join_state(secret: u8) -> JoinState {
        JoinState::new(PrfKey::new([secret; 32]))
    }

    #[test]
    fn a_cookie_is_valid_for_its_sender_and_for_one_to_two_periods() {
        let join = join_state(99);
        let at = |periods: f64| Time::ZERO + COOKIE_PERIOD.mul_f64(periods);
        let cookie = join.cookie(sender(1, 5), at(3.5));
        assert!(join.is_valid_cookie(cookie, sender(1, 5), at(4.9)));
        assert!(
            !join.is_valid_cookie(cookie, sender(1, 5), at(5.0)),
            "too old"
        );
        assert!(
            !join.is_valid_cookie(cookie, sender(2, 5), at(3.5)),
            "another address"
        );
        assert!(
            !join.is_valid_cookie(cookie, sender(1, 6), at(3.5)),
            "another epoch"
        );
        let other = join_state(98);
        assert!(
            !other.is_valid_cookie(cookie, sender(1, 5), at(3.5)),
            "another secret"
        );
    }

    #[test]
    fn each_datagram_has_a_nonce_of_its_own() {
        let join = join_state(99);
        let nonces = [join.nonce(1, 7), join.nonce(2, 7), join.nonce(1, 8)];
        assert_eq!(join.nonce(1, 7), nonces[0]);
        assert_eq!(BTreeSet::from(nonces).len(), 3);
        assert_ne!(join_state(98).nonce(1, 7), nonces[0], "another secret");
    }

    #[test]
    fn a_hello_is_answered_once_and_from_where_it_was_sent() {
        let mut join = join_state(99);
        for counter in 1..=HELLOS_MAX as u64 + 1 {
            join.record_hello(counter, addr(counter as u16));
        }
        assert!(!join.has_hello_to(1, addr(1)), "the oldest is dropped");
        assert!(!join.accept_hello_answer(2, addr(3)) && join.accept_hello_answer(2, addr(2)));
        assert!(!join.accept_hello_answer(2, addr(2)));
        assert_eq!(join.pending_hello_addr(3), Some(addr(3)));
    }

    #[test]
    fn a_challenge_is_answered_once_and_only_to_a_recent_datagram() {
        let mut join = join_state(99);
        let counter = 3 * ECHO_AGE_MAX;
        assert!(join.accept_challenge(counter, counter));
        assert!(!join.accept_challenge(counter, counter), "a replay");
        assert!(!join.accept_challenge(counter + 1, counter), "not sent yet");
        assert!(
            !join.accept_challenge(counter - ECHO_AGE_MAX - 1, counter),
            "too old"
        );
        assert!(join.accept_challenge(counter - ECHO_AGE_MAX, counter));
    }

    #[test]
    fn the_view_is_complete_only_after_joining() {
        let mut join = join_state(99);
        join.complete_view();
        assert!(!join.is_joined() && !join.is_view_complete());
        assert!(join.enter() && !join.enter());
        join.complete_view();
        assert!(join.is_joined() && join.is_view_complete() && !join.enter());
        assert!(join.is_view_complete(), "it stays so");
    }

    #[test]
    fn the_address_book_keeps_the_latest() {
        let mut join = join_state(99);
        for port in 1..=ADDRESS_BOOK_MAX as u16 + 1 {
            join.remember_addr(addr(port));
        }
        join.remember_addr(addr(2));
        let known: Vec<_> = join.candidate_addrs().collect();
        assert_eq!((known.len(), known[0]), (ADDRESS_BOOK_MAX, addr(3)));
        assert_eq!(known.last(), Some(&addr(2)));
    }
}
