//! State of the split-brain check: the division of the network, and the nodes that saw it.

use std::time::Duration;

use rpcnet_swim::Time;

/// State of the check.
#[derive(Debug, Default)]
pub(super) struct SplitBrainCheck {
    /// Time after a division from which on at most one side may serve; `None` if it is not checked.
    pub(super) grace: Option<Duration>,
    pub(super) next_check: Time,
    /// The groups at the last check, by node.
    pub(super) groups: Vec<Option<u32>>,
    pub(super) divided_at: Time,
    /// Nodes that saw the whole cluster when it was divided, and their epochs. Empty if some did
    /// not: then the division is not judged.
    pub(super) participants: Vec<(usize, u64)>,
}
