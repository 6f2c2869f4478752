//! Tests of presets and of contradictory settings.

use std::num::NonZeroU32;

use super::*;

#[test]
fn presets_are_consistent() {
    assert_eq!(TransportConfig::lan().validate(), Ok(()));
    assert_eq!(TransportConfig::wan().validate(), Ok(()));
    assert_eq!(TransportConfig::bulk().validate(), Ok(()));
}

fn base() -> TransportConfig {
    TransportConfig::lan()
}

/// Checks that each config is valid, or has the error of its row.
#[track_caller]
fn check<const N: usize>(table: [(TransportConfig, Result<(), ConfigError>); N]) {
    for (config, expected) in table {
        assert_eq!(config.validate(), expected, "{config:?}");
    }
}

#[test]
fn message_and_lane_body_sizes_have_limits() {
    check([
        (
            base().with_message_bytes_max(0),
            Err(ConfigError::MessageLimit(0)),
        ),
        (
            base().with_lane_body_bytes_max(65_536),
            Err(ConfigError::LaneBody(65_536)),
        ),
        // Lanes for all bodies, and for none.
        (base().with_lane_body_bytes_max(65_535), Ok(())),
        (base().with_lane_body_bytes_max(0), Ok(())),
    ]);
}

#[test]
fn durations_are_neither_zero_nor_longer_than_a_day() {
    check([
        (
            base().with_header_timeout(Duration::ZERO),
            Err(ConfigError::Zero("header_timeout")),
        ),
        (
            base().with_stall_timeout(Duration::MAX),
            Err(ConfigError::TooLong {
                name: "stall_timeout",
                value: Duration::MAX,
            }),
        ),
        (base().with_stall_timeout(TIME_CEILING), Ok(())),
    ]);
}

#[test]
fn the_keep_alive_is_at_most_half_of_the_idle_timeout() {
    let second = Duration::from_secs(1);
    check([
        (
            base().with_keep_alive(second).with_idle_timeout(second),
            Err(ConfigError::KeepAlive {
                keep_alive: second,
                idle_timeout: second,
            }),
        ),
        (
            base().with_keep_alive(second).with_idle_timeout(2 * second),
            Ok(()),
        ),
    ]);
}

#[test]
fn the_windows_of_all_streams_fit_those_of_the_connection() {
    let too_small = NonZeroU32::new(64 * MIB as u32 - 1).unwrap();
    check([
        (
            base().with_stream_window_bytes(NonZeroU32::MAX),
            Err(ConfigError::Windows {
                name: "connection_window_bytes",
                bytes: 64 * MIB as u32,
                stream: u32::MAX,
                streams: 128,
            }),
        ),
        (
            base().with_send_window_bytes(too_small),
            Err(ConfigError::Windows {
                name: "send_window_bytes",
                bytes: too_small.get(),
                stream: MIB as u32 / 2,
                streams: 128,
            }),
        ),
    ]);
}

#[test]
fn packet_sizes_are_in_order_and_two_packets_fit_the_initial_window() {
    let error = |initial, max| Err(ConfigError::Mtu { initial, max });
    check([
        (base().with_mtu_max(1_199), error(1_200, 1_199)),
        (base().with_mtu_max(65_528), error(1_200, 65_528)),
        (base().with_initial_mtu(1_199), error(1_199, 8_952)),
        (base().with_initial_mtu(8_953), error(8_953, 8_952)),
        (
            base().with_initial_window_bytes(2_399),
            Err(ConfigError::InitialWindow {
                bytes: 2_399,
                initial_mtu: 1_200,
            }),
        ),
        // The largest packets, with a window for two of them.
        (
            base()
                .with_mtu_max(65_527)
                .with_initial_mtu(65_527)
                .with_initial_window_bytes(2 * 65_527),
            Ok(()),
        ),
    ]);
}

#[test]
fn acknowledgement_frequencies_have_bounds() {
    for (packets, delay_ms, is_valid) in [
        (0, 1, true),
        (1_000, 25, true),
        (1_001, 5, false),
        (10, 0, false),
        (10, 26, false),
    ] {
        let delay = Duration::from_millis(delay_ms);
        let config = base().with_ack_frequency(Some(AckFrequency { packets, delay }));
        let error = ConfigError::AckFrequency { packets, delay };
        let expected = if is_valid { Ok(()) } else { Err(error) };
        assert_eq!(config.validate(), expected);
    }
    check([(base().with_ack_frequency(None), Ok(()))]);
}
