//! Reach check: what starts one.

use std::time::Duration;

use crate::engine::Engine;
use crate::engine::merge::RecordSource;
use crate::engine::test_support::{self, alive};
use crate::id::name_key;
use crate::time::Time;
use crate::wire::{Claim, Confirmation, Record, Suspectors};

const MEMBERS: u16 = 80;

fn record(member: u16, claim: Claim) -> Record {
    test_support::record(&format!("m{member}"), 1, 0, 100 + member, claim)
}

fn engine() -> Engine {
    let mut engine = test_support::engine("me", 1, 1);
    engine.handle_seeds(Time::ZERO, &[]);
    for member in 0..MEMBERS {
        let alive = record(member, alive());
        engine.merge_gossip(alive);
    }
    engine
}

/// Claims that these members are suspected by two others.
fn suspect(engine: &mut Engine, now: Time, members: std::ops::Range<u16>) {
    for member in members {
        let mut suspectors = Suspectors::default();
        suspectors.merge(Confirmation::new(name_key("m78"), 1.0));
        engine.merge(
            now,
            record(member, Claim::Suspect(suspectors)),
            RecordSource::Gossip,
        );
    }
}

#[test]
fn many_suspicions_within_a_while_start_one_check() {
    let mut node = engine();
    // An eighth of 81 live members.
    suspect(&mut node, Time::ZERO, 0..9);
    assert_eq!(node.stats().reach_checks, 0);
    suspect(&mut node, Time::ZERO, 9..10);
    assert_eq!(node.stats().reach_checks, 1);
    node.reach.check = None;
    suspect(&mut node, Time::from_millis(100), 10..30);
    assert_eq!(node.stats().reach_checks, 1, "once in a while");
}

#[test]
fn few_suspicions_at_a_time_start_no_check() {
    let mut node = engine();
    for nth in 0..6 {
        let now = Time::ZERO + nth * Duration::from_secs(4);
        let first = 5 * nth as u16;
        suspect(&mut node, now, first..first + 5);
    }
    assert_eq!(node.stats().reach_checks, 0);
}

#[test]
fn answers_before_a_partition_do_not_count_towards_its_end() {
    let mut node = engine();
    for member in 0..40 {
        node.record_round_outcome(Time::ZERO, name_key(&format!("m{member}")), true);
    }
    assert_eq!(node.reach.recovery, 0.0);
}
