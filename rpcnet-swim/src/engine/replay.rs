//! Replay window: detection of datagrams that were seen before.

/// Counters of a sender that were seen, as in IPsec (RFC 4303 section 3.4.3): the highest one and a
/// bit for each of the 64 up to it. Older ones count as seen.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ReplayWindow {
    /// Zero before the first: counters start at one.
    highest: u64,
    /// Bit n: the counter `highest - n` was seen.
    seen: u64,
}

impl ReplayWindow {
    /// Window in which everything up to `counter` counts as seen.
    pub(crate) fn starting_at(counter: u64) -> Self {
        Self {
            highest: counter,
            seen: u64::MAX,
        }
    }

    /// Whether any counter was accepted.
    pub(crate) fn is_started(&self) -> bool {
        self.highest > 0
    }

    /// Whether a counter is so far from those seen that it is a jump rather than a gap, or too old
    /// to tell.
    pub(crate) fn is_out_of_step(&self, counter: u64) -> bool {
        let is_far = self.is_started() && counter > self.highest.saturating_add(COUNTER_JUMP_MAX);
        is_far || (counter > 0 && self.highest.saturating_sub(counter) >= 64)
    }

    /// Accepts a counter; false if it was seen, is too old to tell or too far ahead to believe.
    pub(crate) fn accept(&mut self, counter: u64) -> bool {
        if counter > self.highest {
            let ahead = counter - self.highest;
            if self.is_started() && ahead > COUNTER_JUMP_MAX {
                return false;
            }
            self.seen = if ahead < 64 {
                self.seen << ahead | 1
            } else {
                1
            };
            self.highest = counter;
            return true;
        }
        let behind = self.highest - counter;
        let bit = 1u64
            .checked_shl(behind.try_into().unwrap_or(u32::MAX))
            .unwrap_or(0);
        let fresh = counter > 0 && bit != 0 && self.seen & bit == 0;
        self.seen |= bit;
        fresh
    }
}

/// Largest jump of a counter. A member that talked to others for so long that it is further ahead
/// is asked for its counter.
pub(crate) const COUNTER_JUMP_MAX: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_counter_is_accepted_once_and_only_within_the_window() {
        let mut window = ReplayWindow::default();
        for (counter, fresh) in [
            (0, false),
            (1, true),
            (1, false),
            (3, true),
            (2, true),
            (2, false),
            (67, true),
            (4, true),
            (3, false),
            (u64::MAX, false),
            (68 + COUNTER_JUMP_MAX, false),
            (67 + COUNTER_JUMP_MAX, true),
            (67, false),
            (4 + COUNTER_JUMP_MAX, true),
            (3 + COUNTER_JUMP_MAX, false),
        ] {
            assert_eq!(window.accept(counter), fresh, "{counter}");
        }
        let mut window = ReplayWindow::starting_at(100);
        assert!(!window.accept(100) && !window.accept(37) && window.accept(101));
        // The first counter of a member may be anything.
        assert!(ReplayWindow::default().accept(u64::MAX));
    }

    #[test]
    fn a_counter_far_from_the_window_is_out_of_step() {
        let window = ReplayWindow::starting_at(1_000);
        for (counter, far) in [
            (0, false),
            (1, true),
            (936, true),
            (937, false),
            (1_000, false),
            (1_000 + COUNTER_JUMP_MAX, false),
            (1_001 + COUNTER_JUMP_MAX, true),
            (u64::MAX, true),
        ] {
            assert_eq!(window.is_out_of_step(counter), far, "{counter}");
        }
        let window = ReplayWindow::starting_at(u64::MAX);
        assert!(window.is_out_of_step(7) && !window.is_out_of_step(u64::MAX));
    }
}
