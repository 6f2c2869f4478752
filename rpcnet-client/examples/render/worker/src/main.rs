//! Worker of the render service: a process that serves until Ctrl-C.

use std::{error::Error, fs, path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;
use render_api::RenderServer;
use render_worker::Renderer;
use rpcnet_client::{ClusterKey, Node, Tls};

/// Worker of the render service.
#[derive(Debug, Parser)]
struct WorkerArguments {
    /// Name of the node, which its certificate bears.
    #[arg(long)]
    name: String,
    /// Folder with NAME.pem, NAME.key, ca.pem and cluster.key.
    #[arg(long, value_name = "FOLDER")]
    keys: PathBuf,
    /// Address to listen at.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    bind: String,
    /// Addresses of other nodes; the first node has none.
    #[arg(long, value_name = "ADDRESS")]
    seed: Vec<String>,
    /// Time for a frame, in milliseconds.
    #[arg(long, value_name = "MILLIS", default_value_t = 20)]
    frame_time: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(WorkerArguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        // A `main` that returns a `Result` would print its `Debug` form.
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: WorkerArguments) -> Result<(), Box<dyn Error>> {
    let WorkerArguments {
        name,
        keys,
        bind,
        seed,
        frame_time,
    } = arguments;
    let (cert, key) = (format!("{name}.pem"), format!("{name}.key"));
    let tls = Tls::from_pem_files(keys.join(cert), keys.join(key), keys.join("ca.pem"))?;
    let cluster_key = ClusterKey::from_hex(&fs::read_to_string(keys.join("cluster.key"))?)?;
    let frame_time = Duration::from_millis(frame_time);

    let node = Node::builder()
        .bind(bind)
        .tls(tls)
        .cluster_key(cluster_key)
        .seeds(seed)
        .tag("role", "render")
        .serve(RenderServer::new(Renderer { frame_time }).into_router())
        .start()
        .await?;
    println!("{name} serves at {}", node.addr());

    tokio::signal::ctrl_c().await?;
    node.shutdown(Duration::from_secs(10)).await;
    Ok(())
}
