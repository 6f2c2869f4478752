//! Event log of a test cluster: what the test did and what each node saw, in virtual time.

use std::{collections::VecDeque, fmt::Write};

use parking_lot::Mutex;

use super::clock::ClusterClock;
use crate::{ClusterEvent, registry::NodeInfo};

/// Bounded log of lines with their virtual time.
#[derive(Debug)]
pub(super) struct EventLog {
    clock: ClusterClock,
    lines: Mutex<Lines>,
}

#[derive(Debug, Default)]
struct Lines {
    kept: VecDeque<String>,
    dropped: u64,
}

impl EventLog {
    pub(super) fn new(clock: ClusterClock) -> Self {
        Self {
            clock,
            lines: Mutex::default(),
        }
    }

    pub(super) fn add(&self, what: &str) {
        let seconds = self.clock.elapsed().as_secs_f64();
        let mut lines = self.lines.lock();
        if lines.kept.len() == LINES_MAX {
            lines.kept.pop_front();
            lines.dropped += 1;
        }
        lines.kept.push_back(format!("{seconds:>10.3} s  {what}"));
    }

    /// Adds what a node saw.
    pub(super) fn add_event(&self, seen_by: &str, event: &ClusterEvent) {
        self.add(&format!("{seen_by}: {}", describe(event)));
    }

    pub(super) fn text(&self) -> String {
        let lines = self.lines.lock();
        let mut text = String::new();
        if lines.dropped > 0 {
            let _ = writeln!(text, "{} earlier lines are not kept", lines.dropped);
        }
        for line in &lines.kept {
            text += line;
            text.push('\n');
        }
        text
    }
}

fn describe(event: &ClusterEvent) -> String {
    let node = |node: &NodeInfo, what: &str| format!("{} {what}", node.id);
    match event {
        ClusterEvent::NodeJoined(info) => node(info, "joined"),
        ClusterEvent::NodeLeft(info) => node(info, "left"),
        ClusterEvent::NodeFailed(info) => node(info, "failed"),
        ClusterEvent::NodeSuspect { node: info, phi } => {
            node(info, &format!("is suspect, phi {phi:.2}"))
        }
        ClusterEvent::NodeRecovered(info) => node(info, "recovered"),
        ClusterEvent::NodeUpdated(info) => {
            let mut what = format!("changed: {}", info.state);
            for (key, value) in info.tags.iter() {
                let _ = write!(what, " {key}={value}");
            }
            node(info, &what)
        }
        ClusterEvent::NodeSlow(info) => node(info, "is slow"),
        ClusterEvent::NodeResponsive(info) => node(info, "is responsive"),
        ClusterEvent::NodeUnreachable(info) => node(info, "is unreachable"),
        ClusterEvent::NodeReachable(info) => node(info, "is reachable"),
        ClusterEvent::PartitionDetected {
            reachable,
            expected,
            minority,
        } => {
            let side = if *minority { "minority" } else { "majority" };
            format!("partition detected: {reachable} of {expected} nodes, the {side}")
        }
        ClusterEvent::PartitionHealed => "partition healed".to_owned(),
        ClusterEvent::Isolated { expected } => format!("isolated: 1 of {expected} nodes"),
        ClusterEvent::IsolationEnded => "isolation ended".to_owned(),
        ClusterEvent::Lagged(count) => format!("{count} events missed"),
        other => format!("{other:?}"),
    }
}

/// Lines that are kept: some minutes of a cluster in trouble.
const LINES_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_log_keeps_the_latest_lines_with_their_virtual_time() {
        let log = EventLog::new(ClusterClock::start());
        tokio::time::advance(std::time::Duration::from_millis(1_500)).await;
        for line in 0..=LINES_MAX {
            log.add(&format!("line {line}"));
        }
        let text = log.text();
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("1 earlier lines are not kept"));
        assert_eq!(lines.next(), Some("     1.500 s  line 1"));
        assert_eq!(lines.count(), LINES_MAX - 1);
    }
}
