//! `cargo xtask ci`: everything a change must pass, a step after the other.

use std::{
    env,
    error::Error,
    fs,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Args;

use crate::{
    project::{self, Outcome},
    tidy,
};

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

/// The measuring commands, with the checks of their results.
const MEASUREMENTS: [&str; 9] = [
    "xtask chaos --quick",
    "xtask chaos --namespaces --quick",
    "xtask bench rpc --quick",
    "xtask bench rpc --bulk --quick",
    "xtask bench cluster --quick",
    "xtask bench pick --quick",
    "xtask bench gossip --quick",
    "xtask bench instructions",
    "xtask figures",
];

/// Target directory of the demo as a newcomer builds it.
const FIRST_TARGET_DIR: &str = "target/first-minute";

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
    let mut results = Vec::new();
    for (number, step) in steps.iter().enumerate() {
        println!("\n==> [{}/{}] {}", number + 1, steps.len(), step.name());
        let start = Instant::now();
        let status = step.run()?;
        results.push((status, start.elapsed()));
        if status == Status::Failed && !options.keep_going {
            break;
        }
    }

    println!("\n==> ci in {:.0} s", begin.elapsed().as_secs_f64());
    for (step, (status, time)) in steps.iter().zip(&results) {
        let status = match status {
            Status::Passed => "ok",
            Status::Failed => "FAILED",
            Status::NotInstalled => "absent",
        };
        println!("{status:6} {:>6.1} s  {}", time.as_secs_f64(), step.name());
    }
    for step in &steps[results.len()..] {
        println!("not run           {}", step.name());
    }
    Ok(
        match results.iter().any(|(status, _)| *status == Status::Failed) {
            true => ExitCode::FAILURE,
            false => ExitCode::SUCCESS,
        },
    )
}

/// A command of cargo.
#[derive(Clone, Debug)]
struct Step {
    /// Arguments of cargo. Commands of xtask run in this executable, so that nothing is built
    /// again, unless their build is measured.
    arguments: String,
    environment: Option<(&'static str, &'static str)>,
    /// Longest time that it may take, from a clean target directory.
    within: Option<Duration>,
    /// Whether it is left out where the subcommand of cargo is not installed.
    is_optional: bool,
}

/// Result of a step.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Status {
    Passed,
    Failed,
    NotInstalled,
}

impl Step {
    fn new(arguments: impl Into<String>) -> Self {
        let (arguments, is_optional) = (arguments.into(), false);
        Self {
            arguments,
            environment: None,
            within: None,
            is_optional,
        }
    }

    /// Command as a user types it.
    fn name(&self) -> String {
        let variable = self
            .environment
            .map(|(name, value)| format!("{name}=\"{value}\" "));
        format!("{}cargo {}", variable.unwrap_or_default(), self.arguments)
    }

    fn run(&self) -> Result<Status, Box<dyn Error>> {
        let words: Vec<_> = self.arguments.split(' ').collect();
        let mut command = match &words[..] {
            ["xtask", words @ ..] if self.within.is_none() => {
                let mut command = project::program(env::current_exe()?);
                command.args(words);
                command
            }
            words => {
                let mut command = project::cargo();
                command.args(words);
                command
            }
        };
        if self.is_optional {
            let version = project::cargo().args([words[0], "--version"]).output()?;
            if !version.status.success() {
                println!(
                    "cargo-{0} is not installed: cargo install cargo-{0} --locked",
                    words[0]
                );
                return Ok(Status::NotInstalled);
            }
        }
        if self.within.is_some() {
            // From the beginning each time: an earlier run would have built it already.
            let _ = fs::remove_dir_all(project::root().join(FIRST_TARGET_DIR));
        }
        let start = Instant::now();
        let ended_well = command.envs(self.environment).status()?.success();
        let took = start.elapsed();
        if let Some(within) = self.within {
            let took = took.as_secs();
            println!("took {took} s: target {FIRST_TARGET_TIME:?}, limit {within:?}");
        }
        match ended_well && self.within.is_none_or(|within| took <= within) {
            true => Ok(Status::Passed),
            false => Ok(Status::Failed),
        }
    }
}

/// Steps in order: the quick and frequent failures first.
fn steps() -> Vec<Step> {
    let mut steps = vec![Step::new("fmt --all --check")];
    // Says which lock file does not fit, in less than a second; a build would take minutes.
    steps.extend(NESTED.map(|manifest| {
        Step::new(format!(
            "update --workspace --locked --manifest-path {manifest}"
        ))
    }));
    steps.extend([
        // What tidy checks of the same file, and more, where the program is installed.
        Step {
            is_optional: true,
            ..Step::new("deny check licenses bans sources")
        },
        Step::new("clippy --workspace --all-targets --all-features -- -D warnings"),
        Step::new("test --workspace"),
        Step {
            environment: Some(("RUSTDOCFLAGS", "-D warnings")),
            ..Step::new("doc --workspace --no-deps --all-features")
        },
    ]);
    for name in tidy::published_crates() {
        // Alone, features that only a sibling asks for are missing. The library without default
        // features goes apart from its tests, whose dependencies may switch features on again.
        steps.extend([
            Step::new(format!("check --package {name} --all-targets")),
            Step::new(format!(
                "clippy --package {name} --no-default-features -- -D warnings"
            )),
            Step::new(format!("test --package {name} --no-default-features")),
        ]);
    }
    // Benches as tests, not by `cargo bench`: one iteration each, and no second build of all.
    let all = [
        "test --workspace --bench *",
        "xtask tidy",
        "build --workspace --examples",
    ];
    steps.extend(all.map(Step::new));
    steps.extend(TOPOLOGIES.map(|name| {
        Step::new(format!(
            "run --quiet --package rpcnet-client --example {name}"
        ))
    }));
    steps.extend([
        // The feature alone, in both crates that have it: tests turn others on as well.
        Step::new(
            "clippy --package rpcnet-client --no-default-features --features tower -- -D warnings",
        ),
        Step::new("run --quiet --package rpcnet-transport --example tower"),
        // Half a minute for each target, and their build; the same inputs for every run of one
        // commit.
        Step::new("xtask fuzz --seed 1 --minutes 0.6"),
        // What a newcomer does first, with nothing built.
        Step {
            environment: Some(("CARGO_TARGET_DIR", FIRST_TARGET_DIR)),
            within: Some(FIRST_WITHIN),
            ..Step::new("xtask demo --quick")
        },
    ]);
    steps.extend(MEASUREMENTS.map(Step::new));
    let scenarios = xtask_sim::names().into_iter();
    steps.extend(scenarios.map(|name| Step::new(format!("xtask sim {name} --quick"))));
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
