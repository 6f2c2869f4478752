//! Compact address: IP address and port in 20 bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Socket address without what is not sent. A `SocketAddr` takes 32 bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CompactAddr {
    /// Whether something sent there was answered; not compared.
    pub(super) is_validated: bool,
    /// An IPv4 address is in the first four bytes.
    ip: [u8; 16],
    port: u16,
    is_v4: bool,
}

impl CompactAddr {
    /// Keyed hash for lookups; different addresses may have the same.
    pub(crate) fn hash(&self, seed: u64) -> u64 {
        let mut bytes = [0; 19];
        bytes[..16].copy_from_slice(&self.ip);
        bytes[16..18].copy_from_slice(&self.port.to_le_bytes());
        bytes[18] = u8::from(self.is_v4);
        xxh3_64_with_seed(&bytes, seed)
    }
}

impl PartialEq for CompactAddr {
    fn eq(&self, other: &Self) -> bool {
        (self.ip, self.port, self.is_v4) == (other.ip, other.port, other.is_v4)
    }
}

impl From<SocketAddr> for CompactAddr {
    fn from(addr: SocketAddr) -> Self {
        let mut ip = [0; 16];
        match addr.ip() {
            IpAddr::V4(v4) => ip[..4].copy_from_slice(&v4.octets()),
            IpAddr::V6(v6) => ip = v6.octets(),
        }
        Self {
            is_validated: false,
            ip,
            port: addr.port(),
            is_v4: addr.is_ipv4(),
        }
    }
}

impl From<CompactAddr> for SocketAddr {
    fn from(
        CompactAddr {
            ip, port, is_v4, ..
        }: CompactAddr,
    ) -> Self {
        let [a, b, c, d, ..] = ip;
        let ip: IpAddr = match is_v4 {
            true => Ipv4Addr::new(a, b, c, d).into(),
            false => Ipv6Addr::from(ip).into(),
        };
        Self::new(ip, port)
    }
}

#[cfg(test)]
mod tests {
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
        for text in ["10.0.0.1:7946", "[::ffff:10.0.0.1]:7946", "[a00:1::]:1"] {
            let addr: SocketAddr = text.parse().unwrap();
            assert_eq!(SocketAddr::from(CompactAddr::from(addr)), addr);
        }
    }
}
