//! Bidirectional streaming, and a slow reader that applies backpressure to its sender.
//!
//! Run with `cargo run -p rpcnet-transport --example streaming`.

use std::{error::Error, time::Duration};

use futures::StreamExt;
use rpcnet_transport::{DevCa, Receiver, Router, RpcClient, RpcError, RpcServer, Sender};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let ca = DevCa::new("example");
    let server = RpcServer::bind("127.0.0.1:0".parse()?, ca.issue("server")?)?;
    server.register_all(
        Router::new()
            .server_streaming("count", |_cx, upto: u32, mut out: Sender<u32>| async move {
                for n in 1..=upto {
                    // Waits while the reader does not keep up.
                    out.send(n).await?;
                }
                Ok(())
            })
            .client_streaming("mean", |_cx, mut samples: Receiver<f64>| async move {
                let (mut sum, mut count) = (0.0, 0u32);
                while let Some(sample) = samples.message().await? {
                    sum += sample;
                    count += 1;
                }
                Ok::<_, RpcError>(sum / f64::from(count))
            })
            .streaming(
                "upper",
                |_cx, mut lines: Receiver<String>, mut out: Sender<String>| async move {
                    while let Some(line) = lines.message().await? {
                        out.send(line.to_uppercase()).await?;
                    }
                    Ok(())
                },
            ),
    );

    let client = RpcClient::connect(server.local_addr(), "server", &ca.issue("client")?).await?;

    let mut numbers = client
        .call_server_streaming::<_, u32>("count", &5u32)
        .await?;
    while let Some(number) = numbers.next().await {
        println!("count: {}", number?);
    }

    let mut upload = client.call_client_streaming::<f64, f64>("mean").await?;
    for sample in [1.0, 2.0, 6.0] {
        upload.send(sample).await?;
    }
    println!("mean:  {}", upload.finish().await?);

    let (mut lines, mut shouted) = client.call_streaming::<String, String>("upper").await?;
    for line in ["both", "ways"] {
        lines.send(line.to_owned()).await?;
        println!("upper: {:?}", shouted.message().await?);
    }
    lines.finish();
    println!("upper: {:?}", shouted.message().await?);

    println!("{:?}", server.shutdown(Duration::from_secs(5)).await);
    Ok(())
}
