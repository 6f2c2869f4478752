//! Callers that block the threads of their runtime.

use std::sync::mpsc;

use super::*;

/// Makes calls until the other caller has what it waits for.
async fn waiting(client: RpcClient, calls: mpsc::Receiver<()>) {
    client.call("echo", "first").await.expect("a reply");
    // The reply to the next call of the other one does not need this thread.
    (calls.recv_timeout(TEST_TIMEOUT)).expect("the other caller has its next reply");
}

async fn calling(client: RpcClient, done: mpsc::SyncSender<()>) {
    client.call("echo", "second").await.expect("a reply");
    client.call("echo", "third").await.expect("a reply");
    done.send(()).expect("it waits");
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
        for _ in 0..200 {
            let (done, calls) = mpsc::sync_channel(1);
            let callers = [
                tokio::spawn(calling(client.clone(), done)),
                tokio::spawn(waiting(client.clone(), calls)),
            ];
            for caller in callers {
                caller.await.expect("it ends");
            }
        }
        hanging.abort();
    });
}
