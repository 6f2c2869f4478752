//! Scenario of an experiment: cases, figures, table and targets.

use std::fmt::Debug;

use rpcnet_swim::{ClusterConfig, ClusterKey};
use serde::Serialize;

use crate::{
    check::Check,
    cluster_setup::SafetyViolation,
    detector::{Cluster, Detector, OURS},
    render::table,
    work_pool::Cost,
};

/// An experiment: the cases, what happens in one, what is taken of it, and how it is shown.
pub(crate) trait Scenario: Sync + Sized {
    /// Parameters that distinguish a row from the others of the same detector.
    type Case: ScenarioCase;
    /// Measurements of one run.
    type Sample: Send;
    /// Figures of the runs of a cell together.
    type Figures: Serialize;

    /// Name on the command line.
    fn name(&self) -> &'static str;

    /// Title of the figure.
    fn title(&self) -> &'static str;

    /// Detectors of the scenario unless others are asked for.
    fn detectors(&self) -> Vec<Detector> {
        vec![Detector::rpcnet()]
    }

    fn cases(&self, extent: Extent) -> Vec<Self::Case>;

    /// Runs of each cell.
    fn seeds(&self, extent: Extent) -> u64;

    /// # Errors
    ///
    /// When a rule of safety was broken.
    fn run(&self, trial: &Trial<'_, Self::Case>) -> Result<Self::Sample, SafetyViolation>;

    fn figures(&self, case: &Self::Case, samples: &[Self::Sample]) -> Self::Figures;

    /// Columns of the table, beside detector and nodes.
    fn columns(&self) -> Columns<Self>;

    /// Table of all rows, unless that would be too many.
    fn table(&self, cells: &[Cell<Self>]) -> String {
        table(self, cells)
    }

    /// Targets, with the figures that were reached.
    fn checks(&self, cells: &[Cell<Self>]) -> Vec<Check>;

    /// The figure, as SVG.
    fn figure(&self, cells: &[Cell<Self>]) -> String;
}

/// Extent of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    Quick,
    Full,
}

impl Extent {
    /// The one or the other.
    pub(crate) fn pick<T>(self, quick: T, full: T) -> T {
        match self {
            Self::Quick => quick,
            Self::Full => full,
        }
    }
}

/// The parameters of a row. Their fields are those of the JSON.
pub(crate) trait ScenarioCase: Debug + Clone + Serialize + Send + Sync {
    fn nodes(&self) -> usize;

    /// Virtual time that a run of it takes, about.
    fn seconds(&self) -> f64;

    /// Label for readers, different for each case.
    fn label(&self) -> String;

    /// Runs of it at most, where one takes long, unless more are asked for.
    fn seeds_max(&self) -> u64 {
        u64::MAX
    }

    /// Whether it is run with the detector of this name.
    fn is_for(&self, _detector: &str) -> bool {
        true
    }

    fn cost(&self) -> Cost {
        let nodes = self.nodes() as f64;
        Cost {
            // Joining takes some seconds too, and views are looked at as a whole now and then.
            time: nodes * (self.seconds() + 10.0) * (1.0 + nodes / 2_000.0),
            memory_bytes: (nodes * nodes * MEMBER_BYTES) as u64,
        }
    }
}

/// One run of a case with a detector and a seed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trial<'a, C> {
    pub(crate) case: &'a C,
    pub(crate) detector: &'a Detector,
    pub(crate) seed: u64,
}

impl<C> Trial<'_, C> {
    /// Run of a case that is part of this one.
    pub(crate) fn with_case<'a, D>(&'a self, case: &'a D) -> Trial<'a, D> {
        Trial {
            case,
            detector: self.detector,
            seed: self.seed,
        }
    }

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

/// The runs of one case with one detector.
#[derive(Debug)]
pub(crate) struct Cell<S: Scenario> {
    pub(crate) row: Row<S::Case, S::Figures>,
    /// Samples in the order of the seeds.
    pub(crate) samples: Vec<S::Sample>,
}

impl<S: Scenario> Cell<S> {
    pub(crate) fn is_ours(&self) -> bool {
        self.row.detector == OURS
    }
}

/// A row of the results.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row<C, F> {
    pub(crate) scenario: &'static str,
    pub(crate) detector: String,
    pub(crate) nodes: usize,
    pub(crate) seeds: usize,
    #[serde(flatten)]
    pub(crate) case: C,
    #[serde(flatten)]
    pub(crate) figures: F,
}

/// Columns of a table, from the left: a heading and the text of each row.
pub(crate) struct Columns<S: Scenario>(pub(crate) Vec<(&'static str, CellText<S>)>);

/// Text of a row in a column.
pub(crate) type CellText<S> = fn(&Row<<S as Scenario>::Case, <S as Scenario>::Figures>) -> String;

impl<S: Scenario> Columns<S> {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn with(mut self, heading: &'static str, text: CellText<S>) -> Self {
        self.0.push((heading, text));
        self
    }
}

/// Bytes that one member costs in one view, about.
const MEMBER_BYTES: f64 = 500.0;
