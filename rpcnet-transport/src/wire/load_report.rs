//! Load report: how busy a server is, in every reply.

use std::time::Duration;

/// Load of a server when it wrote a reply: eight bytes of every reply.
///
/// A balancer needs it beside the latency that it measures: many callers that each see a part of
/// the load would otherwise all choose the same worker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoadReport {
    /// Calls being served, over all connections; 65,535 stands for more.
    pub in_flight: u16,
    /// The server drains and wants no new calls.
    pub draining: bool,
    /// At least four fifths of the calls that the server accepts concurrently are being served.
    pub busy: bool,
    /// Smoothed time that requests wait between their arrival and their handler, in whole
    /// microseconds.
    pub queue_delay: Duration,
}

impl LoadReport {
    pub(crate) fn encode(self) -> [u8; LOAD_BYTES] {
        let queue_delay_us = u32::try_from(self.queue_delay.as_micros()).unwrap_or(u32::MAX);
        let [a, b] = self.in_flight.to_le_bytes();
        let [c, d, e, f] = queue_delay_us.to_le_bytes();
        let flags = u8::from(self.draining) | u8::from(self.busy) << 1;
        [a, b, flags, 0, c, d, e, f]
    }

    /// Unknown flags are ignored: the report is advice.
    #[inline]
    pub(crate) fn decode(bytes: [u8; LOAD_BYTES]) -> Self {
        let [a, b, flags, _, c, d, e, f] = bytes;
        Self {
            in_flight: u16::from_le_bytes([a, b]),
            draining: flags & 1 != 0,
            busy: flags & 2 != 0,
            queue_delay: Duration::from_micros(u64::from(u32::from_le_bytes([c, d, e, f]))),
        }
    }
}

pub(crate) const LOAD_BYTES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_survives_the_wire() {
        for report in [
            LoadReport::default(),
            LoadReport {
                in_flight: u16::MAX,
                draining: true,
                busy: false,
                queue_delay: Duration::from_micros(1_234_567),
            },
            LoadReport {
                in_flight: 3,
                draining: false,
                busy: true,
                queue_delay: Duration::from_micros(u64::from(u32::MAX)),
            },
        ] {
            assert_eq!(LoadReport::decode(report.encode()), report);
        }
    }

    #[test]
    fn a_delay_past_the_field_is_its_largest() {
        let report = LoadReport {
            queue_delay: Duration::from_secs(1 << 20),
            ..LoadReport::default()
        };
        let read = LoadReport::decode(report.encode());
        assert_eq!(read.queue_delay, Duration::from_micros(u64::from(u32::MAX)));
    }
}
