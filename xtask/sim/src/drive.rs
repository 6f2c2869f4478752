//! From a scenario to a table, files and a verdict.

use std::{
    error::Error,
    fs,
    process::ExitCode,
    time::{Duration, Instant},
};

use rpcnet_swim::sim::Detector;
use xtask_report::{Document, Gauge};

use crate::{
    check::{self, Check},
    options::Options,
    pool::work_off,
    scenario::{Case, Cell, Extent, Row, Scenario, Trial},
};

/// Runs all that the options ask for and shows it.
///
/// # Errors
///
/// When they leave nothing to run, or a file cannot be written.
pub(crate) fn drive<S: Scenario>(
    scenario: &S,
    options: &Options,
) -> Result<ExitCode, Box<dyn Error>> {
    let extent = if options.quick {
        Extent::Quick
    } else {
        Extent::Full
    };
    let grid = Grid::new(scenario, options, extent)?;
    println!("{}: {}", S::NAME, S::TITLE);
    let begin = Instant::now();
    let (cells, broken) = grid.run(scenario, options);
    print!("{}", scenario.table(&cells));
    let checks = scenario.checks(&cells);
    print!("\n{}", check::report(&checks));
    for broken in broken.iter().take(BROKEN_SHOWN) {
        println!("UNSAFE {broken}");
    }
    if broken.len() > BROKEN_SHOWN {
        println!("UNSAFE and {} more runs", broken.len() - BROKEN_SHOWN);
    }
    println!("{} runs in {}", grid.runs(), seconds(begin.elapsed()));
    let rows: Vec<_> = cells.iter().map(|cell| &cell.row).collect();
    if let Some(file) = &options.json {
        Document::new(&format!("sim {}", S::NAME), &rows).write(file)?;
    }
    if let Some(file) = &options.svg {
        fs::write(file, scenario.figure(&cells))?;
    }
    Ok(verdict(extent, &checks, &broken))
}

/// What there is to run.
#[derive(Debug)]
struct Grid<C> {
    cases: Vec<C>,
    detectors: Vec<Detector>,
    first_seed: u64,
    /// Of each case.
    seeds: Vec<u64>,
}

/// One run of it, by the places in the grid.
#[derive(Debug, Clone, Copy)]
struct Place {
    case: usize,
    detector: usize,
    seed: u64,
}

impl<C: Case> Grid<C> {
    fn new<S: Scenario<Case = C>>(
        scenario: &S,
        options: &Options,
        extent: Extent,
    ) -> Result<Self, Box<dyn Error>> {
        let mut cases = scenario.cases(extent);
        if let Some(text) = &options.case {
            cases.retain(|case| case.label().contains(text.as_str()));
        }
        if cases.is_empty() {
            let all: Vec<_> = scenario.cases(extent).iter().map(Case::label).collect();
            return Err(format!("no such case; there are: {}", all.join(" | ")).into());
        }
        let seeds = |case: &C| {
            let enough = || scenario.seeds(extent).min(case.seeds_max());
            options.seeds.unwrap_or_else(enough)
        };
        Ok(Self {
            seeds: cases.iter().map(seeds).collect(),
            cases,
            detectors: detectors(scenario.detectors(), options)?,
            first_seed: options.seed,
        })
    }

    fn runs(&self) -> usize {
        self.detectors.len() * self.seeds.iter().sum::<u64>() as usize
    }

    /// All seeds of a detector after each other, all detectors of a case after each other.
    fn places(&self) -> Vec<Place> {
        let mut places = Vec::with_capacity(self.runs());
        for case in 0..self.cases.len() {
            for detector in 0..self.detectors.len() {
                let seeds = self.first_seed..self.first_seed + self.seeds[case];
                places.extend(seeds.map(|seed| Place {
                    case,
                    detector,
                    seed,
                }));
            }
        }
        places
    }

    /// The cells, and what was broken where. A cell with a broken run has one sample less.
    fn run<S: Scenario<Case = C>>(
        &self,
        scenario: &S,
        options: &Options,
    ) -> (Vec<Cell<S>>, Vec<String>) {
        let places = self.places();
        let cost = |place: &Place| self.cases[place.case].cost();
        let mut gauge = Gauge::new(places.len(), places.iter().map(|it| cost(it).time).sum());
        let threads = options.threads.unwrap_or_else(cores);
        let results = work_off(
            &places,
            threads,
            memory_bytes(),
            cost,
            |place| {
                scenario.run(&Trial {
                    case: &self.cases[place.case],
                    detector: &self.detectors[place.detector],
                    seed: place.seed,
                })
            },
            |place, _| gauge.advance(cost(place).time, &self.describe(place)),
        );
        drop(gauge);
        let mut broken = Vec::new();
        let mut cells = Vec::new();
        let mut results = places.iter().zip(results);
        for (case, seeds) in self.cases.iter().zip(&self.seeds) {
            for detector in &self.detectors {
                let mut samples = Vec::new();
                for (place, result) in results.by_ref().take(*seeds as usize) {
                    let result = result.and_then(|result| result.map_err(|it| it.to_string()));
                    match result {
                        Ok(sample) => samples.push(sample),
                        Err(what) => broken.push(self.replay::<S>(place, &what, options)),
                    }
                }
                if samples.is_empty() {
                    continue;
                }
                cells.push(Cell {
                    row: Row {
                        scenario: S::NAME,
                        detector: detector.name().to_owned(),
                        nodes: case.nodes(),
                        seeds: samples.len(),
                        figures: scenario.figures(case, &samples),
                        case: case.clone(),
                    },
                    samples,
                });
            }
        }
        (cells, broken)
    }

    fn describe(&self, place: &Place) -> String {
        let (case, detector) = (&self.cases[place.case], &self.detectors[place.detector]);
        format!("{}, {}, seed {}", case.label(), detector.name(), place.seed)
    }

    /// What was broken, and the command that shows it again.
    fn replay<S: Scenario>(&self, place: &Place, what: &str, options: &Options) -> String {
        format!(
            "{}: {what}\nto replay: cargo xtask sim {}{} --detector {} --case \"{}\" --seeds 1 --seed {}",
            self.describe(place),
            S::NAME,
            if options.quick { " --quick" } else { "" },
            self.detectors[place.detector].name(),
            self.cases[place.case].label(),
            place.seed
        )
    }
}

/// Those that the options name, else the scenario's.
fn detectors(default: Vec<Detector>, options: &Options) -> Result<Vec<Detector>, Box<dyn Error>> {
    if options.detector.is_empty() {
        let ablation = options.ablation.then(Detector::ablation);
        return Ok(default
            .into_iter()
            .chain(ablation.into_iter().flatten())
            .collect());
    }
    let names = || {
        let known = Detector::all().into_iter().chain(Detector::ablation());
        known
            .map(|it| it.name().to_owned())
            .collect::<Vec<_>>()
            .join(", ")
    };
    options
        .detector
        .iter()
        .map(|name| {
            let unknown = || format!("no detector is called {name:?}; there are: {}", names());
            Ok(Detector::named(name).ok_or_else(unknown)?)
        })
        .collect()
}

fn verdict(extent: Extent, checks: &[Check], broken: &[String]) -> ExitCode {
    let missed = checks.iter().any(|check| match extent {
        Extent::Quick => check.is_missed_badly(),
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

/// What clusters may use together: most of what the machine has to spare.
fn memory_bytes() -> u64 {
    let info = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = info.lines().find(|line| line.starts_with("MemAvailable:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kib.map_or(MEMORY_UNKNOWN_BYTES, |kib| kib * 1024 / 4 * 3)
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// Of runs that broke a rule; more of them say the same.
const BROKEN_SHOWN: usize = 10;
/// Where the system does not tell.
const MEMORY_UNKNOWN_BYTES: u64 = 4 << 30;
