//! Compact address: IP address and port in 18 bytes.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Socket address without what is not sent. A `SocketAddr` takes 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CompactAddr {
    /// An IPv4 address is mapped (RFC 4291 section 2.5.5.2).
    ip: [u8; 16],
    port: u16,
}

impl CompactAddr {
    /// Keyed hash for lookups; different addresses may have the same. The seed follows from a few
    /// hashes, so none may leave the process.
    pub(crate) fn hash(&self, seed: u64) -> u64 {
        xxh3_64_with_seed(&self.to_bytes(), seed)
    }

    pub(super) fn to_bytes(self) -> [u8; 18] {
        let mut bytes = [0; 18];
        bytes[..16].copy_from_slice(&self.ip);
        bytes[16..].copy_from_slice(&self.port.to_le_bytes());
        bytes
    }
}

impl From<SocketAddr> for CompactAddr {
    fn from(addr: SocketAddr) -> Self {
        let ip = match addr.ip() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        Self {
            ip: ip.octets(),
            port: addr.port(),
        }
    }
}

/// The canonical form: a mapped address is an IPv4 address.
impl From<CompactAddr> for SocketAddr {
    fn from(CompactAddr { ip, port }: CompactAddr) -> Self {
        Self::new(Ipv6Addr::from(ip).to_canonical(), port)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn colliding_addresses_depend_on_the_key() {
        let addrs: Vec<CompactAddr> = (0..1_000u32)
            .map(|n| CompactAddr::from(SocketAddr::from((Ipv4Addr::from(0x0a00_0000 + n), 7_946))))
            .collect();
        let lowest = |seed| addrs.iter().map(|addr| addr.hash(seed)).min();
        assert_eq!(lowest(1), lowest(1));
        assert_ne!(lowest(1), lowest(2));
    }

    #[test]
    fn a_compact_address_round_trips() {
        let round_trip = |text: &str| {
            let addr: SocketAddr = text.parse().unwrap();
            SocketAddr::from(CompactAddr::from(addr)).to_string()
        };
        for text in ["10.0.0.1:7946", "[a00:1::]:1"] {
            assert_eq!(round_trip(text), text);
        }
        assert_eq!(round_trip("[::ffff:10.0.0.1]:7946"), "10.0.0.1:7946");
    }
}
