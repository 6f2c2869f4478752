//! Figures of a run.

use serde::Serialize;

use super::{detection::DetectionLog, protocol::Counters};

#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) figures: Figures,
    /// Counters of the joins, of all processes.
    pub(crate) joined: Counters,
    /// Counters of the steady state.
    pub(crate) steady: Counters,
    pub(crate) detection: DetectionLog,
}

/// The row of the JSON. Bytes are those of datagrams with their UDP and IP headers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Figures {
    pub(crate) nodes: usize,
    pub(crate) processes: usize,
    /// Duration of the steady state.
    pub(crate) seconds: f64,
    /// Time from the start until every member saw all alive: the last of them and the median.
    pub(crate) converged_ms: f64,
    pub(crate) converged_p50_ms: f64,
    /// From the start until datagrams carried news of the joins no more; none if they still did
    /// when it was measured.
    pub(crate) quiet_ms: Option<f64>,
    pub(crate) join_sent_bytes_per_node: f64,
    /// Lost in full receive buffers from beginning to end, of the whole machine; none where that is
    /// not told.
    pub(crate) lost_datagrams: Option<u64>,
    /// Share of a core.
    pub(crate) cpu_percent_per_node: f64,
    pub(crate) sent_bytes_per_node_s: f64,
    pub(crate) sent_datagrams_per_node_s: f64,
    /// Memory beyond that of a process without members.
    pub(crate) rss_bytes_per_node: f64,
    /// Memory for each member of a node's view.
    pub(crate) rss_bytes_per_member: f64,
    /// Suspicions raised or joined before the kills.
    pub(crate) suspicions: u64,
    /// Times that one was found failed, or told to have, that was not.
    pub(crate) false_failures: usize,
    pub(crate) killed: usize,
    /// Time from the kill until the first survivor knew.
    pub(crate) first_p50_ms: Option<f64>,
    /// Time from the kill until a survivor knew, over all pairs.
    pub(crate) all_know_p50_ms: Option<f64>,
    pub(crate) all_know_p99_ms: Option<f64>,
    pub(crate) all_know_max_ms: Option<f64>,
    /// Pairs where that did not happen.
    pub(crate) never_knew: usize,
}

impl Counters {
    /// Bytes sent as they are on the wire: with UDP and IPv4 headers.
    pub(crate) fn sent_bytes_with_headers(&self) -> f64 {
        (self.sent_bytes + self.sent * HEADERS_BYTES) as f64
    }
}

pub(crate) fn ms(us: u64) -> f64 {
    us as f64 / 1e3
}

/// Headers of UDP and IPv4, without options.
const HEADERS_BYTES: u64 = 28;
