//! Workloads of `cargo xtask bench instructions`: a program that makes a number of calls and ends.
//!
//! Without arguments it prints the workloads, a line each: the name, and the calls of a short run.
//! With a name and a number it makes so many calls. Client and server are in one thread, on an
//! in-memory network with real QUIC and TLS. Time stands still while there is work, so that nothing
//! depends on how slowly the program runs under a profiler.

mod workload;

use std::{env, error::Error, process::ExitCode};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    match arguments {
        [] => {
            for workload in workload::WORKLOADS {
                println!("{} {}", workload.name, workload.calls);
            }
            Ok(())
        }
        [name, calls] => workload::run(name, calls.parse()?),
        _ => Err("a workload and a number of calls, or nothing".into()),
    }
}
