//! The published numbers, and single steps of the rivals.

use std::time::Duration;

use super::push_pull::push_pull_interval;
use super::*;
use crate::engine::detector::Detector;

fn rival_of(detector: &Detector) -> Rival {
    detector.rules().rival.expect("a rival")
}

/// How long a suspicion lasts among `live` members with 0, 1, ... confirmations, in ms.
fn timeouts(detector: &Detector, live: usize) -> Vec<u128> {
    let rival = rival_of(detector);
    let min = rival.suspicion_min(live, Duration::from_secs(1));
    let awaited = rival.awaited(live);
    (0..=awaited)
        .map(|confirmed| rival.suspicion_timeout(min, awaited, confirmed))
        .map(|timeout| timeout.as_millis())
        .collect()
}

#[test]
fn suspicions_last_as_long_as_published() {
    for (detector, live, expected) in [
        (
            Detector::lifeguard(5),
            128,
            vec![63_210, 36_872, 21_466, 10_535],
        ),
        (
            Detector::lha_suspicion(),
            128,
            vec![63_210, 36_872, 21_466, 10_535],
        ),
        (
            Detector::lifeguard(5),
            8,
            vec![30_000, 17_500, 10_187, 5_000],
        ),
        (
            Detector::lifeguard(5),
            10_000,
            vec![120_000, 70_000, 40_751, 20_000],
        ),
        (Detector::memberlist(), 128, vec![50_568, 23_980, 8_428]),
        (Detector::memberlist(), 8, vec![24_000, 11_381, 4_000]),
        (Detector::swim(), 128, vec![10_535]),
        (Detector::buddy(), 1_000, vec![15_000]),
        (Detector::lha_probe(), 2_000, vec![16_505]),
        (
            Detector::lifeguard(2),
            128,
            vec![25_284, 14_749, 8_586, 4_214],
        ),
        // Nobody to wait for: the shortest time at once.
        (Detector::lifeguard(5), 4, vec![5_000]),
        (
            Detector::lifeguard(5),
            5,
            vec![30_000, 17_500, 10_187, 5_000],
        ),
        (Detector::memberlist(), 3, vec![4_000]),
        (Detector::memberlist(), 4, vec![24_000, 11_381, 4_000]),
    ] {
        let name = detector.name();
        let got = timeouts(&detector, live);
        // What is floored to whole milliseconds depends on the last bit.
        let close = got.iter().zip(&expected).all(|(a, b)| a.abs_diff(*b) <= 1);
        assert!(
            close && got.len() == expected.len(),
            "{name} at {live}: {got:?}, not {expected:?}"
        );
    }
}

#[test]
fn push_pulls_are_rarer_in_larger_clusters() {
    for (live, times) in [
        (1, 1),
        (32, 1),
        (33, 2),
        (64, 2),
        (65, 3),
        (128, 3),
        (1_000, 6),
        (2_000, 7),
        (10_000, 10),
    ] {
        assert_eq!(push_pull_interval(live), Duration::from_secs(30 * times));
    }
}
