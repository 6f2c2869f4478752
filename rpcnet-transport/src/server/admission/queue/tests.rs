//! Tests of the admission queue: order, bounds, and that every call leaves once.

mod fairness;

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::*;
use crate::Priority;

const BOUNDS: QueueBounds = QueueBounds {
    len_max: 4,
    target: Duration::from_millis(5),
    interval: Duration::from_millis(100),
};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn rank(priority: Priority, peer: u8) -> Rank<u8> {
    Rank {
        priority,
        is_retry: false,
        peer,
        deadline: None,
    }
}

/// Peers that hold no permit and may acquire any.
struct Free;

impl PermitSource<u8> for Free {
    fn permits_held(&self, _peer: &u8) -> usize {
        0
    }

    fn try_acquire(&mut self, _peer: &u8) -> bool {
        true
    }
}

/// How many permits peers hold, and how many each of them may hold.
struct Held {
    by_peer: HashMap<u8, usize>,
    most: usize,
}

impl Held {
    fn new(held: &[(u8, usize)], most: usize) -> Self {
        let by_peer = held.iter().copied().collect();
        Self { by_peer, most }
    }
}

impl PermitSource<u8> for Held {
    fn permits_held(&self, peer: &u8) -> usize {
        self.by_peer.get(peer).copied().unwrap_or(0)
    }

    fn try_acquire(&mut self, peer: &u8) -> bool {
        let held = self.by_peer.entry(*peer).or_default();
        let may = *held < self.most;
        *held += usize::from(may);
        may
    }
}

/// A queue, and the calls that left it without a permit.
struct Check {
    queue: AdmissionQueue<u8, &'static str>,
    shed: Vec<(&'static str, Option<ShedReason>)>,
}

impl Check {
    fn new(len_max: usize) -> Self {
        Self {
            queue: AdmissionQueue::new(QueueBounds { len_max, ..BOUNDS }),
            shed: Vec::new(),
        }
    }

    fn push(&mut self, now: u64, rank: Rank<u8>, call: &'static str) -> bool {
        match self.queue.push(ms(now), rank, call) {
            PushOutcome::Queued { shed, .. } => {
                self.shed.extend(shed.map(|(_, call)| (call, None)));
                true
            }
            PushOutcome::QueueFull => false,
        }
    }

    fn pop(&mut self, now: u64) -> Option<&'static str> {
        self.pop_with(now, &mut Free)
    }

    fn pop_with(&mut self, now: u64, grants: &mut impl PermitSource<u8>) -> Option<&'static str> {
        let shed = &mut self.shed;
        let tell = |_: &u8, call, why| shed.push((call, Some(why)));
        self.queue.pop(ms(now), grants, tell).map(|(_, call)| call)
    }

    fn shed(&mut self) -> Vec<(&'static str, Option<ShedReason>)> {
        std::mem::take(&mut self.shed)
    }
}

#[test]
fn calls_are_ordered_by_priority_then_attempt_then_arrival() {
    use Priority::{Critical, CriticalPlus, Sheddable, SheddablePlus};
    let mut check = Check::new(10);
    let retry = Rank {
        is_retry: true,
        ..rank(Critical, 1)
    };
    check.push(0, rank(Sheddable, 1), "sheddable");
    check.push(0, retry, "critical retry");
    check.push(1, rank(Critical, 1), "critical 1");
    check.push(2, rank(Critical, 1), "critical 2");
    check.push(3, rank(SheddablePlus, 1), "sheddable plus");
    check.push(3, rank(CriticalPlus, 1), "critical plus");
    let order: Vec<_> = std::iter::from_fn(|| check.pop(4)).collect();
    let expected = [
        "critical plus",
        "critical 1",
        "critical 2",
        "critical retry",
        "sheddable plus",
        "sheddable",
    ];
    assert_eq!(order, expected);
    assert_eq!(check.shed(), []);
}

#[test]
fn peers_of_equal_rank_take_turns() {
    let mut check = Check::new(10);
    let critical = |peer| rank(Priority::Critical, peer);
    for call in ["a1", "a2", "a3", "a4"] {
        check.push(0, critical(1), call);
    }
    check.push(1, critical(2), "b1");
    check.push(1, critical(2), "b2");
    check.push(1, critical(3), "c1");
    let order: Vec<_> = std::iter::from_fn(|| check.pop(2)).collect();
    assert_eq!(order, ["a1", "b1", "c1", "a2", "b2", "a3", "a4"]);
}

#[test]
fn the_peer_with_the_fewest_permits_is_next() {
    let mut check = Check::new(10);
    let critical = |peer| rank(Priority::Critical, peer);
    let calls = [
        (1, "a1"),
        (1, "a2"),
        (2, "b1"),
        (2, "b2"),
        (3, "c1"),
        (3, "c2"),
    ];
    for (peer, call) in calls {
        check.push(0, critical(peer), call);
    }
    let mut held = Held::new(&[(1, 3), (2, 1)], 9);
    let order: Vec<_> = std::iter::from_fn(|| check.pop_with(1, &mut held)).collect();
    assert_eq!(order, ["c1", "b1", "c2", "b2", "a1", "a2"]);
}

#[test]
fn a_peer_at_its_share_does_not_delay_others() {
    use Priority::{Critical, Sheddable};
    let mut check = Check::new(10);
    check.push(0, rank(Critical, 1), "a1");
    check.push(0, rank(Critical, 2), "b1");
    check.push(0, rank(Sheddable, 2), "b2");
    let mut held = Held::new(&[(1, 2)], 2);
    assert_eq!(check.pop_with(1, &mut held), Some("b1"));
    assert_eq!(check.pop_with(1, &mut held), Some("b2"));
    assert_eq!(check.pop_with(1, &mut held), None);
    assert_eq!((check.queue.len(), check.shed().len()), (1, 0));
    held.most = 3;
    assert_eq!(check.pop_with(1, &mut held), Some("a1"));
    check.push(2, rank(Critical, 1), "late");
    assert_eq!(check.pop_with(103, &mut held), None);
    assert_eq!(check.shed(), [("late", Some(ShedReason::WaitedTooLong))]);
}

#[test]
fn reacquiring_and_new_calls_take_turns() {
    let mut check = Check::new(3);
    let critical = |peer| rank(Priority::Critical, peer);
    for call in ["new 1", "new 2", "new 3"] {
        check.push(0, critical(1), call);
    }
    // In the order of their numbers, whenever they come.
    let positions = [(7, "back 3"), (2, "back 1"), (4, "back 2")];
    let positions = positions.map(|(number, call)| check.queue.push_reacquiring(2, number, call));
    assert_eq!((check.queue.len(), check.queue.reacquiring_len()), (3, 3));
    assert_eq!(check.queue.remove(&positions[2]), Some("back 2"));
    assert_eq!(check.queue.remove(&positions[2]), None);
    let mut held = Held::new(&[(1, 5), (2, 5)], 9);
    assert_eq!(check.pop_with(1, &mut held), Some("back 1"));
    assert_eq!(check.pop_with(1, &mut held), Some("new 1"));
    held.by_peer.insert(2, 9);
    assert_eq!(check.pop_with(1, &mut held), Some("new 2"));
    held.by_peer.insert(2, 5);
    // A call that reacquires has no bound in time.
    assert_eq!(check.pop_with(1_000, &mut held), Some("back 3"));
    assert_eq!(check.pop_with(1_000, &mut held), None);
    assert_eq!(check.shed(), [("new 3", Some(ShedReason::WaitedTooLong))]);
    assert_eq!(check.queue.reacquiring_len(), 0);
}

#[test]
fn a_full_queue_sheds_the_lowest_priority() {
    use Priority::{Critical, CriticalPlus, Sheddable};
    let retry = |priority| Rank {
        is_retry: true,
        ..rank(priority, 1)
    };
    let mut check = Check::new(3);
    assert!(check.push(0, rank(Sheddable, 1), "s1"));
    assert!(check.push(0, retry(Critical), "retry"));
    assert!(check.push(0, rank(Critical, 1), "c1"));
    assert!(!check.push(0, rank(Sheddable, 1), "s2"), "it matters least");
    assert!(check.push(0, rank(Critical, 1), "c2"));
    assert_eq!(check.shed(), [("s1", None)]);
    assert!(check.push(0, rank(Critical, 1), "c3"));
    assert_eq!(check.shed(), [("retry", None)], "before first attempts");
    assert!(!check.push(0, retry(Critical), "retry 2"));
    assert!(!check.push(0, rank(Critical, 1), "c4"));
    assert!(check.push(0, rank(CriticalPlus, 1), "p1"));
    // In a queue that is not standing the newest call is the farthest from its turn.
    assert_eq!(check.shed(), [("c3", None)]);
}

#[test]
fn a_full_queue_sheds_calls_of_the_peer_that_has_more() {
    let mut check = Check::new(4);
    let critical = |peer| rank(Priority::Critical, peer);
    for call in ["a1", "a2", "a3", "a4"] {
        assert!(check.push(0, critical(1), call));
    }
    assert!(!check.push(0, critical(1), "a5"));
    assert!(check.push(0, critical(2), "b1"));
    assert!(check.push(0, critical(2), "b2"));
    assert_eq!(check.shed(), [("a4", None), ("a3", None)]);
    assert!(!check.push(0, critical(2), "b3"), "both have the same");
    assert!(check.push(0, critical(3), "c1"));
    assert_eq!(check.shed().len(), 1);
}

#[test]
fn no_call_waits_past_the_interval_or_its_deadline() {
    let mut check = Check::new(4);
    let dated = |at| Rank {
        deadline: Some(ms(at)),
        ..rank(Priority::Critical, 1)
    };
    check.push(0, dated(50), "expired");
    check.push(0, dated(51), "in time");
    assert_eq!(check.pop(50), Some("in time"));
    assert_eq!(check.shed(), [("expired", Some(ShedReason::Expired))]);
    check.push(60, rank(Priority::Critical, 1), "late");
    check.push(61, rank(Priority::Critical, 1), "not late");
    assert_eq!(check.pop(161), Some("not late"));
    assert_eq!(check.shed(), [("late", Some(ShedReason::WaitedTooLong))]);
    assert_eq!(check.pop(161), None);
}

#[test]
fn a_standing_queue_serves_the_newest_and_sheds_the_oldest() {
    let mut check = Check::new(1_000);
    let critical = rank(Priority::Critical, 1);
    // Twice as many calls come as get permits, one each millisecond.
    let mut now = 0;
    while !check.queue.is_standing() {
        assert!(now < 500, "it stands at last");
        check.push(now, critical.clone(), "call");
        check.push(now, critical.clone(), "call");
        check.pop(now);
        now += 1;
    }
    assert!(now > 100, "not before it was so for an interval");
    check.push(now, critical.clone(), "newest");
    assert_eq!(check.pop(now), Some("newest"));
    assert!(!check.shed().is_empty());
    assert!(check.queue.len() <= 2 * 6, "of the last 5 ms");
    // The standing queue ends when it is empty.
    while check.pop(now).is_some() {}
    assert!(!check.queue.is_standing());
    check.push(now, critical.clone(), "first");
    check.push(now, critical, "second");
    assert_eq!(check.pop(now), Some("first"));
}

#[test]
fn a_queue_with_prompt_calls_never_becomes_standing() {
    let mut check = Check::new(1_000);
    check.push(0, rank(Priority::Critical, 1), "call");
    for now in 0..1_000 {
        check.push(now, rank(Priority::Critical, 1), "call");
        check.pop(now + 4);
        assert!(!check.queue.is_standing());
    }
}

#[test]
fn retry_after_covers_the_queued_calls_of_the_peer() {
    let mut check = Check::new(1_000);
    assert_eq!(check.queue.retry_after(&20), ms(100), "nothing is known");
    for call in 0..20 {
        check.push(0, rank(Priority::Critical, call), "call");
    }
    for now in 0..10 {
        check.pop(2 * now);
    }
    assert_eq!(check.queue.retry_after(&20), ms(22), "ten wait, 2 ms each");
    // Each peer gets a permit in 22 ms, and this one has five calls in the queue then.
    for _ in 0..4 {
        check.push(20, rank(Priority::Critical, 21), "call");
    }
    assert_eq!(check.queue.retry_after(&21), ms(110));
    assert_eq!(check.queue.retry_after(&20), ms(24), "eleven others");
}

#[derive(Debug, Clone)]
enum Operation {
    Push {
        priority: Priority,
        is_retry: bool,
        peer: u8,
        deadline_ms: Option<u8>,
    },
    Pop,
    Remove(u8),
    Wait(u8),
}

fn operation() -> impl Strategy<Value = Operation> {
    let push = (
        prop::sample::select(Priority::ALL.to_vec()),
        any::<bool>(),
        0u8..4,
        any::<Option<u8>>(),
    )
        .prop_map(|(priority, is_retry, peer, deadline_ms)| Operation::Push {
            priority,
            is_retry,
            peer,
            deadline_ms,
        });
    prop_oneof![
        6 => push,
        3 => Just(Operation::Pop),
        1 => any::<u8>().prop_map(Operation::Remove),
        1 => (0u8..60).prop_map(Operation::Wait),
    ]
}

proptest! {
    /// Every call leaves exactly once. No call gets a permit before a more important one, after its
    /// deadline or too late. The queue keeps its bound, and sheds first the calls of peers that
    /// have more than an equal share of it.
    #[test]
    fn every_call_leaves_once_and_in_order(
        operations in prop::collection::vec(operation(), 0..300),
        len_max in 0usize..20,
    ) {
        let mut queue = AdmissionQueue::new(QueueBounds { len_max, ..BOUNDS });
        let mut now = Duration::ZERO;
        // Class, arrival, deadline and position of queued calls.
        type Queued = (usize, Duration, Option<Duration>, QueuePosition<u8>);
        let mut waiting: HashMap<u32, Queued> = HashMap::new();
        for (number, operation) in (0u32..).zip(operations) {
            match operation {
                Operation::Push { priority, is_retry, peer, deadline_ms } => {
                    let deadline = deadline_ms.map(|ms| now + Duration::from_millis(ms.into()));
                    let rank = Rank { priority, is_retry, peer, deadline };
                    let class = class_of(&rank);
                    let calls = waiting.values().map(|(l, .., position)| (*l, position.peer));
                    let calls: Vec<(usize, u8)> = calls.collect();
                    let len = |peer| calls.iter().filter(|(_, other)| *other == peer).count();
                    let peers: HashSet<u8> = calls.iter().map(|(_, peer)| *peer).collect();
                    let count = peers.len() + usize::from(!peers.contains(&peer));
                    let part = (len_max / count).max(1);
                    let has_part = len(peer) >= part;
                    let gives_way = |other| len(other) > part || (has_part && other == peer);
                    let lowest_of = |which: &dyn Fn(u8) -> bool| {
                        let classes = calls.iter().filter(|(_, other)| which(*other));
                        classes.map(|(class, _)| *class).max()
                    };
                    let lowest = lowest_of(&gives_way);
                    match queue.push(now, rank, number) {
                        PushOutcome::Queued { position, shed } => {
                            if let Some((whose, shed)) = shed {
                                prop_assert_eq!(waiting.len(), len_max);
                                let queued = waiting.remove(&shed).expect("it waited");
                                let (other, .., position) = queued;
                                prop_assert_eq!(position.peer, whose);
                                if let Some(lowest) = lowest {
                                    prop_assert!(gives_way(whose), "it has no more than its share");
                                    prop_assert_eq!(other, lowest);
                                    prop_assert!(!has_part || other >= class, "it matters no more");
                                } else {
                                    prop_assert_eq!(Some(other), lowest_of(&|_| true));
                                    prop_assert!(other > class, "it matters less");
                                }
                            }
                            waiting.insert(number, (class, now, deadline, position));
                        }
                        PushOutcome::QueueFull => {
                            prop_assert_eq!(waiting.len(), len_max);
                            prop_assert!(has_part || lowest.is_none(), "it has a part");
                            let lowest = lowest.or_else(|| lowest_of(&|_| true));
                            prop_assert!(lowest.is_none_or(|lowest| lowest <= class));
                        }
                    }
                }
                Operation::Pop => {
                    let mut shed = Vec::new();
                    let tell = |_: &u8, call, why| shed.push((call, why));
                    let popped = queue.pop(now, &mut Free, tell).map(|(_, call)| call);
                    for (call, why) in shed {
                        let (_, since, deadline, _) = waiting.remove(&call).expect("it waited");
                        match why {
                            ShedReason::Expired => {
                                prop_assert!(deadline.is_some_and(|at| at <= now));
                            }
                            ShedReason::WaitedTooLong => prop_assert!(now - since > BOUNDS.target),
                        }
                    }
                    if let Some(call) = popped {
                        let (class, since, deadline, _) = waiting.remove(&call).expect("it waited");
                        prop_assert!(deadline.is_none_or(|at| at > now));
                        prop_assert!(now - since <= BOUNDS.interval);
                        prop_assert!(waiting.values().all(|(l, ..)| *l >= class));
                    } else {
                        prop_assert!(waiting.is_empty());
                    }
                }
                Operation::Remove(which) => {
                    let calls: Vec<u32> = waiting.keys().copied().collect();
                    if let Some(call) = calls.get(usize::from(which) % calls.len().max(1)) {
                        let (.., position) = waiting.remove(call).expect("it waits");
                        prop_assert_eq!(queue.remove(&position), Some(*call));
                        prop_assert_eq!(queue.remove(&position), None);
                    }
                }
                Operation::Wait(ms) => now += Duration::from_millis(ms.into()),
            }
            prop_assert_eq!(queue.len(), waiting.len());
            prop_assert!(queue.len() <= len_max);
        }
    }

    /// Of peers that always have queued calls, none gets more than one permit more than another.
    #[test]
    fn waiting_peers_get_equal_numbers_of_permits(
        rates in prop::collection::vec(1usize..6, 2..5),
        permits in 1usize..100,
    ) {
        let mut queue = AdmissionQueue::new(QueueBounds { len_max: 60, ..BOUNDS });
        let mut served = vec![0usize; rates.len()];
        for round in 0..permits {
            for (peer, rate) in rates.iter().enumerate() {
                // All have had a call in the queue since the first permit.
                for _ in 0..rate * if round == 0 { 4 } else { 1 } {
                    let rank = rank(Priority::Critical, peer as u8);
                    let _ = queue.push(ms(0), rank, peer);
                }
            }
            let (_, peer) = queue.pop(ms(0), &mut Free, |_, _, _| {}).expect("one waits");
            served[peer] += 1;
        }
        let (least, most) = (served.iter().min(), served.iter().max());
        prop_assert!(most.zip(least).is_some_and(|(most, least)| most - least <= 1), "{served:?}");
    }
}
