//! Advertised address: the first guess, before any peer has said what it sees.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use super::seed_resolver::is_own_addr;
use super::shared::DriverShared;
use crate::config::ClusterConfig;

impl DriverShared {
    /// Guesses the advertised address again from these peers, as long as no member knows the node.
    /// `bound` is the address that it is bound to.
    pub(super) fn suggest_advertise_addr(&self, bound: Option<SocketAddr>, peers: &[SocketAddr]) {
        if let Some(bound) = bound.filter(|bound| bound.ip().is_unspecified()) {
            let addr = initial_advertise_addr(&self.config, bound, peers);
            self.input(|engine, _| engine.suggest_advertise_addr(addr));
        }
    }
}

/// The address to advertise at the start: the configured one, or the one bound, or, bound to all
/// interfaces, the one that packets to the peers would leave from.
pub(super) fn initial_advertise_addr(
    config: &ClusterConfig,
    bound: SocketAddr,
    peers: &[SocketAddr],
) -> SocketAddr {
    let mut addr = config.advertise_addr.unwrap_or(bound);
    if addr.port() == 0 {
        addr.set_port(bound.port());
    }
    if addr.ip().is_unspecified() {
        addr = SocketAddr::new(source_ip_towards_peers(bound, peers), addr.port());
    }
    addr
}

/// The address of this host that faces the peers: the first peer elsewhere decides, else one on
/// this host, else a remote address. The own address among the peers says nothing: it may be one
/// that a hosts file gives to the host name and no other host can reach.
fn source_ip_towards_peers(bound: SocketAddr, peers: &[SocketAddr]) -> IpAddr {
    let others = peers.iter().filter(|peer| !is_own_addr(**peer, bound));
    let sources: Vec<IpAddr> = others
        .filter_map(|peer| source_ip_towards(bound, *peer))
        .collect();
    let elsewhere = sources.iter().find(|ip| !ip.is_loopback());
    let far = || {
        REMOTE_ADDRS
            .iter()
            .find_map(|far| source_ip_towards(bound, (*far, 9).into()))
    };
    let loopback = match bound {
        SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    let known = elsewhere.or_else(|| sources.first()).copied();
    // Without a network, peers can only be on this host.
    known.or_else(far).unwrap_or(loopback)
}

/// The source address of packets to `to`, by the routing table; nothing is sent. `None` for a
/// family that `bound` does not speak.
fn source_ip_towards(bound: SocketAddr, to: SocketAddr) -> Option<IpAddr> {
    let to = SocketAddr::new(to.ip().to_canonical(), to.port());
    let any: IpAddr = match (bound, to) {
        (_, SocketAddr::V4(_)) => Ipv4Addr::UNSPECIFIED.into(),
        (SocketAddr::V6(_), SocketAddr::V6(_)) => Ipv6Addr::UNSPECIFIED.into(),
        (SocketAddr::V4(_), SocketAddr::V6(_)) => return None,
    };
    let probe = UdpSocket::bind((any, 0)).ok()?;
    probe.connect(to).ok()?;
    let source = probe.local_addr().ok()?.ip();
    (!source.is_unspecified()).then_some(source)
}

/// Documentation addresses (RFC 3849, RFC 5737), which are routed like any other remote one.
const REMOTE_ADDRS: [IpAddr; 2] = [
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn advertised_for(config: &ClusterConfig, bound: &str, peers: &[&str]) -> SocketAddr {
        let peers: Vec<_> = peers.iter().map(|peer| addr(peer)).collect();
        initial_advertise_addr(config, addr(bound), &peers)
    }

    #[test]
    fn the_advertised_address_is_usable() {
        let lan = ClusterConfig::lan();
        assert_eq!(
            advertised_for(&lan, "127.0.0.1:7", &[]),
            addr("127.0.0.1:7")
        );
        let behind_nat = lan.clone().with_advertise_addr(addr("203.0.113.5:0"));
        assert_eq!(
            advertised_for(&behind_nat, "10.0.0.1:7", &[]),
            addr("203.0.113.5:7")
        );
        // Towards a peer on loopback, packets leave from loopback.
        assert_eq!(
            advertised_for(&lan, "0.0.0.0:7", &["127.0.0.9:1"]),
            addr("127.0.0.1:7")
        );
    }

    #[test]
    fn the_family_is_that_of_the_peers() {
        let lan = ClusterConfig::lan();
        for peer in ["127.0.0.9:1", "[::ffff:127.0.0.9]:1"] {
            assert_eq!(advertised_for(&lan, "[::]:7", &[peer]), addr("127.0.0.1:7"));
        }
        // A socket of IPv4 does not reach a peer of IPv6: the next one counts.
        let mixed = ["[::1]:1", "127.0.0.9:1"];
        assert_eq!(
            advertised_for(&lan, "0.0.0.0:7", &mixed),
            addr("127.0.0.1:7")
        );
    }

    #[test]
    fn the_own_host_name_among_the_seeds_does_not_decide() {
        let lan = ClusterConfig::lan();
        let alone = advertised_for(&lan, "0.0.0.0:7", &[]);
        // As a host file has it, with the own port: this node itself.
        assert_eq!(advertised_for(&lan, "0.0.0.0:7", &["127.0.1.1:7"]), alone);
        assert!(!alone.ip().is_unspecified());
    }

    #[test]
    fn a_peer_elsewhere_decides_over_one_on_this_host() {
        let Some(far) = source_ip_towards(addr("0.0.0.0:7"), addr("192.0.2.1:9")) else {
            return println!("skipped: no route out of this host");
        };
        let peers = ["127.0.0.9:1", "192.0.2.1:9"];
        let advertised = advertised_for(&ClusterConfig::lan(), "0.0.0.0:7", &peers);
        assert_eq!(advertised, SocketAddr::new(far, 7));
        assert!(!far.is_loopback());
    }
}
