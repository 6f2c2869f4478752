//! Tests of fairness: what the calls of one peer do to those of another.

use super::*;
use Priority::{Critical, CriticalPlus, Sheddable, SheddablePlus};

/// Outcomes of the calls of a peer.
#[derive(Debug, Default, PartialEq, Eq)]
struct Ends {
    served: usize,
    lost: usize,
    longest: Duration,
}

/// A queue whose calls carry the peer that counts them and the time of their arrival.
struct Load {
    queue: AdmissionQueue<u8, u64>,
    now: u64,
    by_peer: HashMap<u8, Ends>,
}

impl Load {
    fn new(len_max: usize) -> Self {
        Self {
            queue: AdmissionQueue::new(QueueBounds { len_max, ..BOUNDS }),
            now: 0,
            by_peer: HashMap::new(),
        }
    }

    fn push(&mut self, rank: Rank<u8>) {
        let peer = rank.peer;
        let lost = match self.queue.push(ms(self.now), rank, self.now) {
            PushOutcome::Queued { shed, .. } => shed.map(|(other, _)| other),
            PushOutcome::QueueFull => Some(peer),
        };
        if let Some(other) = lost {
            self.by_peer.entry(other).or_default().lost += 1;
        }
    }

    /// One permit becomes free, and a millisecond passes.
    fn pop(&mut self) {
        let by_peer = &mut self.by_peer;
        let tell = |peer: &u8, _, _| by_peer.entry(*peer).or_default().lost += 1;
        let next = self.queue.pop(ms(self.now), &mut Free, tell);
        if let Some((peer, since)) = next {
            let ends = self.by_peer.entry(peer).or_default();
            ends.served += 1;
            ends.longest = ends.longest.max(ms(self.now - since));
        }
        self.now += 1;
    }

    fn ends(&mut self, peer: u8) -> Ends {
        self.by_peer.remove(&peer).unwrap_or_default()
    }
}

#[test]
fn a_peer_loses_no_calls_to_the_standing_queue_of_another() {
    // The second queue is full all the time.
    for len_max in [1_000, 40] {
        let mut load = Load::new(len_max);
        while load.now < 3_000 {
            for _ in 0..3 {
                load.push(rank(Critical, 1));
            }
            if load.now >= 500 && load.now.is_multiple_of(100) {
                (0..12).for_each(|_| load.push(rank(Critical, 2)));
            }
            load.pop();
            assert!(load.now < 300 || load.queue.is_standing());
        }
        let [flood, bursts] = [1, 2].map(|peer| load.ends(peer));
        assert!(flood.lost > 5_000, "{flood:?}");
        assert_eq!((bursts.served, bursts.lost), (25 * 12, 0));
        assert!(bursts.longest <= ms(2 * 12), "each has half of the permits");
    }
}

#[test]
fn only_a_peer_with_a_standing_queue_serves_its_newest_first() {
    let mut check = Check::new(1_000);
    for now in 0..300 {
        check.push(now, rank(Critical, 1), "call");
        check.push(now, rank(Critical, 1), "call");
        check.pop(now);
    }
    check.push(300, rank(Critical, 1), "first of the flood");
    check.push(300, rank(Critical, 1), "last of the flood");
    for call in ["a", "b", "c"] {
        check.push(300, rank(Critical, 2), call);
    }
    // In the other classes of the peer too.
    check.push(300, rank(CriticalPlus, 1), "plus 1");
    check.push(300, rank(CriticalPlus, 1), "plus 2");
    let order: Vec<_> = (0..7).filter_map(|_| check.pop(300)).collect();
    let expected = [
        "plus 2",
        "plus 1",
        "last of the flood",
        "a",
        "first of the flood",
        "b",
        "call",
    ];
    assert_eq!(order, expected);
}

#[test]
fn a_peer_within_its_part_loses_no_call_to_higher_priorities() {
    let mut check = Check::new(4);
    for call in ["p1", "p2", "p3", "p4"] {
        assert!(check.push(0, rank(CriticalPlus, 1), call));
    }
    assert!(check.push(0, rank(Sheddable, 2), "s1"));
    assert!(check.push(0, rank(Sheddable, 2), "s2"));
    assert_eq!(check.shed(), [("p4", None), ("p3", None)]);
    assert!(!check.push(0, rank(CriticalPlus, 1), "p5"));
    assert!(!check.push(0, rank(Sheddable, 2), "s3"), "it has its part");
    assert!(check.push(0, rank(Critical, 2), "c1"));
    assert_eq!(check.shed(), [("s2", None)], "of the same peer");
}

#[test]
fn peers_above_their_part_lose_the_lowest_priority_first() {
    let mut check = Check::new(8);
    for call in ["p1", "p2", "p3", "p4", "p5"] {
        assert!(check.push(0, rank(CriticalPlus, 1), call));
    }
    for call in ["s1", "s2", "s3"] {
        assert!(check.push(0, rank(Sheddable, 2), call));
    }
    assert!(check.push(0, rank(SheddablePlus, 3), "t1"));
    assert_eq!(check.shed(), [("s3", None)], "its part is two");
    assert!(check.push(0, rank(SheddablePlus, 3), "t2"));
    assert_eq!(check.shed(), [("p5", None)]);
    assert!(!check.push(0, rank(SheddablePlus, 3), "t3"));
    assert!(check.push(0, rank(Critical, 3), "c1"));
    assert_eq!(check.shed(), [("t2", None)]);
}

#[test]
fn with_one_call_a_peer_the_lowest_priority_is_shed() {
    let mut check = Check::new(2);
    assert!(check.push(0, rank(Critical, 1), "a"));
    assert!(check.push(0, rank(Sheddable, 2), "b"));
    assert!(!check.push(0, rank(Sheddable, 3), "c"));
    assert!(check.push(0, rank(SheddablePlus, 4), "d"));
    assert_eq!(check.shed(), [("b", None)]);
    assert!(check.push(0, rank(CriticalPlus, 1), "a2"));
    assert_eq!(check.shed(), [("a", None)], "of the same peer");
}

#[test]
fn many_waiting_peers_are_judged_as_one_queue() {
    let mut load = Load::new(1_000);
    // Each has a call in the queue now and then, and all together twice as many as permits.
    let step = |load: &mut Load, peers: u64| {
        for call in [2 * load.now, 2 * load.now + 1] {
            load.push(rank(Critical, (call % peers) as u8));
        }
        load.pop();
    };
    while load.now < 500 {
        step(&mut load, 250);
    }
    let late: Vec<Ends> = (0..250).map(|peer| load.ends(peer)).collect();
    assert!(late.iter().any(|ends| ends.longest > ms(40)));
    while load.now < 1_500 {
        step(&mut load, 250);
    }
    let mut quick: Vec<Ends> = (0..250).map(|peer| load.ends(peer)).collect();
    assert!(quick.iter().all(|ends| ends.longest <= ms(10)), "{quick:?}");
    let served: usize = quick.drain(..).map(|ends| ends.served).sum();
    assert_eq!(served, 1_000, "each permit is used");
    // A few peers have their turns soon, so a long queue of one of them delays only itself.
    while load.now < 2_000 {
        (0..2).for_each(|_| load.push(rank(Critical, 1)));
        load.pop();
    }
    load.by_peer.clear();
    (0..12).for_each(|_| load.push(rank(Critical, 2)));
    while load.now < 2_100 {
        (0..2).for_each(|_| load.push(rank(Critical, 1)));
        load.pop();
    }
    let bursts = load.ends(2);
    assert_eq!((bursts.served, bursts.lost), (12, 0));
}

#[test]
fn the_state_of_a_peer_ends_with_its_last_queued_call() {
    let mut load = Load::new(100);
    for peer in 0..200 {
        (0..3).for_each(|_| load.push(rank(Critical, peer)));
        load.pop();
    }
    assert!(load.queue.peers.count() <= 100);
    while load.queue.len() > 0 {
        load.pop();
    }
    assert_eq!(load.queue.peers.count(), 0);
    assert!(!load.queue.is_standing());
}

proptest! {
    /// Whatever others queue, a peer whose calls all have their turns within the interval, and that
    /// keeps to its part of the queue, loses no call.
    #[test]
    fn a_peer_served_within_the_interval_loses_no_call(
        floods in prop::collection::vec(
            prop::collection::vec(
                (prop::sample::select(vec![Critical, Sheddable]), 0usize..8),
                600,
            ),
            1..4,
        ),
        burst in 1usize..25,
        spare in 0usize..200,
        after in 0u64..100,
    ) {
        let peers = floods.len() + 1;
        let burst = burst.min(100 / peers - 1);
        let mut load = Load::new(peers * burst + spare);
        let period = (peers * burst) as u64 + 2 + after;
        while load.now < 600 {
            for (peer, flood) in (1u8..).zip(&floods) {
                let (priority, calls) = flood[load.now as usize];
                (0..calls).for_each(|_| load.push(rank(priority, peer)));
            }
            if load.now.is_multiple_of(period) && load.now + period < 600 {
                (0..burst).for_each(|_| load.push(rank(Critical, 0)));
            }
            load.pop();
        }
        let Ends { served, lost, .. } = load.ends(0);
        prop_assert_eq!(lost, 0);
        prop_assert_eq!(served % burst, 0);
        prop_assert!(served > 0);
    }
}
