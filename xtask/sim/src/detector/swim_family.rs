//! The SWIM family: the numbers that tell SWIM, Lifeguard and memberlist from one another, and
//! what a node of them remembers.

use std::time::Duration;

use rpcnet_swim::Time;

use super::{Detector, suspicion_timers::SuspicionTimers};

/// Parameters of one detector of the family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SwimParams {
    /// Shortest suspicion, in probe intervals times max(1, log10 N).
    pub(super) alpha: u32,
    /// Longest suspicion, in shortest ones; 1 for a fixed time.
    pub(super) beta: u32,
    /// Suspectors beside the first that bring the longest time down to the shortest (K).
    pub(super) confirmations: usize,
    /// How probes stretch when this node itself may be the slow one.
    pub(super) health: Option<LocalHealth>,
}

/// Lifeguard's local health multiplier (section IV-A), by paper or by source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LocalHealth {
    /// The paper: 0 to 8, stretches the interval and the timeout.
    Paper,
    /// memberlist's `awareness.go` and `state.go`: 0 to 7, stretches the round alone.
    Memberlist,
}

/// State of a node's detector, beside the engine's table.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct SwimState {
    /// The local health multiplier: zero is healthy.
    pub(super) health: u32,
    pub(super) suspicion_timers: SuspicionTimers,
    /// When the next push/pull is due.
    pub(super) push_pull_at: Option<Time>,
    /// It has found all its seeds once, and dials none any more.
    pub(super) has_settled: bool,
}

impl SwimParams {
    /// A fixed timeout and no local health.
    pub(super) const fn swim(alpha: u32) -> Self {
        Self {
            alpha,
            beta: 1,
            confirmations: 0,
            health: None,
        }
    }

    /// The same with a timeout that starts `beta` times as long, and falls with so many
    /// confirmations.
    pub(super) const fn with_confirmations(mut self, beta: u32, confirmations: usize) -> Self {
        (self.beta, self.confirmations) = (beta, confirmations);
        self
    }

    pub(super) const fn with_health(mut self, health: LocalHealth) -> Self {
        self.health = Some(health);
        self
    }

    /// How long a suspicion lasts at least, among `live` members: memberlist's
    /// `suspicionTimeout`, which drops all but three decimals of the logarithm.
    pub(super) fn suspicion_min(self, live: usize, period: Duration) -> Duration {
        let scale = (live.max(1) as f64).log10().max(1.0);
        period.mul_f64(f64::from(self.alpha) * (scale * 1_000.0).floor() / 1_000.0)
    }

    /// How many suspectors beside the first are waited for; none if there are not so many
    /// (memberlist's `suspectNode`).
    pub(super) fn confirmations_awaited(self, live: usize) -> usize {
        match live.saturating_sub(2) < self.confirmations {
            true => 0,
            false => self.confirmations,
        }
    }

    /// How long a suspicion lasts once `confirmed` of the `awaited` suspectors joined the first:
    /// Lifeguard section IV-B, in whole milliseconds as memberlist has it.
    pub(super) fn suspicion_timeout(
        self,
        min: Duration,
        awaited: usize,
        confirmed: usize,
    ) -> Duration {
        if awaited == 0 {
            return min;
        }
        let max = min * self.beta;
        let share = ((confirmed + 1) as f64).ln() / ((awaited + 1) as f64).ln();
        let falling = max.as_secs_f64() - share * (max - min).as_secs_f64();
        let floored = Duration::from_millis((falling * 1_000.0).max(0.0) as u64);
        floored.max(min)
    }
}

impl LocalHealth {
    const fn max(self) -> u32 {
        match self {
            Self::Paper => 8,
            Self::Memberlist => 7,
        }
    }

    /// Change of the node's health by a failed probe: `missed` of the `asked` helpers sent no nack.
    pub(super) const fn failed_probe(self, asked: usize, missed: usize) -> i64 {
        match self {
            Self::Paper => 1 + missed as i64,
            // Failed probes count only where no nack could come.
            Self::Memberlist if asked == 0 => 1,
            Self::Memberlist => missed as i64,
        }
    }

    /// When helpers send their nack, in probe timeouts after they were asked.
    pub(super) const fn nack_after(self) -> f64 {
        match self {
            Self::Paper => 0.8,
            Self::Memberlist => 1.0,
        }
    }
}

impl Detector {
    pub(super) fn local_health(&self) -> Option<LocalHealth> {
        self.swim?.health
    }

    /// Changes the local health multiplier (Lifeguard section IV-A): it rises with what speaks for
    /// this node being the slow one.
    pub(super) fn record_health(&mut self, change: i64) {
        if let Some(health) = self.local_health() {
            let score = i64::from(self.state.health) + change;
            self.state.health = score.clamp(0, health.max().into()) as u32;
        }
    }
}
