//! Layers of tower around both sides of a call: limits of rate and concurrency, and timeouts.
//!
//! Run with `cargo run -p rpcnet-transport --example tower`.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use rpcnet_transport::{
    Code, DevCa, Endpoint, Router, Status, TransportConfig,
    tower::{CallRequest, RpcService},
};
use tower::{BoxError, Service, ServiceBuilder, ServiceExt, timeout::error::Elapsed};

/// What the layers of a server fail with, as statuses: the crate knows no error of tower.
fn status_of(error: BoxError) -> BoxError {
    match error.is::<Elapsed>() {
        true => Status::new(Code::DeadlineExceeded, "the server gives a call 100 ms").into(),
        false => error,
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let ca = DevCa::new("example");
    let addr = SocketAddr::from(([127, 0, 0, 1], 0));
    let bind = |name| -> Result<Endpoint, BoxError> {
        Ok(Endpoint::bind(
            addr,
            TransportConfig::lan(),
            ca.issue(name)?,
        )?)
    };

    // Both methods share the limit of rate, whose service cannot be cloned: hence the buffer.
    let layers = ServiceBuilder::new()
        .map_err(status_of)
        .buffer(16)
        .rate_limit(20, Duration::from_secs(1))
        .timeout(Duration::from_millis(100));
    let router = Router::new()
        .tower_layer(layers.into_inner())
        .raw("echo", |_, body| async move { Ok(body) })
        .raw("stuck", |_, _| std::future::pending());
    let server = bind("server")?.serve(router);

    let client = bind("client")?
        .connect(server.local_addr(), "server")
        .await?;
    let mut service = ServiceBuilder::new()
        .timeout(Duration::from_secs(5))
        .rate_limit(10, Duration::from_millis(200))
        .concurrency_limit(4)
        .service(RpcService::new(client.clone()));

    // The limit of the client spreads the first calls, that of the server delays the last ones.
    let began = Instant::now();
    for number in 1..=25 {
        let request = CallRequest::new("echo", format!("call {number}"));
        let reply = service.ready().await?.call(request).await?;
        assert_eq!(reply.body(), &format!("call {number}"));
        if number % 5 == 0 {
            println!("{number} calls in {} ms", began.elapsed().as_millis());
        }
    }
    assert!(
        began.elapsed() >= Duration::from_secs(1),
        "20 calls a second"
    );

    let error = client.call("stuck", "").await.expect_err("it never ends");
    assert_eq!(error.code(), Code::DeadlineExceeded);
    println!("at the server: {error}; processed: {:?}", error.processed());

    let mut hasty = ServiceBuilder::new()
        .timeout(Duration::from_millis(20))
        .service(RpcService::new(client.clone()));
    let stuck = CallRequest::new("stuck", "");
    let error = hasty
        .ready()
        .await?
        .call(stuck)
        .await
        .expect_err("it never ends");
    println!("at the client: {error}");
    assert!(error.is::<Elapsed>());

    client.close("the example is over");
    let error = hasty.ready().await.expect_err("the connection is closed");
    println!("after the end: {error}");
    server.shutdown(Duration::from_secs(1)).await;
    Ok(())
}
