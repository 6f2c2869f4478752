//! Flap damping: how long a member that fails and recovers repeatedly is held down.

use std::time::Duration;

use super::fault_history::{FaultHistory, REDIAL_ANSWERS_MIN};
use super::timers::NamedTimer;
use super::{DetectorHooks, Engine};
use crate::event::MemberState;
use crate::time::Time;

impl<D: DetectorHooks> Engine<D> {
    /// Takes back the flap that was counted for members that went missing with a partition.
    pub(super) fn undo_partition_flaps(&mut self, now: Time) {
        let from = self.missing_window_start(now);
        let missing = self.table.missing_entries(from).map(|entry| entry.key);
        for key in missing.collect::<Vec<_>>() {
            if let Some(entry) = self.table.get_mut(key) {
                let faults = entry.faults_mut();
                faults.flap_count = faults.flap_count.saturating_sub(1);
                let hold = hold_down_rounds(faults) * self.config.probe_interval;
                faults.held_until = Some(now + hold);
            }
        }
    }

    /// Takes in whether a failed member answered a redial. One that is held down has to answer
    /// several in a row, and each that it misses starts its hold anew.
    pub(super) fn on_redial_result(&mut self, now: Time, key: u64, answered: bool) {
        let unit = self.config.probe_interval;
        let relapsed = self.table.get(key).is_some_and(|e| e.faults().relapsed);
        let again = now + self.held_redial_interval(relapsed);
        let Some(entry) = self.table.get_mut(key) else {
            return;
        };
        if entry.state != MemberState::Failed || !entry.faults().is_flapping() {
            return;
        }
        let faults = entry.faults_mut();
        if answered {
            faults.redials_answered = faults.redials_answered.saturating_add(1);
            faults.redials_unanswered = 0;
            // The answer to one more brings the refutation that is believed now.
            let is_proved = relapsed && faults.redials_answered == REDIAL_ANSWERS_MIN;
            let again = if is_proved { now } else { again };
            self.table.set_redial(key, again);
            if relapsed {
                self.timers.set_no_later(NamedTimer::Redial, again);
            }
        } else {
            faults.redials_answered = 0;
            let end = now + hold_down_rounds(faults) * unit;
            faults.held_until = faults.held_until.max(Some(end));
        }
    }

    /// Redials a held-down member soon after it says that it is alive, so that it can prove it and
    /// knows that it is reached: at once if its outage may have been the only one.
    pub(super) fn hasten_redial(&mut self, now: Time, key: u64) {
        let Some(faults) = self.table.get(key).map(super::Entry::faults) else {
            return;
        };
        let latest = match faults.relapsed {
            true => now,
            false => now + self.config.redial_interval,
        };
        if faults.redials_answered == 0 && faults.next_redial_at > latest {
            self.table.set_redial(key, latest);
        }
    }

    /// Time between two redials of a held-down member that answers, by each of the others, so that
    /// their number does not swamp it.
    fn held_redial_interval(&self, relapsed: bool) -> Duration {
        let observers = self.live_count() as f64 / HELD_REDIALLERS_MAX;
        if relapsed {
            let interval = self.config.probe_interval / 2;
            return interval.mul_f64(observers.clamp(1.0, RELAPSE_REDIAL_INTERVAL_MAX));
        }
        self.config
            .redial_interval
            .mul_f64(observers.clamp(1.0, HELD_REDIAL_INTERVAL_MAX))
    }

    /// Time before which flaps no longer count, if their hold has ended.
    pub(super) fn flap_window_start(&self, now: Time) -> Time {
        now - FLAP_MEMORY_ROUNDS * self.config.probe_interval
    }
}

/// How long a member is held down after so many flaps, in probe intervals.
pub(super) fn hold_down_rounds(faults: &FaultHistory) -> u32 {
    let flaps = faults.flap_count;
    if faults.relapsed {
        return 0;
    }
    let doublings = u32::from(flaps.saturating_sub(2)).min(FLAP_DOUBLINGS_MAX);
    if flaps > 1 {
        FLAP_HOLD_ROUNDS << doublings
    } else {
        0
    }
}

/// How long the recoveries of a failed member are counted, in probe intervals.
const FLAP_MEMORY_ROUNDS: u32 = 600;
/// Hold of a member that recovered once before, in probe intervals.
const FLAP_HOLD_ROUNDS: u32 = 30;
/// A member that fails again within so many probe intervals of its recovery had not recovered.
pub(super) const RELAPSE_ROUNDS: u32 = 12;
/// Longest time between two redials of a relapsed member, in halves of a probe interval.
const RELAPSE_REDIAL_INTERVAL_MAX: f64 = 2.0;
/// Doublings of the hold, at most: 32 times 30 probe intervals.
const FLAP_DOUBLINGS_MAX: u32 = 5;
/// Members that redial a held-down one in each redial interval, at most.
const HELD_REDIALLERS_MAX: f64 = 128.0;
/// Longest time between two redials of a held-down member that answers, in redial intervals.
const HELD_REDIAL_INTERVAL_MAX: f64 = 8.0;
