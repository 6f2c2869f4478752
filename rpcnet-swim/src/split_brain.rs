//! May this side of a split cluster serve? Pure functions over a view.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use crate::id::NodeId;
use crate::tags::Tags;

/// Which side of a split cluster goes on serving.
///
/// Each node asks for itself, by what it sees; nobody is asked for a vote. All nodes have to go by
/// the same policy. As the sides of a split see the same members, of whom they reach different
/// ones, at most one side serves:
///
/// | policy | who serves | safe |
/// |---|---|---|
/// | [`keep_majority`](Self::keep_majority) | more than half, or the half with the smallest name | always |
/// | [`static_quorum`](Self::static_quorum) | `n` or more | if there never are 2 `n` members |
/// | [`keep_oldest`](Self::keep_oldest) | who reaches the oldest member | always |
///
/// "Always" has limits that no policy without a coordinator escapes:
/// - Until the split is noticed all sides serve: some 4 to 11 s with the defaults, by the sizes
///   of the sides (`cargo xtask sim partition` measures it).
/// - In a large cluster a small side is found by a sample of its members' answers. The members that
///   decide are asked in any case; of [`among`](Self::among) if the policy was announced by
///   [`Engine::watch_policy`](crate::Engine::watch_policy), as `ClusterMembership::may_serve` does.
/// - Nodes that are not told the same way who is a member do not go by the same view: one that
///   joins while the cluster is split knows its side alone, and one that begins a cluster of its own
///   meanwhile, as it is one of its seeds, knows itself alone. Only a static quorum stops them.
/// - What a crash is and what a split, nobody can tell. Members that crash leave the others
///   refusing as a split would, until they are no longer expected (see
///   [`Engine::view`](crate::Engine::view)).
/// - A second split before the first has healed may divide a side that had written the other off.
///
/// The policies are those of the split brain resolvers of Akka and Pekko; what differs: nobody is
/// shut down, so a verdict is asked for again whenever something depends on it.
///
/// ```
/// use rpcnet_swim::{ClusterView, NodeId, SplitBrainPolicy, DenyReason, Decision, ViewMember};
///
/// let id = |name: &str| NodeId::new(name, 1);
/// let view = ClusterView::new([
///     ViewMember::new(id("a")),
///     ViewMember::new(id("b")).unreachable(),
///     ViewMember::new(id("c")).unreachable(),
/// ]);
/// let reason = DenyReason::Minority { reachable: 1, expected: 3 };
/// assert_eq!(SplitBrainPolicy::keep_majority().may_serve(&view), Decision::Deny { reason });
/// assert_eq!(SplitBrainPolicy::keep_oldest().among("role", "db").may_serve(&view).reason(), Some(&DenyReason::NoTaggedMember));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitBrainPolicy {
    decision_rule: DecisionRule,
    tag_filter: Option<TagFilter>,
    stable_after: Duration,
}

/// Members with this tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TagFilter {
    key: String,
    value: String,
}

impl TagFilter {
    pub(crate) fn matches(&self, tags: &Tags) -> bool {
        tags.get(&self.key) == Some(&self.value)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DecisionRule {
    KeepMajority,
    StaticQuorum(NonZeroUsize),
    KeepOldest { even_alone: bool },
}

impl SplitBrainPolicy {
    /// More than half of the expected members serve. Of an even split, the half with the smallest
    /// name among the expected; so exactly one of two sides serves, whatever the split.
    pub fn keep_majority() -> Self {
        Self::new(DecisionRule::KeepMajority)
    }

    /// `quorum` members or more serve, however many are expected.
    ///
    /// Two sides serve if there are members enough for two quorums. Unlike the others it does not
    /// depend on who remembers whom, so it holds for nodes that start during a split too.
    pub fn static_quorum(quorum: NonZeroUsize) -> Self {
        Self::new(DecisionRule::StaticQuorum(quorum))
    }

    /// The side that reaches the oldest of the expected members serves: that of the smallest
    /// epoch, and of the smaller name if two are equal. Unless the oldest is alone, and not one of
    /// just two: then it refuses and the others, if they all are on one side, serve (Akka's
    /// `down-if-alone`).
    ///
    /// The side may be small. Epochs come from the clock of each node as it starts.
    pub fn keep_oldest() -> Self {
        Self::new(DecisionRule::KeepOldest { even_alone: false })
    }

    /// The side that reaches the oldest member serves, be it the oldest alone.
    pub fn keep_oldest_even_alone() -> Self {
        Self::new(DecisionRule::KeepOldest { even_alone: true })
    }

    /// Only members whose tag `key` is `value` count (a role, in Akka). Default all. Nodes without
    /// it may serve: they go by the side that they are on.
    #[must_use]
    pub fn among(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.tag_filter = Some(TagFilter {
            key: key.into(),
            value: value.into(),
        });
        self
    }

    /// With somebody missing, serves only once the view has been quiet for so long. Default zero.
    ///
    /// While a split is being found out, and while it heals, members come and go in the view one by
    /// one; a side that would serve for a moment refuses then, with [`DenyReason::Unstable`]. So does
    /// every side for so long after each crash: that is the price. With everybody reachable there is
    /// no wait, also after members joined.
    #[must_use]
    pub fn with_stable_after(mut self, quiet: Duration) -> Self {
        self.stable_after = quiet;
        self
    }

    /// Whether the node whose view this is may serve.
    pub fn may_serve(&self, view: &ClusterView) -> Decision {
        let ballots = view.members.iter().map(|voter| ExpectedMember {
            name: &voter.id.name,
            epoch: voter.id.epoch,
            tags: &voter.tags,
            is_reachable: voter.is_reachable,
        });
        self.evaluate(ballots, view.stable_for)
    }

    /// The same without a copy of the view.
    pub(crate) fn evaluate<'a>(
        &self,
        ballots: impl IntoIterator<Item = ExpectedMember<'a>>,
        quiet_for: Duration,
    ) -> Decision {
        let mut tally = ViewSummary::default();
        for ballot in ballots {
            if self.considers(ballot.tags) {
                tally.add(ballot);
            }
        }
        match self.deny_reason(tally, quiet_for) {
            Some(reason) => Decision::Deny { reason },
            None => Decision::Allow,
        }
    }

    fn new(rule: DecisionRule) -> Self {
        Self {
            decision_rule: rule,
            tag_filter: None,
            stable_after: Duration::ZERO,
        }
    }

    fn considers(&self, tags: &Tags) -> bool {
        let only = self.tag_filter.as_ref();
        only.is_none_or(|only| only.matches(tags))
    }

    /// Whom it counts, if not all.
    pub(crate) fn tag_filter(&self) -> Option<&TagFilter> {
        self.tag_filter.as_ref()
    }

    fn deny_reason(&self, tally: ViewSummary<'_>, quiet_for: Duration) -> Option<DenyReason> {
        let ViewSummary {
            expected,
            reachable,
            smallest,
            oldest,
        } = tally;
        let missing = expected - reachable;
        let (Some(smallest), Some(oldest)) = (smallest, oldest) else {
            return Some(DenyReason::NoTaggedMember);
        };
        let refusal = match self.decision_rule {
            DecisionRule::KeepMajority => match (2 * reachable).cmp(&expected) {
                std::cmp::Ordering::Less => Some(DenyReason::Minority {
                    reachable,
                    expected,
                }),
                std::cmp::Ordering::Equal if !smallest.is_reachable => {
                    Some(DenyReason::LostTieBreak {
                        expected,
                        smallest: smallest.id(),
                    })
                }
                _ => None,
            },
            DecisionRule::StaticQuorum(quorum) => {
                (reachable < quorum.get()).then_some(DenyReason::BelowQuorum {
                    reachable,
                    quorum: quorum.get(),
                })
            }
            DecisionRule::KeepOldest { even_alone } => match oldest.is_reachable {
                // Of two nobody is better off than the oldest.
                true if even_alone || reachable > 1 || expected <= 2 => None,
                true => Some(DenyReason::OldestAlone { expected }),
                false if !even_alone && missing == 1 && reachable > 1 => None,
                false => Some(DenyReason::OldestUnreachable {
                    oldest: oldest.id(),
                }),
            },
        };
        let unsettled = missing > 0 && quiet_for < self.stable_after;
        refusal.or_else(|| {
            unsettled.then_some(DenyReason::Unstable {
                missing,
                stable_for: quiet_for,
            })
        })
    }
}

/// The members that a policy goes by, as one node sees them.
///
/// Made by [`Engine::view`](crate::Engine::view), or by hand for a test.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClusterView {
    /// The expected members, each once, the node whose view it is among them.
    pub members: Vec<ViewMember>,
    /// For how long nobody joined, left, failed or came back.
    pub stable_for: Duration,
}

impl ClusterView {
    /// These members, for ever.
    pub fn new(voters: impl IntoIterator<Item = ViewMember>) -> Self {
        Self {
            members: voters.into_iter().collect(),
            stable_for: Duration::MAX,
        }
    }

    /// The same, quiet for so long.
    #[must_use]
    pub fn with_stable_for(mut self, quiet: Duration) -> Self {
        self.stable_for = quiet;
        self
    }
}

/// A member that is expected to be there.
#[derive(Clone, Debug, PartialEq)]
pub struct ViewMember {
    /// Name and epoch.
    pub id: NodeId,
    /// What it says of itself.
    pub tags: Tags,
    /// Whether the node whose view it is reaches it.
    pub is_reachable: bool,
}

impl ViewMember {
    /// A member that is reached, without tags.
    pub fn new(id: NodeId) -> Self {
        Self {
            id,
            tags: Tags::new(),
            is_reachable: true,
        }
    }

    /// The same with these tags.
    #[must_use]
    pub fn with_tags(mut self, tags: Tags) -> Self {
        self.tags = tags;
        self
    }

    /// The same, out of reach.
    #[must_use]
    pub fn unreachable(mut self) -> Self {
        self.is_reachable = false;
        self
    }
}

/// Whether a node may serve.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Decision {
    /// It may.
    Allow,
    /// It may not: another side may, or nobody.
    Deny {
        /// Why.
        reason: DenyReason,
    },
}

impl Decision {
    /// Whether it may.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        *self == Self::Allow
    }

    /// Why it may not.
    #[must_use]
    pub fn reason(&self) -> Option<&DenyReason> {
        match self {
            Self::Allow => None,
            Self::Deny { reason } => Some(reason),
        }
    }
}

/// Why a node may not serve. All counts are of members that the policy counts.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DenyReason {
    /// It has not joined, or it has left.
    NotJoined,
    /// No expected member has the tag that the policy asks for.
    NoTaggedMember,
    /// Less than half of the expected are reachable.
    Minority {
        /// Members that are reachable.
        reachable: usize,
        /// Members that are expected.
        expected: usize,
    },
    /// Exactly half are reachable, and the one of the smallest name is not.
    LostTieBreak {
        /// Members that are expected.
        expected: usize,
        /// The one that decides.
        smallest: NodeId,
    },
    /// Too few are reachable.
    BelowQuorum {
        /// Members that are reachable.
        reachable: usize,
        /// How many it takes.
        quorum: usize,
    },
    /// The oldest is not reachable.
    OldestUnreachable {
        /// The one that decides.
        oldest: NodeId,
    },
    /// The oldest is reachable and nobody else: it may be cut off from all.
    OldestAlone {
        /// Members that are expected.
        expected: usize,
    },
    /// It might, were it not for members that went missing or came back a moment ago. Ask again.
    Unstable {
        /// Members that are out of reach.
        missing: usize,
        /// For how long the view has been as it is.
        stable_for: Duration,
    },
}

impl fmt::Display for DenyReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotJoined => f.write_str("not a member of the cluster"),
            Self::NoTaggedMember => f.write_str("no member has the tag that decides"),
            Self::Minority {
                reachable,
                expected,
            } => write!(f, "reaches {reachable} of {expected} members"),
            Self::LostTieBreak { expected, smallest } => {
                write!(
                    f,
                    "reaches half of {expected} members, and not {smallest}, which decides"
                )
            }
            Self::BelowQuorum { reachable, quorum } => {
                write!(
                    f,
                    "reaches {reachable} members where it takes {quorum} to serve"
                )
            }
            Self::OldestUnreachable { oldest } => {
                write!(f, "does not reach {oldest}, the oldest member")
            }
            Self::OldestAlone { expected } => {
                write!(f, "reaches only the oldest of {expected} members")
            }
            Self::Unstable {
                missing,
                stable_for: quiet_for,
            } => {
                write!(
                    f,
                    "{missing} members are missing, and the view is quiet for {quiet_for:?} only"
                )
            }
        }
    }
}

/// One expected member.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ExpectedMember<'a> {
    pub(crate) name: &'a Arc<str>,
    pub(crate) epoch: u64,
    pub(crate) tags: &'a Tags,
    pub(crate) is_reachable: bool,
}

impl ExpectedMember<'_> {
    fn id(&self) -> NodeId {
        NodeId::new(Arc::clone(self.name), self.epoch)
    }
}

/// All that the rules need to know.
#[derive(Clone, Copy, Debug, Default)]
struct ViewSummary<'a> {
    expected: usize,
    reachable: usize,
    /// By name.
    smallest: Option<ExpectedMember<'a>>,
    /// By epoch, then name.
    oldest: Option<ExpectedMember<'a>>,
}

impl<'a> ViewSummary<'a> {
    fn add(&mut self, ballot: ExpectedMember<'a>) {
        self.expected += 1;
        self.reachable += usize::from(ballot.is_reachable);
        let age = |ballot: ExpectedMember<'a>| (ballot.epoch, ballot.name);
        if self.oldest.is_none_or(|oldest| age(ballot) < age(oldest)) {
            self.oldest = Some(ballot);
        }
        if self.smallest.is_none_or(|known| ballot.name < known.name) {
            self.smallest = Some(ballot);
        }
    }
}

#[cfg(test)]
mod tests;
