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
/// use rpcnet_swim::{ClusterView, NodeId, Policy, Refusal, Verdict, Voter};
///
/// let id = |name: &str| NodeId::new(name, 1);
/// let view = ClusterView::new([
///     Voter::new(id("a")),
///     Voter::new(id("b")).unreachable(),
///     Voter::new(id("c")).unreachable(),
/// ]);
/// let reason = Refusal::Minority { reachable: 1, expected: 3 };
/// assert_eq!(Policy::keep_majority().may_serve(&view), Verdict::Refuse { reason });
/// assert_eq!(Policy::keep_oldest().among("role", "db").may_serve(&view).reason(), Some(&Refusal::NoVoters));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    rule: Rule,
    only: Option<Filter>,
    stable_after: Duration,
}

/// Members with this tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    key: String,
    value: String,
}

impl Filter {
    pub(crate) fn counts(&self, tags: &Tags) -> bool {
        tags.get(&self.key) == Some(&self.value)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    Majority,
    Quorum(NonZeroUsize),
    Oldest { even_alone: bool },
}

impl Policy {
    /// More than half of the expected members serve. Of an even split, the half with the smallest
    /// name among the expected; so exactly one of two sides serves, whatever the split.
    pub fn keep_majority() -> Self {
        Self::new(Rule::Majority)
    }

    /// `quorum` members or more serve, however many are expected.
    ///
    /// Two sides serve if there are members enough for two quorums. Unlike the others it does not
    /// depend on who remembers whom, so it holds for nodes that start during a split too.
    pub fn static_quorum(quorum: NonZeroUsize) -> Self {
        Self::new(Rule::Quorum(quorum))
    }

    /// The side that reaches the oldest of the expected members serves: that of the smallest
    /// epoch, and of the smaller name if two are equal. Unless the oldest is alone, and not one of
    /// just two: then it refuses and the others, if they all are on one side, serve (Akka's
    /// `down-if-alone`).
    ///
    /// The side may be small. Epochs come from the clock of each node as it starts.
    pub fn keep_oldest() -> Self {
        Self::new(Rule::Oldest { even_alone: false })
    }

    /// The side that reaches the oldest member serves, be it the oldest alone.
    pub fn keep_oldest_even_alone() -> Self {
        Self::new(Rule::Oldest { even_alone: true })
    }

    /// Only members whose tag `key` is `value` count (a role, in Akka). Default all. Nodes without
    /// it may serve: they go by the side that they are on.
    #[must_use]
    pub fn among(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.only = Some(Filter {
            key: key.into(),
            value: value.into(),
        });
        self
    }

    /// With somebody missing, serves only once the view has been quiet for so long. Default zero.
    ///
    /// While a split is being found out, and while it heals, members come and go in the view one by
    /// one; a side that would serve for a moment refuses then, with [`Refusal::Unsettled`]. So does
    /// every side for so long after each crash: that is the price. With everybody reachable there is
    /// no wait, also after members joined.
    #[must_use]
    pub fn with_stable_after(mut self, quiet: Duration) -> Self {
        self.stable_after = quiet;
        self
    }

    /// Whether the node whose view this is may serve.
    pub fn may_serve(&self, view: &ClusterView) -> Verdict {
        let ballots = view.voters.iter().map(|voter| Ballot {
            name: &voter.id.name,
            epoch: voter.id.epoch,
            tags: &voter.tags,
            is_reachable: voter.is_reachable,
        });
        self.judge(ballots, view.quiet_for)
    }

    /// The same without a copy of the view.
    pub(crate) fn judge<'a>(
        &self,
        ballots: impl IntoIterator<Item = Ballot<'a>>,
        quiet_for: Duration,
    ) -> Verdict {
        let mut tally = Tally::default();
        for ballot in ballots {
            if self.counts(ballot.tags) {
                tally.add(ballot);
            }
        }
        match self.refusal(tally, quiet_for) {
            Some(reason) => Verdict::Refuse { reason },
            None => Verdict::Serve,
        }
    }

    fn new(rule: Rule) -> Self {
        Self {
            rule,
            only: None,
            stable_after: Duration::ZERO,
        }
    }

    fn counts(&self, tags: &Tags) -> bool {
        let only = self.only.as_ref();
        only.is_none_or(|only| only.counts(tags))
    }

    /// Whom it counts, if not all.
    pub(crate) fn filter(&self) -> Option<&Filter> {
        self.only.as_ref()
    }

    fn refusal(&self, tally: Tally<'_>, quiet_for: Duration) -> Option<Refusal> {
        let Tally {
            expected,
            reachable,
            smallest,
            oldest,
        } = tally;
        let missing = expected - reachable;
        let (Some(smallest), Some(oldest)) = (smallest, oldest) else {
            return Some(Refusal::NoVoters);
        };
        let refusal = match self.rule {
            Rule::Majority => match (2 * reachable).cmp(&expected) {
                std::cmp::Ordering::Less => Some(Refusal::Minority {
                    reachable,
                    expected,
                }),
                std::cmp::Ordering::Equal if !smallest.is_reachable => Some(Refusal::OtherHalf {
                    expected,
                    smallest: smallest.id(),
                }),
                _ => None,
            },
            Rule::Quorum(quorum) => (reachable < quorum.get()).then_some(Refusal::BelowQuorum {
                reachable,
                quorum: quorum.get(),
            }),
            Rule::Oldest { even_alone } => match oldest.is_reachable {
                // Of two nobody is better off than the oldest.
                true if even_alone || reachable > 1 || expected <= 2 => None,
                true => Some(Refusal::OldestAlone { expected }),
                false if !even_alone && missing == 1 && reachable > 1 => None,
                false => Some(Refusal::OldestUnreachable {
                    oldest: oldest.id(),
                }),
            },
        };
        let unsettled = missing > 0 && quiet_for < self.stable_after;
        refusal.or_else(|| unsettled.then_some(Refusal::Unsettled { missing, quiet_for }))
    }
}

/// The members that a policy goes by, as one node sees them.
///
/// Made by [`Engine::view`](crate::Engine::view), or by hand for a test.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClusterView {
    /// The expected members, each once, the node whose view it is among them.
    pub voters: Vec<Voter>,
    /// For how long nobody joined, left, failed or came back.
    pub quiet_for: Duration,
}

impl ClusterView {
    /// These members, for ever.
    pub fn new(voters: impl IntoIterator<Item = Voter>) -> Self {
        Self {
            voters: voters.into_iter().collect(),
            quiet_for: Duration::MAX,
        }
    }

    /// The same, quiet for so long.
    #[must_use]
    pub fn with_quiet_for(mut self, quiet: Duration) -> Self {
        self.quiet_for = quiet;
        self
    }
}

/// A member that is expected to be there.
#[derive(Clone, Debug, PartialEq)]
pub struct Voter {
    /// Name and epoch.
    pub id: NodeId,
    /// What it says of itself.
    pub tags: Tags,
    /// Whether the node whose view it is reaches it.
    pub is_reachable: bool,
}

impl Voter {
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
pub enum Verdict {
    /// It may.
    Serve,
    /// It may not: another side may, or nobody.
    Refuse {
        /// Why.
        reason: Refusal,
    },
}

impl Verdict {
    /// Whether it may.
    #[must_use]
    pub fn is_serve(&self) -> bool {
        *self == Self::Serve
    }

    /// Why it may not.
    #[must_use]
    pub fn reason(&self) -> Option<&Refusal> {
        match self {
            Self::Serve => None,
            Self::Refuse { reason } => Some(reason),
        }
    }
}

/// Why a node may not serve. All counts are of members that the policy counts.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// It has not joined, or it has left.
    NotJoined,
    /// No expected member has the tag that the policy asks for.
    NoVoters,
    /// Less than half of the expected are reachable.
    Minority {
        /// Members that are reachable.
        reachable: usize,
        /// Members that are expected.
        expected: usize,
    },
    /// Exactly half are reachable, and the one of the smallest name is not.
    OtherHalf {
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
    Unsettled {
        /// Members that are out of reach.
        missing: usize,
        /// For how long the view has been as it is.
        quiet_for: Duration,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotJoined => f.write_str("not a member of the cluster"),
            Self::NoVoters => f.write_str("no member has the tag that decides"),
            Self::Minority {
                reachable,
                expected,
            } => write!(f, "reaches {reachable} of {expected} members"),
            Self::OtherHalf { expected, smallest } => {
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
            Self::Unsettled { missing, quiet_for } => {
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
pub(crate) struct Ballot<'a> {
    pub(crate) name: &'a Arc<str>,
    pub(crate) epoch: u64,
    pub(crate) tags: &'a Tags,
    pub(crate) is_reachable: bool,
}

impl Ballot<'_> {
    fn id(&self) -> NodeId {
        NodeId::new(Arc::clone(self.name), self.epoch)
    }
}

/// All that the rules need to know.
#[derive(Clone, Copy, Debug, Default)]
struct Tally<'a> {
    expected: usize,
    reachable: usize,
    /// By name.
    smallest: Option<Ballot<'a>>,
    /// By epoch, then name.
    oldest: Option<Ballot<'a>>,
}

impl<'a> Tally<'a> {
    fn add(&mut self, ballot: Ballot<'a>) {
        self.expected += 1;
        self.reachable += usize::from(ballot.is_reachable);
        let age = |ballot: Ballot<'a>| (ballot.epoch, ballot.name);
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
