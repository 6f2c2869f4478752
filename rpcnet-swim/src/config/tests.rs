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
        assert_eq!(config.probe_timeout, set);
        assert_eq!(config.refute_time, second.mul_f64(2.6));
    }
    let config = ClusterConfig::lan()
        .with_refute_time(set)
        .with_probe_interval(4 * second);
    assert_eq!(
        (config.probe_timeout, config.refute_time),
        (2 * second, set)
    );
}

#[test]
fn contradictions_are_named() {
    let lan = ClusterConfig::lan;
    let key = || ClusterKey::from_bytes([1; 32]);
    let any: SocketAddr = "0.0.0.0:0".parse().unwrap();
    let tags = |bytes: usize| {
        let part = |n| bytes / 4 + usize::from(n < bytes % 4);
        let pairs = (0..4).map(|n| (n.to_string(), "v".repeat(part(n) - 3)));
        Tags::from_pairs(pairs).unwrap()
    };
    let cases = [
        (lan().with_name("a b"), "invalid name \"a b\""),
        (lan().with_name("n".repeat(254)), "1 to 253 of A-Z a-z 0-9"),
        (
            lan().with_name("n".repeat(253)).with_tags(tags(835)),
            "tags take 835 bytes encoded, at most 834 are carried beside a name of 253 bytes",
        ),
        (lan().with_cluster_name(""), "invalid name \"\""),
        (
            lan().with_gossip_interval(Duration::ZERO),
            "gossip interval must not be zero",
        ),
        (
            lan().with_probe_timeout(Duration::from_millis(701)),
            "probe timeout 701ms",
        ),
        (
            lan().with_seeds(["a:1", "http://b:2"]),
            "invalid seed \"http://b:2\": it is a URL",
        ),
        (lan().with_phi_threshold(f64::NAN), "phi threshold is NaN"),
        (lan().with_indirect_probes(17), "indirect probes is 17"),
        (
            lan().with_probe_interval(Duration::MAX),
            "probe interval is 184",
        ),
        (lan().with_refute_time(Duration::MAX), "refute time is 184"),
        (
            lan().with_gossip_interval(Duration::from_micros(500)),
            "gossip interval is 0.0005",
        ),
        (
            lan().with_datagram_bytes_max(1_231),
            "datagram bytes is 1231",
        ),
        (lan().with_bind_addr(any), "0.0.0.0:0 is not loopback"),
        (
            lan().with_key(key()).insecure_gossip(),
            "contradict each other",
        ),
    ];
    for (config, message) in cases {
        let error = config.validate().unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
    assert_eq!(lan().with_bind_addr(any).with_key(key()).validate(), Ok(()));
    let longest = lan().with_name("n".repeat(253)).with_tags(tags(834));
    assert_eq!(longest.validate(), Ok(()));
    assert_eq!(lan().with_name("N-1.Pool.").name(), Some("n-1.pool"));
    assert_eq!(
        lan().with_bind_addr(any).insecure_gossip().validate(),
        Ok(())
    );
}
