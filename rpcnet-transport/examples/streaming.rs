//! A service with each kind of streams.
//!
//! Run with `cargo run -p rpcnet-transport --example streaming`.

use std::{error::Error, time::Duration};

use futures::{StreamExt, stream};
use rpcnet_transport::{DevCa, Replies, Requests, Router, RpcClient, RpcServer, Status, service};

#[service]
trait Numbers {
    /// The numbers up to this one.
    async fn count(&self, upto: u32) -> Replies<u32>;
    async fn mean(&self, samples: Requests<f64>) -> Result<f64, Status>;
    async fn upper(&self, lines: Requests<String>) -> Result<Replies<String>, Status>;
}

struct Counter;

impl Numbers for Counter {
    async fn count(&self, upto: u32) -> Replies<u32> {
        // Polled no faster than the reader keeps up.
        Replies::new(stream::iter(1..=upto))
    }

    async fn mean(&self, mut samples: Requests<f64>) -> Result<f64, Status> {
        let (mut sum, mut count) = (0.0, 0u32);
        while let Some(sample) = samples.message().await? {
            sum += sample;
            count += 1;
        }
        Ok(sum / f64::from(count))
    }

    async fn upper(&self, lines: Requests<String>) -> Result<Replies<String>, Status> {
        let shouted = lines.map(|line| line.map(|line| line.to_uppercase()));
        Ok(Replies::forwarded(shouted))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let ca = DevCa::new("example");
    let server = RpcServer::bind("127.0.0.1:0".parse()?, ca.issue("server")?)?;
    server.register_all(Router::new().service(NumbersServer::new(Counter)));

    let client = RpcClient::connect(server.local_addr(), "server", &ca.issue("client")?).await?;
    let numbers = NumbersClient::new(client);

    let mut counted = numbers.count(5).await?;
    while let Some(number) = counted.message().await? {
        println!("count: {number}");
    }

    println!(
        "mean:  {}",
        numbers.mean(stream::iter([1.0, 2.0, 6.0])).await?
    );

    let lines = stream::iter(["both", "ways"].map(str::to_owned));
    let mut shouted = numbers.upper(lines).await?;
    while let Some(line) = shouted.message().await? {
        println!("upper: {line}");
    }

    println!("{:?}", server.shutdown(Duration::from_secs(5)).await);
    Ok(())
}
