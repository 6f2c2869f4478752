//! Slow members: round-trip times tell slow members from failed ones, and a slow node from its
//! peers.

use std::time::Duration;

use super::bounded_queue::BoundedQueue;
use super::entry::Entry;
use super::probe_round::ProbeRound;
use super::rtt_state::Timeliness;
use super::{DetectorHooks, Engine};
use crate::event::{Event, Member, MemberState};
use crate::health::{Health, HealthState};
use crate::id::NodeId;
use crate::time::Time;

/// Round trips of this node, whichever member they are to.
#[derive(Debug, Default)]
pub(crate) struct RttTracker {
    /// Latest round trips, and their members.
    recent: BoundedQueue<(u64, Duration), RECENT_RTTS_MAX>,
    /// Last answer in time, and the last one of another member.
    last_on_time: [(u64, Time); 2],
    /// Members that are slow or in doubt, to be probed again soon; the one probed longest ago
    /// first.
    watched: BoundedQueue<u64, WATCHED_MAX>,
    /// Rounds that ended before the member itself answered: it still may.
    expired_rounds: BoundedQueue<ExpiredRound, EXPIRED_ROUNDS_MAX>,
    /// Time at which this node last changed its own report.
    self_reported_at: Option<Time>,
}

#[derive(Clone, Copy, Debug)]
struct ExpiredRound {
    seq: u32,
    key: u64,
    epoch: u64,
    started: Time,
    second_ping_at: Option<Time>,
    /// Whether another answer, through a helper, came in time.
    answered: bool,
}

impl RttTracker {
    fn fastest(&self) -> Option<Duration> {
        self.recent.iter().map(|(_, rtt)| *rtt).min()
    }

    fn covers_several_members(&self) -> bool {
        let mut keys = self.recent.iter().map(|(key, _)| *key);
        let first = keys.next();
        keys.any(|key| Some(key) != first)
    }
}

#[cfg(feature = "unstable")]
impl RttTracker {
    pub(crate) fn watched(&self) -> usize {
        self.watched.len()
    }

    pub(crate) fn expired_rounds(&self) -> usize {
        self.expired_rounds.len()
    }
}

impl<D: DetectorHooks> Engine<D> {
    /// Health of a member; none for an unknown one. For this node it says whether it finds itself
    /// slow.
    pub fn health(&self, id: &NodeId, now: Time) -> Option<Health> {
        if *id == self.id() {
            let state = match (self.local.unreachable, self.local.slow) {
                (true, _) => HealthState::Unreachable,
                (false, true) => HealthState::Slow,
                (false, false) => HealthState::Responsive,
            };
            return Some(Health {
                state,
                phi: 0.0,
                round_trip: None,
                measured_ago: None,
            });
        }
        let entry = self.table.get(id.key()).filter(|e| e.epoch == id.epoch)?;
        let state = match entry.state {
            state if state.is_live() && entry.is_unreachable() => HealthState::Unreachable,
            MemberState::Alive if entry.is_slow() => HealthState::Slow,
            MemberState::Alive => HealthState::Responsive,
            MemberState::Suspect => HealthState::Suspect,
            MemberState::Failed => HealthState::Failed,
            MemberState::Left => HealthState::Left,
        };
        let last = entry.rtt_state().last_sample(self.running_time_at(now));
        Some(Health {
            state,
            phi: self.phi(id, now)?,
            round_trip: last.map(|(rtt, _)| rtt),
            measured_ago: last.map(|(_, age)| age),
        })
    }

    /// Takes in a direct answer to a ping that was sent at `pinged_at`.
    pub(super) fn on_round_trip(&mut self, now: Time, key: u64, pinged_at: Time) {
        if !self.detector.tracks_slowness() {
            return;
        }
        let rtt = now.since(pinged_at);
        self.probes.rtt_tracker.recent.push((key, rtt));
        let timeliness = self.timeliness(rtt);
        if timeliness == Timeliness::OnTime {
            let [latest, other] = &mut self.probes.rtt_tracker.last_on_time;
            if latest.0 != key {
                *other = *latest;
            }
            *latest = (key, now);
        }
        let watched = self.probes.rtt_tracker.watched.contains(&key);
        let room = watched || self.probes.rtt_tracker.watched.len() < WATCHED_MAX;
        let alone = self.table.live().len() == 1;
        let entry = self.table.get_mut(key);
        // An answer may come after its sender has left, or was declared failed.
        let Some(entry) = entry.filter(|entry| entry.state.is_live()) else {
            return;
        };
        let (was, before) = (entry.is_slow(), entry.rtt_state());
        let since = before.sampled_at();
        let prompt = self.probes.rtt_tracker.last_on_time.iter();
        let witnessed = alone || prompt.clone().any(|(by, at)| *by != key && *at >= since);
        let rtt_state = &mut entry.contact_mut().rtt_state;
        rtt_state.add_sample(now, rtt, timeliness, witnessed);
        if !room {
            // There is no room to probe it again. If the member is to blame, it reports itself.
            entry.clear_findings();
        }
        let (is, rtt_state) = (entry.is_slow(), entry.rtt_state());
        let member = (was != is).then(|| entry.member());
        let wanted = rtt_state.is_slow() || rtt_state.is_doubted();
        if watched && !wanted {
            self.probes
                .rtt_tracker
                .watched
                .retain(|watched| *watched != key);
        } else if wanted && !watched {
            self.probes.rtt_tracker.watched.push(key);
        }
        if let Some(member) = member {
            self.emit_slowness(member);
        }
        if rtt_state.is_doubted() && !before.is_doubted() {
            self.start_probe(now, key);
        }
    }

    /// Records a round that ends without a direct answer, but maybe with one through a
    /// helper.
    pub(super) fn await_late_answer(&mut self, round: &ProbeRound, answered: bool) {
        if !self.detector.tracks_slowness() {
            return;
        }
        self.probes.rtt_tracker.expired_rounds.push(ExpiredRound {
            seq: round.seq,
            key: round.key,
            epoch: round.epoch,
            started: round.started,
            second_ping_at: round.second_ping_at,
            answered,
        });
    }

    /// Handles an answer after the end of its round. The member was alive after it was pinged, so
    /// this node's evidence was slowness. Evidence of others is not for this node to clear.
    pub(super) fn on_late_answer(&mut self, now: Time, target: u64, seq: u32, direct: bool) {
        let rounds = &mut self.probes.rtt_tracker.expired_rounds;
        let is_answered = |r: &ExpiredRound| r.key == target && seq.wrapping_sub(r.seq) < 2;
        let found = rounds.iter_mut().enumerate().find(|(_, r)| is_answered(r));
        let Some((at, found)) = found else {
            // A second answer, or one to a ping of another kind.
            return;
        };
        let round = *found;
        found.answered = true;
        if direct {
            rounds.remove(at);
        }
        let is_recent = self.table.get(target).is_some_and(|entry| {
            // An answer that was on its way for very long says little about now.
            entry.epoch == round.epoch
                && entry.state.is_live()
                && now.since(round.started) <= LATE_ANSWER_ROUNDS * self.config.probe_interval
        });
        if !is_recent {
            return;
        }
        if !round.answered {
            self.stats.late_answers += 1;
            self.clear_evidence(target);
        }
        let pinged_at = match seq == round.seq {
            true => Some(round.started),
            false => round.second_ping_at,
        };
        if let Some(pinged_at) = pinged_at.filter(|_| direct) {
            self.on_round_trip(now, target, pinged_at);
        }
    }

    /// Time that a member is given to answer beyond the timeout. A slow node gives it to all.
    pub(super) fn extra_timeout(&self, now: Time, key: u64) -> Duration {
        if self.local.slow {
            let fastest = self.probes.rtt_tracker.fastest().unwrap_or_default();
            return fastest.min(self.config.probe_interval);
        }
        let rtt_state = self.table.get(key).map(Entry::rtt_state);
        let rtt_state = rtt_state.filter(|rtt_state| rtt_state.is_slow() || rtt_state.is_doubted());
        let rtt = rtt_state.and_then(|rtt_state| rtt_state.last_sample(now));
        rtt.map_or(Duration::ZERO, |(rtt, _)| {
            rtt.min(self.config.probe_interval)
        })
    }

    /// Probes one of the slow members again, and compares this node with all. Once in a probe
    /// interval.
    pub(super) fn check_slowness(&mut self, now: Time) {
        if let Some(key) = self.probes.rtt_tracker.watched.pop() {
            let entry = self.table.get(key);
            if entry.is_some_and(|e| {
                let rtt_state = e.rtt_state();
                e.state.is_live() && (rtt_state.is_slow() || rtt_state.is_doubted())
            }) {
                self.probes.rtt_tracker.watched.push(key);
                self.start_probe(now, key);
            }
        }
        let fastest = self.probes.rtt_tracker.fastest();
        let Some(fastest) =
            fastest.filter(|_| self.probes.rtt_tracker.recent.len() == RECENT_RTTS_MAX)
        else {
            return;
        };
        let slow_after = self.config.effective_probe_timeout() / 2;
        let slow = match self.local.slow {
            true => fastest > slow_after / 2,
            // Of two nodes, it cannot be told which is slow.
            false => fastest > slow_after && self.probes.rtt_tracker.covers_several_members(),
        };
        let pause = SELF_REPORT_ROUNDS * self.config.probe_interval;
        let is_pause_over = |at| now.since(at) >= pause;
        if slow != self.local.slow
            && self
                .probes
                .rtt_tracker
                .self_reported_at
                .is_none_or(is_pause_over)
        {
            self.probes.rtt_tracker.self_reported_at = Some(now);
            self.local.slow = slow;
            self.raise_incarnation(now);
            self.emit_slowness(self.local_member());
        }
    }

    pub(super) fn emit_slowness(&mut self, member: Member) {
        self.emit(match member.slow {
            true => Event::NodeSlow(member),
            false => Event::NodeResponsive(member),
        });
    }

    fn timeliness(&self, rtt: Duration) -> Timeliness {
        match self.config.effective_probe_timeout() / 2 {
            late if rtt > late => Timeliness::Late,
            late if rtt > late / 2 => Timeliness::Borderline,
            _ => Timeliness::OnTime,
        }
    }
}

impl Entry {
    /// Whether the member is slow, by this node's findings or its own report.
    pub(crate) fn is_slow(&self) -> bool {
        self.rtt_state().is_slow() || self.self_reports_slow()
    }
}

/// Number of round trips of which the fastest decides whether this node is slow.
const RECENT_RTTS_MAX: usize = 8;
/// Most members that are probed again before their turn.
pub(crate) const WATCHED_MAX: usize = 16;
/// Most ended rounds whose answer is waited for.
pub(crate) const EXPIRED_ROUNDS_MAX: usize = 64;
/// How long after the start of its round an answer counts, in probe intervals.
const LATE_ANSWER_ROUNDS: u32 = 5;
/// Least time between two changes of this node's own report, in probe intervals.
const SELF_REPORT_ROUNDS: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::merge::RecordSource;
    use crate::engine::test_support::{alive, engine, record};
    use crate::wire::Claim;

    #[test]
    fn a_member_that_has_left_emits_no_slowness_event() {
        let mut engine = engine("me", 1, 1);
        for (name, port) in [("x", 2), ("y", 3)] {
            engine.merge_gossip(record(name, 1, 0, port, alive()));
        }
        let (x, y) = (crate::id::name_key("x"), crate::id::name_key("y"));
        let at = Time::from_millis;
        engine.on_round_trip(at(1_000), x, at(600));
        engine.on_round_trip(at(1_100), y, at(1_099));
        let left = record("x", 1, 0, 2, Claim::Left);
        engine.merge(at(1_200), left, RecordSource::Gossip);
        engine.on_round_trip(at(1_400), x, at(1_000));
        while let Some(event) = engine.poll_event() {
            assert!(!matches!(event, Event::NodeSlow(_)), "{event:?}");
        }
        assert!(!engine.member("x").unwrap().slow);
    }
}
