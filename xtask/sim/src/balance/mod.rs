//! `cargo xtask sim balance`: every strategy in every fault scenario, on the same seeds.

mod checks;
mod figures;
mod render;
mod scenarios;
mod strategies;

#[cfg(test)]
mod tests;

use std::{error::Error, process::ExitCode};

use rpcnet_balance::sim;

use self::{scenarios::BalanceScenario, strategies::Strategy};
use crate::{
    experiment::{CellPlan, Experiment},
    options::Options,
    row::Row,
    work_pool::Cost,
};

/// Runs all that the options ask for and shows it.
pub(crate) fn run(options: &Options) -> Result<ExitCode, Box<dyn Error>> {
    let extent = options.extent();
    let scenarios = scenarios::select(extent, options.case.as_deref(), &options.balance_scenario)?;
    let strategies = strategies::select(extent, &options.strategy)?;
    let mut plans = Vec::new();
    for scenario in &scenarios {
        plans.extend(strategies.iter().map(|it| plan(scenario, it, options)));
    }
    let experiment = Experiment {
        name: NAME,
        plans,
        table: Box::new(|cells| render::tables(&scenarios, cells)),
        checks: checks::targets,
        figure: Box::new(render::figure),
    };
    experiment.run(options)
}

/// Runs of a scenario with a strategy.
fn plan<'a>(
    scenario: &'a BalanceScenario,
    strategy: &'a Strategy,
    options: &Options,
) -> CellPlan<'a> {
    CellPlan {
        case: scenario.name.clone(),
        subject: strategy.name.to_owned(),
        arguments: format!("--strategy {} --scenario {}", strategy.name, scenario.name),
        seeds: options.seeds(options.extent().pick(1, 5)),
        cost: Cost {
            time: scenario.calls,
            memory_bytes: 0,
        },
        head: Row::default()
            .with("strategy", strategy.name)
            .with("scenario", &*scenario.name)
            .with("load", scenario.load),
        fields: Row::default(),
        measures: &figures::MEASURES,
        targets: Vec::new(),
        run: Box::new(|seed| {
            let report = sim::run(&scenario.fleet, seed, strategy.make);
            Ok(figures::sample(scenario, &report))
        }),
    }
}

/// Name on the command line.
pub(crate) const NAME: &str = "balance";
/// Description on the command line.
pub(crate) const HELP: &str =
    "Balancers among workers that are slow, fail, hang, or are overloaded";
