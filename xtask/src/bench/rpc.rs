//! `cargo xtask bench rpc`: a mode, from its options to its results.

use std::{error::Error, io, process::ExitCode};

use xtask_harness::{Outcome, run_until_interrupted};

use super::{
    client_process::BenchSetup,
    disturbance, exit_code, floor, open_loop,
    options::{Measuring, Options},
    profile::RunProfile,
    rows::JsonRow,
    subjects,
};

/// Measures. Fails, without being an error, when a target is missed, unless it was `--quick`.
pub(crate) fn run(options: &Options) -> Outcome {
    run_until_interrupted(run_mode(options))
}

async fn run_mode(options: &Options) -> Result<ExitCode, Box<dyn Error>> {
    options.check()?;
    let mode = options.mode();
    let subjects = subjects::select(options, mode.subjects)?;
    let groups = (mode.groups)(options, &subjects);
    if groups.is_empty() {
        return Err("nothing of the grid is left to measure".into());
    }
    let setup = BenchSetup::new(&options.measuring, &subjects)?;
    let setup = (mode.prepare)(options, setup);
    let profile = print_conditions(&options.measuring, &setup)?;
    let mut rows = setup.measure_all(&options.measuring, groups).await?;
    if options.is_open_loop() {
        let groups = open_loop::at_shares_of_peaks(options, &setup, &subjects, &rows).await?;
        rows = setup.measure_all(&options.measuring, groups).await?;
    }
    floor::compare(&mut rows);
    print!("{}{}", mode.report(&rows), disturbance::summary(&rows));
    println!("{}", profile.end_text());
    let json: Vec<_> = JsonRow::all(&rows, mode.fields).collect();
    let files = &options.measuring.files;
    files.write("bench rpc", &json, &profile, || mode.draw(&rows))?;
    let is_missed = mode.missed_targets(&rows) > 0;
    Ok(exit_code(!is_missed || options.measuring.quick))
}

/// Says how it is measured, and whether the machine has other things to do.
pub(crate) fn print_conditions(options: &Measuring, setup: &BenchSetup) -> io::Result<RunProfile> {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    if let Some(load) = busy_load(&load) {
        eprintln!("warning: the machine is busy (load {load}), figures will be noise");
    }
    let profile = RunProfile::begin(&setup.describe(), setup.cores())?;
    println!(
        "{}\nrounds: {} of {:?}\n",
        profile.text(),
        options.rounds(),
        options.window()
    );
    Ok(profile)
}

/// The load of the last minute, if it is more than a quiet machine has.
fn busy_load(load_average: &str) -> Option<f64> {
    let load = load_average.split(' ').next()?.parse().ok()?;
    (load > LOAD_QUIET_MAX).then_some(load)
}

/// A measurement alone, just over, leaves less.
const LOAD_QUIET_MAX: f64 = 1.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_machine_is_distinguished_from_a_quiet_one() {
        assert_eq!(busy_load("0.52 0.58 0.59 1/467 12345\n"), None);
        assert_eq!(busy_load("3.09 1.50 1.12 2/467 12345\n"), Some(3.09));
        assert_eq!(busy_load(""), None);
    }
}
