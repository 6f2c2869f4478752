//! A caller that breaks the protocol, and an honest server.

use std::time::Duration;

use quinn::{Connection, VarInt};
use rpcnet_transport::{Code, wire::StreamKind};
use tokio::time::sleep;

use super::{
    network::{SERVER, World, until, within, world},
    open::{Open, moment},
    script::Script,
};

/// Lets a caller do what the script says. The server has to go on serving others, and to hold
/// nothing of that caller in the end.
///
/// # Panics
///
/// If the server breaks one of these rules.
pub(crate) fn hostile_caller(script: &[u8]) {
    let world = world(script);
    world.runtime.block_on(async {
        let connecting = world.hostile.connect(world.server.local_addr(), SERVER);
        let connecting = connecting.expect("a good address");
        let connection = within("a handshake", connecting).await;
        let connection = connection.expect("a good certificate");
        let mut script = Script::new(script);
        run_script(&mut script, &connection).await;
        match script.byte() % 3 {
            0 => connection.close(VarInt::from_u32(7), b"bye"),
            1 => serves_others(world).await,
            _ => {}
        }
        drop(connection);
        serves_others(world).await;
        let (server, endpoint) = (&world.server, world.server.endpoint());
        until("no call in flight", || server.in_flight() == 0).await;
        until("no bytes held", || endpoint.buffered_bytes() == 0).await;
        let running = || endpoint.admission().map_or(0, |state| state.running);
        until("no permit taken", || running() == 0).await;
    });
}

async fn run_script(script: &mut Script<'_>, connection: &Connection) {
    let mut open = Open::default();
    while !script.is_over() {
        match script.below(12) {
            0 | 1 => {
                if let Some(Ok((send, recv))) = moment(connection.open_bi()).await {
                    let kind = [StreamKind::Call, StreamKind::Lane][script.below(2)];
                    open.begin(send, kind, script).await;
                    open.recvs.push(recv);
                }
            }
            2 => {
                if let Some(Ok(send)) = moment(connection.open_uni()).await {
                    open.sends.push(send);
                }
            }
            3..=7 => open.write(script).await,
            8 => open.end(script),
            9 => open.stop(script.below(open.recvs.len()), script.byte()),
            10 => open.read(script.below(open.recvs.len())).await,
            _ => pause(script.byte()).await,
        }
    }
}

/// Gives the other side time to act.
pub(super) async fn pause(how_long: u8) {
    match how_long {
        0..=127 => tokio::task::yield_now().await,
        128..=250 => sleep(Duration::from_micros(200)).await,
        _ => sleep(Duration::from_millis(10)).await,
    }
}

async fn serves_others(world: &World) {
    let served = async {
        loop {
            match world.client.call("echo", "honest").await {
                Ok(reply) => break assert_eq!(reply, "honest"),
                // The other caller may hold all permits for a moment.
                Err(error) if error.code() == Code::Overloaded => pause(200).await,
                Err(error) => panic!("an honest call: {error}"),
            }
        }
    };
    within("an honest call", served).await;
}
