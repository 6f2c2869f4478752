//! Keys of a cluster for development: the certificates of these nodes, and the key of the cluster.
//!
//! Run with `cargo run -p render-worker --example keys -- FOLDER NAME...`.

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

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

fn main() -> ExitCode {
    let KeysArguments { folder, names } = KeysArguments::parse();
    match write_keys(&folder, &names) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write_keys(folder: &Path, names: &[String]) -> io::Result<()> {
    let ca = DevCa::new("render");
    for name in names {
        ca.write_pem(folder, name).map_err(io::Error::other)?;
    }
    write_secret(
        &folder.join("cluster.key"),
        &ClusterKey::generate().to_hex(),
    )
}

/// Writes a file that only its owner can read.
fn write_secret(path: &Path, secret: &str) -> io::Result<()> {
    let mut options = File::options();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)?.write_all(secret.as_bytes())
}
