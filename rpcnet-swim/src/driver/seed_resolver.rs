//! Seed resolution: DNS lookups of all seeds, and which addresses are this node's own.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::outcome::SeedFailure;
use super::seed_list::are_families_compatible;
use super::shared::DriverShared;
use crate::engine::address::canonical;

/// Result of one lookup of all seeds.
#[derive(Debug, Default)]
pub(super) struct ResolvedSeeds {
    /// All addresses.
    pub(super) addrs: Vec<SocketAddr>,
    /// The addresses among them that are this node's own.
    pub(super) own: Vec<SocketAddr>,
    /// Whether some seed did not resolve.
    pub(super) is_partial: bool,
}

/// Resolves all seeds concurrently, so that a slow one delays no other for longer than the limit. A
/// seed that cannot be resolved is recorded and left out. `bound` is the address that this node is
/// bound to.
pub(super) async fn resolve_seeds(
    shared: Arc<DriverShared>,
    seeds: Vec<String>,
    bound: Option<SocketAddr>,
) -> ResolvedSeeds {
    let mut lookups = JoinSet::new();
    for seed in seeds {
        lookups.spawn(async move {
            let found = resolve_seed(&seed).await;
            (seed, found)
        });
    }
    let (mut addrs, mut resolved, mut failures) = (Vec::new(), Vec::new(), Vec::new());
    while let Some(done) = lookups.join_next().await {
        match done {
            Ok((seed, Ok(found))) => {
                addrs.extend(&found);
                resolved.push((seed, found));
            }
            Ok((seed, Err(error))) => {
                failures.push((seed, SeedFailure::Unresolved(error.to_string())));
            }
            // The runtime ends, and this node with it.
            Err(_) => {}
        }
    }
    let is_partial = !failures.is_empty();
    addrs.sort_unstable();
    addrs.dedup();
    let is_own = |addr: &&SocketAddr| bound.is_some_and(|bound| is_own_addr(**addr, bound));
    let own: Vec<_> = addrs.iter().filter(is_own).copied().collect();
    let changes = shared
        .seeds
        .lock()
        .record_lookup(resolved, failures, own.clone());
    // The log may be slow: it is written without the lock.
    changes.log();
    shared.update_seed_reachability();
    ResolvedSeeds {
        own,
        addrs,
        is_partial,
    }
}

/// Resolves one seed.
async fn resolve_seed(seed: &str) -> io::Result<Vec<SocketAddr>> {
    match timeout(RESOLVE_TIMEOUT, lookup_host(seed)).await {
        Ok(found) => found.map(|addrs| addrs.map(canonical).collect()),
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "timed out")),
    }
}

/// Whether a datagram sent to `addr` from this host arrives at a socket that is bound to `bound`.
pub(super) fn is_own_addr(addr: SocketAddr, bound: SocketAddr) -> bool {
    let reaches =
        addr.ip() == bound.ip() || (bound.ip().is_unspecified() && is_interface_addr(addr));
    addr.port() == bound.port() && are_families_compatible(bound, addr) && reaches
}

/// Whether an interface of this host has the address, by the routing table: datagrams to it leave
/// from it. That it can be bound proves nothing where `net.ipv4.ip_nonlocal_bind` is set.
fn is_interface_addr(addr: SocketAddr) -> bool {
    let ip = addr.ip().to_canonical();
    let any: IpAddr = match ip {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let source = || {
        let probe = UdpSocket::bind((any, 0))?;
        probe.connect((ip, 9))?;
        probe.local_addr()
    };
    ip.is_loopback() || source().is_ok_and(|source| source.ip() == ip)
}

const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_of_this_host_is_its_own_when_bound_to_all() {
        let is_own =
            |addr: &str, bound: &str| is_own_addr(addr.parse().unwrap(), bound.parse().unwrap());
        assert!(is_own("127.0.0.1:7946", "127.0.0.1:7946"));
        assert!(is_own("127.0.0.1:7946", "0.0.0.0:7946"));
        assert!(is_own("127.0.0.9:7946", "0.0.0.0:7946"));
        assert!(!is_own("127.0.0.1:7947", "0.0.0.0:7946"), "another port");
        assert!(!is_own("127.0.0.9:7946", "127.0.0.1:7946"), "bound to one");
        assert!(!is_own("[::1]:7946", "0.0.0.0:7946"), "of another family");
        assert!(is_own("127.0.0.1:7946", "[::]:7946"), "of both");
        // For documentation (RFC 5737): no host has it.
        assert!(!is_own("192.0.2.1:7946", "0.0.0.0:7946"));
    }
}
