//! Invariants that no run may break, and their checkers.
//!
//! | invariant | checked | violation: [`Violation`] |
//! |---|---|---|
//! | epoch and incarnation never fall | each change | `VersionRegressed` |
//! | only the node itself raises its own | each change, whole views | `ForgedVersion` |
//! | failed or left never returns by itself | each change | `Resurrected` |
//! | a failure is declared on the required evidence | each decision | `InsufficientEvidence` |
//! | no healthy member is declared failed, where that is guaranteed | each event | `FalseFailure` |
//! | queues and tables are bounded | each step | `BoundExceeded` |
//! | datagrams are bounded | each datagram | `Oversized` |
//! | a node without pending work sends few datagrams | each step | `TrafficBoundExceeded` |
//! | work is bounded | each inbound datagram | `WorkBoundExceeded` |
//! | the hash of a view is that of its members | whole views | `ViewHashMismatch` |
//! | every failure is known everywhere soon after the faults | at that time | `UndetectedCrash` |
//! | each member is live in another view soon after them | at that time | `UndiscoveredMember` |
//! | all views are equal after them | at that time | `NotConverged` |
//! | at most one side serves, where that is checked | four times a second | `BothSidesServe` |

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use rpcnet_swim::unstable::{
    DatagramWork, DetectorHooks, FailureDecision, MemberChange, MemberVersion, MemberView,
    Occupancy,
};
use rpcnet_swim::{ClusterConfig, Engine, MemberState, PartitionStatus, Time};

/// An invariant that was broken, when and in which node's view.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SimFailure {
    /// Virtual time.
    pub at: Time,
    /// Name of the observing node.
    pub observer: String,
    /// The violation.
    pub violation: Violation,
}

/// Violations of the invariants.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Violation {
    /// A member's epoch or incarnation fell.
    VersionRegressed {
        /// The member.
        member: String,
        /// Epoch and incarnation before.
        from: (u64, u32),
        /// Epoch and incarnation after.
        to: (u64, u32),
    },
    /// A member is seen with an epoch or incarnation that it never had itself.
    ForgedVersion {
        /// The member.
        member: String,
        /// Epoch and incarnation seen.
        seen: (u64, u32),
        /// Epoch and incarnation of the member itself.
        own: Option<(u64, u32)>,
    },
    /// A failed or left member came back without a word of its own; or one that left failed.
    Resurrected {
        /// The member.
        member: String,
        /// State before.
        from: MemberState,
        /// State after.
        to: MemberState,
    },
    /// A node declared a member failed on less evidence than the rules ask for.
    InsufficientEvidence {
        /// The member.
        member: String,
        /// The evidence.
        evidence: String,
    },
    /// A member was declared failed that was up, heard and heard others.
    FalseFailure {
        /// The member.
        member: String,
    },
    /// A queue or a table grew past its bound.
    BoundExceeded {
        /// Its name.
        name: &'static str,
        /// Entries in it.
        count: usize,
        /// Bound.
        bound: usize,
    },
    /// A datagram is larger than the configuration allows.
    Oversized {
        /// Its size in bytes.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// A node without pending work sends more datagrams in a probe interval than its configuration
    /// explains.
    TrafficBoundExceeded {
        /// Kind of the datagrams.
        kind: &'static str,
        /// Datagrams sent.
        count: u64,
        /// Bound.
        bound: u64,
    },
    /// A datagram took more work than its contents account for.
    WorkBoundExceeded {
        /// Table lookups and visited index entries.
        steps: u64,
        /// Bound.
        bound: u64,
    },
    /// The hash of the view is not that of its members.
    ViewHashMismatch,
    /// Nodes on two sides of a divided network may serve: the observer and another one.
    BothSidesServe {
        /// Name of the other node.
        other: String,
        /// The policy.
        policy: String,
        /// Time since the network was divided.
        after: Duration,
    },
    /// A member that is down is live in a view for too long after the faults ended.
    UndetectedCrash {
        /// The member.
        member: String,
        /// Time since the faults ended.
        after: Duration,
    },
    /// A member that is up is live in no view but its own for too long after the faults ended.
    UndiscoveredMember {
        /// The member.
        member: String,
        /// Time since the faults ended.
        after: Duration,
    },
    /// After the faults ended the view did not become equal to the ground truth.
    NotConverged {
        /// Time since the faults ended.
        after: Duration,
        /// The difference.
        difference: String,
    },
}

impl SimFailure {
    /// The text of the failure with the command that replays it.
    #[must_use]
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

/// Highest incarnation that each epoch of each name has announced itself.
#[derive(Clone, Debug, Default)]
pub(super) struct OwnVersions {
    /// (key of the name, epoch) to the highest incarnation.
    incarnations: HashMap<(u64, u64), u32>,
}

impl OwnVersions {
    pub(super) fn record(&mut self, key: u64, own: MemberVersion) {
        let incarnation = self.incarnations.entry((key, own.epoch)).or_default();
        *incarnation = (*incarnation).max(own.incarnation);
    }

    /// Checks that only the node itself raises its epoch or incarnation.
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

/// Depth of a check of a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CheckDepth {
    /// The changes of the last input: takes time for each change, none for each member.
    Changes,
    /// The changes, each member, and the hash of the view.
    WholeView,
}

/// Counts of what was checked.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CheckCounts {
    pub(super) changes: u64,
    pub(super) decisions: u64,
    /// Most work that one datagram took.
    pub(super) steps_max: u64,
}

/// Checks a view after an input. `declared` is how many failures it has declared before.
pub(super) fn check_view<D: DetectorHooks>(
    engine: &mut Engine<D>,
    own_versions: &OwnVersions,
    declared: u64,
    depth: CheckDepth,
    counts: &mut CheckCounts,
) -> Result {
    for Occupancy { name, count, bound } in engine.occupancies() {
        if count > bound {
            return Err(Violation::BoundExceeded { name, count, bound });
        }
    }
    if let Some(DatagramWork { steps, items }) = engine.take_datagram_work() {
        counts.steps_max = counts.steps_max.max(steps);
        let bound = WORK_BASE + WORK_PER_ITEM * items as u64;
        if steps > bound && engine.detector().extends_swim() {
            return Err(Violation::WorkBoundExceeded { steps, bound });
        }
    }
    let (changes, decisions) = (engine.take_changes(), engine.take_failure_decisions());
    counts.changes += changes.len() as u64;
    counts.decisions += decisions.len() as u64;
    let name_of = |key| {
        let view = engine.member_view(key);
        view.map_or_else(|| format!("{key:016x}"), |view| view.name.to_owned())
    };
    for MemberChange { key, before, after } in changes {
        own_versions.check(|| name_of(key), key, after)?;
        if let Some(before) = before {
            check_version_order(|| name_of(key), before, after)?;
        }
    }
    // A detector that differs in one of these decides by other rules.
    let detector = engine.detector();
    let by_evidence = detector.extends_swim()
        && detector.witnesses_needed() > 0
        && detector.own_misses_to_decide() > 0;
    let all = engine.stats().failures_declared - declared;
    if by_evidence && decisions.len() as u64 != all {
        return Err(Violation::InsufficientEvidence {
            member: "a member".to_owned(),
            evidence: format!("{all} declared failed, {} with evidence", decisions.len()),
        });
    }
    for decision in decisions.into_iter().filter(|_| by_evidence) {
        check_evidence(|| name_of(decision.key), &decision, engine.config())?;
    }
    if depth == CheckDepth::WholeView {
        if engine.view_hash() != engine.recomputed_view() {
            return Err(Violation::ViewHashMismatch);
        }
        for view in engine.member_views() {
            own_versions.check(|| view.name.to_owned(), view.key, view.version)?;
        }
    }
    Ok(())
}

/// Checks that epoch and incarnation never fall, and that failed or left never returns without a
/// newer one.
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

/// Checks the rule by which suspectors decide, written down a second time: at least two missed
/// probes of the node's own that a witness confirmed, and the time that a refutation needs; then
/// either two suspectors (or one, where there is no other member to ask) whose evidence, four at
/// most from each, adds up to the threshold, or the longest suspicion and four of its own.
pub(crate) fn check_evidence(
    member: impl FnOnce() -> String,
    decision: &FailureDecision,
    config: &ClusterConfig,
) -> Result {
    let FailureDecision {
        live,
        own,
        suspectors,
        age,
        ..
    } = decision;
    let confirmations = suspectors.confirmations();
    let alone = *live <= 2;
    let phi: f64 = match alone {
        true => own.phi.into(),
        false => confirmations
            .iter()
            .map(|confirmation| confirmation.phi().min(4.0))
            .sum(),
    };
    let to_refute = config.refute_time().as_secs_f64() * (*live as f64).log10().max(1.0);
    // To the microsecond, the resolution of virtual time.
    let in_time = age.as_secs_f64() + 1e-6 >= to_refute;
    let enough = phi >= config.phi_threshold() && (alone || confirmations.len() >= 2);
    let at_last = *age >= config.suspicion_max() && own.phi >= 4.0;
    match own.misses >= 2 && in_time && (enough || at_last) {
        true => Ok(()),
        false => Err(Violation::InsufficientEvidence {
            member: member(),
            evidence: format!(
                "{} misses, {} suspectors, phi {phi:.2}, {age:?} of {to_refute:.3} s, {live} live",
                own.misses,
                confirmations.len(),
            ),
        }),
    }
}

/// Work that a datagram may take whatever is in it: the members in the largest answer.
const WORK_BASE: u64 = 4_096;
/// Work that each record, key or version in it may take: several visits to a full bucket.
const WORK_PER_ITEM: u64 = 512;

/// Ground truth: each node as every view should have it, by key.
pub(super) type GroundTruth<'a> = HashMap<u64, MemberView<'a>>;

/// The difference of a view from the ground truth, if there is one.
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
