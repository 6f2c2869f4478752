//! Who detects.

use rpcnet_swim::ClusterConfig;

/// A failure detector.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Detector;

impl Detector {
    pub(crate) fn rpcnet() -> Self {
        Self
    }

    pub(crate) fn all() -> Vec<Self> {
        vec![Self]
    }

    pub(crate) fn ablation() -> Vec<Self> {
        vec![]
    }

    pub(crate) fn named(names: &[&str]) -> Vec<Self> {
        let all = Self::all();
        all.into_iter()
            .filter(|it| names.contains(&it.name()))
            .collect()
    }

    pub(crate) fn name(&self) -> &str {
        OURS
    }

    pub(crate) fn configure(&self, config: ClusterConfig) -> ClusterConfig {
        config
    }
}

/// The name of ours.
pub(crate) const OURS: &str = "rpcnet";
