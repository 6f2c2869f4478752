//! A server that sends a reply byte by byte, so slowly that it would hold the call for ever.

use std::time::Duration;

use bytes::BytesMut;
use futures::future;
use quinn::{Connection, RecvStream, SendStream};
use rpcnet_transport::{
    CallOptions, Code, Processed, Raw, RpcClient,
    wire::{self, Hello, Preface, ReplyHeader, StreamKind},
};
use tokio::{sync::Notify, time::sleep};

use crate::harness::network::{HOSTILE, until, within, world};

/// The reply that is slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slow {
    /// The reply of a call with a stream of its own.
    Isolated,
    /// The reply of a call that sends a stream.
    Upload,
    /// The reply of a call on a lane, which is too large for the lane.
    Large,
    /// The same, of a call that is cancelled.
    Cancelled,
}

/// Makes a call whose reply is slow.
///
/// # Panics
///
/// If the call, or the reading of its reply, does not end.
pub(crate) fn trickling_server(slow: Slow) {
    let world = world(&[]);
    // Notified when the server has the call.
    let begun = Notify::new();
    world.runtime.block_on(async {
        let addr = world.hostile.local_addr().expect("it has a port");
        // The connect timeout of the caller is short: on a busy machine it may have to connect
        // again.
        let serve = async {
            loop {
                let incoming = world.hostile.accept().await.expect("it is open");
                let Ok(connection) = incoming.await else {
                    continue;
                };
                let Some(_control) = say_hello(&connection).await else {
                    continue;
                };
                if let Ok(call) = connection.accept_bi().await {
                    begun.notify_one();
                    break trickle(&connection, call, slow).await;
                }
            }
        };
        let serve = within("the end of the reply", serve);
        let call = async {
            let client = loop {
                match world.endpoint.connect(addr, HOSTILE).await {
                    Ok(client) => break client,
                    Err(error) => assert!(error.is_retryable(), "{error:?}"),
                }
            };
            call(&client, slow, &begun).await;
            client
        };
        let call = within("the end of the call", call);
        let (client, ()) = future::join(call, serve).await;
        until("no call in flight", || client.in_flight() == 0).await;
        drop(client);
        until("no bytes held", || world.endpoint.buffered_bytes() == 0).await;
    });
}

async fn call(client: &RpcClient, slow: Slow, begun: &Notify) {
    let options = CallOptions::new().without_deadline();
    let ended = match slow {
        Slow::Isolated => {
            let options = options.with_isolated(true);
            client.call_with("echo", "x", options).await
        }
        Slow::Upload => {
            let upload = client.call_client_streaming_with::<u32, Raw>("sum", options);
            let upload = upload.await.expect("a stream");
            upload.finish().await.map(|reply| reply.0)
        }
        Slow::Large => client.call_with("echo", "x", options).await,
        Slow::Cancelled => {
            tokio::select! {
                ended = client.call_with("echo", "x", options) => panic!("{ended:?}"),
                () = begun.notified() => return,
            }
        }
    };
    let error = ended.expect_err("there is no reply");
    assert!(
        error.message().contains("did not arrive within"),
        "{error:?}"
    );
    assert_eq!(
        (error.code(), error.processed()),
        (Code::Unavailable, Processed::Maybe)
    );
}

async fn say_hello(connection: &Connection) -> Option<SendStream> {
    let mut control = connection.open_uni().await.ok()?;
    let kind = StreamKind::Control;
    let mut bytes = BytesMut::from(&Preface { kind }.encode()[..]);
    let hello = Hello {
        draining: false,
        message_bytes_max: 1 << 20,
        streams_max: 16,
        lanes_max: 1,
        lane_calls_max: 8,
        lane_body_bytes_max: 8_192,
        has_schemas: true,
        has_headers: true,
    };
    wire::encode_hello(&mut bytes, &hello);
    control.write_all(&bytes).await.ok()?;
    Some(control)
}

/// Sends the reply to a call until the caller stops it.
async fn trickle(connection: &Connection, (mut send, recv): (SendStream, RecvStream), slow: Slow) {
    // Kept open: dropping it would end the lane.
    let mut lane = None;
    let mut reply = BytesMut::new();
    if matches!(slow, Slow::Large | Slow::Cancelled) {
        let answer = connection.open_uni().await.expect("a stream");
        lane.replace(std::mem::replace(&mut send, answer));
        let kind = StreamKind::LaneReply;
        reply.extend_from_slice(&Preface { kind }.encode());
        wire::encode_reply_to(&mut reply, recv.id().index(), 0);
    }
    let header = ReplyHeader::new(Code::Ok, Processed::Yes);
    wire::encode_reply(&mut reply, &header, BODY_BYTES);
    reply.extend_from_slice(b"x");
    while send.write_all(&reply).await.is_ok() {
        reply.truncate(1);
        sleep(Duration::from_millis(10)).await;
    }
}

/// At a byte in 10 ms this takes ten minutes.
const BODY_BYTES: usize = 60_000;
