//! Which address to tell others.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use crate::config::ClusterConfig;
use crate::error::ConfigError;

/// The configured address, or the one bound, or, bound to all interfaces, the one that packets to
/// the first seed would leave from.
pub(super) fn advertised(
    config: &ClusterConfig,
    bound: SocketAddr,
    seed: Option<SocketAddr>,
) -> Result<SocketAddr, ConfigError> {
    let mut addr = config.advertise_addr.unwrap_or(bound);
    if addr.port() == 0 {
        addr.set_port(bound.port());
    }
    if addr.ip().is_unspecified() {
        let towards = match (seed, addr) {
            (Some(seed), _) => seed,
            (None, SocketAddr::V4(_)) => (ANYWHERE_V4, 9).into(),
            (None, SocketAddr::V6(_)) => (ANYWHERE_V6, 9).into(),
        };
        let source = source_towards(addr, towards);
        addr.set_ip(
            source
                .ok_or(ConfigError::UnusableAdvertiseAddr { addr })?
                .ip(),
        );
    }
    Ok(addr)
}

/// Asks the routing table; nothing is sent.
fn source_towards(from: SocketAddr, to: SocketAddr) -> Option<SocketAddr> {
    let probe = UdpSocket::bind(SocketAddr::new(from.ip(), 0)).ok()?;
    probe.connect(to).ok()?;
    probe
        .local_addr()
        .ok()
        .filter(|addr| !addr.ip().is_unspecified())
}

/// Addresses for documentation (RFC 5737, RFC 3849): routed like any other far one.
const ANYWHERE_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const ANYWHERE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_told_is_usable() {
        let lan = ClusterConfig::lan();
        let told = |config: &ClusterConfig, bound, seed: Option<&str>| {
            advertised(config, addr(bound), seed.map(addr)).map(|addr| addr.to_string())
        };
        assert_eq!(told(&lan, "127.0.0.1:7", None), Ok("127.0.0.1:7".into()));
        let behind_nat = lan.clone().with_advertise_addr(addr("203.0.113.5:0"));
        assert_eq!(
            told(&behind_nat, "10.0.0.1:7", None),
            Ok("203.0.113.5:7".into())
        );
        // Towards a seed on loopback, packets leave from loopback.
        assert_eq!(
            told(&lan, "0.0.0.0:7", Some("127.0.0.9:1")),
            Ok("127.0.0.1:7".into())
        );
    }
}
