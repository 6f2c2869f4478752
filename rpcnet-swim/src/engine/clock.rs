//! Clocks: the wall clock that bounds epochs, and stalls of the process.
//!
//! An epoch is the wall clock of a node at its start. It orders the instances of a name, so an
//! epoch without a bound would end the ordering: nothing comes after the largest one. So an epoch
//! that is further ahead of this node's wall clock than [`EPOCH_SLACK`] is refused wherever it
//! comes from, and both sides report it.

use std::net::SocketAddr;
use std::time::Duration;

use super::running_clock::RunningClock;
use super::{DetectorHooks, Engine, Phase, Sender};
use crate::event::Event;
use crate::time::Time;
use crate::wire::Payload;

/// Reading of the wall clock, and when it was taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WallClock {
    /// Milliseconds since the Unix epoch.
    millis: u64,
    at: Time,
}

/// Clocks of an engine.
#[derive(Debug)]
pub(super) struct Clocks {
    pub(super) running: RunningClock,
    wall: WallClock,
    skew: ClockSkewTracker,
}

impl Clocks {
    /// Clocks of a node that starts at the wall clock `epoch`.
    pub(super) fn new(epoch: u64, now: Time) -> Self {
        Self {
            running: RunningClock::new(now),
            wall: WallClock::new(epoch, now),
            skew: ClockSkewTracker::default(),
        }
    }
}

/// Clocks that were found too far apart.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ClockSkewTracker {
    /// Time of the last event about them.
    reported_at: Option<Time>,
    /// Member that refused this node's epoch, or whose epoch this node refused before it joined,
    /// and how far apart the clocks are.
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

    /// Sets the clock forward. A clock that was set back is not followed: epochs that were valid
    /// yesterday are not in the future today.
    fn advance(&mut self, millis: u64, now: Time) {
        let millis = self.read(now).max(millis.min(EPOCH_MAX));
        *self = Self::new(millis, now);
    }
}

impl<D: DetectorHooks> Engine<D> {
    /// Sets the wall clock, in milliseconds since the Unix epoch. Without it the engine goes by its
    /// own epoch, which is the time of its start, and the time that passed since; a clock that was
    /// set, or a machine that was suspended, makes that wrong.
    ///
    /// Epochs more than a day ahead of the clock are refused. A clock that is set back is not
    /// followed.
    pub fn set_wall_clock(&mut self, now: Time, millis: u64) {
        self.clocks.wall.advance(millis, now);
    }

    /// Member whose clock differs so much from this node's that one of the two refuses the other's
    /// epoch, and the difference: the reason why this node has not joined. None once it has.
    pub fn clock_refusal(&self) -> Option<(SocketAddr, Duration)> {
        self.clocks.skew.refusal.filter(|_| !self.is_joined())
    }

    /// Highest epoch that is accepted.
    pub(super) fn epoch_limit(&self, now: Time) -> u64 {
        // Running time stands still while the process is stopped, the wall clock does not.
        let slack = u64::try_from(EPOCH_SLACK.as_millis()).unwrap_or(u64::MAX);
        self.wall_time(now).saturating_add(slack)
    }

    /// Removes records whose epoch is too far ahead; none if the sender, or what the message is
    /// about, has such an epoch. The only entry for epochs from the network.
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
                // Smaller than the hello, so it amplifies nothing.
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

    /// Handles the refusal of this node's epoch by a member.
    pub(super) fn on_clock_skew(&mut self, now: Time, sender: Sender, echo: u64, clock: u64) {
        let slack = u64::try_from(EPOCH_SLACK.as_millis()).unwrap_or(u64::MAX);
        let is_ahead = self.local.epoch > clock.saturating_add(slack);
        if self.join.accept_hello_answer(echo, sender.addr) && is_ahead {
            self.clocks.skew.refusal = Some((sender.addr, millis(self.local.epoch - clock)));
            self.emit_clock_skew(now, sender.addr, millis(self.local.epoch - clock), true);
        } else {
            self.stats.dropped.unexpected += 1;
        }
    }

    fn record_clock_skew(&mut self, now: Time, addr: SocketAddr, epoch: u64, is_own: bool) {
        let clock = self.wall_time(now);
        let ahead = millis(epoch.saturating_sub(clock));
        if !self.is_joined() {
            self.clocks.skew.refusal = Some((addr, ahead));
        }
        self.emit_clock_skew(now, addr, ahead, is_own);
    }

    /// Emits an event about clocks that are apart, at most once in [`SKEW_EVENT_ROUNDS`]; the rest
    /// is counted.
    fn emit_clock_skew(&mut self, now: Time, addr: SocketAddr, ahead: Duration, is_own: bool) {
        let pause = SKEW_EVENT_ROUNDS * self.config.probe_interval;
        if self
            .clocks
            .skew
            .reported_at
            .is_none_or(|at| now.since(at) >= pause)
        {
            self.clocks.skew.reported_at = Some(now);
            self.emit(Event::ClockSkew {
                addr,
                ahead,
                is_own,
            });
        }
    }

    /// Advances running time to `now`. A deadline missed by more than a scheduler's delay shows
    /// that the process was stopped: all deadlines shift by the gap.
    pub(super) fn running_time(&mut self, now: Time) -> Time {
        let is_running = self.phase != Phase::Left;
        let shifts = is_running && self.detector.shifts_deadlines_after_stall();
        let due = self.timers.next().filter(|_| shifts);
        if self
            .clocks
            .running
            .advance(now, due, self.stall_threshold())
        {
            self.stats.stalls += 1;
            self.probes.rounds.mark_stalled();
        }
        self.clocks.running.last()
    }

    /// Wall clock at a running time, in milliseconds: unlike that, it does not stand still while
    /// the process is stopped.
    fn wall_time(&self, now: Time) -> u64 {
        self.clocks.wall.read(self.clocks.running.caller_time(now))
    }

    fn stall_threshold(&self) -> Duration {
        (self.config.probe_interval / 4).max(STALL_MIN)
    }
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Largest lead of an epoch over this node's wall clock. A clock that shows local time in place of
/// UTC is wrong by 14 hours at most; an error of more than a day is no time zone. A member that
/// lies about an epoch can be this far ahead, and no further: the name's owner exceeds it.
pub(crate) const EPOCH_SLACK: Duration = Duration::from_secs(24 * 60 * 60);
/// Highest epoch that a node may start with, in milliseconds: the year 10,889. Leaves room above
/// for every epoch that is ever raised.
pub(crate) const EPOCH_MAX: u64 = 1 << 48;
/// Time between two events about clocks that are apart, in probe intervals.
const SKEW_EVENT_ROUNDS: u32 = 60;
/// Shortest delay that counts as a stall, whatever the probe interval.
const STALL_MIN: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;
