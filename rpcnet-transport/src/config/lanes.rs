//! Lane settings: number, sizes and queue of the streams that small calls share.

use std::num::{NonZeroU8, NonZeroU32};

use super::ConfigError;

/// Lane settings of an endpoint.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LaneSettings {
    pub(crate) lanes: NonZeroU8,
    pub(crate) lane_body_bytes_max: usize,
    pub(crate) lane_calls_max: NonZeroU32,
    pub(crate) queue_len_max: usize,
}

impl LaneSettings {
    pub(super) fn lan() -> Self {
        Self {
            lanes: const { NonZeroU8::new(4).unwrap() },
            lane_body_bytes_max: 8 * 1_024,
            lane_calls_max: const { NonZeroU32::new(2_048).unwrap() },
            queue_len_max: 4_096,
        }
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        if self.lane_body_bytes_max > LANE_BODY_BYTES_CEILING {
            return Err(ConfigError::LaneBody(self.lane_body_bytes_max));
        }
        Ok(())
    }
}

/// Largest length that the frame header of a lane can carry.
const LANE_BODY_BYTES_CEILING: usize = 65_535;
