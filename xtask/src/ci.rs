//! `cargo xtask ci`: everything a change must pass, a step after the other.

use std::{
    env, fs,
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use clap::Args;

use crate::project::{self, Outcome};

/// The crates that each have to stand alone.
const CRATES: [&str; 6] = [
    "rpcnet-phi",
    "rpcnet-balance",
    "rpcnet-swim",
    "rpcnet-registry",
    "rpcnet-transport",
    "rpcnet-client",
];

/// Manifests of the nested workspaces, whose lock files have to fit the crates that they build.
const NESTED: [&str; 3] = [
    "rpcnet-swim/fuzz/Cargo.toml",
    "rpcnet-transport/fuzz/Cargo.toml",
    "xtask/peers/Cargo.toml",
];

/// The examples that check what they show.
const TOPOLOGIES: [&str; 4] = [
    "coordinator_worker",
    "peer_to_peer",
    "hierarchical",
    "heterogeneous_pool",
];

/// Target directory of the demo as a newcomer builds it.
const FIRST_TARGET: &str = "target/first-minute";

/// Target for the time from a fresh clone with a warm registry to the end of a quick demo, on two
/// idle cores. It is printed, and not required: machines of CI differ, and are shared.
const FIRST_TARGET_TIME: Duration = Duration::from_secs(100);

/// Limit of that time.
const FIRST_WITHIN: Duration = Duration::from_secs(285);

/// Options of the command.
#[derive(Debug, Default, Args)]
pub(crate) struct Options {
    /// Run every step, also after one has failed.
    #[arg(long)]
    keep_going: bool,
    /// Only the steps whose name contains this.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Print the steps without running them.
    #[arg(long)]
    list: bool,
}

/// Runs the steps, with the time that each took.
///
/// # Errors
///
/// When a step's program cannot be started, or no step has the name that was asked for.
pub(crate) fn run(options: &Options) -> Outcome {
    let mut steps = steps();
    if let Some(only) = &options.only {
        steps.retain(|step| step.name().contains(only));
        if steps.is_empty() {
            return Err(format!("no step is called {only:?}, see `cargo xtask ci --list`").into());
        }
    }
    if options.list {
        for step in &steps {
            println!("{}", step.name());
        }
        return Ok(ExitCode::SUCCESS);
    }

    let begin = Instant::now();
    let mut results: Vec<(String, bool, Duration)> = Vec::new();
    for (number, step) in steps.iter().enumerate() {
        println!("\n==> [{}/{}] {}", number + 1, steps.len(), step.name());
        if step.within.is_some() {
            // From the beginning each time: an earlier run would have built it already.
            let _ = fs::remove_dir_all(project::root().join(FIRST_TARGET));
        }
        let start = Instant::now();
        let ended_well = step.command()?.status()?.success();
        let took = start.elapsed();
        if let Some(within) = step.within {
            let took = took.as_secs();
            println!("took {took} s: target {FIRST_TARGET_TIME:?}, limit {within:?}");
        }
        let passed = ended_well && step.within.is_none_or(|within| took <= within);
        results.push((step.name(), passed, took));
        if !passed && !options.keep_going {
            break;
        }
    }

    println!("\n==> ci in {:.0} s", begin.elapsed().as_secs_f64());
    for (name, passed, time) in &results {
        println!(
            "{} {:>6.1} s  {name}",
            if *passed { "ok    " } else { "FAILED" },
            time.as_secs_f64()
        );
    }
    for step in &steps[results.len()..] {
        println!("not run           {}", step.name());
    }
    let passed = results.iter().all(|(_, passed, _)| *passed);
    Ok(if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Program with its arguments.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Step {
    program: Program,
    arguments: String,
    environment: Option<(&'static str, &'static str)>,
    /// Longest time that it may take, from a clean target directory.
    within: Option<Duration>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Program {
    Cargo,
    /// This executable, so that nothing is built again.
    Xtask,
}

impl Step {
    fn cargo(arguments: impl Into<String>) -> Self {
        Self {
            program: Program::Cargo,
            arguments: arguments.into(),
            environment: None,
            within: None,
        }
    }

    fn xtask(arguments: impl Into<String>) -> Self {
        Self {
            program: Program::Xtask,
            arguments: arguments.into(),
            environment: None,
            within: None,
        }
    }

    /// Command as a user types it.
    fn name(&self) -> String {
        let variable = self
            .environment
            .map(|(name, value)| format!("{name}=\"{value}\" "));
        let program = match self.program {
            Program::Cargo => "cargo",
            Program::Xtask => "cargo xtask",
        };
        format!(
            "{}{program} {}",
            variable.unwrap_or_default(),
            self.arguments
        )
    }

    fn command(&self) -> std::io::Result<Command> {
        let mut command = match self.program {
            Program::Cargo => project::cargo(),
            Program::Xtask => project::program(env::current_exe()?),
        };
        command
            .args(self.arguments.split(' '))
            .envs(self.environment);
        Ok(command)
    }
}

/// Steps in order: the quick and frequent failures first.
fn steps() -> Vec<Step> {
    let mut steps = vec![Step::cargo("fmt --all --check")];
    // Says which lock file does not fit, in less than a second; a build would take minutes.
    let locked =
        NESTED.map(|manifest| format!("update --workspace --locked --manifest-path {manifest}"));
    steps.extend(locked.map(Step::cargo));
    steps.extend([
        Step::cargo("clippy --workspace --all-targets --all-features -- -D warnings"),
        Step::cargo("test --workspace"),
        Step {
            environment: Some(("RUSTDOCFLAGS", "-D warnings")),
            ..Step::cargo("doc --workspace --no-deps --all-features")
        },
    ]);
    for name in CRATES {
        // Alone, features that only a sibling asks for are missing. The library without default
        // features goes apart from its tests, whose dependencies may switch features on again.
        steps.push(Step::cargo(format!("check --package {name} --all-targets")));
        steps.push(Step::cargo(format!(
            "clippy --package {name} --no-default-features -- -D warnings"
        )));
        steps.push(Step::cargo(format!(
            "test --package {name} --no-default-features"
        )));
    }
    steps.extend([
        // As tests, not by `cargo bench`: one iteration each, and no second build of everything.
        Step::cargo("test --workspace --bench *"),
        Step::xtask("tidy"),
        Step::cargo("build --workspace --examples"),
    ]);
    let topologies = TOPOLOGIES.into_iter();
    steps.extend(topologies.map(|name| {
        let run = format!("run --quiet --package rpcnet-client --example {name}");
        Step::cargo(run)
    }));
    steps.extend([
        // A minute for each target, and their build; the same inputs for every run of one commit.
        Step::xtask("fuzz --seed 1"),
        // What a newcomer does first, with nothing built.
        Step {
            environment: Some(("CARGO_TARGET_DIR", FIRST_TARGET)),
            within: Some(FIRST_WITHIN),
            ..Step::cargo("xtask demo --quick")
        },
        Step::xtask("chaos --quick"),
        Step::xtask("chaos --namespaces --quick"),
        Step::xtask("bench rpc --quick"),
        Step::xtask("bench rpc --bulk --quick"),
        Step::xtask("bench cluster --quick"),
        Step::xtask("bench pick --quick"),
        Step::xtask("bench gossip --quick"),
    ]);
    steps.push(Step::xtask("figures"));
    let scenarios = xtask_sim::names().into_iter();
    steps.extend(scenarios.map(|name| Step::xtask(format!("sim {name} --quick"))));
    steps
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_tests_run_as_a_reader_would_run_them() {
        assert!(
            steps()
                .iter()
                .any(|step| step.name() == "cargo test --workspace")
        );
    }

    #[test]
    fn every_published_crate_is_checked_alone() {
        let manifest = fs::read_to_string(project::root().join("Cargo.toml")).unwrap();
        let members = manifest
            .split_once("members = [")
            .unwrap()
            .1
            .split_once(']')
            .unwrap()
            .0;
        let members: BTreeSet<_> = members
            .split('"')
            .skip(1)
            .step_by(2)
            // Nested ones are parts of the crate that they lie in.
            .filter(|name| !name.starts_with("xtask") && !name.contains('/'))
            .collect();
        assert_eq!(members, BTreeSet::from(CRATES));
    }

    #[test]
    fn every_nested_lock_file_is_checked() {
        let mut list = project::program("git");
        let tracked = project::run_for_stdout(list.args(["ls-files", "*/Cargo.lock"])).unwrap();
        let tracked: BTreeSet<_> = tracked.lines().map(String::from).collect();
        let checked = NESTED.map(|manifest| manifest.replace(".toml", ".lock"));
        assert_eq!(tracked, BTreeSet::from(checked));
    }

    #[test]
    fn steps_differ_so_that_their_names_select_them() {
        let steps = steps();
        let names: BTreeSet<_> = steps.iter().map(Step::name).collect();
        assert_eq!(names.len(), steps.len());
    }

    #[test]
    fn an_unknown_step_is_an_error() {
        let options = Options {
            only: Some("no such step".into()),
            ..Options::default()
        };
        let error = run(&options).unwrap_err();
        assert!(error.to_string().contains("no such step"), "{error}");
    }
}
