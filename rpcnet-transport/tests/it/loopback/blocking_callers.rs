//! Callers that block the threads of their runtime.

use std::sync::mpsc;

use super::*;

/// Makes a call, and blocks its thread until the other caller has its next reply, which does not
/// need this thread. Returns whether that came.
async fn waiting(client: RpcClient, done: mpsc::Receiver<()>) -> bool {
    client.call("echo", "first").await.expect("a reply");
    done.recv_timeout(Duration::from_millis(500)).is_ok()
}

async fn calling(client: RpcClient, done: mpsc::SyncSender<()>) {
    client.call("echo", "second").await.expect("a reply");
    client.call("echo", "third").await.expect("a reply");
    // The other one may have given up.
    let _ = done.send(());
}

#[test]
fn a_caller_that_blocks_its_thread_holds_up_no_other_call() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(3)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let methods = Router::new()
            .raw("echo", |_cx, body| async move { Ok(body) })
            .raw("hang", |_cx, _body| std::future::pending());
        let server = serve(methods, TransportConfig::default());
        let node = endpoint(CLIENT, TransportConfig::default());
        let client = node.connect(server.local_addr(), SERVER).await;
        let client = client.expect("a connection");
        // So that the lane is never without a call, and no call of the others writes by itself.
        let hanging = client.clone();
        let hanging = tokio::spawn(async move { hanging.call("hang", "").await });
        let mut held_up = 0;
        for _ in 0..ROUNDS {
            let (done, other) = mpsc::sync_channel(1);
            let calling = tokio::spawn(calling(client.clone(), done));
            let waiting = tokio::spawn(waiting(client.clone(), other));
            held_up += usize::from(!waiting.await.expect("it ends"));
            calling.await.expect("it ends");
            assert!(held_up <= HELD_UP_MAX, "by the thread that is blocked");
        }
        hanging.abort();
    });
}

const ROUNDS: usize = 200;

/// A blocked thread may have a task of QUIC as its next one, which tokio gives to no other.
const HELD_UP_MAX: usize = 5;
