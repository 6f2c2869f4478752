//! Tests of the configuration: presets, explicit settings, contradictions.

use super::*;
use crate::key::ClusterKey;

#[test]
fn presets_are_valid() {
    for config in [
        ClusterConfig::local(),
        ClusterConfig::lan(),
        ClusterConfig::wan(),
    ] {
        assert_eq!(config.validate(), Ok(()));
    }
}

#[test]
fn the_probe_interval_keeps_times_that_were_set() {
    let (second, set) = (Duration::from_secs(1), Duration::from_millis(300));
    let before = ClusterConfig::lan()
        .with_probe_timeout(set)
        .with_probe_interval(4 * second);
    let after = ClusterConfig::lan()
        .with_probe_interval(4 * second)
        .with_probe_timeout(set);
    for config in [before, after] {
        assert_eq!(config.effective_probe_timeout(), set);
        assert_eq!(config.effective_refute_time(), second.mul_f64(2.6));
    }
    let config = ClusterConfig::lan()
        .with_refute_time(set)
        .with_probe_interval(4 * second);
    assert_eq!(
        (
            config.effective_probe_timeout(),
            config.effective_refute_time()
        ),
        (2 * second, set)
    );
}

/// Checks that each configuration is refused, with this text in the error.
fn check_refused(cases: impl IntoIterator<Item = (ClusterConfig, &'static str)>) {
    for (config, message) in cases {
        let error = config.validate().unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn an_invalid_name_or_seed_is_named() {
    let lan = ClusterConfig::lan;
    check_refused([
        (lan().with_name("a b"), "invalid name \"a b\""),
        (lan().with_name("n".repeat(254)), "1 to 253 of A-Z a-z 0-9"),
        (lan().with_cluster_name(""), "invalid name \"\""),
        (
            lan().with_seeds(["a:1", "http://b:2"]),
            "invalid seed \"http://b:2\": it is a URL",
        ),
    ]);
    assert_eq!(lan().with_name("N-1.Pool.").name(), Some("n-1.pool"));
}

#[test]
fn tags_fit_beside_the_longest_name_up_to_a_size() {
    let config = |bytes: usize| {
        let part = |n| bytes / 4 + usize::from(n < bytes % 4);
        let pairs = (0..4).map(|n| (n.to_string(), "v".repeat(part(n) - 3)));
        ClusterConfig::lan()
            .with_name("n".repeat(253))
            .with_tags(Tags::from_pairs(pairs).unwrap())
    };
    assert_eq!(config(834).validate(), Ok(()));
    check_refused([(
        config(835),
        "tags take 835 bytes encoded, at most 834 are carried beside a name of 253 bytes",
    )]);
}

#[test]
fn a_time_out_of_range_is_named() {
    let lan = ClusterConfig::lan;
    check_refused([
        (
            lan().with_gossip_interval(Duration::ZERO),
            "gossip interval must not be zero",
        ),
        (
            lan().with_gossip_interval(Duration::from_micros(500)),
            "gossip interval is 0.0005",
        ),
        (
            lan().with_probe_timeout(Duration::from_millis(701)),
            "probe timeout 701ms",
        ),
        (
            lan().with_probe_interval(Duration::MAX),
            "probe interval is 184",
        ),
        (lan().with_refute_time(Duration::MAX), "refute time is 184"),
    ]);
}

#[test]
fn a_number_out_of_range_is_named() {
    let lan = ClusterConfig::lan;
    check_refused([
        (lan().with_phi_threshold(f64::NAN), "phi threshold is NaN"),
        (lan().with_indirect_probes(17), "indirect probes is 17"),
        (
            lan().with_datagram_bytes_max(1_231),
            "datagram bytes is 1231",
        ),
    ]);
}

#[test]
fn beyond_loopback_gossip_has_a_key_or_is_insecure_by_name() {
    let any: SocketAddr = "0.0.0.0:0".parse().unwrap();
    let key = || ClusterKey::from_bytes([1; 32]);
    let bound_to_all = || ClusterConfig::lan().with_bind_addr(any);
    assert_eq!(bound_to_all().with_key(key()).validate(), Ok(()));
    assert_eq!(bound_to_all().insecure_gossip().validate(), Ok(()));
    check_refused([
        (bound_to_all(), "0.0.0.0:0 is not loopback"),
        (
            ClusterConfig::lan().with_key(key()).insecure_gossip(),
            "contradict each other",
        ),
    ]);
}
