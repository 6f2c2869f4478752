//! Clusters to experiment with.

use std::{fmt, time::Duration};

use rpcnet_swim::sim::Cluster;

use crate::scenario::{Case, Trial};

/// A rule that was broken.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Unsafe(String);

impl Unsafe {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

impl fmt::Display for Unsafe {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A cluster in which all have known all for a while.
///
/// # Errors
///
/// When it does not come to it.
pub(crate) fn settled<C: Case>(trial: &Trial<'_, C>) -> Result<Cluster, Unsafe> {
    let nodes = trial.case.nodes();
    let mut cluster = Cluster::of(trial.seed, nodes, trial.config());
    watch(&mut cluster);
    let joined = cluster.run_until(JOIN_MAX, Cluster::is_converged);
    expect_safe(&cluster)?;
    if joined.is_none() {
        return Err(Unsafe::new(format!(
            "after {JOIN_MAX:?} not all know all: {:?}",
            cluster.difference()
        )));
    }
    cluster.run_for(QUIET);
    Ok(cluster)
}

/// Looks at views so often that it costs about as much as what happens between two looks.
pub(crate) fn watch(cluster: &mut Cluster) {
    cluster.check_every(cluster.len() as u64);
}

/// # Errors
///
/// When a rule was broken so far.
pub(crate) fn expect_safe(cluster: &Cluster) -> Result<(), Unsafe> {
    match cluster.report().failure {
        Some(failure) => Err(Unsafe(failure.to_string())),
        None => Ok(()),
    }
}

pub(crate) const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// So long a cluster may take to come together on a quiet network.
const JOIN_MAX: Duration = secs(120);
/// From when all know all until it begins: the news of the joins have run out.
const QUIET: Duration = secs(15);
