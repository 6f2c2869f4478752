//! Callers that were seen recently. Pure: time is an argument.

use std::{collections::HashMap, hash::Hash};

/// Counts the callers that were seen within the last [`RECENT_S`] seconds.
///
/// `now_s` is the time since any fixed moment, in whole seconds, the same in all calls.
#[derive(Debug)]
pub(super) struct RecentCallers<N> {
    seen_s: HashMap<N, u64>,
    swept_s: u64,
}

impl<N: Clone + Eq + Hash> RecentCallers<N> {
    /// Records a call of this caller. Returns the number of recent callers, this one included.
    pub(super) fn record(&mut self, now_s: u64, name: &N) -> usize {
        match self.seen_s.get_mut(name) {
            Some(seen_s) => *seen_s = now_s.max(*seen_s),
            None => drop(self.seen_s.insert(name.clone(), now_s)),
        }
        if now_s > self.swept_s {
            self.swept_s = now_s;
            let is_recent = |seen_s: &u64| now_s.saturating_sub(*seen_s) < RECENT_S;
            self.seen_s.retain(|_, seen_s| is_recent(seen_s));
        }
        self.seen_s.len()
    }
}

impl<N> Default for RecentCallers<N> {
    fn default() -> Self {
        Self {
            seen_s: HashMap::new(),
            swept_s: 0,
        }
    }
}

/// How long a caller counts as recent, in seconds. A caller that calls less often than this has to
/// wait for a permit while another one uses all; a longer time keeps a caller that is alone again
/// from the last permits for as long.
pub(super) const RECENT_S: u64 = 60;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_caller_is_forgotten_after_a_minute() {
        let mut callers = RecentCallers::default();
        assert_eq!(callers.record(0, &"a"), 1);
        assert_eq!(callers.record(5, &"b"), 2);
        assert_eq!(callers.record(RECENT_S - 1, &"b"), 2);
        assert_eq!(callers.record(RECENT_S, &"b"), 1, "a is gone");
        assert_eq!(callers.record(2 * RECENT_S - 1, &"a"), 2);
        assert_eq!(callers.record(2 * RECENT_S, &"a"), 1, "b is gone");
    }

    proptest! {
        #[test]
        fn recent_callers_match_a_naive_model(
            notes in prop::collection::vec((0u8..6, 0u64..40), 0..100),
        ) {
            let mut callers = RecentCallers::default();
            let mut all: Vec<(u8, u64)> = Vec::new();
            let mut now_s = 0;
            for (name, after_s) in notes {
                now_s += after_s;
                all.push((name, now_s));
                let mut recent: Vec<u8> = all
                    .iter()
                    .filter(|(_, seen_s)| now_s - seen_s < RECENT_S)
                    .map(|(name, _)| *name)
                    .collect();
                recent.sort_unstable();
                recent.dedup();
                prop_assert_eq!(callers.record(now_s, &name), recent.len());
            }
        }
    }
}
