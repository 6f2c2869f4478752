//! Gateway of the render service: takes jobs from its command line, and prints the films.

mod films;

use std::{error::Error, fs, path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;
use render_api::{Job, RenderClient};
use rpcnet_client::{ClusterKey, Node, Tls};

/// Gateway of the render service.
#[derive(Debug, Parser)]
struct GatewayArguments {
    /// Name of the node, which its certificate bears.
    #[arg(long, default_value = "gateway")]
    name: String,
    /// Folder with NAME.pem, NAME.key, ca.pem and cluster.key.
    #[arg(long, value_name = "FOLDER")]
    keys: PathBuf,
    /// Addresses of workers.
    #[arg(long, value_name = "ADDRESS", required = true)]
    seed: Vec<String>,
    /// Jobs: a scene and a number of frames, such as `ball:3`.
    #[arg(value_name = "SCENE:FRAMES", value_parser = parse_job, required = true)]
    jobs: Vec<Job>,
}

fn parse_job(text: &str) -> Result<Job, String> {
    let (scene, frames) = text.split_once(':').ok_or("no colon")?;
    let frames = frames
        .parse()
        .map_err(|_| format!("{frames:?} is no number of frames"))?;
    let scene = scene.to_owned();
    Ok(Job { scene, frames })
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(GatewayArguments::parse()).await {
        Ok(exit_code) => exit_code,
        // A `main` that returns a `Result` would print its `Debug` form.
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Does all jobs; fails if one of them did.
async fn run(arguments: GatewayArguments) -> Result<ExitCode, Box<dyn Error>> {
    let GatewayArguments {
        name,
        keys,
        seed,
        jobs,
    } = arguments;
    let (cert, key) = (format!("{name}.pem"), format!("{name}.key"));
    let tls = Tls::from_pem_files(keys.join(cert), keys.join(key), keys.join("ca.pem"))?;
    let cluster_key = ClusterKey::from_hex(&fs::read_to_string(keys.join("cluster.key"))?)?;

    let node = Node::builder()
        .tls(tls)
        .cluster_key(cluster_key)
        .seeds(seed)
        .start()
        .await?;
    node.wait_for_workers(Some(WORKERS), 1, Duration::from_secs(10))
        .await?;

    let service = RenderClient::new(node.client().workers(Some(WORKERS)));
    let mut exit_code = ExitCode::SUCCESS;
    for job in &jobs {
        let Job { scene, frames } = job;
        match films::render(&service, job).await {
            Ok(rendered) => {
                println!(
                    "{scene}, {frames} frames, about {} ms:",
                    rendered.estimate_millis
                );
                for picture in rendered.film.pictures {
                    println!("  [{picture}]");
                }
            }
            Err(error) => {
                println!("{scene}: {error}");
                exit_code = ExitCode::FAILURE;
            }
        }
    }
    node.shutdown(Duration::from_secs(5)).await;
    Ok(exit_code)
}

/// Filter of the workers that render.
const WORKERS: &str = "role=render";
