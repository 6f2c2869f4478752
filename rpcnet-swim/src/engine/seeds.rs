//! Seeds: which addresses are dialled to join, when, and what happens if none answers.
//!
//! A node that has not joined, or is alone, dials up to eight of its seeds on one timer that backs
//! off, whatever the lookups bring. An address that a lookup brings for the first time is dialled
//! at once, up to a bound in each probe interval. A node that has joined checks now and then
//! whether a seed belongs to another cluster of its name, to merge with it.

use std::net::SocketAddr;
use std::time::Duration;

use super::timers::NamedTimer;
use super::{DetectorHooks, Engine, Phase};
use crate::time::Time;

/// Seeds of the last lookup, and when they are dialled.
#[derive(Debug, Default)]
pub(crate) struct Seeds {
    /// Addresses of the last lookup, without those that are known to be this node's own.
    addrs: Vec<SocketAddr>,
    /// Addresses of this node, beside the advertised one.
    local_addrs: Vec<SocketAddr>,
    /// Seeds from which this node's own hello came back.
    echoed: Vec<SocketAddr>,
    /// Whether a seed of the lookup in progress did not resolve.
    unresolved: bool,
    /// When a node that is one of its own seeds bootstraps a cluster, if none of the others
    /// answers.
    bootstrap_at: Option<Time>,
    /// Whether this node bootstrapped a cluster because no other seed had answered.
    bootstrapped: bool,
    /// Consecutive attempts at which this node had not joined or was alone.
    attempts: u32,
    /// Whether a lookup was requested whose result is to be tried soon.
    urgent: bool,
    lookup_wanted: bool,
    /// Start of the window in which fresh addresses are counted, and their number.
    fresh_dials: (Time, usize),
}

impl Seeds {
    pub(crate) fn new() -> Self {
        Self {
            lookup_wanted: true,
            ..Self::default()
        }
    }

    pub(crate) fn take_lookup_request(&mut self) -> bool {
        let wanted = std::mem::take(&mut self.lookup_wanted);
        if wanted {
            // From the lookup before.
            self.unresolved = false;
        }
        wanted
    }

    /// Requests a lookup whose result is to be tried soon.
    pub(crate) fn request_lookup(&mut self) {
        self.lookup_wanted = true;
        self.urgent = true;
        self.attempts = 0;
    }

    /// Addresses of the last lookup, without those that are known to be this node's own.
    pub(super) fn addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    /// Starts over with the attempts to join. Says whether there is an address to dial.
    pub(super) fn reset(&mut self) -> bool {
        self.attempts = 0;
        (self.bootstrap_at, self.bootstrapped) = (None, false);
        !self.addrs.is_empty()
    }

    pub(crate) fn record_unresolved(&mut self) {
        self.unresolved = true;
    }

    /// Sets the addresses of this node. One that was its own may be another's since.
    pub(crate) fn set_local_addrs(&mut self, mut own: Vec<SocketAddr>) {
        own.truncate(LOCAL_ADDRS_MAX);
        self.addrs.retain(|seed| !own.contains(seed));
        self.local_addrs = own;
    }

    /// Number of fresh addresses that may be dialled now.
    fn fresh_dials_left(&mut self, now: Time, window: Duration) -> usize {
        if now.since(self.fresh_dials.0) >= window {
            self.fresh_dials = (now, 0);
        }
        DIALS_MAX.saturating_sub(self.fresh_dials.1)
    }
}

/// Inputs of a driver that resolves the seeds.
impl<D: DetectorHooks> Engine<D> {
    /// Takes in what the seeds resolve to now, and dials those that are new. This is how to join;
    /// with no seeds at all, or none but this node itself, the node is a cluster of its own.
    ///
    /// A node that is one of its seeds, and that none of the others lets in within two probe
    /// intervals (or half of the join timeout, if that is shorter), bootstraps a cluster of its own
    /// too. It goes on dialling the others, and merges with those that answer.
    pub fn handle_seeds(&mut self, now: Time, seeds: &[SocketAddr]) {
        let now = self.running_time(now);
        self.set_seeds(now, seeds);
    }

    /// Records that some seeds did not resolve. If others did,
    /// [`handle_seeds`](Self::handle_seeds) is called next, with those. They are asked for again,
    /// with backoff; unlike with no seeds at all, this node has not joined yet.
    pub fn handle_unresolved_seeds(&mut self, now: Time) {
        let now = self.running_time(now);
        self.seeds_unresolved(now);
    }

    /// Sets the addresses that are this node's own now, beside the advertised one: as seeds they
    /// are ignored. They replace those of an earlier call; at most 64 are kept.
    pub fn set_own_addrs(&mut self, own: Vec<SocketAddr>) {
        self.join.seeds.set_local_addrs(own);
    }

    /// Whether the seeds are to be resolved, for [`handle_seeds`](Self::handle_seeds). True once.
    pub fn wants_seeds(&mut self) -> bool {
        self.phase == Phase::Active && self.join.seeds.take_lookup_request()
    }

    /// Whether this node bootstrapped a cluster of its own because no other seed answered in time.
    pub fn has_bootstrapped(&self) -> bool {
        self.join.seeds.bootstrapped
    }

    /// Requests that the seeds be resolved now rather than at the next attempt to join.
    pub fn want_seeds(&mut self) {
        self.join.seeds.request_lookup();
    }
}

impl<D: DetectorHooks> Engine<D> {
    pub(super) fn set_seeds(&mut self, now: Time, seeds: &[SocketAddr]) {
        let unresolved = std::mem::take(&mut self.join.seeds.unresolved);
        let urgent = std::mem::take(&mut self.join.seeds.urgent);
        let others: Vec<_> = seeds
            .iter()
            .copied()
            .filter(|seed| !self.is_own_addr(*seed))
            .collect();
        let is_seed = others.len() < seeds.len();
        let known = std::mem::replace(&mut self.join.seeds.addrs, others);
        let Seeds {
            addrs,
            echoed: echoes,
            ..
        } = &mut self.join.seeds;
        echoes.retain(|echo| addrs.contains(echo));
        if self.phase != Phase::Active {
            return;
        }
        if !self.join.seeds.addrs.is_empty() || unresolved {
            if is_seed {
                self.schedule_bootstrap(now);
            }
        } else if is_seed || self.join.seeds.attempts == 0 {
            // There is no other address to join through.
            self.join.enter();
        }
        #[cfg(feature = "unstable")]
        if self.instruments.lookup_loops {
            return self.on_join_timer(now);
        }
        self.dial_fresh(now, &known);
        match self.needs_join(now) {
            true if !self.timers.is_set(NamedTimer::Join) || urgent => {
                let wait = self.next_join_wait();
                self.timers.set_no_later(NamedTimer::Join, now + wait);
            }
            false if urgent && self.unknown_seeds().next().is_some() => {
                let again = now + self.config.probe_interval;
                self.timers.set_no_later(NamedTimer::Join, again);
            }
            _ => {
                let check = now + SEED_CHECK_ROUNDS * self.config.probe_interval;
                self.timers.set_if_unset(NamedTimer::Join, check);
            }
        }
    }

    /// Records that a seed did not resolve: the next attempt asks for it again.
    pub(super) fn seeds_unresolved(&mut self, now: Time) {
        self.join.seeds.record_unresolved();
        self.timers
            .set_if_unset(NamedTimer::Join, now + self.config.probe_interval / 2);
    }

    /// Handles a hello of this node that came back: the seed may be this node itself, under an
    /// address that it does not know of. An attacker without the key can send a hello back too, so
    /// it counts only if the hellos to all seeds came back.
    pub(super) fn on_own_hello(&mut self, now: Time, counter: u64) {
        let Some(addr) = self.join.pending_hello_addr(counter) else {
            return;
        };
        let seeds = &mut self.join.seeds;
        if seeds.addrs.contains(&addr) && !seeds.echoed.contains(&addr) {
            seeds.echoed.push(addr);
        }
        let all = seeds.addrs.iter().all(|seed| seeds.echoed.contains(seed));
        if all && !seeds.addrs.is_empty() {
            self.schedule_bootstrap(now);
        }
    }

    /// Schedules the bootstrap of a cluster, as this node is one of its seeds and no other may let
    /// it in.
    pub(super) fn schedule_bootstrap(&mut self, now: Time) {
        if self.join.is_joined() || self.join.seeds.bootstrap_at.is_some() {
            return;
        }
        let wait = BOOTSTRAP_AFTER_ROUNDS * self.config.probe_interval;
        let at = now + wait.min(self.config.join_timeout / 2);
        self.join.seeds.bootstrap_at = Some(at);
        self.timers.set_no_later(NamedTimer::Join, at);
    }

    /// Dials the addresses that the last lookup brought for the first time, up to the bound of a
    /// probe interval.
    fn dial_fresh(&mut self, now: Time, known: &[SocketAddr]) {
        if !D::dials_seeds(self) {
            return;
        }
        let mut fresh: Vec<_> = self
            .unknown_seeds()
            .filter(|seed| !known.contains(seed))
            .collect();
        self.rng.shuffle(&mut fresh);
        let window = self.config.probe_interval;
        fresh.truncate(self.join.seeds.fresh_dials_left(now, window));
        self.join.seeds.fresh_dials.1 += fresh.len();
        for seed in fresh {
            self.send_hello(seed, 0, 0);
        }
    }

    /// Handles the join timer. A node that has not joined, or is alone, dials random seeds and
    /// known addresses; one that has joined checks whether a seed belongs to another cluster of
    /// this name, to merge with it.
    pub(super) fn on_join_timer(&mut self, now: Time) {
        if self.phase != Phase::Active {
            return;
        }
        if !D::dials_seeds(self) {
            return;
        }
        self.join.seeds.lookup_wanted = true;
        if !self.join.is_joined() && self.join.seeds.bootstrap_at.is_some_and(|at| at <= now) {
            self.join.enter();
            self.join.seeds.bootstrapped = true;
        }
        if !self.needs_join(now) {
            self.join.seeds.attempts = 0;
            let unknown: Vec<_> = self.unknown_seeds().collect();
            if !unknown.is_empty() {
                let seed = unknown[self.rng.usize(..unknown.len())];
                self.send_hello(seed, 0, 0);
            }
            let wait = SEED_CHECK_ROUNDS * self.config.probe_interval;
            return self.timers.set(
                NamedTimer::Join,
                now + wait.mul_f64(0.75 + 0.5 * self.rng.f64()),
            );
        }
        let mut addrs: Vec<_> = self.join.seeds.addrs.clone();
        self.rng.shuffle(&mut addrs);
        addrs.truncate(DIALS_MAX);
        let mut known = self.known_addrs();
        known.extend(self.join.address_book.iter());
        known.retain(|addr| !addrs.contains(addr) && !self.is_own_addr(*addr));
        self.rng.shuffle(&mut known);
        addrs.extend(known.into_iter().take(DIALS_MAX));
        for addr in addrs {
            self.send_hello(addr, 0, 0);
        }
        let wait = self.next_join_wait();
        self.timers.set(NamedTimer::Join, now + wait);
        if let Some(at) = self
            .join
            .seeds
            .bootstrap_at
            .filter(|_| !self.join.is_joined())
        {
            self.timers.set_no_later(NamedTimer::Join, at);
        }
    }

    /// Whether this node tries to join: it has not joined, has no other member, or hears none.
    fn needs_join(&self, now: Time) -> bool {
        !self.join.is_joined() || self.table.live().is_empty() || self.is_isolated(now)
    }

    /// Time until the next attempt to join, which grows.
    fn next_join_wait(&mut self) -> Duration {
        let unit = self.config.probe_interval;
        let wait = unit.mul_f64(0.5 * 1.5f64.powi(self.join.seeds.attempts as i32));
        self.join.seeds.attempts = (self.join.seeds.attempts + 1).min(ATTEMPTS_MAX);
        let wait = wait.min(JOIN_BACKOFF_ROUNDS * unit);
        wait.mul_f64(0.75 + 0.5 * self.rng.f64())
    }

    pub(super) fn is_own_addr(&self, addr: SocketAddr) -> bool {
        addr == self.local.addr || self.join.seeds.local_addrs.contains(&addr)
    }

    /// Addresses of members: all, or a random part if there are many.
    pub(super) fn known_addrs(&mut self) -> Vec<SocketAddr> {
        if self.table.len() <= KNOWN_MAX {
            return self.table.iter().map(|(_, entry)| entry.addr()).collect();
        }
        (0..KNOWN_MAX)
            .filter_map(|_| {
                self.table
                    .nearest(self.rng.u64(..))
                    .map(|entry| entry.addr())
            })
            .collect()
    }

    /// Seeds that are no live members.
    pub(super) fn unknown_seeds(&self) -> impl Iterator<Item = SocketAddr> {
        self.join
            .seeds
            .addrs
            .iter()
            .copied()
            .filter(|seed| self.table.at_addr(*seed).is_none() && !self.is_own_addr(*seed))
    }
}

/// Most seeds, and most known addresses, dialled at a time; most fresh ones in a probe interval.
const DIALS_MAX: usize = 8;
/// Most members whose addresses are considered.
const KNOWN_MAX: usize = 64;
/// Most addresses of this node.
const LOCAL_ADDRS_MAX: usize = 64;
/// Attempts after which the wait no longer grows.
const ATTEMPTS_MAX: u32 = 16;
/// Longest wait between attempts, in probe intervals.
const JOIN_BACKOFF_ROUNDS: u32 = 10;
/// Time between two checks whether a seed belongs to another cluster, in probe intervals.
const SEED_CHECK_ROUNDS: u32 = 30;
/// How long a node that is one of its seeds waits for the others, in probe intervals.
const BOOTSTRAP_AFTER_ROUNDS: u32 = 2;

#[cfg(test)]
mod tests;
