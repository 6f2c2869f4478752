//! Reach check: how many of the expected members this node reaches, by round trips of its own.
//!
//! Declared failures tell too late that this node is on a small side of a partition: most helpers
//! are on the other side with the targets, so that rounds have no witness, and members are probed
//! one by one. So each node watches the outcome of its own probe rounds, inconclusive ones too,
//! with a sequential likelihood ratio test (CUSUM, Page 1954): a healthy member answers most rounds
//! even at 30 % loss, a member of another side none. When the test fires, or many suspicions begin
//! at once, a *reach check* asks a sample of the live members directly, each several times until it
//! answers: all of them if they are few, and always those that decide for a policy. While the check
//! says that too many are unreachable, its estimate stands in for the state of the members.

mod tracker;

use self::tracker::{ReachCheck, ReachEstimate, SampledMember, wilson_upper_bound};
use super::timers::NamedTimer;
use super::{DetectorHooks, Engine, Phase};
use crate::time::Time;
use crate::wire::Payload;

pub(crate) use self::tracker::ReachTracker;

impl<D: DetectorHooks> Engine<D> {
    /// Remembers a policy that is going to be asked, so that a reach check asks the members that
    /// decide for it. The last few of different tags are remembered
    /// ([`SplitBrainPolicy::among`](crate::SplitBrainPolicy::among)); a policy for all members
    /// needs no call.
    pub fn watch_policy(&mut self, policy: &crate::SplitBrainPolicy) {
        if let Some(filter) = policy.tag_filter() {
            self.reach.remember_filter(filter);
        }
    }

    /// Number of expected members that this node reaches, itself included.
    pub(super) fn reachable_count(&self) -> usize {
        if !self.reach.is_in_force() {
            return self.live_count();
        }
        let live = self
            .table
            .live()
            .iter()
            .map(|slot| self.table.entry_at(*slot).key);
        1 + live.filter(|key| self.reach.reaches(*key)).count()
    }

    /// Takes in that a probe round to a live member ended, with a direct answer or without any.
    pub(super) fn record_round_outcome(&mut self, now: Time, key: u64, answered: bool) {
        if !self.detector.extends_swim() {
            return;
        }
        // Members that are known to be on this side say nothing of the others.
        if answered && self.reach.is_in_force() && self.reach.reaches(key) {
            return self.reach.record_answer(key);
        }
        let lost = self
            .probes
            .network
            .loss()
            .clamp(MISS_PROBABILITY_MIN, MISS_PROBABILITY_MAX);
        let reach = &mut self.reach;
        if answered {
            reach.record_answer(key);
            if reach.is_in_force() {
                reach.recovery +=
                    MISS_PROBABILITY_PARTITIONED.ln() - (1.0 - MISS_PROBABILITY_PARTITIONED).ln();
            }
            if reach.answered.add(key) {
                reach.score += ((1.0 - MISS_PROBABILITY_PARTITIONED) / (1.0 - lost)).ln();
            }
            if reach.score <= 0.0 {
                reach.reset_score();
            }
            if reach.is_in_force() && reach.recovery >= RECOVERED_SCORE {
                reach.recovery = 0.0;
                self.start_check(now);
            }
            return;
        }
        reach.recovery = (reach.recovery - 1.0).max(0.0);
        // A crashed member counts once, however often it is probed.
        if !reach.missed.add(key) {
            return;
        }
        reach.score += (MISS_PROBABILITY_PARTITIONED / lost).ln();
        if reach.score >= PARTITION_SCORE && !reach.is_in_force() {
            self.start_check(now);
        }
    }

    /// Records a suspicion that began, here or by gossip. Many at once are the sign of a
    /// partition that a node may hear of before its own rounds show it; but claims alone only start
    /// a check.
    pub(super) fn record_suspicion(&mut self, now: Time) {
        let window = SUSPICIONS_ROUNDS * self.config.probe_interval;
        if now.since(self.reach.suspicions.0) > window {
            self.reach.suspicions = (now, 0);
            self.reach.suspicions_checked = false;
        }
        self.reach.suspicions.1 += 1;
        let many = SUSPICIONS_MIN.max(self.live_count() / SUSPICIONS_SHARE);
        let is_due = self.reach.suspicions.1 >= many && !self.reach.suspicions_checked;
        if is_due && !self.reach.is_in_force() {
            self.reach.suspicions_checked = true;
            self.start_check(now);
        }
    }

    /// Handles the answer to a ping of a reach check.
    pub(super) fn on_check_answer(&mut self, now: Time, key: u64, seq: u32) {
        let Some(check) = self.reach.check.as_ref().filter(|check| check.seq == seq) else {
            return;
        };
        if check.sample.iter().any(|asked| asked.key == key) {
            self.reach.record_answer(key);
            self.conclude_check(now);
        }
    }

    /// Starts a check at a sign that a partition is over: this node hears a member after it heard
    /// none, or a failed member recovered.
    pub(super) fn recheck_now(&mut self, now: Time) {
        if self.reach.is_in_force() {
            self.start_check(now);
        }
    }

    /// Probes, while an estimate is in force, one of the members that this node reaches: on a small
    /// side the round robin finds them seldom, and a node that hears no member counts as isolated.
    pub(super) fn probe_reachable_member(&mut self, now: Time) {
        let kept = self.reach.estimate.iter().flat_map(|kept| &kept.sample);
        let reached: Vec<u64> = kept.filter(|it| it.answered).map(|it| it.key).collect();
        if !reached.is_empty() {
            let key = reached[self.rng.usize(..reached.len())];
            self.start_probe(now, key);
        }
    }

    /// Starts a check, unless one is in progress.
    pub(super) fn start_check(&mut self, now: Time) {
        let can = self.phase == Phase::Active
            && !self.table.live().is_empty()
            && self.detector.extends_swim();
        if self.reach.check.is_some() || !can || self.is_isolated(now) {
            return;
        }
        self.reach.reset_score();
        let seq = self.probes.next_seq();
        self.stats.reach_checks += 1;
        let few = self.table.live().len() <= ASK_ALL_MAX;
        self.reach.check = Some(ReachCheck {
            seq,
            sample: Vec::new(),
            turn: 0,
            widened_at: None,
        });
        match few {
            true => self.take_whole_sample(),
            false => self.extend_sample(NARROW_SAMPLE),
        }
        self.on_check_turn(now);
    }

    /// Adds random members to the sample until it has so many random ones.
    fn extend_sample(&mut self, count: usize) {
        let drawn = self.sample_live(count, |_, _| true);
        let Some(check) = &mut self.reach.check else {
            return;
        };
        let mut random = check.sample.iter().filter(|asked| asked.is_random).count();
        for key in drawn {
            let known = check.sample.iter().any(|asked| asked.key == key);
            if let Some(entry) = self.table.get(key).filter(|_| !known && random < count) {
                random += 1;
                check.sample.push(SampledMember {
                    key,
                    epoch: entry.epoch,
                    answered: false,
                    is_random: true,
                });
            }
        }
    }

    /// Extends the sample to its full size: random members, and those that decide for a policy.
    fn take_whole_sample(&mut self) {
        self.extend_sample(WHOLE_SAMPLE);
        let deciders = self.policy_members();
        let Some(check) = &mut self.reach.check else {
            return;
        };
        check.widened_at = Some(check.turn);
        for key in deciders {
            if check.sample.len() >= SAMPLE_MAX {
                break;
            }
            let known = check.sample.iter().any(|asked| asked.key == key);
            if let Some(entry) = self.table.get(key).filter(|_| !known) {
                check.sample.push(SampledMember {
                    key,
                    epoch: entry.epoch,
                    answered: false,
                    is_random: false,
                });
            }
        }
    }

    /// Live members that decide for a policy: of all members and of those of each tag that was
    /// asked for, the oldest and the one of the smallest name; then other members of the tags, as
    /// they may be few.
    fn policy_members(&self) -> Vec<u64> {
        let live = || {
            let slots = self.table.live().iter();
            slots.map(|slot| self.table.entry_at(*slot))
        };
        let (mut first, mut others) = (Vec::new(), Vec::new());
        let filters = self.reach.filters.iter().rev().map(Some);
        for filter in std::iter::once(None).chain(filters) {
            let counts = |entry: &&super::Entry| filter.is_none_or(|it| it.matches(&entry.tags));
            let oldest = live().filter(counts).min_by_key(|it| (it.epoch, &it.name));
            let smallest = live().filter(counts).min_by_key(|it| &it.name);
            first.extend(oldest.into_iter().chain(smallest).map(|it| it.key));
            if filter.is_some() {
                others.extend(
                    live()
                        .filter(counts)
                        .take(POLICY_MEMBERS_MAX)
                        .map(|it| it.key),
                );
            }
        }
        first.extend(others);
        first
    }

    pub(super) fn on_check_timer(&mut self, now: Time) {
        if self.phase != Phase::Active {
            return;
        }
        if self.reach.check.is_some() {
            self.on_check_turn(now);
        } else if self.reach.is_in_force() {
            self.start_check(now);
            // Isolated, or without members to ask: at the next turn.
            let again = now + self.config.probe_interval;
            self.timers.set_if_unset(NamedTimer::ReachCheck, again);
        }
    }

    /// Pings a part of the sample at a time, so that no burst of datagrams goes out.
    fn on_check_turn(&mut self, now: Time) {
        if self.is_isolated(now) {
            self.reach.check = None;
            return self.check_partition(now);
        }
        let Some(check) = &mut self.reach.check else {
            return;
        };
        let turn = check.turn;
        check.turn += 1;
        let seq = check.seq;
        let wide_for = check.widened_at.map(|at| turn - at);
        let over = wide_for.is_some_and(|turns| turns >= ATTEMPTS * SLICES);
        let mut due = Vec::new();
        if !over {
            let unanswered = check.sample.iter().enumerate();
            let unanswered = unanswered
                .filter(|(nth, asked)| !asked.answered && *nth as u32 % SLICES == turn % SLICES);
            due.extend(unanswered.map(|(_, asked)| asked.key));
        }
        for key in due {
            let updates = match self.record_to_refute(key) {
                Some(suspicion_record) => self.single_record(suspicion_record),
                None => Vec::new(),
            };
            let view = self.table.view();
            self.send_to(key, Payload::Ping { seq, view, updates });
        }
        let unit = self.config.probe_interval / (2 * SLICES);
        self.timers.set(NamedTimer::ReachCheck, now + unit);
        self.conclude_check(now);
    }

    /// Ends the check, extends its sample, or lets it go on, by the answers so far.
    fn conclude_check(&mut self, now: Time) {
        let Some(check) = &self.reach.check else {
            return;
        };
        let (asked, answered) = (check.sample.len(), check.answered());
        let is_complete = check.is_complete();
        let Some(wide_at) = check.widened_at else {
            // Turns at which all have been pinged once, and twice, and had time to answer.
            let most = 2 * answered > asked;
            let few = 4 * answered <= asked;
            let twice = check.turn > 2 * SLICES;
            let once = check.turn > SLICES;
            let decided = is_complete || (twice || once && few);
            if !decided {
                return;
            }
            return self.conclude_narrow(now, most);
        };
        let wide_for = check.turn - wide_at;
        let over = wide_for > ATTEMPTS * SLICES;
        let early = wide_for > 2 * SLICES
            && asked >= EARLY_MIN
            && EARLY_SHARE * asked as f64 >= answered as f64;
        if is_complete || over {
            self.conclude_wide(now);
        } else if early && self.reach.estimate.as_ref().is_none_or(|it| it.unchecked) {
            // Clear enough; later answers count from then on.
            self.set_estimate(now);
        }
    }

    fn conclude_narrow(&mut self, now: Time, most: bool) {
        let widen = match &self.reach.estimate {
            None => !most,
            Some(estimate) if estimate.unchecked => !most,
            // An estimate in force ends only when the whole sample says so.
            Some(_) => most || self.reach.confirmed % WIDE_EVERY == WIDE_EVERY - 1,
        };
        if widen {
            return self.take_whole_sample();
        }
        self.reach.check = None;
        match most {
            true => self.clear_estimate(now),
            false => self.schedule_recheck(now),
        }
    }

    fn conclude_wide(&mut self, now: Time) {
        self.set_estimate(now);
        self.reach.check = None;
        match self.reach.is_in_force() {
            true => self.schedule_recheck(now),
            false => self.clear_estimate(now),
        }
    }

    /// Puts the result so far in force, if it is a partition.
    fn set_estimate(&mut self, now: Time) {
        let Some(check) = &self.reach.check else {
            return;
        };
        let is_there = |asked: &&SampledMember| {
            let entry = self.table.get(asked.key);
            entry.is_some_and(|it| it.epoch == asked.epoch && it.state.is_live())
        };
        let asked: Vec<SampledMember> = check.sample.iter().filter(is_there).copied().collect();
        let random = || asked.iter().filter(|asked| asked.is_random);
        let answered = random().filter(|asked| asked.answered).count();
        let share = wilson_upper_bound(answered, random().count());
        let others = self.table.live().len() - asked.len();
        self.reach.estimate = Some(ReachEstimate {
            share,
            others_reached: share * others as f64,
            sample: asked,
            unchecked: false,
        });
        let (reachable, expected) = (self.reachable_count(), self.expected_count(now));
        if !super::partition::is_partition(reachable, expected) {
            self.reach.estimate = None;
        }
        self.check_partition(now);
    }

    /// Updates the estimate for members that were declared failed since, and ends it once it says
    /// that there is no partition.
    pub(super) fn refresh_estimate(&mut self, now: Time) {
        let Some(estimate) = self.reach.estimate.as_ref().filter(|it| !it.unchecked) else {
            return;
        };
        let is_live = |asked: &&SampledMember| {
            let entry = self.table.get(asked.key);
            entry.is_some_and(|it| it.state.is_live())
        };
        let asked = estimate.sample.iter().filter(is_live).count();
        let others = self.table.live().len() - asked;
        if let Some(estimate) = &mut self.reach.estimate {
            estimate.share = match others {
                0 => 0.0,
                _ => (estimate.others_reached / others as f64).min(1.0),
            };
        }
        let (reachable, expected) = (self.reachable_count(), self.expected_count(now));
        if !super::partition::is_partition(reachable, expected) {
            self.reach.check = None;
            self.end_estimate();
        }
    }

    fn end_estimate(&mut self) {
        self.reach.estimate = None;
        self.reach.confirmed = 0;
        self.reach.recovery = 0.0;
        self.timers.clear(NamedTimer::ReachCheck);
    }

    fn clear_estimate(&mut self, now: Time) {
        self.end_estimate();
        self.check_partition(now);
    }

    /// Schedules the next check of the estimate in force, less often each time, as a node that
    /// reaches others again notices by its probe rounds.
    fn schedule_recheck(&mut self, now: Time) {
        let reach = &mut self.reach;
        reach.confirmed = reach.confirmed.saturating_add(1);
        let rounds = (RECHECK_ROUNDS << reach.confirmed.min(8)).min(RECHECK_ROUNDS_MAX);
        let spread = 0.75 + 0.5 * self.rng.f64();
        let wait = (rounds * self.config.probe_interval).mul_f64(spread);
        self.timers.set(NamedTimer::ReachCheck, now + wait);
    }
}

/// Chance that a round is missed on the small side of a partition that the test looks for. Larger
/// sides have helpers enough to find the others failed.
const MISS_PROBABILITY_PARTITIONED: f64 = 0.75;
/// Bounds of the chance that a round is missed without a partition. It is estimated from the rounds
/// that went unanswered by members that answered later; 0.11 at 30 % loss.
const MISS_PROBABILITY_MIN: f64 = 0.1;
const MISS_PROBABILITY_MAX: f64 = 0.35;
/// Score at which the test fires: two misses in a row on a clean network, three at 30 % loss.
const PARTITION_SCORE: f64 = 3.9;
/// Score at which the test for the end of a partition fires: two answers in a row.
const RECOVERED_SCORE: f64 = 2.0;
/// Number of suspicions, and their share of the members, that start a check if they begin within so
/// many probe intervals.
const SUSPICIONS_MIN: usize = 8;
const SUSPICIONS_SHARE: usize = 8;
const SUSPICIONS_ROUNDS: u32 = 3;
/// Most other live members that are all asked at once.
const ASK_ALL_MAX: usize = 16;
/// Members that are asked first; if most of them answer, it was a false alarm.
const NARROW_SAMPLE: usize = 8;
/// Random members of a whole sample; all, if there are no more.
const WHOLE_SAMPLE: usize = 64;
/// Most members that are asked.
pub(super) const SAMPLE_MAX: usize = 128;
/// Members of each tag that are asked, as far as there is room.
const POLICY_MEMBERS_MAX: usize = 48;
/// Pings of one that does not answer, two in a probe interval.
const ATTEMPTS: u32 = 6;
/// Parts of the sample that are pinged one after the other.
const SLICES: u32 = 4;
/// Smallest sample that does not wait for all pings.
const EARLY_MIN: usize = 24;
/// Share of answers after two pings below which the result is clear: in a healthy cluster at 30 %
/// loss three quarters answer.
const EARLY_SHARE: f64 = 0.45;
/// Probe intervals until an estimate is checked again, doubling up to the maximum.
const RECHECK_ROUNDS: u32 = 2;
const RECHECK_ROUNDS_MAX: u32 = 32;
/// Number of these checks of which one asks the whole sample.
const WIDE_EVERY: u32 = 4;

#[cfg(test)]
mod tests;
