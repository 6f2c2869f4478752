//! Cooperative budget of tasks that send or receive many small items.

/// Budget of the items of one direction of a stream, of the 128 units that tokio gives a task each
/// time it is polled: small items share a unit.
///
/// A unit for each of them would interrupt a task after a few thousand bytes, and each of these
/// small batches would have a write and a wake-up of its own.
#[derive(Debug, Default)]
pub(super) struct ItemBudget {
    /// Work since the last unit was taken.
    work: usize,
}

impl ItemBudget {
    /// Whether the next item takes a unit.
    #[inline]
    pub(super) fn is_due(&self) -> bool {
        self.work >= WORK_PER_UNIT
    }

    /// Records that a unit was taken.
    #[inline]
    pub(super) fn restart(&mut self) {
        self.work = 0;
    }

    /// Records an item of so many bytes.
    #[inline]
    pub(super) fn record(&mut self, bytes: usize) {
        self.work = self.work.saturating_add(ITEM_WORK).saturating_add(bytes);
    }
}

/// Work of an item beside its bytes, in bytes that are copied in that time.
const ITEM_WORK: usize = 256;

/// Work for which a unit is taken: 8 items of 32 bytes, 2 of 1 KiB, one of 2 KiB and more.
const WORK_PER_UNIT: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_takes_its_share_of_a_unit() {
        for (bytes, items) in [
            (0, 8),
            (32, 8),
            (256, 4),
            (1024, 2),
            (2048, 1),
            (usize::MAX, 1),
        ] {
            let mut budget = ItemBudget::default();
            let shared = (1..).find(|_| {
                budget.record(bytes);
                budget.is_due()
            });
            assert_eq!(shared, Some(items), "{bytes} bytes");
            budget.restart();
            assert!(!budget.is_due());
        }
    }
}
