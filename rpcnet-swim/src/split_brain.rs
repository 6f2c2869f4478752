//! Split-brain policies: whether this side of a partition may serve. Pure functions over a view.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use crate::id::NodeId;
use crate::tags::Tags;

/// Policy by which one side of a partitioned cluster goes on serving.
///
/// Each node decides for itself, by its own view; there is no vote. All nodes have to use the same
/// policy. As the sides of a partition expect the same members and reach different ones, at most
/// one side serves:
///
/// | policy | who serves | safe |
/// |---|---|---|
/// | [`keep_majority`](Self::keep_majority) | a majority, or a half with the smallest name | always |
/// | [`static_quorum`](Self::static_quorum) | `n` or more | if there never are 2 `n` members |
/// | [`keep_oldest`](Self::keep_oldest) | the side that reaches the oldest member | always |
///
/// "Always" has limits that no policy without a coordinator escapes:
/// - Until the split is noticed all sides serve: some 4 to 11 s with the defaults, by the sizes of
///   the sides (`cargo xtask sim partition` measures it).
/// - In a large cluster a small side is found by a sample of its members' answers. The members that
///   decide are asked in any case, also those of [`among`](Self::among) if the policy was announced
///   by [`Engine::watch_policy`](crate::Engine::watch_policy), as `ClusterMembership::may_serve`
///   does.
/// - Nodes that learn of members in different ways do not share one view: a node that joins while
///   the cluster is split knows its side alone, and one that begins a cluster of its own meanwhile,
///   because it is one of its seeds, knows itself alone. Only a static quorum stops them.
/// - A crash cannot be told from a partition. Members that crash leave the others refusing as a
///   partition would, until they are no longer expected (see
///   [`Engine::view`](crate::Engine::view)).
/// - A second split before the first has healed may divide a side that had written the other off.
///
/// The policies are those of the split brain resolvers of Akka and Pekko, with one difference: no
/// node is shut down, so a decision is asked for again whenever something depends on it.
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
/// let policy = SplitBrainPolicy::keep_oldest().among("role", "db");
/// assert_eq!(policy.may_serve(&view).reason(), Some(&DenyReason::NoTaggedMember));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitBrainPolicy {
    decision_rule: DecisionRule,
    tag_filter: Option<TagFilter>,
    stable_after: Duration,
}

/// Members that have a tag.
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
    /// Keep majority: more than half of the expected members serve. In an even split it is the half
    /// with the smallest name among the expected; so exactly one of two sides serves, whatever the
    /// split.
    #[must_use]
    pub fn keep_majority() -> Self {
        Self::new(DecisionRule::KeepMajority)
    }

    /// Static quorum: `quorum` members or more serve, however many are expected.
    ///
    /// Two sides serve if there are members enough for two quorums. Unlike the other policies it
    /// does not depend on which members a node remembers, so it holds for nodes that start during a
    /// partition too.
    #[must_use]
    pub fn static_quorum(quorum: NonZeroUsize) -> Self {
        Self::new(DecisionRule::StaticQuorum(quorum))
    }

    /// Keep oldest: the side that reaches the oldest of the expected members serves. The oldest has
    /// the smallest epoch, and of two with equal epochs the smaller name. If the oldest is alone,
    /// and not one of just two, it refuses instead, and the others serve if they are all on one
    /// side (Akka's `down-if-alone`).
    ///
    /// The side may be small. Epochs come from the clock of each node as it starts.
    #[must_use]
    pub fn keep_oldest() -> Self {
        Self::new(DecisionRule::KeepOldest { even_alone: false })
    }

    /// Keep oldest, without the exception: the side that reaches the oldest member serves, even if
    /// the oldest is alone.
    #[must_use]
    pub fn keep_oldest_even_alone() -> Self {
        Self::new(DecisionRule::KeepOldest { even_alone: true })
    }

    /// Counts only members whose tag `key` is `value` (a role, in Akka). Default all. Nodes without
    /// the tag may serve too: they decide by the side that they are on.
    #[must_use]
    pub fn among(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.tag_filter = Some(TagFilter {
            key: key.into(),
            value: value.into(),
        });
        self
    }

    /// While members are missing, serves only once the view has been stable for this time. Default
    /// zero.
    ///
    /// While a partition is being detected, and while it heals, members come and go in the view one
    /// by one; a side that would serve for a moment refuses then, with [`DenyReason::Unstable`].
    /// Its price: every side refuses for this time after each crash. With all members reachable
    /// there is no wait, also after members joined.
    #[must_use]
    pub fn with_stable_after(mut self, time: Duration) -> Self {
        self.stable_after = time;
        self
    }

    /// Whether the node whose view this is may serve.
    pub fn may_serve(&self, view: &ClusterView) -> Decision {
        let members = view.members.iter().map(|member| ExpectedMember {
            name: &member.id.name,
            epoch: member.id.epoch,
            tags: &member.tags,
            is_reachable: member.is_reachable,
        });
        self.evaluate(members, view.stable_for)
    }

    /// Decides without a copy of the view.
    pub(crate) fn evaluate<'a>(
        &self,
        members: impl IntoIterator<Item = ExpectedMember<'a>>,
        stable_for: Duration,
    ) -> Decision {
        let mut summary = ViewSummary::default();
        for member in members {
            if self.considers(member.tags) {
                summary.add(member);
            }
        }
        match self.deny_reason(summary, stable_for) {
            Some(reason) => Decision::Deny { reason },
            None => Decision::Allow,
        }
    }

    fn new(decision_rule: DecisionRule) -> Self {
        Self {
            decision_rule,
            tag_filter: None,
            stable_after: Duration::ZERO,
        }
    }

    fn considers(&self, tags: &Tags) -> bool {
        let filter = self.tag_filter.as_ref();
        filter.is_none_or(|filter| filter.matches(tags))
    }

    /// The tag that members must have to count, if not all count.
    pub(crate) fn tag_filter(&self) -> Option<&TagFilter> {
        self.tag_filter.as_ref()
    }

    fn deny_reason(&self, summary: ViewSummary<'_>, stable_for: Duration) -> Option<DenyReason> {
        let ViewSummary {
            expected,
            reachable,
            smallest,
            oldest,
        } = summary;
        let missing = expected - reachable;
        let (Some(smallest), Some(oldest)) = (smallest, oldest) else {
            return Some(DenyReason::NoTaggedMember);
        };
        let reason = match self.decision_rule {
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
                // Of two members neither side is better off than the oldest's.
                true if even_alone || reachable > 1 || expected <= 2 => None,
                true => Some(DenyReason::OldestAlone { expected }),
                false if !even_alone && missing == 1 && reachable > 1 => None,
                false => Some(DenyReason::OldestUnreachable {
                    oldest: oldest.id(),
                }),
            },
        };
        let is_unstable = missing > 0 && stable_for < self.stable_after;
        reason.or_else(|| {
            is_unstable.then_some(DenyReason::Unstable {
                missing,
                stable_for,
            })
        })
    }
}

/// The members that a policy counts, as one node sees them.
///
/// Made by [`Engine::view`](crate::Engine::view), or by hand for a test.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ClusterView {
    /// The expected members, each once, the viewing node among them.
    pub members: Vec<ViewMember>,
    /// Time since a member last joined, left, failed or recovered.
    pub stable_for: Duration,
}

impl ClusterView {
    /// A view of these members that has been stable for ever.
    pub fn new(members: impl IntoIterator<Item = ViewMember>) -> Self {
        Self {
            members: members.into_iter().collect(),
            stable_for: Duration::MAX,
        }
    }

    /// The same view, stable for this time.
    #[must_use]
    pub fn with_stable_for(mut self, time: Duration) -> Self {
        self.stable_for = time;
        self
    }
}

/// An expected member in a [`ClusterView`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ViewMember {
    /// Name and epoch.
    pub id: NodeId,
    /// Tags that the member announces.
    pub tags: Tags,
    /// Whether the viewing node reaches it.
    pub is_reachable: bool,
}

impl ViewMember {
    /// A reachable member without tags.
    #[must_use]
    pub fn new(id: NodeId) -> Self {
        Self {
            id,
            tags: Tags::new(),
            is_reachable: true,
        }
    }

    /// The same member with these tags.
    #[must_use]
    pub fn with_tags(mut self, tags: Tags) -> Self {
        self.tags = tags;
        self
    }

    /// The same member, unreachable.
    #[must_use]
    pub fn unreachable(mut self) -> Self {
        self.is_reachable = false;
        self
    }
}

/// Decision of a policy: whether a node may serve.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Decision {
    /// The node may serve.
    Allow,
    /// The node may not serve: another side may, or none.
    Deny {
        /// The reason.
        reason: DenyReason,
    },
}

impl Decision {
    /// Whether the node may serve.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        *self == Self::Allow
    }

    /// Why the node may not serve; `None` if it may.
    #[must_use]
    pub fn reason(&self) -> Option<&DenyReason> {
        match self {
            Self::Allow => None,
            Self::Deny { reason } => Some(reason),
        }
    }
}

/// Reason for which a node may not serve. All counts are of members that the policy counts.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DenyReason {
    /// The node has not joined, or it has left.
    NotJoined,
    /// No expected member has the tag that the policy asks for.
    NoTaggedMember,
    /// Less than half of the expected members are reachable.
    Minority {
        /// Members that are reachable.
        reachable: usize,
        /// Members that are expected.
        expected: usize,
    },
    /// Exactly half of the expected members are reachable, and the one of the smallest name is not.
    LostTieBreak {
        /// Members that are expected.
        expected: usize,
        /// The member that decides.
        smallest: NodeId,
    },
    /// Fewer members than the quorum are reachable.
    BelowQuorum {
        /// Members that are reachable.
        reachable: usize,
        /// Members that it takes.
        quorum: usize,
    },
    /// The oldest member is not reachable.
    OldestUnreachable {
        /// The member that decides.
        oldest: NodeId,
    },
    /// Only the oldest member is reachable: it may be cut off from all others.
    OldestAlone {
        /// Members that are expected.
        expected: usize,
    },
    /// Members went missing or recovered a moment ago. Ask again.
    Unstable {
        /// Members that are unreachable.
        missing: usize,
        /// Time since the view last changed.
        stable_for: Duration,
    },
}

impl fmt::Display for DenyReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotJoined => f.write_str("not a member of the cluster"),
            Self::NoTaggedMember => f.write_str("no expected member has the tag that counts"),
            Self::Minority {
                reachable,
                expected,
            } => write!(f, "reaches {reachable} of {expected} members"),
            Self::LostTieBreak { expected, smallest } => {
                write!(
                    f,
                    "reaches half of {expected} members without {smallest}, which breaks the tie"
                )
            }
            Self::BelowQuorum { reachable, quorum } => {
                write!(
                    f,
                    "reaches {reachable} members, fewer than the quorum of {quorum}"
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
                stable_for,
            } => {
                write!(
                    f,
                    "{missing} members are missing, and the view has been stable for {stable_for:?} only"
                )
            }
        }
    }
}

/// One expected member, borrowed from a view or from the engine's table.
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

/// Counts and members that a decision depends on.
#[derive(Clone, Copy, Debug, Default)]
struct ViewSummary<'a> {
    expected: usize,
    reachable: usize,
    /// Smallest by name.
    smallest: Option<ExpectedMember<'a>>,
    /// Smallest by epoch, then by name.
    oldest: Option<ExpectedMember<'a>>,
}

impl<'a> ViewSummary<'a> {
    fn add(&mut self, member: ExpectedMember<'a>) {
        self.expected += 1;
        self.reachable += usize::from(member.is_reachable);
        let age = |member: ExpectedMember<'a>| (member.epoch, member.name);
        if self.oldest.is_none_or(|oldest| age(member) < age(oldest)) {
            self.oldest = Some(member);
        }
        if self.smallest.is_none_or(|known| member.name < known.name) {
            self.smallest = Some(member);
        }
    }
}

#[cfg(test)]
mod tests;
