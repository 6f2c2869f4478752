//! Trust: the weight of one member's claim, and the answers to datagrams from another source.

use super::hostile::far;
use super::*;

/// `node` knows `x` and some others, `y` among them.
fn observer() -> Engine {
    let mut node = engine("node", 1, 1);
    for (n, name) in (2..).zip(["x", "y", "z", "u", "v"]) {
        let alive = record(name, 5, 3, n, alive());
        node.merge_gossip(alive);
    }
    node
}

fn merge_gossip(node: &mut Engine, now: Time, claim: Claim) {
    node.merge(now, record("x", 5, 3, 2, claim), RecordSource::Gossip);
}

fn state(node: &Engine) -> MemberState {
    node.member("x").unwrap().state
}

#[test]
fn claims_alone_fail_no_member() {
    let mut node = observer();
    while node.poll_transmit().is_some() {}
    merge_gossip(&mut node, Time::ZERO, Claim::Failed);
    merge_gossip(&mut node, Time::ZERO, Claim::Failed);
    assert_eq!(state(&node), MemberState::Alive);
    assert_eq!(node.stats().claims_rechecked, 1);
    // It probes the member itself.
    assert_eq!(node.poll_transmit().map(|(to, _)| to), Some(addr(2)));
}

#[test]
fn a_failed_claim_is_believed_of_a_member_that_two_suspect_or_that_was_missed() {
    let mut two = Suspectors::default();
    two.merge(Confirmation::new(1, 2.0));
    two.merge(Confirmation::new(2, 2.0));
    // As two that were isolated together report it when they are back: it could not refute yet.
    let mut node = observer();
    merge_gossip(&mut node, Time::ZERO, Claim::Suspect(two));
    merge_gossip(&mut node, Time::from_millis(300), Claim::Failed);
    assert_eq!(state(&node), MemberState::Suspect);
    merge_gossip(&mut node, Time::from_millis(400), Claim::Failed);
    assert_eq!(state(&node), MemberState::Failed);

    let mut node = observer();
    merge_gossip(&mut node, Time::ZERO, suspect());
    merge_gossip(&mut node, Time::from_millis(900), Claim::Failed);
    assert_eq!(
        state(&node),
        MemberState::Suspect,
        "one suspector is no two"
    );
    node.on_missed_probe(Time::from_millis(900), crate::id::name_key("x"));
    assert_eq!(state(&node), MemberState::Failed, "a miss confirms it");
}

#[test]
fn a_late_answer_keeps_the_time_of_the_first_failed_claim() {
    let at = |millis: u64| Time::from_millis(10_000 + millis);
    let x = crate::id::name_key("x");
    let mut node = observer();
    node.record_heard(at(0));
    merge_gossip(&mut node, at(0), Claim::Failed);
    let seq = node.probes.rounds.as_slice()[0].seq;
    for ends in [500, 1_000, 1_250] {
        node.on_probe_round_timer(at(ends), seq);
    }
    assert!(!node.probes.rounds.contains(seq), "the round is over");
    node.on_ack(at(1_300), x, seq, true);
    assert_eq!(node.stats().late_answers, 1);
    let claim = || record("x", 5, 3, 2, Claim::Failed);
    node.merge(at(1_400), claim(), RecordSource::Sync);
    assert_eq!(state(&node), MemberState::Alive, "it has time to refute");
    node.merge(at(1_500), claim(), RecordSource::Sync);
    assert_eq!(state(&node), MemberState::Failed);
}

#[test]
fn a_member_reported_left_that_still_speaks_is_told() {
    let (mut node, mut x) = (engine("node", 1, 1), engine("x", 5, 2));
    node.merge_gossip(x.own_record());
    x.merge_gossip(node.own_record());
    node.merge_gossip(record("x", 5, 0, 2, Claim::Left));
    while node.poll_transmit().is_some() || x.poll_transmit().is_some() {}
    // It hears that it left; its next ping shows that it is a new instance.
    for _ in 0..2 {
        x.start_probe(Time::ZERO, node.local.key);
        for _ in 0..4 {
            while let Some((_, mut datagram)) = x.poll_transmit() {
                node.handle_datagram(Time::ZERO, addr(2), &mut datagram);
            }
            while let Some((_, mut datagram)) = node.poll_transmit() {
                x.handle_datagram(Time::ZERO, addr(1), &mut datagram);
            }
        }
    }
    assert!(x.id().epoch > 5, "{x:?}");
    assert!(node.member("x").unwrap().state.is_live(), "{node:?}");
}

/// A node with hundreds of members, and `x` that it knows by claims alone.
fn large() -> (Engine, Engine) {
    let (mut node, mut x) = (engine("node", 1, 1), engine("x", 5, 2));
    for n in 0..400 {
        let alive = record(&format!("m{n}"), 1, 0, 1, alive());
        node.merge(
            Time::ZERO,
            Record {
                addr: far(n),
                ..alive
            },
            RecordSource::Sync,
        );
    }
    node.merge(Time::ZERO, x.own_record(), RecordSource::Sync);
    x.merge(Time::ZERO, node.own_record(), RecordSource::Sync);
    while node.poll_transmit().is_some() || x.poll_transmit().is_some() {}
    (node, x)
}

fn request(x: &mut Engine, node: &Engine, payload: Payload) -> Vec<u8> {
    let to = crate::id::instance_key(node.local.key, node.local.epoch);
    x.send(addr(1), to, payload);
    x.poll_transmit().unwrap().1
}

/// Bytes that went to each address.
fn answers(node: &mut Engine) -> std::collections::BTreeMap<SocketAddr, usize> {
    let mut sent = std::collections::BTreeMap::new();
    while let Some((to, datagram)) = node.poll_transmit() {
        *sent.entry(to).or_default() += datagram.len();
    }
    sent
}

fn requests() -> Vec<Payload> {
    let buckets = Box::new([1; crate::wire::DIGEST_BUCKETS]);
    let keys = (0..100)
        .map(|n| crate::id::name_key(&format!("m{n}")))
        .collect();
    vec![
        Payload::FullPull { cursor: 0 },
        Payload::SyncDigest { buckets },
        Payload::SyncPull { keys },
        Payload::Ping {
            seq: 1,
            view: 2,
            updates: Vec::new(),
        },
    ]
}

#[test]
fn a_withheld_datagram_from_elsewhere_draws_three_times_its_bytes_at_most() {
    for payload in requests() {
        let (mut node, mut x) = large();
        let about = format!("{payload:?}");
        let mut withheld = request(&mut x, &node, payload);
        node.handle_datagram(Time::ZERO, far(999), &mut withheld);
        let sent = answers(&mut node);
        let drawn = sent.get(&far(999)).copied().unwrap_or(0);
        // RFC 9000 section 8.1.
        assert!(drawn <= 3 * withheld.len(), "{drawn} bytes for {about}");
        // It was never seen to receive at its own address: bulk has to wait.
        let there = sent.get(&addr(2)).copied().unwrap_or(0);
        assert!(
            there <= 3 * withheld.len() + 1_400,
            "{there} bytes for {about}"
        );
    }
}

#[test]
fn bulk_flows_once_a_ping_was_answered() {
    let (mut node, mut x) = large();
    let mut pull = request(&mut x, &node, Payload::FullPull { cursor: 0 });
    node.handle_datagram(Time::ZERO, addr(2), &mut pull);
    let (to, mut ping) = node.poll_transmit().expect("a ping");
    assert_eq!((to, node.stats().amplification_limited), (addr(2), 1));
    x.handle_datagram(Time::ZERO, addr(1), &mut ping);
    while let Some((_, mut ack)) = x.poll_transmit() {
        node.handle_datagram(Time::ZERO, addr(2), &mut ack);
    }
    answers(&mut node);
    let mut pull = request(&mut x, &node, Payload::FullPull { cursor: 0 });
    node.handle_datagram(Time::ZERO, addr(2), &mut pull);
    assert!(answers(&mut node)[&addr(2)] > 5_000);
}
