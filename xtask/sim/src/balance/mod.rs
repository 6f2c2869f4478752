//! `cargo xtask sim balance`: every strategy in every fault scenario, on the same seeds.

mod checks;
mod figures;
mod render;
mod scenarios;
mod strategies;

use std::{error::Error, fs, process::ExitCode, time::Instant};

use rpcnet_balance::sim;
use xtask_report::{Document, WeightedProgress};

use self::{
    figures::{Row, Sample},
    scenarios::BalanceScenario,
    strategies::Strategy,
};
use crate::{
    check,
    options::{Extent, Options},
    work_pool::{Cost, run_all},
};

/// Runs all that the options ask for and shows it.
///
/// # Errors
///
/// When they name what there is not, or a file cannot be written.
pub(crate) fn run(options: &Options) -> Result<ExitCode, Box<dyn Error>> {
    let extent = options.extent();
    let scenarios = scenarios::select(extent, options.case.as_deref(), &options.fleet)?;
    let strategies = strategies::select(extent, &options.strategy)?;
    let begin = Instant::now();
    let (rows, broken) = rows(&scenarios, &strategies, options, extent);
    print!("{}", render::tables(&scenarios, &rows));
    let checks = checks::targets(&rows);
    print!("{}", check::report(&checks));
    for broken in &broken {
        println!("BROKEN {broken}");
    }
    println!("{:.1} s", begin.elapsed().as_secs_f64());
    if let Some(file) = &options.json {
        Document::new("sim balance", &rows).write(file)?;
    }
    if let Some(file) = &options.svg {
        fs::write(file, render::figure(&rows))?;
    }
    let missed = checks.iter().any(|check| match extent {
        Extent::Quick => check.is_missed_beyond_noise(),
        Extent::Full => !check.is_met(),
    });
    Ok(match missed || !broken.is_empty() {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}

#[derive(Debug)]
struct Run<'a> {
    scenario: &'a BalanceScenario,
    strategy: &'a Strategy,
    seed: u64,
}

/// A row of each scenario with each strategy, and the runs that broke a rule.
fn rows(
    scenarios: &[BalanceScenario],
    strategies: &[Strategy],
    options: &Options,
    extent: Extent,
) -> (Vec<Row>, Vec<String>) {
    let seeds = options.seeds.unwrap_or_else(|| extent.pick(1, 5));
    let mut places = Vec::new();
    for scenario in scenarios {
        for strategy in strategies {
            places.extend((options.seed..).take(seeds as usize).map(|seed| Run {
                scenario,
                strategy,
                seed,
            }));
        }
    }
    let cost = |place: &Run<'_>| Cost {
        time: place.scenario.calls(),
        memory_bytes: 0,
    };
    let total = places.iter().map(|place| cost(place).time).sum();
    let mut gauge = WeightedProgress::new(places.len(), total);
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let results = run_all(
        &places,
        options.threads.unwrap_or_else(cores),
        u64::MAX,
        cost,
        |place| {
            let report = sim::run(
                &place.scenario.sim_scenario,
                place.seed,
                place.strategy.make,
            );
            Sample::of(place.scenario, &report)
        },
        |place, _| gauge.advance(cost(place).time, &place.describe()),
    );
    drop(gauge);
    let mut broken = Vec::new();
    let mut rows = Vec::new();
    let (mut places, mut results) = (places.iter(), results.into_iter());
    for scenario in scenarios {
        for strategy in strategies {
            let mut samples = Vec::new();
            for _ in 0..seeds {
                let place = places.next().expect("as many as there were");
                match results.next().expect("one for each") {
                    Ok(sample) => samples.push(sample),
                    Err(what) => broken.push(format!("{}: {what}", place.describe())),
                }
            }
            rows.extend(Row::of(scenario, strategy.name, &samples));
        }
    }
    (rows, broken)
}

impl Run<'_> {
    fn describe(&self) -> String {
        let (scenario, strategy) = (&self.scenario.name, self.strategy.name);
        format!("{scenario}, {strategy}, seed {}", self.seed)
    }
}

/// Name on the command line.
pub(crate) const NAME: &str = "balance";
/// Description on the command line.
pub(crate) const HELP: &str =
    "Balancers among workers that are slow, fail, hang, or are overloaded";
