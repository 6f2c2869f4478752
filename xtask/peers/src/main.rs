//! Peers of `cargo xtask bench rpc --peers`: a process that serves one of them, or calls it.
//!
//! Load, clocks and checks are those of `xtask-load`; here is how each peer serves, connects and
//! calls, each as its users would for speed.

mod frames_tcp;
mod irpc_noq;
mod keys;
mod quinn_stream;
mod rpcnet_0_1_0;
mod tarpc_tcp;
mod tls;
mod tonic_streams;
mod tonic_tls;

use std::process::ExitCode;

use xtask_load::{execute, run};

fn main() -> ExitCode {
    // More than one is compiled in, so rustls would not choose.
    let _ = rustls::crypto::ring::default_provider().install_default();
    run(|subject| {
        Some(match subject {
            "frames-tcp" => execute::<frames_tcp::FramesTcp>,
            "irpc" | irpc_noq::RPC => execute::<irpc_noq::Irpc>,
            "quinn-stream" => execute::<quinn_stream::QuinnStream>,
            "rpcnet-0.1.0" => execute::<rpcnet_0_1_0::Rpcnet010>,
            "tarpc-tcp" | tarpc_tcp::TLS | tarpc_tcp::INLINE => execute::<tarpc_tcp::TarpcTcp>,
            "tonic-tls" => execute::<tonic_tls::TonicTls>,
            _ => return None,
        })
    })
}
