//! Slow is not failed: what round trips say of members, and of this node.

use std::collections::VecDeque;
use std::time::Duration;

use super::entry::Entry;
use super::probe_round::ProbeRound;
use super::{DetectorHooks, Engine};
use crate::event::{Event, Member, MemberState};
use crate::health::{Health, HealthState};
use crate::id::NodeId;
use crate::time::Time;

/// What is kept of a member's round trips, and its own word: 8 bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RttState {
    /// The last one in microseconds; above them the flags.
    rtt_and_flags: u32,
    /// When it was, in tenths of a second since the origin and one more; 0 is never. Above it
    /// whether the member finds itself unreachable.
    sampled_at_and_flag: u32,
}

impl RttState {
    pub(crate) fn new(says_slow: bool, says_unreachable: bool) -> Self {
        let mut pulse = Self::default();
        pulse.set_self_reports_slow(says_slow);
        pulse.set_self_reports_unreachable(says_unreachable);
        pulse
    }

    /// By the member's own word no peer reaches it.
    pub(crate) fn self_reports_unreachable(self) -> bool {
        self.sampled_at_and_flag & SELF_REPORTED_UNREACHABLE != 0
    }

    pub(crate) fn set_self_reports_unreachable(&mut self, unreachable: bool) {
        self.sampled_at_and_flag = self.sampled_at_and_flag & SAMPLED_AT_MASK
            | (u32::from(unreachable) * SELF_REPORTED_UNREACHABLE);
    }

    /// By the member's own word.
    pub(crate) fn self_reports_slow(self) -> bool {
        self.rtt_and_flags & SELF_REPORTED_SLOW != 0
    }

    pub(crate) fn set_self_reports_slow(&mut self, slow: bool) {
        self.rtt_and_flags =
            self.rtt_and_flags & !SELF_REPORTED_SLOW | (u32::from(slow) * SELF_REPORTED_SLOW);
    }

    /// Two answers in a row decide: one that says otherwise raises a doubt, the next settles it. To
    /// find a member slow takes a witness that this node is not the slow one.
    fn add_sample(&mut self, now: Time, trip: Duration, pace: Timeliness, witnessed: bool) {
        let (slow, doubted) = (self.is_slow(), self.is_doubted());
        let says_otherwise = match slow {
            true => pace == Timeliness::OnTime,
            false => pace == Timeliness::Late,
        };
        let settled = says_otherwise && doubted && (slow || witnessed);
        let slow = slow != settled;
        let doubted = says_otherwise && !settled;
        let micros = u32::try_from(trip.as_micros()).unwrap_or(u32::MAX);
        let flags = (u32::from(slow) * SLOW) | (u32::from(doubted) * DOUBT);
        self.rtt_and_flags =
            micros.min(RTT_MASK) | flags | (self.rtt_and_flags & SELF_REPORTED_SLOW);
        let tenths = now.as_micros() / TENTH_MICROS;
        let at = u32::try_from(tenths + 1)
            .unwrap_or(SAMPLED_AT_MASK)
            .min(SAMPLED_AT_MASK);
        self.sampled_at_and_flag = at | (self.sampled_at_and_flag & SELF_REPORTED_UNREACHABLE);
    }

    pub(crate) fn is_slow(self) -> bool {
        self.rtt_and_flags & SLOW != 0
    }

    fn is_doubted(self) -> bool {
        self.rtt_and_flags & DOUBT != 0
    }

    /// What was found is of the past.
    pub(crate) fn clear_findings(&mut self) {
        self.rtt_and_flags &= RTT_MASK | SELF_REPORTED_SLOW;
    }

    /// To a tenth of a second, not later than it was.
    fn sampled_at(self) -> Time {
        let at = self.sampled_at_and_flag & SAMPLED_AT_MASK;
        Time::from_micros(u64::from(at.saturating_sub(1)) * TENTH_MICROS)
    }

    fn last_sample(self, now: Time) -> Option<(Duration, Duration)> {
        let tenths = u64::from((self.sampled_at_and_flag & SAMPLED_AT_MASK).checked_sub(1)?);
        let age = now.since(Time::from_micros(tenths * TENTH_MICROS));
        let trip = Duration::from_micros(u64::from(self.rtt_and_flags & RTT_MASK));
        Some((trip, age))
    }
}

/// A round trip, beside the probe timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Timeliness {
    OnTime,
    Borderline,
    Late,
}

/// What this node's round trips say, of whomever they are.
#[derive(Debug, Default)]
pub(crate) struct RttTracker {
    /// The latest few, and whose they are.
    recent: VecDeque<(u64, Duration)>,
    /// The last prompt answer, and the last one of another member.
    last_on_time: [(u64, Time); 2],
    /// Members that are slow or doubted, to be asked again soon; the one asked longest ago first.
    watched: VecDeque<u64>,
    /// Rounds that ended before the member itself answered: it may yet.
    expired_rounds: VecDeque<ExpiredRound>,
    /// When this node last changed its mind about itself.
    self_reported_at: Option<Time>,
}

#[derive(Clone, Copy, Debug)]
struct ExpiredRound {
    seq: u32,
    key: u64,
    epoch: u64,
    pinged_at: [Time; 2],
    /// Somebody else had an answer in time.
    answered: bool,
}

impl RttTracker {
    fn fastest(&self) -> Option<Duration> {
        self.recent.iter().map(|(_, trip)| *trip).min()
    }

    fn covers_several_members(&self) -> bool {
        let mut keys = self.recent.iter().map(|(key, _)| *key);
        let first = keys.next();
        keys.any(|key| Some(key) != first)
    }
}

#[cfg(feature = "sim")]
impl RttTracker {
    pub(crate) fn watched(&self) -> usize {
        self.watched.len()
    }

    pub(crate) fn expired_rounds(&self) -> usize {
        self.expired_rounds.len()
    }
}

impl<D: DetectorHooks> Engine<D> {
    /// How a member does; none for an unknown one. Of this node itself it says whether it finds
    /// itself slow.
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
        let last = entry.rtt_state.last_sample(self.running_time_at(now));
        Some(Health {
            state,
            phi: self.phi(id, now)?,
            round_trip: last.map(|(trip, _)| trip),
            measured_ago: last.map(|(_, age)| age),
        })
    }

    /// A member answered a ping that was sent at `pinged_at` itself.
    pub(super) fn on_round_trip(&mut self, now: Time, key: u64, pinged_at: Time) {
        if !self.detector.tracks_slowness() {
            return;
        }
        let trip = now.since(pinged_at);
        if self.rtt_tracker.recent.len() == RECENT_RTTS_MAX {
            self.rtt_tracker.recent.pop_front();
        }
        self.rtt_tracker.recent.push_back((key, trip));
        let pace = self.timeliness(trip);
        if pace == Timeliness::OnTime {
            let [latest, other] = &mut self.rtt_tracker.last_on_time;
            if latest.0 != key {
                *other = *latest;
            }
            *latest = (key, now);
        }
        let watched = self.rtt_tracker.watched.contains(&key);
        let room = watched || self.rtt_tracker.watched.len() < WATCHED_MAX;
        let alone = self.table.live().len() == 1;
        let entry = self.table.get_mut(key);
        // An answer may come after its sender has left, or was found failed.
        let Some(entry) = entry.filter(|entry| entry.state.is_live()) else {
            return;
        };
        let (was, before) = (entry.is_slow(), entry.rtt_state);
        let since = before.sampled_at();
        let prompt = self.rtt_tracker.last_on_time.iter();
        let witnessed = alone || prompt.clone().any(|(by, at)| *by != key && *at >= since);
        entry.rtt_state.add_sample(now, trip, pace, witnessed);
        if !room {
            // Nobody would look after it. If the member is to blame, it says so itself.
            entry.rtt_state.clear_findings();
        }
        let (is, pulse) = (entry.is_slow(), entry.rtt_state);
        let member = (was != is).then(|| entry.member());
        let wanted = pulse.is_slow() || pulse.is_doubted();
        if watched && !wanted {
            self.rtt_tracker.watched.retain(|watched| *watched != key);
        } else if wanted && !watched {
            self.rtt_tracker.watched.push_back(key);
        }
        if let Some(member) = member {
            self.emit_slowness(member);
        }
        if pulse.is_doubted() && !before.is_doubted() {
            self.start_probe(now, key);
        }
    }

    /// A round ends without an answer from the member itself, but maybe through a helper.
    pub(super) fn await_late_answer(&mut self, round: &ProbeRound, answered: bool) {
        if !self.detector.tracks_slowness() {
            return;
        }
        if self.rtt_tracker.expired_rounds.len() == EXPIRED_ROUNDS_MAX {
            self.rtt_tracker.expired_rounds.pop_front();
        }
        self.rtt_tracker.expired_rounds.push_back(ExpiredRound {
            seq: round.seq,
            key: round.key,
            epoch: round.epoch,
            pinged_at: [round.started, round.second_ping_at],
            answered,
        });
    }

    /// An answer after the end of its round. The member was alive after it was pinged, so what
    /// we hold against it was slowness. What others hold against it is not ours to clear.
    pub(super) fn on_late_answer(&mut self, now: Time, target: u64, seq: u32, direct: bool) {
        let rounds = &mut self.rtt_tracker.expired_rounds;
        let found = rounds
            .iter()
            .position(|r| r.key == target && seq.wrapping_sub(r.seq) < 2);
        let Some(at) = found else {
            // A second answer, or one for a relay.
            return;
        };
        let round = rounds[at];
        rounds[at].answered = true;
        if direct {
            rounds.remove(at);
        }
        let [first, again] = round.pinged_at;
        let known = self.table.get(target).filter(|entry| {
            // An answer that was on its way for very long says little about now.
            entry.epoch == round.epoch
                && entry.state.is_live()
                && now.since(first) <= LATE_ANSWER_ROUNDS * self.config.probe_interval
        });
        let Some(claimed_failed) = known.map(|entry| entry.faults().claimed_failed) else {
            return;
        };
        if !round.answered {
            self.stats.late_answers += 1;
            self.clear_evidence(target);
        }
        if let Some(entry) = self.table.get_mut(target).filter(|_| claimed_failed) {
            entry.faults_mut().claimed_failed = true;
        }
        if direct {
            self.on_round_trip(now, target, if seq == round.seq { first } else { again });
        }
    }

    /// How much longer than others a member is given to answer. A slow node gives it to all.
    pub(super) fn extra_timeout(&self, now: Time, key: u64) -> Duration {
        if self.local.slow {
            let fastest = self.rtt_tracker.fastest().unwrap_or_default();
            return fastest.min(self.config.probe_interval);
        }
        let pulse = self.table.get(key).map(|entry| entry.rtt_state);
        let pulse = pulse.filter(|pulse| pulse.is_slow() || pulse.is_doubted());
        let trip = pulse.and_then(|pulse| pulse.last_sample(now));
        trip.map_or(Duration::ZERO, |(trip, _)| {
            trip.min(self.config.probe_interval)
        })
    }

    /// Asks one of the slow members again, and itself. Once in a probe interval.
    pub(super) fn check_slowness(&mut self, now: Time) {
        if let Some(key) = self.rtt_tracker.watched.pop_front() {
            let entry = self.table.get(key);
            if entry.is_some_and(|e| {
                let pulse = e.rtt_state;
                e.state.is_live() && (pulse.is_slow() || pulse.is_doubted())
            }) {
                self.rtt_tracker.watched.push_back(key);
                self.start_probe(now, key);
            }
        }
        let fastest = self.rtt_tracker.fastest();
        let Some(fastest) = fastest.filter(|_| self.rtt_tracker.recent.len() == RECENT_RTTS_MAX)
        else {
            return;
        };
        let slow_after = self.config.probe_timeout / 2;
        let slow = match self.local.slow {
            true => fastest > slow_after / 2,
            // Of two, nobody can tell who is slow.
            false => fastest > slow_after && self.rtt_tracker.covers_several_members(),
        };
        let rest = SELF_REPORT_ROUNDS * self.config.probe_interval;
        let rested = |at| now.since(at) >= rest;
        if slow != self.local.slow && self.rtt_tracker.self_reported_at.is_none_or(rested) {
            self.rtt_tracker.self_reported_at = Some(now);
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

    fn timeliness(&self, trip: Duration) -> Timeliness {
        match self.config.probe_timeout / 2 {
            late if trip > late => Timeliness::Late,
            late if trip > late / 2 => Timeliness::Borderline,
            _ => Timeliness::OnTime,
        }
    }
}

impl Entry {
    /// By what this node finds, or by the member's own word.
    pub(crate) fn is_slow(&self) -> bool {
        self.rtt_state.is_slow() || self.rtt_state.self_reports_slow()
    }
}

const SLOW: u32 = 1 << 31;
const DOUBT: u32 = 1 << 30;
const SELF_REPORTED_SLOW: u32 = 1 << 29;
const RTT_MASK: u32 = SELF_REPORTED_SLOW - 1;
const SELF_REPORTED_UNREACHABLE: u32 = 1 << 31;
const SAMPLED_AT_MASK: u32 = SELF_REPORTED_UNREACHABLE - 1;
const TENTH_MICROS: u64 = 100_000;
/// If the fastest of so many takes long, this node is slow.
const RECENT_RTTS_MAX: usize = 8;
/// Most members that are asked again before their turn.
pub(crate) const WATCHED_MAX: usize = 16;
/// Most ended rounds whose answer may yet come.
pub(crate) const EXPIRED_ROUNDS_MAX: usize = 64;
/// An answer counts for so many probe intervals from the start of its round.
const LATE_ANSWER_ROUNDS: u32 = 5;
/// A node changes its mind about itself once in so many probe intervals.
const SELF_REPORT_ROUNDS: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::merge::RecordSource;
    use crate::wire::{Claim, Record};

    #[test]
    fn two_in_a_row_decide() {
        let mut pulse = RttState::default();
        assert_eq!(pulse.last_sample(Time::ZERO), None);
        pulse.add_sample(Time::ZERO, Duration::ZERO, Timeliness::Late, true);
        pulse.add_sample(Time::ZERO, Duration::ZERO, Timeliness::Late, false);
        assert!(!pulse.is_slow() && pulse.is_doubted(), "without a witness");
        for (pace, slow, doubted) in [
            (Timeliness::OnTime, false, false),
            (Timeliness::Late, false, true),
            (Timeliness::OnTime, false, false),
            (Timeliness::Late, false, true),
            (Timeliness::Borderline, false, false),
            (Timeliness::Late, false, true),
            (Timeliness::Late, true, false),
            (Timeliness::Late, true, false),
            (Timeliness::Borderline, true, false),
            (Timeliness::OnTime, true, true),
            (Timeliness::Late, true, false),
            (Timeliness::OnTime, true, true),
            (Timeliness::OnTime, false, false),
            (Timeliness::OnTime, false, false),
        ] {
            pulse.add_sample(Time::ZERO, Duration::from_millis(3), pace, true);
            assert_eq!((pulse.is_slow(), pulse.is_doubted()), (slow, doubted));
        }
    }

    #[test]
    fn nothing_is_told_of_the_pace_of_a_member_that_has_left() {
        let addr = |n| std::net::SocketAddr::from(([127, 0, 0, 1], n));
        let config = crate::ClusterConfig::lan();
        let mut engine = Engine::new(config, NodeId::new("me", 1), addr(1), Time::ZERO, 7).unwrap();
        let record = |engine: &Engine, name: &str, n, claim| Record {
            name: name.into(),
            addr: addr(n),
            claim,
            ..engine.own_record()
        };
        let alive = || Claim::Alive(crate::Tags::new());
        for (name, n) in [("x", 2), ("y", 3)] {
            let record = record(&engine, name, n, alive());
            engine.merge(Time::ZERO, record, RecordSource::Gossip);
        }
        let (x, y) = (crate::id::name_key("x"), crate::id::name_key("y"));
        let at = Time::from_millis;
        engine.on_round_trip(at(1_000), x, at(600));
        engine.on_round_trip(at(1_100), y, at(1_099));
        let left = record(&engine, "x", 2, Claim::Left);
        engine.merge(at(1_200), left, RecordSource::Gossip);
        engine.on_round_trip(at(1_400), x, at(1_000));
        while let Some(event) = engine.poll_event() {
            assert!(!matches!(event, Event::NodeSlow(_)), "{event:?}");
        }
        assert!(!engine.member("x").unwrap().slow);
    }

    #[test]
    fn eight_bytes_remember_the_last_round_trip_for_years() {
        assert_eq!(size_of::<RttState>(), 8);
        let year = Duration::from_secs(365 * 24 * 3_600);
        for (trip, at) in [(1, 0), (250_000, 99_999), (500_000_000, 5)] {
            let (trip, at) = (
                Duration::from_micros(trip),
                Time::from_micros(at) + 5 * year,
            );
            let mut pulse = RttState::default();
            pulse.add_sample(at, trip, Timeliness::Late, true);
            let (kept, age) = pulse.last_sample(at + year).unwrap();
            assert_eq!(kept, trip);
            assert!(age >= year && age < year + Duration::from_millis(100));
        }
        // What does not fit is as much as fits.
        let mut pulse = RttState::default();
        pulse.add_sample(Time::ZERO, year, Timeliness::OnTime, true);
        assert!(!pulse.is_slow() && !pulse.is_doubted());
        assert!(pulse.last_sample(Time::ZERO).unwrap().0 > Duration::from_secs(500));
        // What it says of itself is apart from what is found.
        pulse.set_self_reports_slow(true);
        pulse.add_sample(Time::ZERO, year, Timeliness::Late, true);
        pulse.clear_findings();
        assert!(pulse.self_reports_slow() && !pulse.is_slow());
        pulse.set_self_reports_slow(false);
        assert!(!pulse.self_reports_slow());
        let last = pulse.last_sample(Time::ZERO + year);
        pulse.set_self_reports_unreachable(true);
        pulse.clear_findings();
        assert!(pulse.self_reports_unreachable() && pulse.last_sample(Time::ZERO + year) == last);
        pulse.add_sample(Time::ZERO, year, Timeliness::OnTime, true);
        assert!(pulse.self_reports_unreachable() && !pulse.self_reports_slow());
        pulse.set_self_reports_unreachable(false);
        assert!(!pulse.self_reports_unreachable());
    }
}
