//! Tests of presets and of contradictory settings.

use std::num::NonZeroU32;

use super::*;

#[test]
fn presets_are_consistent() {
    assert_eq!(TransportConfig::lan().validate(), Ok(()));
    assert_eq!(TransportConfig::wan().validate(), Ok(()));
    assert_eq!(TransportConfig::bulk().validate(), Ok(()));
}

#[test]
fn contradictions_are_named() {
    let base = TransportConfig::lan;
    let second = Duration::from_secs(1);
    let table = [
        (
            base().with_message_bytes_max(0),
            ConfigError::MessageLimit(0),
        ),
        (
            base().with_header_timeout(Duration::ZERO),
            ConfigError::Zero("header_timeout"),
        ),
        (
            base().with_stall_timeout(Duration::MAX),
            ConfigError::TooLong {
                name: "stall_timeout",
                value: Duration::MAX,
            },
        ),
        (
            base().with_keep_alive(second).with_idle_timeout(second),
            ConfigError::KeepAlive {
                keep_alive: second,
                idle_timeout: second,
            },
        ),
        (
            base().with_stream_window_bytes(NonZeroU32::MAX),
            ConfigError::Windows {
                name: "connection_window_bytes",
                bytes: 64 * MIB as u32,
                stream: u32::MAX,
                streams: 128,
            },
        ),
        (
            base().with_send_window_bytes(NonZeroU32::new(64 * MIB as u32 - 1).unwrap()),
            ConfigError::Windows {
                name: "send_window_bytes",
                bytes: 64 * MIB as u32 - 1,
                stream: MIB as u32 / 2,
                streams: 128,
            },
        ),
        (base().with_mtu_max(1_199), mtu(1_200, 1_199)),
        (base().with_mtu_max(65_528), mtu(1_200, 65_528)),
        (base().with_initial_mtu(1_199), mtu(1_199, 1_452)),
        (base().with_initial_mtu(1_453), mtu(1_453, 1_452)),
        (
            base().with_initial_window_bytes(2_399),
            ConfigError::InitialWindow {
                bytes: 2_399,
                initial_mtu: 1_200,
            },
        ),
        rejected_acks(1_001, 5),
        rejected_acks(10, 0),
        rejected_acks(10, 26),
        (
            base().with_lane_body_bytes_max(65_536),
            ConfigError::LaneBody(65_536),
        ),
    ];
    for (config, expected) in table {
        assert_eq!(config.validate(), Err(expected));
    }
    // Boundaries: exactly a day, and exactly half, are valid.
    let day = base().with_stall_timeout(TIME_CEILING);
    assert_eq!(day.validate(), Ok(()));
    let half = base().with_keep_alive(second).with_idle_timeout(2 * second);
    assert_eq!(half.validate(), Ok(()));
    // So are the largest packets with a window for two of them, the extreme acknowledgement
    // frequencies, and lanes for all bodies or for none.
    let large = base()
        .with_mtu_max(65_527)
        .with_initial_mtu(65_527)
        .with_initial_window_bytes(2 * 65_527);
    assert_eq!(large.validate(), Ok(()));
    for frequency in [None, Some(acks(0, 1)), Some(acks(1_000, 25))] {
        assert_eq!(base().with_ack_frequency(frequency).validate(), Ok(()));
    }
    for bytes in [0, 65_535] {
        assert_eq!(base().with_lane_body_bytes_max(bytes).validate(), Ok(()));
    }
}

fn acks(packets: u32, delay_ms: u64) -> AckFrequency {
    AckFrequency {
        packets,
        delay: Duration::from_millis(delay_ms),
    }
}

fn mtu(initial: u16, max: u16) -> ConfigError {
    ConfigError::Mtu { initial, max }
}

/// A config with this acknowledgement frequency, and its error.
fn rejected_acks(packets: u32, delay_ms: u64) -> (TransportConfig, ConfigError) {
    let frequency = acks(packets, delay_ms);
    let AckFrequency { packets, delay } = frequency;
    (
        TransportConfig::lan().with_ack_frequency(Some(frequency)),
        ConfigError::AckFrequency { packets, delay },
    )
}
