//! Tally of a quorum call: which endpoints have replied, and whether the quorum is reached.

/// Tally of a quorum call: a call to several endpoints, of which a number must reply.
///
/// ```
/// use rpcnet_balance::retry::{QuorumState, QuorumTally};
///
/// let mut tally = QuorumTally::new(2, ["a", "b", "c"]);
/// tally.record("b", Ok(7));
/// tally.record("a", Err("overloaded"));
/// assert_eq!(tally.state(), QuorumState::Open);
/// tally.record("c", Ok(7));
/// assert_eq!(tally.state(), QuorumState::Reached);
/// assert_eq!(tally.accepted, [("b", 7), ("c", 7)]);
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct QuorumTally<K, T, E> {
    /// Number of endpoints that must reply.
    pub required: usize,
    /// Endpoints whose replies count, in the order of the replies.
    pub accepted: Vec<(K, T)>,
    /// Endpoints that failed, in the order of their failures.
    pub failed: Vec<(K, E)>,
    /// Endpoints that have not replied.
    pub pending: Vec<K>,
}

/// Whether a quorum is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuorumState {
    /// Enough endpoints have replied.
    Reached,
    /// The endpoints that have not replied decide.
    Open,
    /// Too few endpoints are left to reply.
    OutOfReach,
}

impl<K: PartialEq, T, E> QuorumTally<K, T, E> {
    /// None of these endpoints has replied.
    #[must_use]
    pub fn new(required: usize, endpoints: impl IntoIterator<Item = K>) -> Self {
        Self {
            required,
            accepted: Vec::new(),
            failed: Vec::new(),
            pending: endpoints.into_iter().collect(),
        }
    }

    /// Records that an endpoint has replied or failed.
    pub fn record(&mut self, endpoint: K, reply: Result<T, E>) {
        self.pending.retain(|other| *other != endpoint);
        match reply {
            Ok(reply) => self.accepted.push((endpoint, reply)),
            Err(error) => self.failed.push((endpoint, error)),
        }
    }

    /// Whether the quorum is reached.
    #[must_use]
    pub fn state(&self) -> QuorumState {
        let accepted = self.accepted.len();
        if accepted >= self.required {
            QuorumState::Reached
        } else if accepted + self.pending.len() < self.required {
            QuorumState::OutOfReach
        } else {
            QuorumState::Open
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quorum_is_decided_as_early_as_can_be() {
        use QuorumState::{Open, OutOfReach, Reached};
        // Required of three endpoints, whether each replies, and the state after each.
        for (required, replies, states) in [
            (0, [true; 3], [Reached; 4]),
            (2, [true, false, true], [Open, Open, Open, Reached]),
            (2, [true, true, false], [Open, Open, Reached, Reached]),
            (
                2,
                [false, false, true],
                [Open, Open, OutOfReach, OutOfReach],
            ),
            (4, [true; 3], [OutOfReach; 4]),
        ] {
            let mut tally = QuorumTally::new(required, 0..3);
            assert_eq!(tally.state(), states[0], "{required} {replies:?}");
            for (endpoint, replies) in (0..).zip(replies) {
                tally.record(endpoint, if replies { Ok(()) } else { Err(()) });
                assert_eq!(tally.state(), states[endpoint as usize + 1], "{tally:?}");
            }
            assert!(tally.pending.is_empty());
        }
    }
}
