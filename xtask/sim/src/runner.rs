//! Runner of a scenario: from its cases to a table, files and an exit code.

use std::{
    error::Error,
    fs,
    process::ExitCode,
    time::{Duration, Instant},
};

use xtask_report::{Document, WeightedProgress};

use crate::{
    check::{self, Check},
    detector::Detector,
    options::Options,
    scenario::{Cell, Extent, Row, Scenario, ScenarioCase, Trial},
    work_pool::run_all,
};

/// Runs all that the options ask for and shows it.
///
/// # Errors
///
/// When they leave nothing to run, or a file cannot be written.
pub(crate) fn run_scenario<S: Scenario>(
    scenario: &S,
    options: &Options,
) -> Result<ExitCode, Box<dyn Error>> {
    let extent = if options.quick {
        Extent::Quick
    } else {
        Extent::Full
    };
    let grid = Grid::new(scenario, options, extent)?;
    println!("{}: {}", scenario.name(), scenario.title());
    let begin = Instant::now();
    let (cells, broken) = grid.run(scenario, options);
    print!("{}", scenario.table(&cells));
    let checks = scenario.checks(&cells);
    print!("\n{}", check::report(&checks));
    for broken in broken.iter().take(VIOLATIONS_SHOWN_MAX) {
        println!("UNSAFE {broken}");
    }
    if broken.len() > VIOLATIONS_SHOWN_MAX {
        println!(
            "UNSAFE and {} more runs",
            broken.len() - VIOLATIONS_SHOWN_MAX
        );
    }
    println!("{} runs in {}", grid.runs(), seconds(begin.elapsed()));
    let rows: Vec<_> = cells.iter().map(|cell| &cell.row).collect();
    if let Some(file) = &options.json {
        Document::new(&format!("sim {}", scenario.name()), &rows).write(file)?;
    }
    if let Some(file) = &options.svg {
        fs::write(file, scenario.figure(&cells))?;
    }
    Ok(exit_code(extent, &checks, &broken))
}

/// Grid of runs: cases, detectors and seeds.
#[derive(Debug)]
struct Grid<C> {
    cases: Vec<C>,
    detectors: Vec<Detector>,
    first_seed: u64,
    /// Number of seeds of each case.
    seeds: Vec<u64>,
}

/// Run, by its indices in the grid.
#[derive(Debug, Clone, Copy)]
struct RunId {
    case: usize,
    detector: usize,
    seed: u64,
}

impl<C: ScenarioCase> Grid<C> {
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
            let all: Vec<_> = scenario
                .cases(extent)
                .iter()
                .map(ScenarioCase::label)
                .collect();
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
        self.run_ids().len()
    }

    /// Whether this case is run with this detector.
    fn is_run(&self, case: usize, detector: usize) -> bool {
        self.cases[case].is_for(self.detectors[detector].name())
    }

    /// All seeds of a detector after each other, all detectors of a case after each other.
    fn run_ids(&self) -> Vec<RunId> {
        let mut ids = Vec::new();
        for case in 0..self.cases.len() {
            let detectors = 0..self.detectors.len();
            for detector in detectors.filter(|detector| self.is_run(case, *detector)) {
                let seeds = self.first_seed..self.first_seed + self.seeds[case];
                ids.extend(seeds.map(|seed| RunId {
                    case,
                    detector,
                    seed,
                }));
            }
        }
        ids
    }

    /// The cells, and what was broken where. A cell with a broken run has one sample less.
    fn run<S: Scenario<Case = C>>(
        &self,
        scenario: &S,
        options: &Options,
    ) -> (Vec<Cell<S>>, Vec<String>) {
        let ids = self.run_ids();
        let cost = |id: &RunId| self.cases[id.case].cost();
        let mut gauge = WeightedProgress::new(ids.len(), ids.iter().map(|it| cost(it).time).sum());
        let threads = options.threads.unwrap_or_else(cores);
        let results = run_all(
            &ids,
            threads,
            memory_bytes(),
            cost,
            |id| {
                scenario.run(&Trial {
                    case: &self.cases[id.case],
                    detector: &self.detectors[id.detector],
                    seed: id.seed,
                })
            },
            |id, _| gauge.advance(cost(id).time, &self.describe(id)),
        );
        drop(gauge);
        let mut broken = Vec::new();
        let mut cells = Vec::new();
        let mut results = ids.iter().zip(results);
        for (case, seeds) in self.cases.iter().zip(&self.seeds) {
            let is_run = |detector: &&Detector| case.is_for(detector.name());
            for detector in self.detectors.iter().filter(is_run) {
                let mut samples = Vec::new();
                for (id, result) in results.by_ref().take(*seeds as usize) {
                    let result = result.and_then(|result| result.map_err(|it| it.to_string()));
                    match result {
                        Ok(sample) => samples.push(sample),
                        Err(what) => {
                            broken.push(self.replay(scenario.name(), id, &what, options));
                        }
                    }
                }
                if samples.is_empty() {
                    continue;
                }
                cells.push(Cell {
                    row: Row {
                        scenario: scenario.name(),
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

    fn describe(&self, id: &RunId) -> String {
        let (case, detector) = (&self.cases[id.case], &self.detectors[id.detector]);
        format!("{}, {}, seed {}", case.label(), detector.name(), id.seed)
    }

    /// Text of a violation, with the command that repeats it.
    fn replay(&self, name: &str, id: &RunId, what: &str, options: &Options) -> String {
        format!(
            "{}: {what}\nto replay: cargo xtask sim {}{} --detector {} --case \"{}\" --seeds 1 --seed {}",
            self.describe(id),
            name,
            if options.quick { " --quick" } else { "" },
            self.detectors[id.detector].name(),
            self.cases[id.case].label(),
            id.seed
        )
    }
}

/// Detectors that the options name, else the scenario's.
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

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// Most violations that are printed; more of them say the same.
const VIOLATIONS_SHOWN_MAX: usize = 10;
/// Memory where the system does not say how much is available.
const MEMORY_FALLBACK_BYTES: u64 = 4 << 30;

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde::Serialize;
    use serde_json::{Value, json};
    use xtask_report::median;

    use super::*;
    use crate::{cluster_setup::SafetyViolation, scenario::Columns};

    /// Cases are numbers; a run multiplies its case by its seed. Those of 13 break a rule.
    struct Product;

    #[derive(Debug, Clone, Serialize)]
    struct Factor {
        factor: u64,
    }

    #[derive(Debug, Serialize)]
    struct Figures {
        product_p50: f64,
    }

    impl ScenarioCase for Factor {
        fn nodes(&self) -> usize {
            3
        }

        fn seconds(&self) -> f64 {
            1.0 + (self.factor % 7) as f64
        }

        fn label(&self) -> String {
            format!("times {}", self.factor)
        }

        fn seeds_max(&self) -> u64 {
            if self.factor == 40 { 1 } else { u64::MAX }
        }
    }

    impl Scenario for Product {
        type Case = Factor;
        type Sample = u64;
        type Figures = Figures;

        fn name(&self) -> &'static str {
            "product"
        }

        fn title(&self) -> &'static str {
            "a product"
        }

        fn detectors(&self) -> Vec<Detector> {
            vec![Detector::swim(), Detector::rpcnet()]
        }

        fn cases(&self, extent: Extent) -> Vec<Factor> {
            let factors: &[u64] = extent.pick(&[10, 20, 30, 40], &[10, 13]);
            factors
                .iter()
                .map(|factor| Factor { factor: *factor })
                .collect()
        }

        fn seeds(&self, _: Extent) -> u64 {
            3
        }

        fn run(&self, trial: &Trial<'_, Factor>) -> Result<u64, SafetyViolation> {
            match (trial.case.factor, trial.seed) {
                (13, 2) => Err(SafetyViolation::new("it fell")),
                (13, 3) => panic!("it broke"),
                (factor, seed) => Ok(factor * seed),
            }
        }

        fn figures(&self, _: &Factor, samples: &[u64]) -> Figures {
            Figures {
                product_p50: median(samples.iter().map(|it| *it as f64).collect()).unwrap(),
            }
        }

        fn columns(&self) -> Columns<Self> {
            Columns::<Self>::new().with("product", |row| row.figures.product_p50.to_string())
        }

        fn checks(&self, cells: &[Cell<Self>]) -> Vec<Check> {
            let ours = cells.iter().filter(|cell| cell.is_ours());
            ours.map(|cell| Check::new("product", cell.row.figures.product_p50, 100.0, ""))
                .collect()
        }

        fn figure(&self, _: &[Cell<Self>]) -> String {
            String::new()
        }
    }

    #[derive(Debug, Parser)]
    struct Arguments {
        #[command(flatten)]
        options: Options,
    }

    /// Any scenario will do: which one is run is the caller's choice.
    fn options(arguments: &str) -> Options {
        let words = ["sim", "steady"]
            .into_iter()
            .chain(arguments.split_whitespace());
        Arguments::try_parse_from(words).unwrap().options
    }

    fn cells(arguments: &str) -> (Vec<Cell<Product>>, Vec<String>) {
        let options = options(arguments);
        let extent = if options.quick {
            Extent::Quick
        } else {
            Extent::Full
        };
        let grid = Grid::new(&Product, &options, extent).unwrap();
        grid.run(&Product, &options)
    }

    #[test]
    fn cells_come_in_the_order_of_the_grid_whatever_the_threads() {
        let of = |threads: usize| {
            let (cells, broken) = cells(&format!("--quick --threads {threads}"));
            assert!(broken.is_empty());
            let rows = cells
                .iter()
                .map(|cell| serde_json::to_value(&cell.row).unwrap());
            rows.collect::<Vec<Value>>()
        };
        let rows = of(1);
        assert_eq!(rows, of(5));
        // Four cases with two detectors each.
        assert_eq!(rows.len(), 8);
        assert_eq!(
            rows[2],
            json!({
                "scenario": "product", "detector": "swim", "nodes": 3, "seeds": 3, "factor": 20,
                "product_p50": 40.0,
            })
        );
        assert_eq!(rows[3]["detector"], "rpcnet");
        // One that takes long has fewer seeds.
        assert_eq!(rows[7]["seeds"], 1);
    }

    #[test]
    fn options_choose_seeds_cases_and_detectors() {
        let (cells, _) =
            cells("--quick --seeds 2 --seed 7 --case 40 --detector rpcnet lifeguard-a3");
        let names: Vec<_> = cells.iter().map(|cell| &*cell.row.detector).collect();
        assert_eq!(names, ["rpcnet", "lifeguard-a3"]);
        assert_eq!(cells[0].samples, [280, 320]);
        let error = |arguments: &str| {
            let grid = Grid::new(&Product, &options(arguments), Extent::Quick);
            grid.unwrap_err().to_string()
        };
        assert!(error("--case none").contains("times 10 | times 20"));
        assert!(error("--detector swam").contains("swim, lha-probe"));
        let with = |arguments| Grid::new(&Product, &options(arguments), Extent::Quick).unwrap();
        let more = with("--ablation").detectors.len() - with("").detectors.len();
        assert_eq!(more, Detector::ablation().len());
    }

    #[test]
    fn violations_come_with_the_command_that_repeats_them() {
        let (cells, broken) = cells("--detector rpcnet");
        assert_eq!(broken.len(), 2);
        assert!(
            broken[0].starts_with("times 13, rpcnet, seed 2: it fell\n"),
            "{}",
            broken[0]
        );
        let command =
            "cargo xtask sim product --detector rpcnet --case \"times 13\" --seeds 1 --seed 2";
        assert!(broken[0].ends_with(command), "{}", broken[0]);
        assert!(broken[1].contains("seed 3: it broke"), "{}", broken[1]);
        // The runs that were sound count.
        assert_eq!(cells[1].samples, [13]);
    }

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
