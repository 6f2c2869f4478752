//! Fair share of a limit: how much of it one holder may have.

/// A limit that several holders share.
///
/// One holder may have half of what the others leave, so that there is always something left for a
/// holder that comes later: a single greedy holder has at most half of the limit, two have a third
/// each, three a quarter each. This is the dynamic threshold of shared-memory switches with a
/// factor of one (Choudhury and Hahne, "Dynamic queue length thresholds for shared-memory packet
/// switches", 1998). Up to `floor` the rule does not apply, so that small limits can be used in
/// full and one request of the largest size always fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FairShare {
    max: usize,
    floor: usize,
    factor: usize,
}

impl FairShare {
    pub(crate) const fn new(max: usize, floor: usize) -> Self {
        Self {
            max,
            floor,
            factor: 1,
        }
    }

    /// Sets how many times the free part one holder may have; default once, which is half of what
    /// the others leave. A larger factor uses more of the limit and leaves less to holders that
    /// come later.
    pub(crate) const fn with_factor(mut self, factor: usize) -> Self {
        self.factor = factor;
        self
    }

    pub(crate) const fn max(self) -> usize {
        self.max
    }

    /// Whether a holder that has `own` of `total` may take `more`.
    pub(crate) fn allows(self, own: usize, total: usize, more: usize) -> bool {
        if total.saturating_add(more) > self.max {
            return false;
        }
        own.saturating_add(more) <= self.threshold(own, total)
    }

    /// Whether a holder that has `own` of `total` has more than it could take now, because others
    /// have come since.
    pub(crate) fn is_exceeded(self, own: usize, total: usize) -> bool {
        own > self.threshold(own, total)
    }

    fn threshold(self, own: usize, total: usize) -> usize {
        let others = total.saturating_sub(own);
        let left = self.max.saturating_sub(others);
        // Less than `left`, whatever the factor.
        let part = left - left.div_ceil(self.factor + 1);
        part.max(self.floor)
    }
}

/// Calls, and connections, that each peer may have whatever other peers have, if the limit is that
/// large.
pub(crate) const SHARE_FLOOR: usize = 16;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Takes one at a time for each holder in turn, until no holder may take more.
    fn fill(share: FairShare, holders: usize) -> Vec<usize> {
        let mut held = vec![0; holders];
        loop {
            let before = held.clone();
            for holder in 0..holders {
                let total = held.iter().sum();
                held[holder] += usize::from(share.allows(held[holder], total, 1));
            }
            if held == before {
                return held;
            }
        }
    }

    #[test]
    fn greedy_holders_leave_as_much_as_one_of_them_has() {
        let share = FairShare::new(1200, 0);
        assert_eq!(fill(share, 1), [600]);
        assert_eq!(fill(share, 2), [400, 400]);
        assert_eq!(fill(share, 3), [300, 300, 300]);
    }

    #[test]
    fn a_larger_factor_leaves_less_to_later_holders() {
        let share = FairShare::new(1200, 0).with_factor(4);
        assert_eq!(fill(share, 1), [960]);
        assert_eq!(fill(share, 2), [533, 533]);
        assert_eq!(fill(FairShare::new(8, 1).with_factor(4), 1), [6]);
        assert_eq!(fill(FairShare::new(2, 1).with_factor(4), 1), [1]);
        assert_eq!(fill(FairShare::new(1, 1).with_factor(4), 1), [1]);
    }

    #[test]
    fn a_share_is_exceeded_when_others_have_come() {
        let share = FairShare::new(8, 2).with_factor(4);
        assert!(!share.is_exceeded(6, 6));
        assert!(share.is_exceeded(7, 7));
        assert!(share.is_exceeded(6, 8), "6 of 6 that the others leave");
        assert!(!share.is_exceeded(2, 8), "up to the floor");
        assert!(!share.is_exceeded(2, 90), "the limit has shrunk");
    }

    #[test]
    fn a_late_holder_gets_a_part() {
        let share = FairShare::new(1000, 0);
        assert!(!share.allows(500, 500, 1));
        assert!(share.allows(0, 500, 250));
        assert!(!share.allows(0, 500, 251));
    }

    #[test]
    fn small_limits_are_used_completely() {
        assert_eq!(fill(FairShare::new(8, 16), 1), [8]);
        assert_eq!(fill(FairShare::new(1, 16), 1), [1]);
        assert_eq!(fill(FairShare::new(0, 16), 1), [0]);
    }

    proptest! {
        #[test]
        fn the_limit_holds_and_a_greedy_holder_leaves_half(
            max in 0usize..10_000,
            floor in 0usize..100,
            takes in prop::collection::vec((0usize..4, 0usize..3_000), 0..60),
        ) {
            let share = FairShare::new(max, floor);
            let mut held = [0usize; 4];
            for (holder, more) in takes {
                let total = held.iter().sum();
                let others = total - held[holder];
                if share.allows(held[holder], total, more) {
                    held[holder] += more;
                    prop_assert!(held[holder] <= floor.max((max - others) / 2));
                }
                prop_assert!(held.iter().sum::<usize>() <= max);
            }
        }

        #[test]
        fn extreme_numbers_do_not_overflow(own: usize, total: usize, more: usize, max: usize) {
            let share = FairShare::new(max, 16);
            let _ = share.allows(own, total, more);
            let _ = share.is_exceeded(own, total);
        }
    }
}
