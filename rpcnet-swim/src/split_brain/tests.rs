//! Tests of the policies: which side serves, and that no two sides do.

use proptest::prelude::*;

use super::*;

/// `abC`: a and b are reached, c is not. Epochs rise with the letters, from 1 for a.
fn view(members: &str) -> ClusterView {
    ClusterView::new(members.chars().map(|letter| {
        let name = letter.to_ascii_lowercase();
        let member = ViewMember::new(NodeId::new(name.to_string(), u64::from(name) - 96));
        match letter.is_ascii_uppercase() {
            true => member.unreachable(),
            false => member,
        }
    }))
}

fn quorum(members: usize) -> SplitBrainPolicy {
    SplitBrainPolicy::static_quorum(NonZeroUsize::new(members).unwrap())
}

fn id(name: &str, epoch: u64) -> NodeId {
    NodeId::new(name, epoch)
}

fn check(policy: &SplitBrainPolicy, members: &str, reason: Option<DenyReason>) {
    let decision = policy.may_serve(&view(members));
    assert_eq!(
        decision.reason(),
        reason.as_ref(),
        "{policy:?} of {members}"
    );
    assert_eq!(decision.is_allowed(), reason.is_none());
}

#[test]
fn the_majority_serves_and_of_two_halves_the_one_with_the_smallest_name() {
    let policy = SplitBrainPolicy::keep_majority();
    let minority = |reachable, expected| {
        Some(DenyReason::Minority {
            reachable,
            expected,
        })
    };
    let other_half = |expected| {
        Some(DenyReason::LostTieBreak {
            expected,
            smallest: id("a", 1),
        })
    };
    for (members, reason) in [
        ("a", None),
        ("abc", None),
        ("Abc", None),
        ("aBC", minority(1, 3)),
        ("ABc", minority(1, 3)),
        ("abCD", None),
        ("ABcd", other_half(4)),
        ("aB", None),
        ("Ab", other_half(2)),
        ("ABcde", None),
        ("abCDE", minority(2, 5)),
        ("", Some(DenyReason::NoTaggedMember)),
    ] {
        check(&policy, members, reason);
    }
}

#[test]
fn a_static_quorum_ignores_which_members_are_expected() {
    let below = |reachable| {
        Some(DenyReason::BelowQuorum {
            reachable,
            quorum: 3,
        })
    };
    for (members, reason) in [
        ("abc", None),
        ("abcDEFGH", None),
        ("ab", below(2)),
        ("abCDE", below(2)),
        ("", Some(DenyReason::NoTaggedMember)),
    ] {
        check(&quorum(3), members, reason);
    }
}

#[test]
fn the_side_of_the_oldest_serves_unless_it_is_alone() {
    let gone = || Some(DenyReason::OldestUnreachable { oldest: id("a", 1) });
    let alone = |expected| Some(DenyReason::OldestAlone { expected });
    for (members, reason, even_alone) in [
        ("a", None, None),
        ("abC", None, None),
        ("abCDEF", None, None),
        ("ABcdef", gone(), gone()),
        ("aBC", alone(3), None),
        // Only the oldest is missing, so it is alone and refuses.
        ("Abc", None, gone()),
        // It cannot know whether there are two sides or three.
        ("ABc", gone(), gone()),
        ("ABcd", gone(), gone()),
        // One of two is no better off than the other.
        ("aB", None, None),
        ("Ab", gone(), gone()),
        (
            "",
            Some(DenyReason::NoTaggedMember),
            Some(DenyReason::NoTaggedMember),
        ),
    ] {
        check(&SplitBrainPolicy::keep_oldest(), members, reason);
        check(
            &SplitBrainPolicy::keep_oldest_even_alone(),
            members,
            even_alone,
        );
    }
}

#[test]
fn equal_epochs_are_ordered_by_name() {
    let members = [
        ViewMember::new(id("b", 5)).unreachable(),
        ViewMember::new(id("a", 5)),
    ];
    let view = ClusterView::new(members.clone());
    assert!(
        SplitBrainPolicy::keep_oldest_even_alone()
            .may_serve(&view)
            .is_allowed()
    );
    // Age goes before names, whatever the order.
    let older = ViewMember::new(id("z", 4)).unreachable();
    let view = ClusterView::new(members.into_iter().chain([older]));
    let reason = DenyReason::OldestUnreachable { oldest: id("z", 4) };
    let decision = SplitBrainPolicy::keep_oldest_even_alone().may_serve(&view);
    assert_eq!(decision, Decision::Deny { reason });
}

#[test]
fn only_members_with_the_tag_count() {
    let tagged = |name: &str, epoch, role: &str| {
        let tags = Tags::from_pairs([("role", role)]).unwrap();
        ViewMember::new(id(name, epoch)).with_tags(tags)
    };
    let view = ClusterView::new([
        tagged("a", 1, "web").unreachable(),
        tagged("b", 2, "web").unreachable(),
        ViewMember::new(id("c", 3)).unreachable(),
        tagged("d", 4, "db"),
        tagged("e", 5, "db"),
        tagged("f", 6, "db").unreachable(),
    ]);
    for (policy, all, db) in [
        (SplitBrainPolicy::keep_majority(), false, true),
        (quorum(3), false, false),
        (quorum(2), true, true),
        (SplitBrainPolicy::keep_oldest(), false, true),
    ] {
        assert_eq!(policy.may_serve(&view).is_allowed(), all, "{policy:?}");
        let policy = policy.among("role", "db");
        assert_eq!(policy.may_serve(&view).is_allowed(), db, "{policy:?}");
    }
    let policy = SplitBrainPolicy::keep_majority().among("role", "cache");
    assert_eq!(
        policy.may_serve(&view).reason(),
        Some(&DenyReason::NoTaggedMember)
    );
}

#[test]
fn with_members_missing_it_waits_for_a_stable_view() {
    let quiet = Duration::from_secs;
    for policy in [
        SplitBrainPolicy::keep_majority(),
        quorum(2),
        SplitBrainPolicy::keep_oldest(),
    ] {
        let policy = policy.with_stable_after(quiet(10));
        let early = view("abC").with_stable_for(quiet(9));
        let reason = DenyReason::Unstable {
            missing: 1,
            stable_for: quiet(9),
        };
        assert_eq!(policy.may_serve(&early), Decision::Deny { reason });
        let late = view("abC").with_stable_for(quiet(10));
        assert!(policy.may_serve(&late).is_allowed());
        // No member is missing, so there is no wait.
        let whole = view("abc").with_stable_for(quiet(0));
        assert!(policy.may_serve(&whole).is_allowed());
        // A decision that is negative anyway keeps its own reason.
        let few = view("ABCDe").with_stable_for(quiet(0));
        let decision = policy.may_serve(&few);
        assert!(!matches!(
            decision.reason(),
            None | Some(DenyReason::Unstable { .. })
        ));
    }
}

#[test]
fn deny_reasons_read_like_sentences() {
    let reason = DenyReason::LostTieBreak {
        expected: 4,
        smallest: id("a", 1),
    };
    assert_eq!(
        reason.to_string(),
        "reaches half of 4 members without a, which breaks the tie"
    );
}

/// Members of one cluster, and on which of up to four sides each is.
fn split() -> impl Strategy<Value = Vec<(ViewMember, u8)>> {
    let member = (0u64..4, prop::bool::weighted(0.7), 0u8..4);
    prop::collection::vec(member, 1..14).prop_map(|members| {
        let member = |(n, (epoch, db, side)): (usize, (u64, bool, u8))| {
            let role = if db { "db" } else { "web" };
            let tags = Tags::from_pairs([("role", role)]).unwrap();
            (
                ViewMember::new(id(&format!("n{n}"), epoch)).with_tags(tags),
                side,
            )
        };
        members.into_iter().enumerate().map(member).collect()
    })
}

/// The sides that serve, of those that have members.
fn serving(policy: &SplitBrainPolicy, split: &[(ViewMember, u8)], sides: u8) -> Vec<u8> {
    let side_of = |side: u8| side % sides;
    let serves = |side: &u8| {
        let seen = split.iter().map(|(member, of)| ViewMember {
            is_reachable: side_of(*of) == *side,
            ..member.clone()
        });
        policy.may_serve(&ClusterView::new(seen)).is_allowed()
    };
    let inhabited = |side: &u8| split.iter().any(|(_, of)| side_of(*of) == *side);
    (0..sides).filter(inhabited).filter(serves).collect()
}

proptest! {
    #[test]
    fn at_most_one_side_serves(split in split(), sides in 1u8..=4, extra in 0usize..4) {
        let db = |member: &ViewMember| member.tags.get("role") == Some("db");
        let all = split.len();
        let dbs = split.iter().filter(|(member, _)| db(member)).count();
        for policy in [
            SplitBrainPolicy::keep_majority(),
            SplitBrainPolicy::keep_oldest(),
            SplitBrainPolicy::keep_oldest_even_alone(),
        ] {
            prop_assert!(serving(&policy, &split, sides).len() <= 1, "{policy:?}");
            let policy = policy.among("role", "db");
            prop_assert!(serving(&policy, &split, sides).len() <= 1, "{policy:?}");
        }
        let safe = quorum(all / 2 + 1 + extra);
        prop_assert!(serving(&safe, &split, sides).len() <= 1);
        let safe = quorum(dbs / 2 + 1 + extra).among("role", "db");
        prop_assert!(serving(&safe, &split, sides).len() <= 1);
    }

    #[test]
    fn exactly_one_of_two_sides_serves(split in split()) {
        prop_assert_eq!(serving(&SplitBrainPolicy::keep_majority(), &split, 2).len(), 1);
        prop_assert_eq!(serving(&SplitBrainPolicy::keep_oldest_even_alone(), &split, 2).len(), 1);
        prop_assert_eq!(serving(&SplitBrainPolicy::keep_oldest(), &split, 2).len(), 1);
    }
}

#[test]
fn a_quorum_of_half_is_not_safe() {
    let split: Vec<_> = (0..4)
        .map(|n| (ViewMember::new(id(&format!("n{n}"), 1)), n))
        .collect();
    assert_eq!(serving(&quorum(2), &split, 2), [0, 1]);
}
