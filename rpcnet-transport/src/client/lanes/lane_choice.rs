//! Choice of the lane for a call: by the calls that each lane carries.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use tokio::time::Instant;

use super::{
    lane::{FULL, Lane},
    lane_set::Lanes,
};

impl Lanes {
    /// Chooses the first lane that carries few calls: while there is little load, calls share a
    /// lane and thereby packets and wake-ups. A lane that stalls on a lost packet fills up, and is
    /// avoided; one that closes or has ended is chosen only if no other is left.
    #[inline]
    pub(super) fn choose_lane(&self, now: Instant) -> &Arc<Lane> {
        let mut least = &self.lanes[0];
        let mut least_occupancy = least.occupancy();
        for lane in &self.lanes {
            let occupancy = lane.occupancy();
            if occupancy < CALLS_PER_LANE {
                return lane;
            }
            if occupancy < least_occupancy {
                (least, least_occupancy) = (lane, occupancy);
            }
        }
        // A lane that the server has reset is opened again when it is needed.
        if self.shared.reset_lanes.load(Relaxed) > 0
            && let Some(lane) = self.lanes.iter().find(|lane| lane.reopen(now))
        {
            return lane;
        }
        least
    }

    /// Open lane with the fewest calls, if any is open and accepts calls.
    pub(super) fn choose_open_lane(&self) -> Option<&Arc<Lane>> {
        let open = self.lanes.iter().filter(|lane| lane.is_open());
        let open = open.map(|lane| (lane.occupancy(), lane));
        let open = open.filter(|(occupancy, _)| *occupancy < FULL);
        open.min_by_key(|(occupancy, _)| *occupancy)
            .map(|(_, lane)| lane)
    }
}

/// Calls on a lane before the next one is used. A smaller number spreads them over more lanes,
/// whose packets reveal a loss sooner: at 1 % loss and 64 calls in flight, 16 instead of 32 doubled
/// the rate.
const CALLS_PER_LANE: usize = 16;
