//! `cargo xtask bench instructions`: instructions of a call, counted by valgrind (callgrind).
//!
//! A count does not depend on what else the machine does, so that a change of one part in a hundred
//! shows where times differ by ten. Client and server are in one process with one thread, on an
//! in-memory network with real QUIC and TLS, and time stands still while there is work; the
//! system's socket calls are not in it, and neither are waiting and caches. Each workload is run at
//! two lengths, and the difference is divided by that of the calls, so that start, handshake and
//! end do not count. The workloads are a program of their own (`xtask/instructions`), since time
//! that can stand still is nothing for a program that measures times.
//!
//! `xtask/instructions.json` has the counts that are accepted, for each architecture. A count that
//! is more than 2 % above its own is a regression; `--accept` writes the file. Another compiler, or
//! processors with other instructions for encryption, give other counts.

mod counts;

use std::{
    env,
    error::Error,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use clap::Args;
use xtask_harness::Outcome;
use xtask_report::Progress;

use self::counts::Counts;
use super::exit_code;
use crate::project;

#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Write the counts to `xtask/instructions.json`, as those that are accepted.
    #[arg(long)]
    accept: bool,
}

/// Counts. Fails, without being an error, on a regression.
///
/// # Errors
///
/// When a workload with an accepted count was not counted, or the programs cannot be run.
pub(crate) fn run(options: &Options) -> Outcome {
    let counted = count_all(&build()?)?;
    let file = project::root().join(FILE);
    let accepted = Counts::read(&file)?;
    print!("{}", counted.compared_with(&accepted));
    if options.accept {
        counted.merged_into(accepted).write(&file)?;
        println!("written to {FILE}");
        return Ok(exit_code(true));
    }
    if accepted.is_empty_here() {
        println!(
            "nothing was checked: no counts are accepted for {}; `cargo xtask bench instructions \
             --accept` accepts these",
            env::consts::ARCH
        );
    }
    let missing = counted.missing(&accepted);
    if !missing.is_empty() {
        let missing = missing.join(", ");
        return Err(format!("accepted workloads were not counted: {missing}").into());
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

/// Builds the workloads where this program was built.
fn build() -> Result<PathBuf, Box<dyn Error>> {
    let this = env::current_exe()?;
    let target = this.ancestors().nth(2);
    let target = target.ok_or("there is no folder to build in")?;
    project::build("xtask-instructions", &[], "Cargo.toml", target)
}

fn count_all(program: &Path) -> Result<Counts, Box<dyn Error>> {
    let list = project::run_for_stdout(&mut project::program(program))?;
    let mut progress = Progress::new(2 * list.lines().count());
    let mut counts = Counts::default();
    for (workload, calls) in workloads(&list)? {
        let mut count = |calls: u64| {
            progress.step(&format!("{workload}, {calls} calls"));
            callgrind(program, workload, calls)
        };
        let (short, long) = (calls, 3 * calls);
        let instructions = count(long)?.saturating_sub(count(short)?);
        counts.insert(workload, instructions as f64 / (long - short) as f64);
    }
    Ok(counts)
}

/// Names of workloads and calls of a short run, from lines of both.
fn workloads(list: &str) -> Result<Vec<(&str, u64)>, Box<dyn Error>> {
    let lines = list.lines().map(|line| {
        let (name, calls) = line.split_once(' ').ok_or("a workload without calls")?;
        Ok((name, calls.parse()?))
    });
    lines.collect()
}

/// Instructions of the program while it makes so many calls of a workload.
fn callgrind(program: &Path, workload: &str, calls: u64) -> Result<u64, Box<dyn Error>> {
    let mut command = Command::new("valgrind");
    command
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args([workload, &calls.to_string()])
        .stdin(Stdio::null());
    let output = command
        .output()
        .map_err(|error| format!("cannot start valgrind (`apt-get install valgrind`): {error}"))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    let collected = collected(&stderr).filter(|_| output.status.success());
    collected.ok_or_else(|| format!("{command:?} failed:\n{}", stderr.trim()).into())
}

/// The number of instructions in what callgrind prints at the end.
fn collected(stderr: &str) -> Option<u64> {
    let lines = stderr.lines().rev();
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
    fn workloads_have_names_and_calls() {
        let list = workloads("raw-call 500\npick 100000\n").unwrap();
        assert_eq!(list, [("raw-call", 500), ("pick", 100_000)]);
        for wrong in ["pick", "pick many"] {
            assert!(workloads(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_count_is_found_at_the_end() {
        let stderr = "==7== Callgrind, a call-graph generating cache profiler\n\
                    ==7== \n==7== Events    : Ir\n==7== Collected : 123456789\n==7== \n";
        assert_eq!(collected(stderr), Some(123_456_789));
        assert_eq!(collected("==7== Callgrind\n"), None);
    }
}
