//! Replies that were just delivered, whose callers are about to run.

/// Replies of the last round of a lane and of the one before that were not taken. Those of earlier
/// rounds are forgotten: callers that do not poll may keep them.
#[derive(Debug, Default)]
pub(super) struct FreshReplies {
    last: usize,
    earlier: usize,
}

impl FreshReplies {
    /// A round has delivered so many replies; one without any is none.
    pub(super) fn on_round(&mut self, delivered: usize) {
        if delivered > 0 {
            *self = Self {
                last: delivered,
                earlier: self.last,
            };
        }
    }

    /// A reply was taken, or is not wanted any more. One that was forgotten counts for a fresh one:
    /// then requests leave a little early.
    pub(super) fn on_taken(&mut self) {
        let oldest = match self.earlier {
            0 => &mut self.last,
            _ => &mut self.earlier,
        };
        *oldest = oldest.saturating_sub(1);
    }

    pub(super) fn count(&self) -> usize {
        self.last + self.earlier
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_that_are_never_taken_are_forgotten_with_the_second_round_after_them() {
        let mut fresh = FreshReplies::default();
        fresh.on_round(3);
        fresh.on_round(0);
        assert_eq!(fresh.count(), 3, "a round without replies is none");
        fresh.on_round(1);
        assert_eq!(fresh.count(), 4);
        fresh.on_round(1);
        assert_eq!(fresh.count(), 2);
    }

    #[test]
    fn the_oldest_replies_are_taken_first_and_never_more_than_there_are() {
        let mut fresh = FreshReplies::default();
        fresh.on_round(2);
        fresh.on_round(1);
        for left in [2, 1, 0, 0] {
            fresh.on_taken();
            assert_eq!(fresh.count(), left);
        }
        fresh.on_round(1);
        assert_eq!(fresh.count(), 1);
    }
}
