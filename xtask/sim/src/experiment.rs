//! Experiment: runs of a grid of cells, and what is shown of them.

use std::{error::Error, fs, ops::Range, process::ExitCode, time::Instant};

use xtask_report::{Document, WeightedProgress};

use crate::{
    check::{self, Check, Target},
    cluster_setup::SafetyViolation,
    detector::OURS,
    measure::{Measure, Sample},
    options::{Extent, Options},
    row::Row,
    work_pool::{Cost, run_all},
};

/// Runs to do, and what is shown of the cells that come of them.
pub(crate) struct Experiment<'a> {
    /// Name of the scenario on the command line.
    pub(crate) name: &'static str,
    pub(crate) plans: Vec<CellPlan<'a>>,
    pub(crate) table: Render<'a>,
    /// Targets beside those of the cells.
    pub(crate) checks: fn(&[Cell]) -> Vec<Check>,
    pub(crate) figure: Render<'a>,
}

/// Table or figure of the cells.
pub(crate) type Render<'a> = Box<dyn Fn(&[Cell]) -> String + 'a>;

/// Cell to run: a case with one of the subjects that are compared, with several seeds.
pub(crate) struct CellPlan<'a> {
    pub(crate) case: String,
    pub(crate) subject: String,
    /// Options that choose this cell alone.
    pub(crate) arguments: String,
    pub(crate) seeds: Range<u64>,
    /// Cost of one run.
    pub(crate) cost: Cost,
    /// Fields of the row before the number of seeds.
    pub(crate) head: Row,
    /// Fields of the row between the number of seeds and the figures.
    pub(crate) fields: Row,
    pub(crate) measures: &'static [Measure],
    pub(crate) targets: Vec<Target>,
    pub(crate) run: Box<dyn Fn(u64) -> Result<Sample, SafetyViolation> + Sync + 'a>,
}

/// The runs of one case with one subject.
#[derive(Debug, Default)]
pub(crate) struct Cell {
    pub(crate) case: String,
    pub(crate) subject: String,
    pub(crate) row: Row,
    /// Samples in the order of the seeds.
    pub(crate) samples: Vec<Sample>,
    pub(crate) targets: Vec<Target>,
}

impl Cell {
    pub(crate) fn is_ours(&self) -> bool {
        self.subject == OURS
    }

    /// Targets of the cell, with the figures that were reached.
    pub(crate) fn checks(&self) -> Vec<Check> {
        let targets = self.targets.iter();
        targets.map(|it| it.check(&self.row)).collect()
    }

    pub(crate) fn number(&self, field: &str) -> Option<f64> {
        self.row.number(field)
    }
}

/// Names of the subjects, in the order of the cells.
pub(crate) fn subjects(cells: &[Cell]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for cell in cells {
        if !names.contains(&&*cell.subject) {
            names.push(&cell.subject);
        }
    }
    names
}

impl Experiment<'_> {
    /// Runs the cells, shows them and writes the files that the options ask for.
    pub(crate) fn run(&self, options: &Options) -> Result<ExitCode, Box<dyn Error>> {
        let begin = Instant::now();
        let (cells, broken) = self.run_cells(options);
        print!("{}", (self.table)(&cells));
        let mut checks: Vec<Check> = cells.iter().flat_map(Cell::checks).collect();
        checks.extend((self.checks)(&cells));
        print!("\n{}", check::report(&checks));
        for broken in broken.iter().take(VIOLATIONS_SHOWN_MAX) {
            println!("UNSAFE {broken}");
        }
        if broken.len() > VIOLATIONS_SHOWN_MAX {
            let more = broken.len() - VIOLATIONS_SHOWN_MAX;
            println!("UNSAFE and {more} more runs");
        }
        let runs = self.plans.iter().map(|it| it.seeds.clone().count());
        let runs: usize = runs.sum();
        println!("{runs} runs in {:.1} s", begin.elapsed().as_secs_f64());
        let rows: Vec<_> = cells.iter().map(|cell| &cell.row).collect();
        if let Some(file) = &options.json {
            Document::new(&format!("sim {}", self.name), &rows).write(file)?;
        }
        if let Some(file) = &options.svg {
            fs::write(file, (self.figure)(&cells))?;
        }
        Ok(exit_code(options.extent(), &checks, &broken))
    }

    /// The cells, and what was broken where. A cell with a broken run has one sample less.
    pub(crate) fn run_cells(&self, options: &Options) -> (Vec<Cell>, Vec<String>) {
        let plans = self.plans.iter();
        let runs: Vec<(&CellPlan<'_>, u64)> = plans
            .flat_map(|plan| plan.seeds.clone().map(move |seed| (plan, seed)))
            .collect();
        let total = runs.iter().map(|(plan, _)| plan.cost.time).sum();
        let mut gauge = WeightedProgress::new(runs.len(), total);
        let results = run_all(
            &runs,
            options.threads.unwrap_or_else(cores),
            memory_bytes(),
            |(plan, _)| plan.cost,
            |(plan, seed)| (plan.run)(*seed),
            |(plan, seed), _| gauge.advance(plan.cost.time, &plan.describe(*seed)),
        );
        drop(gauge);
        let mut results = results.into_iter();
        let (mut cells, mut broken) = (Vec::new(), Vec::new());
        for plan in &self.plans {
            let mut samples = Vec::new();
            for (seed, result) in plan.seeds.clone().zip(results.by_ref()) {
                match result.and_then(|it| it) {
                    Ok(sample) => samples.push(sample),
                    Err(what) => broken.push(format!(
                        "{}: {what}\nto replay: cargo xtask sim {}{} {} --seeds 1 --seed {seed}",
                        plan.describe(seed),
                        self.name,
                        options.extent().pick(" --quick", ""),
                        plan.arguments,
                    )),
                }
            }
            if !samples.is_empty() {
                cells.push(plan.cell(samples));
            }
        }
        (cells, broken)
    }
}

impl CellPlan<'_> {
    fn describe(&self, seed: u64) -> String {
        format!("{}, {}, seed {seed}", self.case, self.subject)
    }

    fn cell(&self, samples: Vec<Sample>) -> Cell {
        let Row(mut row) = self.head.clone().with("seeds", samples.len());
        row.extend(self.fields.0.clone());
        row.extend(self.measures.iter().map(|it| it.figure(&samples)));
        Cell {
            case: self.case.clone(),
            subject: self.subject.clone(),
            row: Row(row),
            samples,
            targets: self.targets.clone(),
        }
    }
}

fn exit_code(extent: Extent, checks: &[Check], broken: &[String]) -> ExitCode {
    let missed = checks.iter().any(|check| match extent {
        Extent::Quick => check.is_missed_beyond_noise(),
        Extent::Full => !check.is_met(),
    });
    match missed || !broken.is_empty() {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Memory that all clusters may use together: three quarters of what is available.
fn memory_bytes() -> u64 {
    let info = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = info.lines().find(|line| line.starts_with("MemAvailable:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kib.map_or(MEMORY_FALLBACK_BYTES, |kib| kib * 1024 / 4 * 3)
}

/// Most violations that are printed; more of them say the same.
const VIOLATIONS_SHOWN_MAX: usize = 10;
/// Memory where the system does not say how much is available.
const MEMORY_FALLBACK_BYTES: u64 = 4 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_allowed_in_quick_runs_only() {
        let check = |figure| vec![Check::new("it", figure, 100.0, "")];
        let is_success = |extent, figure, broken: &[String]| {
            // Exit codes cannot be compared, but shown.
            let success = format!("{:?}", ExitCode::SUCCESS);
            format!("{:?}", exit_code(extent, &check(figure), broken)) == success
        };
        assert!(is_success(Extent::Full, 100.0, &[]));
        assert!(!is_success(Extent::Full, 120.0, &[]));
        assert!(is_success(Extent::Quick, 120.0, &[]));
        assert!(!is_success(Extent::Quick, 200.0, &[]));
        assert!(!is_success(Extent::Quick, 1.0, &["it fell".to_owned()]));
    }
}
