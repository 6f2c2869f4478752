//! Socket addresses: canonical form, and which address families a socket reaches.

use std::net::{IpAddr, SocketAddr};

/// Address in IPv4 form if an IPv6 socket shows it as IPv4-mapped.
pub(crate) fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr.ip().to_canonical() {
        IpAddr::V4(v4) => SocketAddr::new(v4.into(), addr.port()),
        // With its scope, without which a link-local address cannot be reached.
        IpAddr::V6(_) => addr,
    }
}

/// Whether a socket bound to one address can send to the other. A socket bound to all IPv6
/// addresses reaches IPv4 too.
pub(crate) fn can_reach(bound: SocketAddr, addr: SocketAddr) -> bool {
    let is_ipv4 = |addr: SocketAddr| canonical(addr).is_ipv4();
    (bound.is_ipv6() && bound.ip().is_unspecified()) || is_ipv4(bound) == is_ipv4(addr)
}

/// Text for an address of a family that the bound address does not reach.
pub(crate) fn unreachable_family(bound: SocketAddr, addr: SocketAddr) -> String {
    let (ours, theirs) = match canonical(addr).is_ipv4() {
        true => ("IPv6", "IPv4"),
        false => ("IPv4", "IPv6"),
    };
    format!(
        "this endpoint is bound to {bound}, which reaches {ours} alone: bind it to an {theirs} address, or to [::] for both"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_addresses_keep_their_scope() {
        let link_local: SocketAddr = "[fe80::1%3]:7000".parse().unwrap();
        assert_eq!(canonical(link_local), link_local);
        let mapped: SocketAddr = "[::ffff:10.0.0.1]:80".parse().unwrap();
        assert_eq!(canonical(mapped).to_string(), "10.0.0.1:80");
    }
}
