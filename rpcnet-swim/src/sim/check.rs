//! The rules that no run may break.
//!
//! | rule | looked at | broken: [`Violation`] |
//! |---|---|---|
//! | epoch and incarnation never fall | each change | `VersionRegressed` |
//! | nobody but the node raises its own | each change, whole views | `ForgedVersion` |
//! | failed or left never returns by itself | each change | `Resurrected` |
//! | nobody is declared failed on less than the evidence asked for | each verdict | `InsufficientEvidence` |
//! | nobody who is well is held failed, where that is promised | each event | `FalseFailure` |
//! | queues and tables are bounded | each step | `BoundExceeded` |
//! | datagrams are bounded | each datagram | `Oversized` |
//! | a node that is not in news sends few datagrams | each step | `TrafficBoundExceeded` |
//! | work is bounded | each datagram that comes in | `WorkBoundExceeded` |
//! | the hash of a view is that of its members | whole views | `ViewHashMismatch` |
//! | every failure is known everywhere soon after calm | at that time | `UndetectedCrash` |
//! | nobody who is up is live in no other view, soon after calm | at that time | `Lost` |
//! | all views are equal after calm | at that time | `NotConverged` |
//! | at most one side of a divided network serves | four times a second, where that is asked for | `BothSidesServe` |

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use crate::config::ClusterConfig;
use crate::engine::Engine;
use crate::engine::hooks::DetectorHooks;
use crate::engine::inspect::{
    DatagramWork, FailureDecision, MemberChange, MemberVersion, MemberView, Occupancy,
};
use crate::event::{MemberState, PartitionStatus};
use crate::time::Time;

/// A rule that was broken, when and in whose view.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SimFailure {
    /// Virtual time.
    pub at: Time,
    /// Name of the node that saw it.
    pub observer: String,
    /// What it saw.
    pub violation: Violation,
}

/// The rules, by what breaks them.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Violation {
    /// A member's epoch or incarnation fell.
    VersionRegressed {
        /// The member.
        member: String,
        /// Epoch and incarnation before.
        from: (u64, u32),
        /// And after.
        to: (u64, u32),
    },
    /// A member is seen with an epoch or incarnation that it never had itself.
    ForgedVersion {
        /// The member.
        member: String,
        /// Epoch and incarnation seen.
        seen: (u64, u32),
        /// What the member itself has.
        own: Option<(u64, u32)>,
    },
    /// A failed or left member came back without a word of its own; or one that left failed.
    Resurrected {
        /// The member.
        member: String,
        /// Before.
        from: MemberState,
        /// After.
        to: MemberState,
    },
    /// A node declared a member failed on less evidence than the rules ask for.
    InsufficientEvidence {
        /// The member.
        member: String,
        /// What there was of it.
        evidence: String,
    },
    /// A member was held failed that was up, heard and heard others.
    FalseFailure {
        /// The member.
        member: String,
    },
    /// Something grew past its bound.
    BoundExceeded {
        /// What.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        bound: usize,
    },
    /// A datagram is larger than the configuration allows.
    Oversized {
        /// Its bytes.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// A node that is not in news sends more datagrams in a probe interval than its configuration
    /// explains.
    TrafficBoundExceeded {
        /// Which ones.
        what: &'static str,
        /// How many there were.
        count: u64,
        /// How many there may be.
        bound: u64,
    },
    /// A datagram took more than what is in it accounts for.
    WorkBoundExceeded {
        /// Table look-ups and visited index entries.
        steps: u64,
        /// How many there may be.
        bound: u64,
    },
    /// The hash of the view is not that of its members.
    ViewHashMismatch,
    /// Nodes on two sides of a divided network may serve: the observer and another one.
    BothSidesServe {
        /// The other one.
        other: String,
        /// By which policy.
        policy: String,
        /// Since the network was divided.
        after: Duration,
    },
    /// A member that is down is held live for too long after the trouble.
    UndetectedCrash {
        /// The member.
        member: String,
        /// Since the end of the trouble.
        after: Duration,
    },
    /// A member that is up is live in no view but its own for too long after the trouble.
    UndiscoveredMember {
        /// The member.
        member: String,
        /// Since the end of the trouble.
        after: Duration,
    },
    /// After the trouble the view did not become what is.
    NotConverged {
        /// Since the end of the trouble.
        after: Duration,
        /// In what it differs.
        difference: String,
    },
}

impl SimFailure {
    /// The same with the command that shows it again.
    pub fn with_replay(&self, seed: u64) -> String {
        format!(
            "seed {seed}: {self}\nto replay: RPCNET_SIM_SEED={seed} cargo test -p rpcnet-swim \
             --test simulation replay -- --nocapture"
        )
    }
}

impl fmt::Display for SimFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.at.as_micros() as f64 / 1e6;
        write!(
            f,
            "at {seconds:.3} s in the view of {}: {:?}",
            self.observer, self.violation
        )
    }
}

/// What each life of each name has said of itself.
#[derive(Clone, Debug, Default)]
pub(super) struct OwnVersions {
    /// (key of the name, epoch) to the highest incarnation.
    incarnations: HashMap<(u64, u64), u32>,
}

impl OwnVersions {
    pub(super) fn note(&mut self, key: u64, own: MemberVersion) {
        let incarnation = self.incarnations.entry((key, own.epoch)).or_default();
        *incarnation = (*incarnation).max(own.incarnation);
    }

    /// Nobody but the node itself raises its epoch or incarnation.
    fn check(&self, member: impl FnOnce() -> String, key: u64, seen: MemberVersion) -> Result {
        let own = self.incarnations.get(&(key, seen.epoch)).copied();
        match own.is_some_and(|own| seen.incarnation <= own) {
            true => Ok(()),
            false => Err(Violation::ForgedVersion {
                member: member(),
                seen: (seen.epoch, seen.incarnation),
                own: own.map(|own| (seen.epoch, own)),
            }),
        }
    }
}

pub(crate) type Result = std::result::Result<(), Violation>;

/// How much of a view is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CheckDepth {
    /// What the last input changed: takes time for each change, none for each member.
    Changes,
    /// That, each member, and the hash of all.
    WholeView,
}

/// What was looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CheckCounts {
    pub(super) changes: u64,
    pub(super) decisions: u64,
    /// Most steps that one datagram took.
    pub(super) steps_max: u64,
}

/// Looks at a view after an input. `declared` is how many failures it has declared before.
pub(super) fn check_view<D: DetectorHooks>(
    engine: &mut Engine<D>,
    lives: &OwnVersions,
    declared: u64,
    depth: CheckDepth,
    looked: &mut CheckCounts,
) -> Result {
    for Occupancy {
        name: what,
        count,
        bound,
    } in engine.occupancies()
    {
        if count > bound {
            return Err(Violation::BoundExceeded { what, count, bound });
        }
    }
    if let Some(DatagramWork { steps, items }) = engine.take_datagram_work() {
        looked.steps_max = looked.steps_max.max(steps);
        let bound = WORK_BASE + WORK_PER_ITEM * items as u64;
        if steps > bound && engine.detector().extends_swim() {
            return Err(Violation::WorkBoundExceeded { steps, bound });
        }
    }
    let (changes, verdicts) = (engine.take_changes(), engine.take_failure_decisions());
    looked.changes += changes.len() as u64;
    looked.decisions += verdicts.len() as u64;
    let name = |key| {
        let sight = engine.member_view(key);
        sight.map_or_else(|| format!("{key:016x}"), |sight| sight.name.to_owned())
    };
    for MemberChange { key, before, after } in changes {
        lives.check(|| name(key), key, after)?;
        if let Some(before) = before {
            check_version_order(|| name(key), before, after)?;
        }
    }
    // A detector that differs in one of these decides by other rules.
    let detector = engine.detector();
    let by_evidence = detector.extends_swim()
        && detector.witnesses_needed() > 0
        && detector.own_misses_to_decide() > 0;
    let all = engine.stats().failures_declared - declared;
    if by_evidence && verdicts.len() as u64 != all {
        return Err(Violation::InsufficientEvidence {
            member: "somebody".to_owned(),
            evidence: format!("{all} declared failed, {} with evidence", verdicts.len()),
        });
    }
    for verdict in verdicts.into_iter().filter(|_| by_evidence) {
        check_evidence(|| name(verdict.key), &verdict, engine.config())?;
    }
    if depth == CheckDepth::WholeView {
        if engine.view_hash() != engine.recomputed_view() {
            return Err(Violation::ViewHashMismatch);
        }
        for sight in engine.member_views() {
            lives.check(|| sight.name.to_owned(), sight.key, sight.version)?;
        }
    }
    Ok(())
}

/// Epoch and incarnation never fall; failed or left never returns without a newer one.
pub(crate) fn check_version_order(
    member: impl FnOnce() -> String,
    before: MemberVersion,
    after: MemberVersion,
) -> Result {
    let (from, to) = (
        (before.epoch, before.incarnation),
        (after.epoch, after.incarnation),
    );
    if to < from {
        return Err(Violation::VersionRegressed {
            member: member(),
            from,
            to,
        });
    }
    let rose = !before.state.is_live() && after.state.is_live() && to == from;
    let left = before.state == MemberState::Left && before.epoch == after.epoch;
    if rose || (left && after.state != MemberState::Left) {
        return Err(Violation::Resurrected {
            member: member(),
            from: before.state,
            to: after.state,
        });
    }
    Ok(())
}

/// The rule by which suspectors decide, told once more: at least two misses of one's own that
/// somebody witnessed, and the time that a refutation needs; then either two suspectors (or one,
/// where there is nobody else to ask) whose evidence, four at most from each, adds up to the
/// threshold, or all the patience there is and four of its own.
pub(crate) fn check_evidence(
    member: impl FnOnce() -> String,
    verdict: &FailureDecision,
    config: &ClusterConfig,
) -> Result {
    let FailureDecision {
        live,
        own,
        suspectors,
        age,
        ..
    } = verdict;
    let votes = suspectors.confirmations();
    let alone = *live <= 2;
    let phi: f64 = match alone {
        true => own.phi.into(),
        false => votes.iter().map(|vote| vote.phi().min(4.0)).sum(),
    };
    let to_refute = config.refute_time.as_secs_f64() * (*live as f64).log10().max(1.0);
    // To the microsecond, which is what virtual time is made of.
    let in_time = age.as_secs_f64() + 1e-6 >= to_refute;
    let enough = phi >= config.phi_threshold && (alone || votes.len() >= 2);
    let at_last = *age >= config.suspicion_max && own.phi >= 4.0;
    match own.misses >= 2 && in_time && (enough || at_last) {
        true => Ok(()),
        false => Err(Violation::InsufficientEvidence {
            member: member(),
            evidence: format!(
                "{} misses, {} suspectors, phi {phi:.2}, {age:?} of {to_refute:.3} s, {live} live",
                own.misses,
                votes.len(),
            ),
        }),
    }
}

/// Steps that a datagram may take whatever is in it: the members in the largest answer.
const WORK_BASE: u64 = 4_096;
/// Steps that each record, key or version in it may take: several visits to a full bucket.
const WORK_PER_ITEM: u64 = 512;

/// What is: each node as every view should have it, by key.
pub(super) type GroundTruth<'a> = HashMap<u64, MemberView<'a>>;

/// In what a view differs from what is, if it does.
pub(super) fn difference<D: DetectorHooks>(
    engine: &Engine<D>,
    truth: &GroundTruth<'_>,
) -> Option<String> {
    let mut live = 1;
    for seen in engine.member_views() {
        let MemberVersion {
            incarnation, state, ..
        } = seen.version;
        let is = truth.get(&seen.key);
        if state != MemberState::Alive {
            if is.is_some() {
                return Some(format!(
                    "{} is {state:?}@{incarnation} and yet up",
                    seen.name
                ));
            }
            if state == MemberState::Suspect {
                return Some(format!("{} is suspect still", seen.name));
            }
            continue;
        }
        live += 1;
        let Some(is) = is else {
            return Some(format!("{} is down and yet alive", seen.name));
        };
        let same = is.version == seen.version
            && is.addr == seen.addr
            && is.draining == seen.draining
            && is.tags == seen.tags;
        if !same {
            return Some(format!("{is:?} is seen as {seen:?}"));
        }
    }
    if live != truth.len() {
        return Some(format!("{live} of {} are known", truth.len()));
    }
    match engine.partition_status() {
        PartitionStatus::Healthy => None,
        status => Some(format!("{status:?} is reported")),
    }
}
