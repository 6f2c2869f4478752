//! Keys of a cluster for development: the certificates of these nodes, and the key of the cluster.
//!
//! Run with `cargo run -p render-worker --example keys -- FOLDER NAME...`.

use std::{error::Error, fs, path::PathBuf};

use clap::Parser;
use rpcnet_client::{ClusterKey, DevCa};

/// Writes keys for development.
#[derive(Debug, Parser)]
struct KeysArguments {
    /// Folder for the files.
    folder: PathBuf,
    /// Names of the nodes.
    #[arg(required = true)]
    names: Vec<String>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let KeysArguments { folder, names } = KeysArguments::parse();
    let ca = DevCa::new("render");
    for name in names {
        ca.write_pem(&folder, &name)?;
    }
    fs::write(folder.join("cluster.key"), ClusterKey::generate().to_hex())?;
    Ok(())
}
