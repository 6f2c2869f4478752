//! Scenario of an experiment with a cluster, as data.

use std::{error::Error, fmt, process::ExitCode};

use rpcnet_swim::{ClusterConfig, ClusterKey};
use serde_json::Value;

use crate::{
    check::{Check, Target},
    cluster_setup::SafetyViolation,
    detector::{Cluster, Detector, OURS},
    experiment::{Cell, CellPlan, Experiment},
    measure::{Measure, Sample},
    options::{Extent, Options},
    row::Row,
    work_pool::Cost,
};

/// An experiment: the cases, and how their rows are shown.
#[derive(Debug)]
pub(crate) struct Scenario {
    /// Name on the command line.
    pub(crate) name: &'static str,
    /// Description on the command line.
    pub(crate) help: &'static str,
    pub(crate) title: &'static str,
    /// Detectors of the scenario unless others are asked for.
    pub(crate) detectors: &'static [&'static str],
    /// Runs of each cell, of a quick run and of a full one.
    pub(crate) seeds: (u64, u64),
    pub(crate) cases: fn(Extent) -> Vec<Case>,
    pub(crate) table: fn(&[Cell]) -> String,
    /// Targets beside those of the cases.
    pub(crate) checks: fn(&[Cell]) -> Vec<Check>,
    /// The figure, as SVG, under this title if it has none of its own.
    pub(crate) figure: fn(&str, &[Cell]) -> String,
}

/// Parameters of a row, what happens to the cluster, and what is measured.
pub(crate) struct Case {
    pub(crate) nodes: usize,
    /// Label for readers, different for each case.
    pub(crate) label: String,
    /// Virtual time that a run takes, about.
    seconds: f64,
    /// Runs at most, where one takes long, unless more are asked for.
    seeds_max: u64,
    /// Whether it is run with rpcnet's detector alone.
    ours_alone: bool,
    /// Fields of the row that tell it apart, beside the number of nodes.
    pub(crate) fields: Row,
    measures: &'static [Measure],
    /// Targets of the row of rpcnet's.
    pub(crate) targets: Vec<Target>,
    run: Box<Run>,
}

/// One run of a case. It is an error when a rule of safety was broken.
type Run = dyn Fn(&Trial<'_>) -> Result<Sample, SafetyViolation> + Send + Sync;

/// A run with a detector and a seed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trial<'a> {
    pub(crate) nodes: usize,
    pub(crate) detector: &'a Detector,
    pub(crate) seed: u64,
}

impl Scenario {
    /// Runs all that the options ask for and shows it.
    pub(crate) fn run(&self, options: &Options) -> Result<ExitCode, Box<dyn Error>> {
        let cases = self.chosen_cases(options)?;
        let detectors = self.chosen_detectors(options)?;
        println!("{}: {}", self.name, self.title);
        self.experiment(&cases, &detectors, options).run(options)
    }

    fn chosen_cases(&self, options: &Options) -> Result<Vec<Case>, Box<dyn Error>> {
        let mut cases = (self.cases)(options.extent());
        let labels: Vec<String> = cases.iter().map(|it| it.label.clone()).collect();
        if let Some(text) = options.case.as_deref().filter(|it| !it.is_empty()) {
            let matches = cases.iter().map(|it| case_match(&it.label, text));
            let best = matches.max().flatten();
            cases.retain(|case| best.is_some() && case_match(&case.label, text) == best);
        }
        match cases.is_empty() {
            true => Err(format!("no such case; there are: {}", labels.join(" | ")).into()),
            false => Ok(cases),
        }
    }

    /// Detectors that the options name, else the scenario's.
    fn chosen_detectors(&self, options: &Options) -> Result<Vec<Detector>, Box<dyn Error>> {
        let asked: Vec<&str> = options.detector.iter().map(String::as_str).collect();
        let names = if asked.is_empty() {
            self.detectors
        } else {
            &asked
        };
        let named = |name: &&str| {
            Detector::named(name).ok_or_else(|| {
                let known = Detector::all().into_iter().chain(Detector::ablation());
                let known: Vec<String> = known.map(|it| it.name().to_owned()).collect();
                let known = known.join(", ");
                format!("no detector is called {name:?}; there are: {known}")
            })
        };
        let mut chosen: Vec<Detector> = names.iter().map(named).collect::<Result<_, _>>()?;
        if options.ablation && asked.is_empty() {
            chosen.extend(Detector::ablation());
        }
        Ok(chosen)
    }

    /// Experiment in which all detectors of a case come after each other.
    fn experiment<'a>(
        &'a self,
        cases: &'a [Case],
        detectors: &'a [Detector],
        options: &Options,
    ) -> Experiment<'a> {
        let default = options.extent().pick(self.seeds.0, self.seeds.1);
        let mut plans = Vec::new();
        for case in cases {
            let is_run = |it: &&Detector| !case.ours_alone || it.name() == OURS;
            for detector in detectors.iter().filter(is_run) {
                let (name, nodes) = (detector.name(), case.nodes);
                plans.push(CellPlan {
                    case: case.label.clone(),
                    subject: name.to_owned(),
                    arguments: format!("--detector {name} --case \"{}\"", case.label),
                    seeds: options.seeds(default.min(case.seeds_max)),
                    cost: case.cost(),
                    head: Row::default()
                        .with("scenario", self.name)
                        .with("detector", name)
                        .with("nodes", nodes),
                    fields: case.fields.clone(),
                    measures: case.measures,
                    targets: match name {
                        OURS => case.targets.clone(),
                        _ => Vec::new(),
                    },
                    run: Box::new(move |seed| {
                        (case.run)(&Trial {
                            nodes,
                            detector,
                            seed,
                        })
                    }),
                });
            }
        }
        Experiment {
            name: self.name,
            plans,
            table: Box::new(self.table),
            checks: self.checks,
            figure: Box::new(|cells| (self.figure)(self.title, cells)),
        }
    }
}

impl Case {
    pub(crate) fn new(
        nodes: usize,
        label: String,
        measures: &'static [Measure],
        run: impl Fn(&Trial<'_>) -> Result<Sample, SafetyViolation> + Send + Sync + 'static,
    ) -> Self {
        Self {
            nodes,
            label,
            seconds: 0.0,
            seeds_max: u64::MAX,
            ours_alone: false,
            fields: Row::default(),
            measures,
            targets: Vec::new(),
            run: Box::new(run),
        }
    }

    pub(crate) fn with_field(mut self, field: &'static str, value: impl Into<Value>) -> Self {
        self.fields = self.fields.with(field, value);
        self
    }

    pub(crate) fn with_seconds(mut self, seconds: f64) -> Self {
        self.seconds = seconds;
        self
    }

    pub(crate) fn with_seeds_max(mut self, seeds_max: u64) -> Self {
        self.seeds_max = seeds_max;
        self
    }

    pub(crate) fn for_ours_alone(mut self) -> Self {
        self.ours_alone = true;
        self
    }

    /// The same with a bound of a figure of rpcnet's.
    pub(crate) fn with_target(
        mut self,
        what: &str,
        at_most: f64,
        unit: &'static str,
        figure: fn(&Row) -> Option<f64>,
    ) -> Self {
        self.targets.push(Target {
            description: format!("{}: {what}", self.label),
            at_most,
            unit,
            figure,
        });
        self
    }

    fn cost(&self) -> Cost {
        let nodes = self.nodes as f64;
        Cost {
            // Joining takes some seconds too, and views are looked at as a whole now and then.
            time: nodes * (self.seconds + 10.0) * (1.0 + nodes / 2_000.0),
            memory_bytes: (nodes * nodes * MEMBER_BYTES) as u64,
        }
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.label)
    }
}

impl Trial<'_> {
    /// Configuration of all nodes.
    pub(crate) fn config(&self) -> ClusterConfig {
        // Sealed, as any cluster is that spans machines: the seal is part of what is sent.
        let key = ClusterKey::from_bytes([7; 32]);
        ClusterConfig::lan().with_key(key)
    }

    /// A cluster of so many nodes that know each other from the start.
    pub(crate) fn formed(&self, nodes: usize) -> Cluster {
        let (config, detector) = (self.config(), self.detector.clone());
        Cluster::formed_with_detector(self.seed, nodes, config, detector)
    }

    /// Random numbers for what happens to the cluster, the same for all detectors.
    pub(crate) fn rng(&self) -> fastrand::Rng {
        fastrand::Rng::with_seed(self.seed ^ 0x5eed_0000_0000)
    }
}

/// How well the text that chooses cases matches a label; the best matches are chosen, so that
/// "1 of 1000" is not "1 of 10000".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum CaseMatch {
    Part,
    WholeWords,
    Equal,
}

/// How well a text matches a label, if the label contains it.
fn case_match(label: &str, text: &str) -> Option<CaseMatch> {
    let is_boundary = |other: Option<char>| !other.is_some_and(|c| c.is_alphanumeric() || c == '.');
    let is_whole = |(at, _): (usize, &str)| {
        let (before, after) = (&label[..at], &label[at + text.len()..]);
        is_boundary(before.chars().next_back()) && is_boundary(after.chars().next())
    };
    match label.contains(text) {
        false => None,
        true if label == text => Some(CaseMatch::Equal),
        true if label.match_indices(text).any(is_whole) => Some(CaseMatch::WholeWords),
        true => Some(CaseMatch::Part),
    }
}

/// Most bytes that a process needs for one member in one view. Resident at the peak with rpcnet: 67
/// with 10,000 nodes that join, 167 with 4,500 that start again; others need more.
const MEMBER_BYTES: f64 = 300.0;

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::{Value, json};

    use super::*;

    /// Cases are numbers; a run multiplies its case by its seed. Those of 13 break a rule.
    static PRODUCT: Scenario = Scenario {
        name: "product",
        help: "A product",
        title: "a product",
        detectors: &["swim", "rpcnet"],
        seeds: (3, 3),
        cases: |extent| {
            let factors: &[u64] = extent.pick(&[10, 20, 30, 40], &[10, 13]);
            let case = |factor: &u64| {
                let factor = *factor;
                let run = move |trial: &Trial<'_>| match (factor, trial.seed) {
                    (13, 2) => Err("it fell".to_owned()),
                    (13, 3) => panic!("it broke"),
                    (factor, seed) => {
                        let product = (factor * seed) as f64;
                        Ok(Sample::default().with("product_p50", product))
                    }
                };
                Case::new(3, format!("times {factor}"), &MEASURES, run)
                    .with_seconds(1.0 + (factor % 7) as f64)
                    .with_seeds_max(if factor == 40 { 1 } else { u64::MAX })
                    .with_field("factor", factor)
                    .with_target("product", 100.0, "", |row| row.number("product_p50"))
            };
            factors.iter().map(case).collect()
        },
        table: |_| String::new(),
        checks: |_| Vec::new(),
        figure: |_, _| String::new(),
    };

    static MEASURES: [Measure; 1] = [Measure::median("product_p50")];

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

    fn cells(arguments: &str) -> (Vec<Cell>, Vec<String>) {
        let options = options(arguments);
        let cases = PRODUCT.chosen_cases(&options).unwrap();
        let detectors = PRODUCT.chosen_detectors(&options).unwrap();
        PRODUCT
            .experiment(&cases, &detectors, &options)
            .run_cells(&options)
    }

    #[test]
    fn cells_come_in_the_order_of_the_grid_whatever_the_threads() {
        let of = |threads: usize| {
            let (cells, broken) = cells(&format!("--quick --threads {threads}"));
            assert!(broken.is_empty());
            let rows = cells
                .iter()
                .map(|it| serde_json::to_value(&it.row).unwrap());
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
    fn targets_are_those_of_ours() {
        let (cells, _) = cells("--quick");
        let missed = cells.iter().flat_map(Cell::checks);
        let missed: Vec<_> = missed.filter(|it| !it.is_met()).collect();
        assert_eq!(missed.len(), 0, "medians of 20, 40, 60, and the one of 40");
        let targets = cells.iter().map(|it| it.checks().len());
        assert_eq!(targets.collect::<Vec<_>>(), [0, 1, 0, 1, 0, 1, 0, 1]);
        assert_eq!(cells[1].checks()[0].description, "times 10: product");
    }

    #[test]
    fn options_choose_seeds_cases_and_detectors() {
        let (cells, _) =
            cells("--quick --seeds 2 --seed 7 --case 40 --detector rpcnet lifeguard-a3");
        let names: Vec<_> = cells.iter().map(|cell| &*cell.subject).collect();
        assert_eq!(names, ["rpcnet", "lifeguard-a3"]);
        let products = cells[0]
            .samples
            .iter()
            .flat_map(|it| it.values("product_p50"));
        assert!(products.eq(&[280.0, 320.0]));
        let no_case = PRODUCT.chosen_cases(&options("--quick --case none"));
        assert!(
            no_case
                .unwrap_err()
                .to_string()
                .contains("times 10 | times 20")
        );
        // A whole word beats a part of one, and a whole label beats both.
        let match_of = |label| case_match(label, "1 of 1000");
        assert_eq!(match_of("1 of 1000"), Some(CaseMatch::Equal));
        assert_eq!(match_of("1 of 1000, lan"), Some(CaseMatch::WholeWords));
        assert_eq!(match_of("1 of 10000, lan"), Some(CaseMatch::Part));
        assert_eq!(match_of("11 of 1000, lan"), Some(CaseMatch::Part));
        assert_eq!(match_of("1 of 100, lan"), None);
        let chosen = |arguments| PRODUCT.chosen_cases(&options(arguments)).unwrap();
        assert_eq!(chosen("--quick --case times").len(), 4);
        assert_eq!(chosen("--quick --case 0").len(), 4);
        assert_eq!(chosen("--quick --case=").len(), 4);
        assert_eq!(chosen("--quick --case 20").len(), 1);
        let detectors = |arguments| PRODUCT.chosen_detectors(&options(arguments));
        let unknown = detectors("--detector swam").unwrap_err();
        assert!(unknown.to_string().contains("swim, lha-probe"));
        let more = detectors("--ablation").unwrap().len() - detectors("").unwrap().len();
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
        assert_eq!(cells[1].samples.len(), 1);
        assert_eq!(cells[1].samples[0].values("product_p50"), [13.0]);
    }

    #[test]
    fn each_scenario_has_cases_and_known_detectors() {
        for scenario in crate::scenarios::ALL {
            for extent in ["--quick", ""] {
                let options = options(extent);
                assert!(!scenario.chosen_cases(&options).unwrap().is_empty());
                assert!(!scenario.chosen_detectors(&options).unwrap().is_empty());
            }
        }
    }
}
