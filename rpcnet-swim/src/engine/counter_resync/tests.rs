//! Counter resynchronisation: counters at the far ends.

use std::net::SocketAddr;
use std::time::Duration;

use crate::engine::replay::COUNTER_JUMP_MAX;
use crate::engine::test_support::{addr, engine};
use crate::engine::{Engine, Sender};
use crate::id::name_key;
use crate::time::Time;
use crate::wire::{Envelope, GossipMessage, Origin, Payload};

/// Two members that know each other, and the datagrams between them.
struct Pair {
    now: Time,
    a: Engine,
    b: Engine,
    sent: Vec<(SocketAddr, Vec<u8>)>,
}

impl Pair {
    fn new() -> Self {
        let (mut a, mut b) = (engine("a", 5, 1), engine("b", 5, 2));
        a.handle_seeds(Time::ZERO, &[]);
        b.handle_seeds(Time::ZERO, &[addr(1)]);
        let now = Time::ZERO;
        let sent = Vec::new();
        let mut pair = Self { now, a, b, sent };
        pair.converse();
        assert_eq!((pair.a.live_count(), pair.b.live_count()), (2, 2));
        pair
    }

    fn converse(&mut self) {
        loop {
            let (engine, from) = match self.a.poll_transmit() {
                Some(sent) => (sent, addr(1)),
                None => match self.b.poll_transmit() {
                    Some(sent) => (sent, addr(2)),
                    None => return,
                },
            };
            let (to, mut datagram) = engine;
            self.sent.push((from, datagram.clone()));
            if to == addr(1) {
                self.a.handle_datagram(self.now, from, &mut datagram);
            } else if to == addr(2) {
                self.b.handle_datagram(self.now, from, &mut datagram);
            }
        }
    }

    /// Lets time pass, in which nothing is lost.
    fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.converse();
            let due = [self.a.poll_timeout(), self.b.poll_timeout()];
            let Some(due) = due.into_iter().flatten().min().filter(|at| *at <= end) else {
                break;
            };
            self.now = self.now.max(due);
            self.a.handle_timeout(self.now);
            self.b.handle_timeout(self.now);
        }
        self.now = end;
    }

    /// Sends in the name of `b`, with the cluster's key.
    fn forge(&mut self, counter: u64) {
        let origin = Origin {
            from: name_key("b"),
            epoch: 5,
            counter,
        };
        let payload = Payload::LeaveAck { seq: 0 };
        let (mut datagram, message) = (Vec::new(), GossipMessage { to: 0, payload });
        Envelope::new("rpcnet", None, 1).seal(origin, &mut datagram, |out| message.encode(out));
        self.a.handle_datagram(self.now, addr(99), &mut datagram);
    }
}

#[test]
fn a_forged_counter_blocks_no_member() {
    for counters in [
        vec![u64::MAX],
        vec![1_000],
        vec![COUNTER_JUMP_MAX],
        (1..=20).map(|n| n * COUNTER_JUMP_MAX).collect(),
        vec![COUNTER_JUMP_MAX, u64::MAX, 1 << 40, 5],
    ] {
        let mut pair = Pair::new();
        pair.run_for(Duration::from_secs(3));
        for counter in &counters {
            pair.forge(*counter);
        }
        // Within a few probe intervals it is heard again, and everything it sends.
        pair.run_for(Duration::from_secs(5));
        let replayed = pair.a.stats().dropped.replayed;
        pair.b.set_tag(pair.now, "is", "heard").unwrap();
        pair.run_for(Duration::from_secs(5));
        let b = pair.a.member("b").unwrap();
        assert_eq!(b.tags.get("is"), Some("heard"), "{counters:?}");
        assert_eq!(pair.a.stats().dropped.replayed, replayed, "{counters:?}");
        assert_eq!(b.id.epoch, 5, "it did not have to begin anew: {counters:?}");
    }
}

#[test]
fn a_counter_is_proved_once() {
    let mut pair = Pair::new();
    pair.forge(u64::MAX);
    let key = name_key("b");
    let asked = pair.a.table.get(key).unwrap().faults().counter_proof;
    let nonce = asked.expect("it is asked").nonce;
    let sender = Sender {
        addr: addr(2),
        key,
        epoch: 5,
        counter: 9_000,
        sealed_with: None,
        bytes: 100,
    };
    assert!(!pair.a.accept_counter_proof(sender, nonce ^ 1));
    assert!(pair.a.accept_counter_proof(sender, nonce));
    assert!(!pair.a.accept_counter_proof(sender, nonce), "a replay");
}

#[test]
fn a_member_that_is_far_ahead_after_a_long_silence_is_heard() {
    let mut pair = Pair::new();
    // To other members, meanwhile.
    pair.b.send_queue.counter += 50 * COUNTER_JUMP_MAX;
    pair.run_for(Duration::from_secs(3));
    assert!(pair.a.stats().counter_checks > 0);
    let replayed = pair.a.stats().dropped.replayed;
    pair.run_for(Duration::from_secs(10));
    assert_eq!(pair.a.stats().dropped.replayed, replayed);
    assert_eq!((pair.a.live_count(), pair.b.live_count()), (2, 2));
}

#[test]
fn a_replayed_datagram_moves_no_window_and_causes_one_challenge_an_interval() {
    let mut pair = Pair::new();
    pair.run_for(Duration::from_secs(120));
    let (sent, window) = (pair.sent.clone(), window(&pair));
    let before = pair.a.stats();
    for (_, datagram) in sent.iter().filter(|(from, _)| *from == addr(2)) {
        pair.a
            .handle_datagram(pair.now, addr(66), &mut datagram.clone());
    }
    let asked = pair.a.stats().counter_checks - before.counter_checks;
    assert_eq!(asked, 1);
    // Only the member is asked, at its known address, and it does not answer for old ones.
    while let Some((to, mut datagram)) = pair.a.poll_transmit() {
        if to == addr(2) {
            pair.b.handle_datagram(pair.now, addr(1), &mut datagram);
        }
    }
    assert_eq!(self::window(&pair), window);
}

fn window(pair: &Pair) -> String {
    format!(
        "{:?}",
        pair.a.table.get(name_key("b")).unwrap().replay_window()
    )
}
