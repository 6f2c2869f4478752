//! Server and client in one program: calls with bytes and with types, errors, and a graceful
//! shutdown.
//!
//! Run with `cargo run -p rpcnet-transport --example echo`.

use std::{error::Error, time::Duration};

use rpcnet_transport::{
    CallContext, CallError, DevCa, Endpoint, Message, Method, MethodOptions, Router,
    TransportConfig,
};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize, Message)]
struct Division {
    dividend: i64,
    divisor: i64,
}

/// Error of a division.
#[derive(Debug, thiserror::Error, Serialize, Deserialize, Message)]
#[error("{dividend} has no quotient by {divisor}")]
struct NoQuotient {
    dividend: i64,
    divisor: i64,
}

const DIVIDE: Method<Division, i64, NoQuotient> = Method::new("divide");
const GREET: Method<(), String> = Method::new("greet");

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
            .method(DIVIDE, |division| async move {
                let Division { dividend, divisor } = division;
                let quotient = dividend.checked_div(divisor);
                quotient.ok_or(NoQuotient { dividend, divisor })
            })
            .method_with(GREET, |cx: CallContext, ()| async move {
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
    println!("greet:  {}", GREET.call(&client, &()).await?);

    let division = Division {
        dividend: 84,
        divisor: 2,
    };
    let options = MethodOptions::new().with_timeout(Duration::from_secs(1));
    let quotient = DIVIDE.call_with(&client, &division, options).await?;
    println!("divide: {quotient}");

    let division = Division {
        dividend: 1,
        divisor: 0,
    };
    match DIVIDE.call(&client, &division).await {
        Ok(quotient) => println!("divide: {quotient}"),
        Err(CallError::Service(error)) => println!("divide: {error}"),
        Err(CallError::Rpc(error)) => {
            println!("divide: {error}; retry? {}", error.is_retryable());
        }
    }

    println!("{:?}", server.shutdown(Duration::from_secs(5)).await);
    Ok(())
}
