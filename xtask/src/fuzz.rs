//! `cargo xtask fuzz`: every fuzz target of `rpcnet-swim/fuzz` and `rpcnet-transport/fuzz` for a
//! while, with libFuzzer.
//!
//! The targets need flags of the compiler that stable Rust has under `RUSTC_BOOTSTRAP=1` alone. No
//! sanitizer: the crates have no `unsafe` code, and without one a run is some times as fast.
//! Overflow checks and debug assertions are on.

mod log;

use std::{
    error::Error,
    fs,
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use clap::{Args, ValueEnum};
use serde::Serialize;
use xtask_report::{Document, format_table, number};

use self::log::Log;
use crate::project::{self, Outcome};

/// Options of the command.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only this target; more than once for several [default: all].
    #[arg(long, value_enum, value_name = "NAME")]
    target: Vec<Target>,
    /// Minutes for each target.
    #[arg(long, value_name = "N", default_value_t = 1.0, value_parser = minutes)]
    minutes: f64,
    /// Ten seconds for each target.
    #[arg(long, conflicts_with = "minutes")]
    quick: bool,
    /// Seed of the inputs: the same one gives the same inputs in the same order [default: another
    /// in each run].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    seed: Option<u32>,
    /// Write the figures to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Fuzz target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Target {
    /// Members, and an attacker that has the key.
    Engine,
    /// Datagrams as they come from the network.
    Envelope,
    /// Payloads of datagrams, of every kind.
    Message,
    /// Record of a member.
    Record,
    /// A member's tags.
    Tags,
    /// Frames of calls, of every kind of stream.
    Frames,
    /// Frames of lanes.
    LaneFrames,
    /// Metadata and trace contexts of calls.
    Headers,
    /// Values of several types in the encoding with names.
    NamedValues,
    /// Two schemas, and their comparison.
    Schemas,
    /// A server, and a caller that violates the protocol.
    HostileCaller,
    /// A client, and a server that violates the protocol.
    HostileServer,
}

/// Result of one target.
#[derive(Debug, Serialize)]
struct Row {
    target: String,
    seconds: f64,
    #[serde(flatten)]
    log: Log,
    /// The input that broke a rule, if one did.
    crash: Option<String>,
}

impl Options {
    fn targets(&self) -> &[Target] {
        match &self.target[..] {
            [] => Target::value_variants(),
            named => named,
        }
    }

    fn length(&self) -> Duration {
        match self.quick {
            true => Duration::from_secs(10),
            false => Duration::from_secs_f64((self.minutes * 60.0).max(1.0)),
        }
    }
}

impl Target {
    /// The crate that has it.
    fn package(self) -> &'static str {
        match self {
            Self::Engine | Self::Envelope | Self::Message | Self::Record | Self::Tags => {
                "rpcnet-swim"
            }
            Self::Frames
            | Self::LaneFrames
            | Self::Headers
            | Self::NamedValues
            | Self::Schemas
            | Self::HostileCaller
            | Self::HostileServer => "rpcnet-transport",
        }
    }

    fn name(self) -> String {
        let value = self.to_possible_value().expect("none is skipped");
        value.get_name().to_owned()
    }
}

/// Runs the targets. Fails, without being an error, when an input broke a rule.
pub(crate) fn run(options: &Options) -> Outcome {
    if project::run_for_stdout(cargo_fuzz(PACKAGES[0]).arg("--version")).is_err() {
        return Err(NOT_INSTALLED.into());
    }
    eprintln!("building the targets");
    for package in PACKAGES {
        if !options.targets().iter().any(|t| t.package() == package) {
            continue;
        }
        let mut build = cargo_fuzz(package);
        build.arg("build").args(SETTINGS);
        if !build.status()?.success() {
            let what = "the fuzz targets were not built: libfuzzer-sys needs a C++ compiler";
            return Err(what.into());
        }
    }
    let mut rows = Vec::new();
    for target in options.targets() {
        eprintln!(
            "{} for {:.0} s",
            target.name(),
            options.length().as_secs_f64()
        );
        rows.push(fuzz(*target, options)?);
    }
    print!("{}", table(&rows));
    if let Some(path) = &options.json {
        Document::new("fuzz", &rows).write(path)?;
    }
    Ok(match rows.iter().all(|row| row.crash.is_none()) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn fuzz(target: Target, options: &Options) -> Result<Row, Box<dyn Error>> {
    let name = target.name();
    let folder = project::root().join(target.package());
    let corpus = format!("fuzz/corpus/{name}");
    fs::create_dir_all(folder.join(&corpus))?;
    let seeds = format!("fuzz/seeds/{name}");

    let mut command = cargo_fuzz(target.package());
    command.arg("run").args(SETTINGS).args([&name, &corpus]);
    if folder.join(&seeds).is_dir() {
        command.arg(&seeds);
    }
    command.args(["--", "-print_final_stats=1", "-timeout=30"]);
    // From the first run on as long as they come: what is interesting takes many operations.
    command.args(["-len_control=0", "-max_len=2048"]);
    command.arg(format!("-max_total_time={}", options.length().as_secs()));
    command.args(options.seed.map(|seed| format!("-seed={seed}")));
    let begin = Instant::now();
    let output = command.stdout(Stdio::null()).output()?;
    let told = String::from_utf8_lossy(&output.stderr);
    let log = Log::parse(&told);
    if !output.status.success() {
        eprintln!("{}", log::tail(&told));
        let input = log.artifact.as_deref().unwrap_or("INPUT");
        eprintln!("to replay: {}", replay(target, input));
    } else if log.runs == 0 {
        return Err(format!("{name} did not run:\n{}", log::tail(&told)).into());
    }
    let crash = (!output.status.success()).then(|| log.artifact.clone().unwrap_or_default());
    Ok(Row {
        target: name,
        seconds: begin.elapsed().as_secs_f64(),
        log,
        crash,
    })
}

/// `cargo fuzz` in the folder of a crate that has targets.
fn cargo_fuzz(package: &str) -> Command {
    let mut command = project::cargo();
    command
        .current_dir(project::root().join(package))
        .env("RUSTC_BOOTSTRAP", "1")
        .arg("fuzz");
    command
}

/// Command that repeats a crash.
fn replay(target: Target, input: &str) -> String {
    let settings = SETTINGS.join(" ");
    let (package, target) = (target.package(), target.name());
    format!("(cd {package} && RUSTC_BOOTSTRAP=1 cargo fuzz run {settings} {target} {input})")
}

fn table(rows: &[Row]) -> String {
    let heading = [
        "target", "seed", "s", "runs", "runs/s", "edges", "corpus", "MiB", "",
    ];
    let mut cells = vec![heading.map(str::to_owned).to_vec()];
    let count = |value: u64| number(value as f64).trim_end_matches(".00").to_owned();
    for row in rows {
        cells.push(vec![
            row.target.clone(),
            row.log.seed.to_string(),
            format!("{:.0}", row.seconds),
            count(row.log.runs),
            count(row.log.runs_per_s),
            count(row.log.coverage_edges),
            count(row.log.corpus_inputs),
            count(row.log.peak_rss_mib),
            if row.crash.is_some() { "CRASHED" } else { "" }.to_owned(),
        ]);
    }
    format_table(&cells)
}

fn minutes(text: &str) -> Result<f64, String> {
    let minutes: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    match (0.01..=10_000.0).contains(&minutes) {
        true => Ok(minutes),
        false => Err("not in 0.01..=10000".to_owned()),
    }
}

/// The crates that have targets.
const PACKAGES: [&str; 2] = ["rpcnet-swim", "rpcnet-transport"];
/// Arguments of every build, the same each time so that nothing is built twice.
const SETTINGS: [&str; 4] = ["-s", "none", "--target-dir", "../target/fuzz"];
const NOT_INSTALLED: &str =
    "cargo-fuzz is not installed: cargo install cargo-fuzz --locked --version 0.13.2";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_target_of_the_manifest_is_run() {
        for package in PACKAGES {
            let folder = project::root().join(package).join("fuzz");
            let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
            let bins = manifest.split("[[bin]]").skip(1);
            let bins = bins.map(|bin| bin.split('"').nth(1).unwrap().to_owned());
            let all = Target::value_variants().iter();
            let ours = all.filter(|target| target.package() == package);
            let ours: BTreeSet<_> = ours.map(|target| target.name()).collect();
            assert_eq!(bins.collect::<BTreeSet<_>>(), ours);
            for target in ours {
                assert!(folder.join(format!("targets/{target}.rs")).is_file());
            }
        }
    }

    #[test]
    fn ci_installs_the_version_that_the_command_names() {
        let script = fs::read_to_string(project::root().join(".ci/run")).unwrap();
        let install = NOT_INSTALLED.split_once(": ").unwrap().1;
        assert!(script.contains(install), "{install}");
    }

    #[test]
    fn a_crash_shows_in_the_table() {
        let row = Row {
            target: "tags".to_owned(),
            seconds: 61.0,
            log: Log {
                seed: 4_107_286_012,
                runs: 12_345_678,
                ..Log::default()
            },
            crash: Some("fuzz/artifacts/tags/crash-1".to_owned()),
        };
        let text = table(&[row]);
        assert!(
            ["4107286012", "12,345,678", "CRASHED"]
                .iter()
                .all(|it| text.contains(it)),
            "{text}"
        );
    }

    #[test]
    fn minutes_are_positive() {
        assert_eq!(minutes("0.5"), Ok(0.5));
        for text in ["0", "-1", "NaN", "inf", "x"] {
            assert!(minutes(text).is_err(), "{text}");
        }
    }
}
