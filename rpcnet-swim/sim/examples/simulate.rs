//! How fast a whole cluster is simulated, and in how much memory.
//!
//! `cargo run --release -p rpcnet-swim-sim --example simulate -- NODES SECONDS
//! [bootstrap] [CHECK_EVERY]`: by default the cluster is formed at once; with `bootstrap` it
//! starts and finds itself. One node crashes halfway. Safety is checked as each step changes it,
//! and every CHECK_EVERY-th view of a node as a whole (default: as many as there are nodes).

use std::time::{Duration, Instant};

use rpcnet_swim::ClusterConfig;
use rpcnet_swim_sim::{Cluster, TransitionLog};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let is_bootstrap = args.iter().any(|arg| arg == "bootstrap");
    let numbers: Vec<u64> = args.iter().filter_map(|arg| arg.parse().ok()).collect();
    let &[nodes, seconds, ref rest @ ..] = numbers.as_slice() else {
        eprintln!("usage: simulate NODES SECONDS [bootstrap] [CHECK_EVERY]");
        std::process::exit(2);
    };
    let start = Instant::now();
    let make = match is_bootstrap {
        true => Cluster::bootstrap,
        false => Cluster::formed,
    };
    let mut cluster = make(1, nodes as usize, ClusterConfig::lan());
    cluster.log_events(false);
    cluster.log_transitions(TransitionLog::Failures);
    cluster.check_every(rest.first().copied().unwrap_or(nodes));
    println!(
        "made     {:8.2} s of wall time, {}",
        start.elapsed().as_secs_f64(),
        usage()
    );

    for (what, span) in [
        ("first half", seconds / 2),
        ("with a crash", seconds - seconds / 2),
    ] {
        let (before, start) = (cluster.report(), Instant::now());
        if what == "with a crash" {
            cluster.crash(nodes as usize / 2);
        }
        cluster.run_for(Duration::from_secs(span));
        let (after, wall) = (cluster.report(), start.elapsed().as_secs_f64());
        let steps = after.steps - before.steps;
        println!(
            "{what}: {span} s of virtual time in {wall:.2} s; {steps} steps, {:.0} a second; {} datagrams; {}",
            steps as f64 / wall,
            after.sent - before.sent,
            usage(),
        );
    }
    cluster.expect_safe();
    let know = cluster.transitions().len();
    let last = cluster
        .transitions()
        .last()
        .map(|t| t.at.as_micros() as f64 / 1e6);
    println!(
        "{know} know of the crash, the last one at {last:?} s; {}",
        match cluster.difference() {
            None => "all views are equal".to_owned(),
            Some((node, difference)) => format!("n{node}: {difference}"),
        }
    );
    println!(
        "trace {:016x}, {:?}",
        cluster.report().trace,
        start.elapsed()
    );
}

/// CPU time and memory of the process, as the system counts them.
fn usage() -> String {
    let Ok(stat) = std::fs::read_to_string("/proc/self/stat") else {
        return "usage unknown".to_owned();
    };
    // After the name, which ends with the last parenthesis: utime is the twelfth.
    let ticks = stat
        .rsplit(')')
        .next()
        .and_then(|rest| rest.split_whitespace().nth(11)?.parse::<f64>().ok());
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name| {
        let line = status
            .lines()
            .find_map(|line: &str| line.strip_prefix(name));
        line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok())
            .unwrap_or_default()
            / 1024.0
    };
    format!(
        "{:.2} s of user time, {:.0} MiB, {:.0} at most",
        ticks.unwrap_or_default() / 100.0,
        field("VmRSS:"),
        field("VmHWM:"),
    )
}
