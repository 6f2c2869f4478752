//! Peers of `cargo xtask bench rpc --peers`: `peers server SUBJECT` and `peers client
//! SUBJECT`.
//!
//! Load, clocks and checks are those of `xtask-load`; here is how each peer serves, connects and
//! calls, each as its users would for speed.

mod keys;
mod quinn_stream;
mod rpcnet_0_1_0;
mod tarpc_tcp;
mod tonic_tls;

use std::{env, process::ExitCode};

use xtask_load::{Subject, run_client, run_server};

fn main() -> ExitCode {
    // More than one is compiled in, so rustls would not choose.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [role, subject] = &arguments[..] else {
        return usage();
    };
    match subject.as_str() {
        "quinn-stream" => run::<quinn_stream::QuinnStream>(role),
        "rpcnet-0.1.0" => run::<rpcnet_0_1_0::Rpcnet010>(role),
        "tarpc-tcp" | tarpc_tcp::INLINE => run::<tarpc_tcp::TarpcTcp>(role),
        "tonic-tls" => run::<tonic_tls::TonicTls>(role),
        _ => usage(),
    }
}

fn run<S: Subject>(role: &str) -> ExitCode {
    match role {
        "server" => run_server::<S>(),
        "client" => run_client::<S>(),
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: peers server|client SUBJECT, as `cargo xtask bench rpc --peers` does");
    ExitCode::from(2)
}
