//! Tests of the relay of datagrams, and a link for others.

use std::time::Duration;

use super::*;

/// Link that holds nothing up.
pub(super) fn fast() -> Link {
    Link {
        bytes_per_s: 100_000_000,
        queue_bytes: 1_000_000,
        one_way: Duration::from_millis(1),
    }
}

#[test]
fn the_share_of_lost_datagrams_is_as_configured() {
    let mut is_lost = losses(1, 10);
    let lost = (0..100_000).filter(|_| is_lost()).count();
    assert!((800..1200).contains(&lost), "{lost}");
    let mut never = losses(1, 0);
    assert!((0..1000).all(|_| !never()));
}

#[test]
fn datagrams_go_both_ways() {
    for link in [None, Some(fast())] {
        let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let relay = Relay {
            loss_per_mille: 0,
            link,
        };
        let relay = start(server.local_addr().unwrap(), relay).unwrap();
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        for socket in [&server, &client] {
            socket
                .set_read_timeout(Some(Duration::from_secs(60)))
                .unwrap();
        }
        let mut buffer = [0; 16];
        client.send_to(b"there", relay).unwrap();
        let (bytes, from) = server.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..bytes], b"there");
        server.send_to(b"back", from).unwrap();
        assert_eq!(client.recv(&mut buffer).unwrap(), 4);
    }
}
