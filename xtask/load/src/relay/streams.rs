//! Relay of TCP connections, which end at it, so that the buffers of the system come before and
//! after its queue.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::Instant,
};

use super::link::{Shaper, send_when_due};
use crate::Link;

/// Relays the connections that come, each over a link of its own.
pub(super) fn start(listener: TcpListener, server: SocketAddr, link: Option<Link>) {
    thread::spawn(move || {
        while let Ok((near, _)) = listener.accept() {
            let Ok(far) = TcpStream::connect(server) else {
                continue;
            };
            let both =
                |from: &TcpStream, to: &TcpStream| from.try_clone().ok().zip(to.try_clone().ok());
            for (from, to) in [both(&near, &far), both(&far, &near)].into_iter().flatten() {
                let _ = to.set_nodelay(true);
                thread::spawn(move || relay_one_way(from, to, link));
            }
        }
    });
}

/// Passes on what comes one way, until it ends.
fn relay_one_way(mut from: TcpStream, to: TcpStream, link: Option<Link>) {
    let to = Arc::new(to);
    let out = Arc::clone(&to);
    let (segments, writer) = send_when_due(move |segment| (&*out).write_all(segment));
    let mut shaper = link.map(|link| Shaper::new(link, Instant::now()));
    let mut buffer = [0; SEGMENT_BYTES];
    while let Ok(bytes) = from.read(&mut buffer) {
        if bytes == 0 {
            break;
        }
        let due = loop {
            let now = Instant::now();
            match &mut shaper {
                None => break now,
                Some(shaper) => match shaper.schedule(now, bytes + HEADER_BYTES) {
                    Ok(due) => break due,
                    Err(time) => thread::sleep(time),
                },
            }
        };
        if segments.send((due, buffer[..bytes].to_vec())).is_err() {
            break;
        }
    }
    drop(segments);
    let _ = writer.join();
    let _ = to.shutdown(Shutdown::Write);
}

/// Payload of TCP over IPv4 in an Ethernet frame, with time stamps (RFC 7323).
const SEGMENT_BYTES: usize = 1_448;

/// Headers in the 1,500 bytes of an Ethernet frame.
const HEADER_BYTES: usize = 52;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::relay::tests::fast;

    #[test]
    fn bytes_go_both_ways_in_order_and_so_does_the_end() {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let relay = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = relay.local_addr().unwrap();
        start(relay, server.local_addr().unwrap(), Some(fast()));
        let mut client = TcpStream::connect(address).unwrap();
        let (mut served, _) = server.accept().unwrap();
        let sent: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
        client.write_all(&sent).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut got = Vec::new();
        served.read_to_end(&mut got).unwrap();
        assert!(got == sent);
        served.write_all(b"back").unwrap();
        drop(served);
        let mut got = Vec::new();
        client.read_to_end(&mut got).unwrap();
        assert_eq!(got, b"back");
    }
}
