//! Redialling failed members: a partition that is over heals without seeds.
//!
//! Any contact between the two sides is enough, so the live members share the redials: however many
//! members are gone, each of the others sends about as much.

use super::timers::NamedTimer;
use super::{DetectorHooks, Engine};
use crate::time::Time;

impl<D: DetectorHooks> Engine<D> {
    /// Redials failed members that are due, and forgets those that are gone for long.
    pub(super) fn on_redial_timer(&mut self, now: Time) {
        if self.detector.redials_failed() {
            self.redial_missing(now);
        }
        let forget_after = self.detector.forget_after(self.config.forget_after);
        for key in self.table.gone_before(now - forget_after) {
            if !self.is_kept_for_partition(now, key) {
                self.forget(key);
            }
        }
        if self.table.has_gone() {
            // A held-down member that is due sooner does not wait for the turn after it.
            let turn = now + self.config.probe_interval / 2;
            let due = self
                .table
                .next_redial()
                .filter(|at| *at > now && *at < turn);
            self.timers.set(NamedTimer::Redial, due.unwrap_or(turn));
        }
    }

    fn redial_missing(&mut self, now: Time) {
        let interval = self.config.redial_interval;
        let share = (REDIALLERS_MEAN / self.live_count() as f64).min(1.0);
        let (mut dialled, mut held) = (0, 0);
        for key in self.table.due_redials(now, REDIALS_VISITED_MAX) {
            let Some(entry) = self.table.get_mut(key) else {
                continue;
            };
            let faults = entry.faults_mut();
            // A held-down member proves to each of the others for itself that it is back.
            let is_held = faults.is_flapping();
            let is_ours = is_held || self.rng.f64() < share;
            let (count, max) = match is_held {
                true => (&mut held, HELD_REDIALS_MAX),
                false => (&mut dialled, REDIALS_MAX),
            };
            if is_ours && *count == max {
                // It stays due at the next turn.
                continue;
            }
            *count += usize::from(is_ours);
            faults.redials_unanswered = faults.redials_unanswered.saturating_add(1);
            let times = (1 << faults.redials_unanswered.min(5)).min(REDIAL_BACKOFF_MAX);
            self.table.set_redial(key, now + interval * times);
            if is_ours {
                self.probes.last_redial_at = now;
                self.start_probe(now, key);
            }
        }
        // However long each one waits, after a partition any contact is enough to heal it. The
        // smaller side, or both, see that there may be one.
        if self.partition.is_suspected() && now.since(self.probes.last_redial_at) >= interval {
            let count = self.table.missing().count();
            let index = self.rng.usize(..count.max(1));
            let any = self.table.missing().nth(index);
            if let Some(key) = any {
                self.probes.last_redial_at = now;
                self.start_probe(now, key);
            }
        }
    }
}

/// Live members that redial a failed one in each of its redial intervals, on average.
const REDIALLERS_MEAN: f64 = 4.0;
/// Most failed members redialled at a time, twice in each probe interval.
const REDIALS_MAX: usize = 1;
/// Most held-down members redialled at a time, each of which has to answer several in a row.
const HELD_REDIALS_MAX: usize = 16;
/// Most due members visited at a time.
const REDIALS_VISITED_MAX: usize = 256;
/// Longest wait between two redials of a failed member, in redial intervals.
pub(super) const REDIAL_BACKOFF_MAX: u32 = 12;
