//! Unicast check of addresses, the same for configured ones and for those in records.

use std::net::{IpAddr, SocketAddr};

/// Whether a datagram to this address reaches one node: not port 0, nor an unspecified, a multicast
/// or the broadcast address.
pub(crate) fn is_usable(addr: SocketAddr) -> bool {
    let ip = addr.ip().to_canonical();
    let is_broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    addr.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !is_broadcast
}

/// The same for an address that `teller` reports: a loopback address of another host is not usable.
pub(crate) fn is_usable_from(addr: SocketAddr, teller: SocketAddr) -> bool {
    let is_loopback = |addr: SocketAddr| addr.ip().to_canonical().is_loopback();
    is_usable(addr) && (!is_loopback(addr) || is_loopback(teller))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usable_addresses_are_unicast() {
        let near = "127.0.0.9:7".parse().unwrap();
        let far = "10.0.0.9:7".parse().unwrap();
        for (addr, from_near, from_far) in [
            ("10.0.0.1:7946", true, true),
            ("[2001:db8::1]:7946", true, true),
            ("127.0.0.1:7946", true, false),
            ("[::1]:7946", true, false),
            ("[::ffff:127.0.0.1]:7946", true, false),
            ("10.0.0.1:0", false, false),
            ("0.0.0.0:7946", false, false),
            ("[::]:7946", false, false),
            ("[::ffff:0.0.0.0]:7946", false, false),
            ("224.0.0.1:7946", false, false),
            ("[ff02::1]:7946", false, false),
            ("255.255.255.255:7946", false, false),
        ] {
            let addr = addr.parse().unwrap();
            assert_eq!(is_usable(addr), from_near, "{addr}");
            assert_eq!(is_usable_from(addr, near), from_near, "{addr}");
            assert_eq!(is_usable_from(addr, far), from_far, "{addr}");
        }
    }
}
