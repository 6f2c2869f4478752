//! Join handshake of two engines, without a network: hello, challenge, hello, welcome.

use std::net::SocketAddr;

use rpcnet_swim::{Engine, Time};

/// Lets `joiner` join through `member` at time zero. What the joiner sends then is lost.
///
/// # Panics
/// If either engine is silent.
pub fn join_directly(
    (member, member_addr): (&mut Engine, SocketAddr),
    (joiner, joiner_addr): (&mut Engine, SocketAddr),
) {
    joiner.handle_seeds(Time::ZERO, &[member_addr]);
    for _ in 0..2 {
        let (_, mut hello) = joiner.poll_transmit().expect("a hello");
        member.handle_datagram(Time::ZERO, joiner_addr, &mut hello);
        let (_, mut answer) = member.poll_transmit().expect("an answer");
        joiner.handle_datagram(Time::ZERO, member_addr, &mut answer);
    }
    while joiner.poll_transmit().is_some() {}
}
