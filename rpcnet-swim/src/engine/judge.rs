//! From missed rounds to a verdict: evidence, suspicion, failure.

use std::time::Duration;

use super::Engine;
use super::case::Case;
use super::suspicion::{Court, Evidence, Suspicion, is_guilty, refute_time};
use super::timers::{Single, Timer};
use crate::event::{Event, MemberState};
use crate::id::NodeId;
use crate::time::Time;
use crate::wire::{Suspectors, Vote};

impl Engine {
    /// How sure this node is that a member is gone: the negative decimal logarithm of the chance
    /// that it is alive and yet gave the answers it gave. A sum over its consecutive witnessed
    /// misses, and between rounds the accrual of the running one from the distribution of round
    /// trips. At least the threshold once it is declared failed; none for an unknown member.
    pub fn phi(&self, id: &NodeId, now: Time) -> Option<f64> {
        let key = id.key();
        let entry = self
            .table
            .get(key)
            .filter(|entry| entry.epoch == id.epoch)?;
        let own = f64::from(entry.case().evidence.phi);
        if entry.state == MemberState::Failed {
            return Some(own.max(self.config.phi_threshold));
        }
        let now = self.inner_time_at(now);
        let running = self
            .rounds
            .iter()
            .find(|round| round.key == key)
            .map_or(0.0, |round| {
                let waited = now.since(round.started).as_secs_f64();
                // Unanswered by now: lost, or on its way.
                let late = 10f64.powf(-self.rtt.normal().phi(waited));
                -(self.loss + (1.0 - self.loss) * late).min(1.0).log10()
            });
        // Not minus zero.
        Some(own + running.max(0.0))
    }

    /// A witnessed round without an answer.
    pub(super) fn on_miss(&mut self, now: Time, key: u64) {
        if self.note_out_of_reach(now, key) {
            return;
        }
        let worth = -self.loss.clamp(LOSS_MIN, LOSS_MAX).log10();
        let Some(entry) = self.table.get_mut(key) else {
            return;
        };
        let case = entry.case_mut();
        case.evidence.miss(worth);
        case.unanswered = case.unanswered.saturating_add(1);
        if case.claimed_failed {
            return self.fail(now, key);
        }
        if !case.evidence.accuses() {
            return;
        }
        let vote = Vote::new(self.me.key, f64::from(case.evidence.phi));
        let mut accusers = Suspectors::default();
        accusers.merge(vote);
        if self.suspect(now, key, accusers) {
            self.stats.accusations += 1;
        }
        if self.rules().back_to_back {
            // The sooner the second miss, the sooner it is over.
            self.start_round(now, key);
        }
        self.decide(now, key);
    }

    /// An answer: what we held against the member was loss.
    pub(super) fn on_alive(&mut self, key: u64) {
        let me = self.me.key;
        let Some(entry) = self.table.get_mut(key) else {
            return;
        };
        entry.silent = false;
        let mut unanswered = 0;
        if let Some(case) = entry.open_case() {
            case.evidence = Evidence::NONE;
            case.reach.on_answer();
            unanswered = std::mem::take(&mut case.unanswered);
            case.claimed_failed = false;
            if let Some(suspicion) = &mut case.suspicion {
                suspicion.suspectors.retract(me);
            }
            entry.close_case();
        }
        self.note_lost(unanswered);
        if self.rules().observed_loss {
            self.loss -= self.loss * LOSS_GAIN;
        }
    }

    /// So many rounds to a member that was there all the while went unanswered: it answered a
    /// later one, or refuted what they made others believe. Without the latter, a loss that is
    /// refuted each time would never be seen as one.
    pub(super) fn note_lost(&mut self, rounds: u16) {
        if self.rules().observed_loss {
            for _ in 0..rounds.min(LOSS_SAMPLES_MAX) {
                self.loss += (1.0 - self.loss) * LOSS_GAIN;
            }
        }
    }

    /// Takes in who suspects a live member. Says whether there was anything new in it.
    pub(super) fn suspect(&mut self, now: Time, key: u64, accusers: Suspectors) -> bool {
        #[cfg(feature = "sim")]
        if self.rules().is_rival() {
            return self.rival_suspect(now, key, accusers);
        }
        let Some(entry) = self.table.get_mut(key) else {
            return false;
        };
        if let Some(suspicion) = entry.open_case().and_then(|c| c.suspicion.as_mut()) {
            let votes = accusers.votes().iter();
            let news = votes.fold(false, |news, vote| suspicion.suspectors.merge(*vote) | news);
            if news {
                self.spread(now, key);
            }
            return news;
        }
        let decide_at = now + refute_time(self.live_count(), &self.config);
        let generation = self.begin_suspicion(now, key, accusers);
        self.timers
            .push(decide_at, Timer::Suspicion(key, generation));
        true
    }

    /// A live member becomes suspect. Gives the generation of the suspicion.
    pub(super) fn begin_suspicion(&mut self, now: Time, key: u64, suspectors: Suspectors) -> u32 {
        self.generation = self.generation.wrapping_add(1);
        let suspicion = Suspicion {
            since: now,
            suspectors,
            generation: self.generation,
        };
        let phi = suspicion.phi();
        let member = self.table.update(now, key, |entry| {
            entry.state = MemberState::Suspect;
            entry.case_mut().suspicion = Some(Box::new(suspicion));
            entry.member()
        });
        self.spread(now, key);
        // Of one that is out of reach it is no news: it was suspected before, and refuted.
        if !member.unreachable {
            self.emit(Event::NodeSuspect { member, phi });
            self.note_suspicion(now);
        }
        self.generation
    }

    /// Members that first hear of a suspicion look for themselves: eight of them, on average.
    pub(super) fn verify(&mut self, now: Time, key: u64) {
        if self.rules().verify && self.rng.f64() < VERIFIERS / self.live_count() as f64 {
            self.start_round(now, key);
        }
    }

    /// Only suspectors decide; the others ask the accused until it answers or they suspect too.
    pub(super) fn on_suspicion_timer(&mut self, now: Time, key: u64, generation: u32) {
        self.decide(now, key);
        let suspicion = self
            .table
            .get(key)
            .and_then(|entry| entry.case().suspicion.as_ref());
        let Some(suspicion) = suspicion.filter(|s| s.generation == generation) else {
            return;
        };
        let unresolved = 2 * self.config.probe_interval;
        if now.since(suspicion.since) >= unresolved {
            self.start_round(now, key);
        }
        self.timers
            .push(now + unresolved, Timer::Suspicion(key, generation));
    }

    pub(super) fn decide(&mut self, now: Time, key: u64) {
        let isolated = self.is_isolated(now);
        let Some(entry) = self.table.get(key) else {
            return;
        };
        let Some(suspicion) = &entry.case().suspicion else {
            return;
        };
        let court = Court {
            live: self.live_count(),
            own: entry.case().evidence,
            // What came while this node was cut off, refutations too, has yet to be taken in.
            age: now.since(suspicion.since.max(self.back_at)),
        };
        let decides =
            suspicion.suspectors.contains(self.me.key) || !self.rules().only_suspectors_decide;
        // An isolated observer declares nobody failed: it is the one that is gone.
        if decides && !isolated && is_guilty(suspicion, court, &self.config) {
            self.stats.failures_declared += 1;
            #[cfg(feature = "sim")]
            self.note_verdict(now, key);
            let alone = self.table.live().len() == 1;
            self.fail(now, key);
            if alone {
                // Nobody witnessed it, so it is nothing to tell those who may come back.
                self.queue.remove(key);
            }
        }
    }

    /// Holds a member failed: by own judgement or on another's word.
    pub(super) fn fail(&mut self, now: Time, key: u64) {
        let (unit, redial) = (self.config.probe_interval, self.config.redial_interval);
        // Who goes with a large part of the cluster is cut off, which is no flapping.
        let counts = self.rules().flap_damping && !self.partition.sees_cut();
        let flaps_from = self.flaps_from(now);
        let slip = SLIP_ROUNDS * unit;
        let member = self.table.update(now, key, |entry| {
            entry.state = MemberState::Failed;
            entry.pulse.settle();
            let case = entry.case_mut();
            case.suspicion = None;
            case.claimed_failed = false;
            case.reach.on_failed();
            case.redials = 0;
            case.redial_at = now + redial;
            case.forgive_flaps(flaps_from);
            // An outage in which one word came through is one outage: time is no proof for it.
            case.slipped = counts && case.flaps == 1 && now.since(case.returned_at) < slip;
            // The first return is free; a member that flaps is held longer each time.
            case.flaps = case.flaps.saturating_add(u8::from(counts));
            case.answered = 0;
            case.hold_until = now + hold_time(case) * unit;
            entry.member()
        });
        self.spread(now, key);
        self.timers
            .arm(Single::Redial, now + self.config.redial_interval);
        self.emit(Event::NodeFailed(member));
    }

    /// A large part of the cluster is gone: those who went with it did not flap.
    pub(super) fn forgive_cut_off(&mut self, now: Time) {
        let from = self.missing_from(now);
        let missing = self.table.missing_entries(from).map(|entry| entry.key);
        for key in missing.collect::<Vec<_>>() {
            if let Some(entry) = self.table.get_mut(key) {
                let case = entry.case_mut();
                case.flaps = case.flaps.saturating_sub(1);
                case.hold_until = now + hold_time(case) * self.config.probe_interval;
            }
        }
    }

    /// A failed member answered a dial, or did not: one that is held has to answer several in a
    /// row, and each that it misses begins its hold anew.
    pub(super) fn on_dialled(&mut self, now: Time, key: u64, answered: bool) {
        let unit = self.config.probe_interval;
        let slipped = self.table.get(key).is_some_and(|e| e.case().slipped);
        let again = now + self.proof_interval(slipped);
        let Some(entry) = self.table.get_mut(key) else {
            return;
        };
        if entry.state != MemberState::Failed || !entry.case().is_on_probation() {
            return;
        }
        let case = entry.case_mut();
        if answered {
            case.answered = case.answered.saturating_add(1);
            case.redials = 0;
            self.table.set_redial(key, again);
            if slipped {
                self.timers.advance(Single::Redial, again);
            }
        } else {
            case.answered = 0;
            case.hold_until = case.hold_until.max(now + hold_time(case) * unit);
        }
    }

    /// A held member says that it is alive: if its outage may have been the only one, it is dialled
    /// at once, to begin with its proofs.
    pub(super) fn hasten_proof(&mut self, now: Time, key: u64) {
        let Some(case) = self.table.get(key).map(super::Entry::case) else {
            return;
        };
        if case.slipped && case.answered == 0 && case.redial_at > now {
            self.table.set_redial(key, now);
        }
    }

    /// How often a held member that answers is dialled, by each of the others. However many they
    /// are, it is not swamped.
    fn proof_interval(&self, slipped: bool) -> Duration {
        let crowd = self.live_count() as f64 / PROVERS;
        if slipped {
            let interval = self.config.probe_interval / 2;
            return interval.mul_f64(crowd.clamp(1.0, SLIP_INTERVAL_MAX));
        }
        self.config
            .redial_interval
            .mul_f64(crowd.clamp(1.0, PROOF_INTERVAL_MAX))
    }

    /// Flaps whose hold ended before this count no more.
    pub(super) fn flaps_from(&self, now: Time) -> Time {
        now - FLAP_MEMORY_ROUNDS * self.config.probe_interval
    }
}

/// How long a member is held down that failed so often, in probe intervals.
fn hold_time(case: &Case) -> u32 {
    let flaps = case.flaps;
    if case.slipped {
        return 0;
    }
    let doublings = u32::from(flaps.saturating_sub(2)).min(FLAP_DOUBLINGS_MAX);
    if flaps > 1 {
        FLAP_HOLD_ROUNDS << doublings
    } else {
        0
    }
}

/// Bounds of the observed loss as evidence: a miss is worth 3 at most and never nothing.
const LOSS_MIN: f64 = 1e-3;
const LOSS_MAX: f64 = 0.9;
/// How much one round changes the observed loss.
const LOSS_GAIN: f64 = 1.0 / 64.0;
/// Misses before an answer that count as loss.
const LOSS_SAMPLES_MAX: u16 = 16;
/// Members that verify a suspicion they hear of, on average.
const VERIFIERS: f64 = 8.0;
/// How long a failed member's returns are counted, in probe intervals.
const FLAP_MEMORY_ROUNDS: u32 = 600;
/// How long a member that returned once is held down the next time, in probe intervals.
const FLAP_HOLD_ROUNDS: u32 = 30;
/// One that comes back and fails within so many probe intervals was not back.
const SLIP_ROUNDS: u32 = 12;
/// Longest time between two dials of one that was not back, in halves of a probe interval.
const SLIP_INTERVAL_MAX: f64 = 2.0;
/// The hold doubles so often: 32 times 30 intervals at most.
const FLAP_DOUBLINGS_MAX: u32 = 5;
/// Members that dial one that is held in each redial interval, at most.
const PROVERS: f64 = 128.0;
/// Longest time between two dials of one that is held and answers, in redial intervals.
const PROOF_INTERVAL_MAX: f64 = 8.0;
