//! Seed list: the seeds of a node, their last lookup, and why each has not let the node in.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::outcome::SeedFailure;
use crate::cluster_mismatch::ClusterMismatch;

/// The seeds, and the result of the last lookup.
#[derive(Debug, Default)]
pub(super) struct SeedList {
    texts: Vec<String>,
    /// Addresses of each seed that resolves.
    resolved: Vec<(String, Vec<SocketAddr>)>,
    unresolved: Vec<(String, SeedFailure)>,
    /// Addresses of this node among the resolved ones.
    own: Vec<SocketAddr>,
    /// The address that this node is bound to.
    bound: Option<SocketAddr>,
    /// Seeds that were logged as not resolving, and when.
    warned: Vec<(String, Instant)>,
    /// Whether it was logged that this node began a cluster of its own.
    bootstrap_logged: bool,
}

impl SeedList {
    /// The seeds of a node that is bound to `bound`.
    pub(super) fn new(texts: Vec<String>, bound: SocketAddr) -> Self {
        Self {
            texts,
            bound: Some(bound),
            ..Self::default()
        }
    }

    pub(super) fn add(&mut self, seeds: Vec<String>) {
        for seed in seeds {
            if !self.texts.contains(&seed) {
                self.texts.push(seed);
            }
        }
    }

    /// Records the result of a lookup, with this node's `own` addresses in it. Returns the seeds to
    /// log: those that resolve again, and those that do not, each at the beginning and then once a
    /// minute.
    pub(super) fn record_lookup(
        &mut self,
        resolved: Vec<(String, Vec<SocketAddr>)>,
        unresolved: Vec<(String, SeedFailure)>,
        own: Vec<SocketAddr>,
    ) -> SeedLookupChanges {
        let now = Instant::now();
        let mut changes = SeedLookupChanges::default();
        let fails = |seed: &str| unresolved.iter().any(|(text, _)| text == seed);
        self.warned.retain(|(seed, at)| {
            let still = fails(seed);
            if !still {
                changes.resolved.push(seed.clone());
            }
            still && now.duration_since(*at) < WARNING_INTERVAL
        });
        for (seed, failure) in &unresolved {
            if !self.warned.iter().any(|(warned, _)| warned == seed) {
                changes.unresolved.push((seed.clone(), failure.clone()));
                self.warned.push((seed.clone(), now));
            }
        }
        self.resolved = resolved;
        self.unresolved = unresolved;
        self.own = own;
        changes
    }

    /// The seeds as they were given.
    pub(super) fn texts(&self) -> &[String] {
        &self.texts
    }

    /// Each seed and its failure, with the refusals that came from some of their addresses.
    pub(super) fn failures(
        &self,
        refusals: &[(SocketAddr, ClusterMismatch)],
    ) -> Vec<(String, SeedFailure)> {
        let failure = |seed: &String| {
            if let Some((_, failure)) = self.unresolved.iter().find(|(text, _)| text == seed) {
                return failure.clone();
            }
            let addrs = self.addrs(seed);
            let refusal = refusals.iter().find(|(addr, _)| addrs.contains(addr));
            match refusal {
                Some((_, mismatch)) => SeedFailure::Refused(*mismatch),
                None => self.failure_without_answer(seed),
            }
        };
        let texts = self.texts.iter();
        texts.map(|seed| (seed.clone(), failure(seed))).collect()
    }

    /// Removes the seeds that are this node itself.
    pub(super) fn retain_foreign(&self, failures: &mut Vec<(String, SeedFailure)>) {
        failures.retain(|(seed, _)| !self.is_own(seed));
    }

    /// Records that it is logged that this node began a cluster of its own. Returns `false` if it
    /// was logged before.
    pub(super) fn record_bootstrap_logged(&mut self) -> bool {
        !std::mem::replace(&mut self.bootstrap_logged, true)
    }

    fn addrs(&self, seed: &str) -> &[SocketAddr] {
        let resolved = self.resolved.iter().find(|(text, _)| text == seed);
        resolved.map_or(&[], |(_, addrs)| addrs)
    }

    /// Failure of a seed that resolves and gave no reason for not letting this node in.
    fn failure_without_answer(&self, seed: &str) -> SeedFailure {
        let addrs = self.addrs(seed);
        match (addrs, self.bound) {
            ([addr, ..], Some(bound))
                if !addrs
                    .iter()
                    .any(|addr| are_families_compatible(bound, *addr)) =>
            {
                SeedFailure::AddressFamilyMismatch { seed: *addr, bound }
            }
            _ => SeedFailure::NoAnswer,
        }
    }

    /// Whether every seed resolves, and none to an address that this node's socket can send to.
    pub(super) fn are_unreachable(&self) -> bool {
        let is_out = |seed: &String| {
            matches!(
                self.failure_without_answer(seed),
                SeedFailure::AddressFamilyMismatch { .. }
            )
        };
        !self.texts.is_empty() && self.texts.iter().all(is_out)
    }

    /// Whether every address of a seed is this node's own.
    fn is_own(&self, seed: &str) -> bool {
        let addrs = self.addrs(seed);
        !addrs.is_empty() && addrs.iter().all(|addr| self.own.contains(addr))
    }
}

/// Whether a socket bound to one address can send to the other: IPv6 reaches IPv4 if it is bound to
/// all addresses.
pub(super) fn are_families_compatible(bound: SocketAddr, addr: SocketAddr) -> bool {
    let is_ipv4 = |addr: SocketAddr| addr.ip().to_canonical().is_ipv4();
    is_ipv4(bound) == is_ipv4(addr) || (bound.is_ipv6() && bound.ip().is_unspecified())
}

/// Changes since the lookup before, for the log.
#[derive(Debug, Default)]
pub(super) struct SeedLookupChanges {
    resolved: Vec<String>,
    unresolved: Vec<(String, SeedFailure)>,
}

impl SeedLookupChanges {
    pub(super) fn log(&self) {
        for seed in &self.resolved {
            tracing::info!(%seed, "seed resolves now");
        }
        for (seed, failure) in &self.unresolved {
            tracing::warn!(%seed, %failure, "seed does not resolve; it is looked up again");
        }
    }
}

/// Time between two warnings that a seed does not resolve.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);
