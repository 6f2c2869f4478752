//! Rank of a queued call: its priority, attempt, peer and deadline.

use std::time::Duration;

use crate::Priority;

/// Properties of a call that decide its position.
#[derive(Debug, Clone)]
pub(in crate::server::admission) struct Rank<P> {
    pub(in crate::server::admission) priority: Priority,
    pub(in crate::server::admission) is_retry: bool,
    pub(in crate::server::admission) peer: P,
    pub(in crate::server::admission) deadline: Option<Duration>,
}

/// The class of a call: lower numbers go first.
pub(super) fn class_of<P>(rank: &Rank<P>) -> usize {
    2 * rank.priority as usize + usize::from(rank.is_retry)
}

/// First attempts and retries of each priority.
pub(super) const CLASSES: usize = 2 * Priority::ALL.len();

/// Number of the class of calls that have started.
pub(super) const REACQUIRING: usize = CLASSES;
