//! A server that breaks the protocol, and an honest caller.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::future;
use quinn::{Connection, VarInt};
use rpcnet_transport::{
    CallOptions, RpcClient,
    wire::{self, Preface, StreamKind},
};

use super::{
    caller::pause,
    network::{HOSTILE, World, until, within, world},
    open::{Open, moment},
    script::Script,
};

/// Lets a server do what the script says. The calls of the client have to end, and it has to hold
/// nothing of that server in the end.
///
/// # Panics
///
/// If the client breaks one of these rules.
pub(crate) fn hostile_server(script: &[u8]) {
    let world = world(script);
    world.runtime.block_on(async {
        let addr = world.hostile.local_addr().expect("it has a port");
        let mut script = Script::new(script);
        let hostile = async {
            let incoming = within("a handshake", world.hostile.accept()).await;
            let connection =
                within("a handshake", incoming.expect("it is open").into_future()).await;
            let connection = connection.expect("a good certificate");
            run_script(&mut script, &connection).await;
            connection
        };
        let calls = async {
            let connected = within("a connection", world.endpoint.connect(addr, HOSTILE)).await;
            if let Ok(client) = connected {
                within("the end of all calls", call(&client)).await;
                until("no call in flight", || client.in_flight() == 0).await;
            }
        };
        let (connection, ()) = future::join(hostile, calls).await;
        connection.close(VarInt::from_u32(0), b"");
        drop(connection);
        holds_nothing(world).await;
    });
}

async fn holds_nothing(world: &World) {
    until("no bytes held", || world.endpoint.buffered_bytes() == 0).await;
    let reply = within("an honest call", world.client.call("echo", "honest")).await;
    assert_eq!(reply.expect("an honest server"), "honest");
}

/// Concurrent calls of every kind; the server decides how they end.
async fn call(client: &RpcClient) {
    let options = || CallOptions::new().with_timeout(Duration::from_millis(20));
    let on_lane = (0..4).map(|_| client.call_with("echo", Bytes::from_static(b"x"), options()));
    let isolated = client.call_with("echo", "x", options().with_isolated(true));
    let received = async {
        let stream = client.call_server_streaming_with::<_, u32>("count", &(), options());
        let Ok(mut numbers) = stream.await else {
            return;
        };
        while let Ok(Some(_)) = numbers.message().await {}
    };
    let sent = async {
        let upload = client.call_client_streaming_with::<u32, u64>("sum", options());
        let Ok(mut upload) = upload.await else {
            return;
        };
        for number in 0..3 {
            if upload.send(number).await.is_err() {
                break;
            }
        }
        let _ = upload.finish().await;
    };
    let ended = future::join4(future::join_all(on_lane), isolated, received, sent).await;
    drop(ended);
}

async fn run_script(script: &mut Script<'_>, connection: &Connection) {
    let mut open = Open::default();
    if script.byte() < 250
        && let Some(Ok(mut control)) = moment(connection.open_uni()).await
    {
        let kind = StreamKind::Control;
        let mut bytes = BytesMut::from(&Preface { kind }.encode()[..]);
        match script.byte() {
            0..=240 => wire::encode_hello(&mut bytes, &script.hello()),
            _ => script.write(&mut bytes),
        }
        let _ = moment(control.write_all(&bytes)).await;
        open.sends.push(control);
    }
    while !script.is_over() {
        match script.below(12) {
            0..=2 => {
                if let Some(Ok((send, recv))) = moment(connection.accept_bi()).await {
                    open.sends.push(send);
                    open.recvs.push(recv);
                }
            }
            3 => {
                if let Some(Ok(send)) = moment(connection.open_uni()).await {
                    open.begin(send, StreamKind::LaneReply, script).await;
                }
            }
            4..=8 => open.write(script).await,
            9 => open.end(script),
            10 => {
                let (at, how) = (script.below(open.recvs.len()), script.byte());
                match how & 1 {
                    0 => open.stop(at, how),
                    _ => open.read(at).await,
                }
            }
            _ => pause(script.byte()).await,
        }
    }
}
