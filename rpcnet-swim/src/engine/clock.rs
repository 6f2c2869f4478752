//! Clocks: monotonic time without the gaps of a stopped process, and the bound on epochs.
//!
//! An epoch is the wall clock of the node that started. It orders the lives of a name, so an epoch
//! without a bound would end the ordering: nothing comes after the largest one. So an epoch that
//! is further ahead of this node's wall clock than [`EPOCH_SLACK`] is refused wherever it comes
//! from, and both sides are told.

use std::net::SocketAddr;
use std::time::Duration;

use super::{DetectorHooks, Engine, Phase, Sender};
use crate::event::Event;
use crate::time::Time;
use crate::wire::Payload;

/// A reading of the wall clock, and when it was taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WallClock {
    /// In milliseconds since the Unix epoch.
    millis: u64,
    at: Time,
}

/// Clocks that were found too far apart.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ClockSkewTracker {
    /// The last event about it.
    reported_at: Option<Time>,
    /// A member refused this node's epoch, or this node could not hear one that is in: which, and
    /// how far apart the clocks are.
    refusal: Option<(SocketAddr, Duration)>,
}

impl WallClock {
    pub(crate) fn new(millis: u64, at: Time) -> Self {
        Self { millis, at }
    }

    fn read(self, now: Time) -> u64 {
        let passed = u64::try_from(now.since(self.at).as_millis()).unwrap_or(u64::MAX);
        self.millis.saturating_add(passed)
    }

    /// Sets the clock forward. One that was set back is not followed: epochs that were right
    /// yesterday are not from the future today.
    fn advance(&mut self, millis: u64, now: Time) {
        let millis = self.read(now).max(millis.min(EPOCH_MAX));
        *self = Self::new(millis, now);
    }
}

impl<D: DetectorHooks> Engine<D> {
    /// Tells the engine what the wall clock shows, in milliseconds since the Unix epoch. Without
    /// it the engine goes by its own epoch, which is the time of its start, and the time that
    /// passed since; a clock that was set, or a machine that was suspended, makes that wrong.
    ///
    /// Epochs more than a day ahead of the clock are refused. A clock that is set back is not
    /// followed.
    pub fn set_wall_clock(&mut self, now: Time, millis: u64) {
        self.wall_clock.advance(millis, now);
    }

    /// A member whose clock is so far from this node's that one of the two refuses the other's
    /// epoch, and how far apart they are: why this node does not get in. None once it is in.
    pub fn clock_refusal(&self) -> Option<(SocketAddr, Duration)> {
        self.skew.refusal.filter(|_| !self.is_joined())
    }

    /// The highest epoch that is believed.
    pub(super) fn epoch_limit(&self, now: Time) -> u64 {
        // Inner time stands still while the process is stopped, the wall clock does not.
        let slack = u64::try_from(EPOCH_SLACK.as_millis()).unwrap_or(u64::MAX);
        self.wall_time(now).saturating_add(slack)
    }

    /// The one door for epochs from the network: lets a message pass without the records whose
    /// epoch is too far ahead, or not at all if it is from such a life or about one.
    pub(super) fn drop_future_epochs(
        &mut self,
        now: Time,
        sender: Sender,
        mut payload: Payload,
    ) -> Option<Payload> {
        let limit = self.epoch_limit(now);
        if sender.epoch > limit {
            self.stats.dropped.future_epoch += 1;
            self.record_clock_skew(now, sender.addr, sender.epoch, false);
            if matches!(payload, Payload::Hello { .. }) {
                // Smaller than the hello, so it is of no use to reflect.
                let clock = self.wall_time(now);
                let echo = sender.counter;
                self.reply(sender, Payload::ClockSkew { echo, clock });
            }
            return None;
        }
        let (refused, is_sound) = payload.remove_future_epochs(limit);
        if let Some((addr, epoch)) = refused.first {
            self.stats.future_records += refused.count;
            self.record_clock_skew(now, addr, epoch, false);
        }
        if !is_sound {
            self.stats.dropped.future_epoch += 1;
            return None;
        }
        Some(payload)
    }

    /// A member refuses this node's epoch.
    pub(super) fn on_clock_skew(&mut self, now: Time, sender: Sender, echo: u64, clock: u64) {
        let slack = u64::try_from(EPOCH_SLACK.as_millis()).unwrap_or(u64::MAX);
        let is_ahead = self.local.epoch > clock.saturating_add(slack);
        if self.join.accept_hello_answer(echo, sender.addr) && is_ahead {
            self.skew.refusal = Some((sender.addr, millis(self.local.epoch - clock)));
            self.emit_clock_skew(now, sender.addr, millis(self.local.epoch - clock), true);
        } else {
            self.stats.dropped.unexpected += 1;
        }
    }

    fn record_clock_skew(&mut self, now: Time, addr: SocketAddr, epoch: u64, is_own: bool) {
        let clock = self.wall_time(now);
        let ahead = millis(epoch.saturating_sub(clock));
        if !self.is_joined() {
            self.skew.refusal = Some((addr, ahead));
        }
        self.emit_clock_skew(now, addr, ahead, is_own);
    }

    /// Not more often than once in a while, whoever sends how much of it; the rest is counted.
    fn emit_clock_skew(&mut self, now: Time, addr: SocketAddr, ahead: Duration, is_own: bool) {
        let pause = SKEW_EVENT_ROUNDS * self.config.probe_interval;
        if self
            .skew
            .reported_at
            .is_none_or(|at| now.since(at) >= pause)
        {
            self.skew.reported_at = Some(now);
            self.emit(Event::ClockSkew {
                addr,
                ahead,
                is_own,
            });
        }
    }

    /// Time without the gaps in which the process was stopped. A deadline missed by more than a
    /// scheduler's whim is such a gap: all deadlines shift by it, so that nobody is judged for
    /// what this node could not have heard.
    pub(super) fn running_time(&mut self, now: Time) -> Time {
        let is_running = self.phase != Phase::Left;
        let shifts = is_running && self.detector.shifts_deadlines_after_stall();
        let due = self.timers.next().filter(|_| shifts);
        if self.running_clock.advance(now, due, self.stall_threshold()) {
            self.stats.stalls += 1;
            self.probe_rounds.mark_stalled();
        }
        self.running_clock.last()
    }

    /// Wall clock at a running time, in milliseconds: unlike that, it does not stand still while
    /// the process is stopped.
    fn wall_time(&self, now: Time) -> u64 {
        self.wall_clock.read(self.running_clock.caller_time(now))
    }

    fn stall_threshold(&self) -> Duration {
        (self.config.probe_interval / 4).max(STALL_MIN)
    }
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// How far ahead of this node's wall clock an epoch may be. A clock that shows local time in place
/// of UTC is wrong by 14 hours at most; what is wrong by more than a day is no time zone. A member
/// that lies about an epoch can be this far ahead, and no further: the name's owner goes past it.
pub(crate) const EPOCH_SLACK: Duration = Duration::from_secs(24 * 60 * 60);
/// The highest epoch that a node may start with, in milliseconds: the year 10,889. Leaves room
/// above for every epoch that is ever raised.
pub(crate) const EPOCH_MAX: u64 = 1 << 48;
/// How often clocks that are apart are told as an event, in probe intervals.
const SKEW_EVENT_ROUNDS: u32 = 60;
/// A deadline missed by less than this is no stall, whatever the probe interval.
const STALL_MIN: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;
