//! `cargo xtask bench instructions`: instructions of a call, counted by valgrind (callgrind).
//!
//! A count does not depend on what else the machine does, so that a change of one part in a hundred
//! shows where times differ by ten. Client and server are in one process with one thread, on an
//! in-memory network with real QUIC and TLS; the system's socket calls are not in it, and neither
//! are waiting and caches. Each workload is run at two lengths, and the difference is divided by
//! that of the calls, so that start, handshake and end do not count.
//!
//! `xtask/instructions.json` has the counts that are accepted, for each architecture. A count that
//! is more than 2 % above its own is a regression; `--accept` writes the file. Another compiler, or
//! processors with other instructions for encryption, give other counts.

mod counts;
pub(crate) mod workload;

use std::{
    env,
    error::Error,
    process::{Command, Stdio},
};

use clap::Args;
use xtask_harness::Outcome;
use xtask_report::Progress;

use self::{counts::Counts, workload::WORKLOADS};
use super::exit_code;
use crate::project;

#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Write the counts to `xtask/instructions.json`, as those that are accepted.
    #[arg(long)]
    accept: bool,
}

/// Counts. Fails, without being an error, on a regression.
pub(crate) fn run(options: &Options) -> Outcome {
    if cfg!(debug_assertions) {
        return Err("counts of a debug build say nothing: `cargo xtask bench instructions`".into());
    }
    let counted = count_all()?;
    let file = project::root().join(FILE);
    let accepted = Counts::read(&file)?;
    print!("{}", counted.compared_with(&accepted));
    if options.accept {
        counted.merged_into(accepted).write(&file)?;
        println!("written to {FILE}");
        return Ok(exit_code(true));
    }
    let regressions = counted.regressions(&accepted);
    if regressions > 0 {
        println!(
            "{regressions} regressions; if they are intended: `cargo xtask bench instructions \
             --accept`"
        );
    }
    Ok(exit_code(regressions == 0))
}

fn count_all() -> Result<Counts, Box<dyn Error>> {
    let mut progress = Progress::new(2 * WORKLOADS.len());
    let mut counts = Counts::default();
    for workload in WORKLOADS {
        let mut count = |calls: u64| {
            progress.step(&format!("{}, {calls} calls", workload.name));
            callgrind(workload.name, calls)
        };
        let (short, long) = (workload.calls, 3 * workload.calls);
        let instructions = count(long)?.saturating_sub(count(short)?);
        counts.insert(workload.name, instructions as f64 / (long - short) as f64);
    }
    Ok(counts)
}

/// Instructions of this program while it does so many calls of a workload.
fn callgrind(workload: &str, calls: u64) -> Result<u64, Box<dyn Error>> {
    let mut command = Command::new("valgrind");
    command
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(env::current_exe()?)
        .args([workload::COMMAND, workload, &calls.to_string()])
        .stdin(Stdio::null());
    let output = command
        .output()
        .map_err(|error| format!("cannot start valgrind (`apt-get install valgrind`): {error}"))?;
    let told = String::from_utf8_lossy(&output.stderr);
    let collected = collected(&told).filter(|_| output.status.success());
    collected.ok_or_else(|| format!("{command:?} failed:\n{}", told.trim()).into())
}

/// The number of instructions in what callgrind prints at the end.
fn collected(told: &str) -> Option<u64> {
    let lines = told.lines().rev();
    let count = lines
        .filter_map(|line| line.split_once("Collected :"))
        .next()?;
    count.1.trim().parse().ok()
}

/// Accepted counts, in the workspace.
const FILE: &str = "xtask/instructions.json";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_found_at_the_end() {
        let told = "==7== Callgrind, a call-graph generating cache profiler\n\
                    ==7== \n==7== Events    : Ir\n==7== Collected : 123456789\n==7== \n";
        assert_eq!(collected(told), Some(123_456_789));
        assert_eq!(collected("==7== Callgrind\n"), None);
    }
}
