//! Server and client in one program: raw and typed calls, errors, and a graceful shutdown.
//!
//! Run with `cargo run -p rpcnet-transport --example echo`.

use std::{error::Error, time::Duration};

use rpcnet_transport::{
    CallContext, CallOptions, DevCa, Endpoint, Router, Status, TransportConfig,
};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
struct Division {
    dividend: i64,
    divisor: i64,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Both nodes get their identity from an authority made for this run.
    let ca = DevCa::new("example");
    let server = Endpoint::bind(
        "127.0.0.1:0".parse()?,
        TransportConfig::lan(),
        ca.issue("server")?,
    )?
    .serve(
        Router::new()
            .raw("echo", |_cx: CallContext, body| async move { Ok(body) })
            .typed("divide", |d: Division| async move {
                d.dividend
                    .checked_div(d.divisor)
                    .ok_or_else(|| Status::invalid_request("no quotient"))
            })
            .typed_with("greet", |cx: CallContext, (): ()| async move {
                format!("hello {}", cx.peer().name())
            }),
    );
    println!("serving on {}", server.local_addr());

    let node = Endpoint::bind(
        "127.0.0.1:0".parse()?,
        TransportConfig::lan(),
        ca.issue("client")?,
    )?;
    let client = node.connect(server.local_addr(), "server").await?;

    println!("echo:   {:?}", client.call("echo", "some bytes").await?);
    println!(
        "greet:  {}",
        client.call_typed::<_, String>("greet", &()).await?
    );

    let division = Division {
        dividend: 84,
        divisor: 2,
    };
    let options = CallOptions::new().with_timeout(Duration::from_secs(1));
    let quotient: i64 = client.call_typed_with("divide", &division, options).await?;
    println!("divide: {quotient}");

    let division = Division {
        dividend: 1,
        divisor: 0,
    };
    match client.call_typed::<_, i64>("divide", &division).await {
        Ok(quotient) => println!("divide: {quotient}"),
        Err(error) => println!("divide: {error}; retry? {}", error.is_retryable()),
    }

    println!("{:?}", server.shutdown(Duration::from_secs(5)).await);
    Ok(())
}
