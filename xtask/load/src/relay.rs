//! Relay that loses or delays datagrams, where the network cannot be made to.

mod link;
mod streams;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    sync::Arc,
    thread,
};

use self::link::RelayPath;
use crate::{Link, Relay};

/// Starts a relay for one client, in threads of this process; where it listens, for datagrams and
/// for TCP.
///
/// Each datagram is lost with the same probability, from a fixed seed for each way.
pub(crate) fn start(server: SocketAddr, relay: Relay) -> io::Result<SocketAddr> {
    let (near, listener) = bind()?;
    let address = near.local_addr()?;
    streams::start(listener, server, relay.link);
    let far = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    far.connect(server)?;
    let (near, far) = (Arc::new(near), Arc::new(far));
    for (seed, from, to) in [(1, &near, &far), (2, &far, &near)] {
        let (from, to) = (Arc::clone(from), Arc::clone(to));
        let is_lost = losses(seed, relay.loss_per_mille);
        thread::spawn(move || relay_one_way(&from, to, is_lost, relay.link));
    }
    Ok(address)
}

fn relay_one_way(
    from: &UdpSocket,
    to: Arc<UdpSocket>,
    mut is_lost: impl FnMut() -> bool,
    link: Option<Link>,
) {
    let mut path = RelayPath::new(link, move |datagram: &[u8]| {
        let _ = to.send(datagram);
    });
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        match from.recv_from(&mut buffer) {
            Ok((bytes, sender)) => {
                // The way back goes to where datagrams come from: there is one client.
                if from.peer_addr().is_err() && from.connect(sender).is_err() {
                    break;
                }
                if !is_lost() {
                    path.push(&buffer[..bytes]);
                }
            }
            // The port at the other end is not open any more.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(_) => break,
        }
    }
}

/// A port for datagrams and for TCP.
fn bind() -> io::Result<(UdpSocket, TcpListener)> {
    let mut tries = 0;
    loop {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        match TcpListener::bind(udp.local_addr()?) {
            Ok(listener) => return Ok((udp, listener)),
            // Of another program, by chance.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries < BIND_TRIES_MAX => {
                tries += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Whether the next datagram is lost, the same each time.
fn losses(seed: u64, per_mille: u32) -> impl FnMut() -> bool {
    let mut rng = fastrand::Rng::with_seed(seed);
    move || rng.u32(..1000) < per_mille
}

const DATAGRAM_BYTES_MAX: usize = 65_536;

const BIND_TRIES_MAX: usize = 10;

#[cfg(test)]
mod tests;
