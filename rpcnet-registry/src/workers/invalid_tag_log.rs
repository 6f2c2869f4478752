//! Log of invalid tags: rate limit, and lines that wait until the source has released its lock.

use std::time::Duration;

use rpcnet_balance::Time;

use crate::ClusterEvent;

pub(super) struct InvalidTagLog {
    /// The time from which the next invalid tag is logged as a warning.
    warn_at: Time,
    /// Whether lines wait for [`Observer::after_events`](crate::Observer::after_events).
    is_deferred: bool,
    pending: LogLines,
}

/// Lines to write without a lock: the log may be slow, or read the registry or its source.
#[derive(Default)]
#[must_use]
pub(super) struct LogLines {
    /// The event about an invalid tag, and whether it is logged as a warning.
    lines: Vec<(ClusterEvent, bool)>,
    /// Lines beyond [`LINES_MAX`].
    dropped: usize,
}

impl InvalidTagLog {
    pub(super) fn new() -> Self {
        Self {
            warn_at: Time::ZERO,
            is_deferred: false,
            pending: LogLines::default(),
        }
    }

    /// Keeps lines until [`take`](Self::take), from now on.
    pub(super) fn defer(&mut self) {
        self.is_deferred = true;
    }

    /// Adds lines: warnings at most once a second, because tags may be changed by a program.
    pub(super) fn add(&mut self, invalid: &[ClusterEvent], now: Time) {
        for event in invalid {
            if self.pending.lines.len() >= LINES_MAX {
                self.pending.dropped += 1;
                continue;
            }
            let is_warning = now >= self.warn_at;
            if is_warning {
                self.warn_at = now + WARNING_INTERVAL;
            }
            self.pending.lines.push((event.clone(), is_warning));
        }
    }

    /// The lines to write now: none if they are deferred.
    pub(super) fn take_due(&mut self) -> LogLines {
        match self.is_deferred {
            true => LogLines::default(),
            false => self.take(),
        }
    }

    /// All lines that were not written yet.
    pub(super) fn take(&mut self) -> LogLines {
        std::mem::take(&mut self.pending)
    }
}

impl LogLines {
    pub(super) fn write(self) {
        for (event, is_warning) in self.lines {
            let ClusterEvent::InvalidTag {
                node,
                key,
                value,
                effective: taken,
            } = event
            else {
                continue;
            };
            if is_warning {
                tracing::warn!(node = %node.id, %key, ?value, taken, "invalid tag");
            } else {
                tracing::debug!(node = %node.id, %key, ?value, taken, "invalid tag");
            }
        }
        if self.dropped > 0 {
            tracing::debug!(dropped = self.dropped, "invalid tags that were not logged");
        }
    }
}

/// Most lines that wait.
const LINES_MAX: usize = 256;
const WARNING_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{NodeId, NodeInfo};

    #[test]
    fn deferred_lines_are_bounded_and_taken_once() {
        let node = NodeInfo::new(NodeId::new("a", 1), ([127, 0, 0, 1], 7000).into());
        let event = ClusterEvent::InvalidTag {
            node: Arc::new(node),
            key: "weight".into(),
            value: "heavy".into(),
            effective: 1.0,
        };
        let mut log = InvalidTagLog::new();
        log.add(std::slice::from_ref(&event), Time::ZERO);
        assert_eq!(log.take_due().lines.len(), 1);
        log.defer();
        log.add(&vec![event; LINES_MAX + 3], Time::ZERO + WARNING_INTERVAL);
        assert!(log.take_due().lines.is_empty());
        let lines = log.take();
        assert_eq!((lines.lines.len(), lines.dropped), (LINES_MAX, 3));
        let warnings = lines.lines.iter().filter(|(_, is_warning)| *is_warning);
        assert_eq!(warnings.count(), 1);
        assert!(log.take().lines.is_empty());
    }
}
