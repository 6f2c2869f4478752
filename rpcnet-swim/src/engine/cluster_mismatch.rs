//! Cluster mismatch: datagrams of other clusters and keys are dropped, reported and answered.
//!
//! Their senders may be anything, at any address. So what they cause is bounded: one notice to an
//! address in five probe intervals, and a few notices and events in one; a notice is no longer than
//! the datagram that it answers.

use std::net::SocketAddr;
use std::time::Duration;

use super::bounded_queue::BoundedQueue;
use super::{DetectorHooks, Engine, Phase};
use crate::cluster_mismatch::ClusterMismatch;
use crate::event::Event;
use crate::time::Time;
use crate::wire::{Envelope, MismatchNotice, NOTICE_BYTES, OpenError};

/// Addresses whose datagrams could not be opened, and seeds that could not open those of this node.
#[derive(Debug, Default)]
pub(crate) struct MismatchNotices {
    /// Last addresses that were answered, with the time.
    answered: BoundedQueue<(SocketAddr, Time), MISMATCH_NOTICES_MAX>,
    /// Last addresses that were reported, with the reason and the time.
    reported: BoundedQueue<(SocketAddr, ClusterMismatch, Time), MISMATCH_NOTICES_MAX>,
    window: RateWindow,
    /// Reasons that seeds gave for not opening this node's hellos.
    by_seeds: BoundedQueue<(SocketAddr, ClusterMismatch), MISMATCH_NOTICES_MAX>,
}

/// Counts of notices and events in one probe interval.
#[derive(Clone, Copy, Debug, Default)]
struct RateWindow {
    since: Time,
    notices: usize,
    events: usize,
}

impl MismatchNotices {
    fn window(&mut self, now: Time, unit: Duration) -> &mut RateWindow {
        if now.since(self.window.since) >= unit {
            self.window = RateWindow {
                since: now,
                ..RateWindow::default()
            };
        }
        &mut self.window
    }

    /// Counts one more event. Says whether it may be emitted now.
    fn allows_event(&mut self, now: Time, unit: Duration) -> bool {
        let window = self.window(now, unit);
        window.events += 1;
        window.events <= EVENTS_PER_ROUND
    }

    /// Whether a mismatch is to be reported.
    fn should_report(
        &mut self,
        now: Time,
        unit: Duration,
        from: SocketAddr,
        mismatch: ClusterMismatch,
    ) -> bool {
        let same = |(addr, why, _): &(_, _, Time)| (*addr, *why) == (from, mismatch);
        let last = self.reported.iter().find(|reported| same(reported));
        let was_reported = last.is_some_and(|(_, _, at)| now.since(*at) < REPORT_ROUNDS * unit);
        if was_reported || !self.allows_event(now, unit) {
            return false;
        }
        self.reported.retain(|reported| !same(reported));
        self.reported.push((from, mismatch, now));
        true
    }

    /// Whether a datagram of this address is to be answered with a notice.
    fn should_notify(&mut self, now: Time, unit: Duration, from: SocketAddr) -> bool {
        let mut answered = self.answered.iter();
        let recent = |at: Time| now.since(at) < NOTICE_ROUNDS * unit;
        let was_notified = answered.any(|(addr, at)| *addr == from && recent(*at));
        if was_notified || self.window(now, unit).notices >= NOTICES_PER_ROUND {
            return false;
        }
        self.window.notices += 1;
        self.answered.retain(|(addr, _)| *addr != from);
        self.answered.push((from, now));
        true
    }

    #[cfg(feature = "unstable")]
    pub(crate) fn len(&self) -> usize {
        let lens = [
            self.answered.len(),
            self.reported.len(),
            self.by_seeds.len(),
        ];
        lens.into_iter().max().unwrap_or_default()
    }
}

impl<D: DetectorHooks> Engine<D> {
    /// Seeds that could not open the hellos of this node, and why, as far as they say so. Nothing
    /// proves it: it is for a message to an operator. The last 64 are kept.
    pub fn seed_refusals(&self) -> impl Iterator<Item = (SocketAddr, ClusterMismatch)> {
        self.mismatch_notices.by_seeds.iter().copied()
    }

    /// Drops and counts a datagram that cannot be opened. One of another cluster, or with another
    /// key, is reported and answered with a notice.
    pub(super) fn on_unopened_datagram(
        &mut self,
        now: Time,
        from: SocketAddr,
        datagram: &[u8],
        error: OpenError,
    ) {
        self.count_open_error(error);
        let mismatch = match error {
            OpenError::ForeignCluster => ClusterMismatch::ClusterName,
            OpenError::UnknownKey => ClusterMismatch::ClusterKey,
            OpenError::Unsealed => ClusterMismatch::MissingKey,
            OpenError::Malformed | OpenError::UnknownVersion | OpenError::BadSeal => return,
        };
        if self.phase == Phase::Left {
            return;
        }
        let unit = self.config.probe_interval;
        if self
            .mismatch_notices
            .should_report(now, unit, from, mismatch)
        {
            self.emit(Event::DatagramRefused {
                from,
                reason: mismatch,
            });
        }
        let origin = Envelope::origin(datagram).filter(|_| datagram.len() >= NOTICE_BYTES);
        if let Some(origin) = origin
            && self.mismatch_notices.should_notify(now, unit, from)
        {
            let notice = MismatchNotice {
                mismatch,
                from: origin.from,
                counter: origin.counter,
            };
            self.send_raw(from, notice.encode());
        }
    }

    fn count_open_error(&mut self, error: OpenError) {
        let dropped = &mut self.stats.dropped;
        *match error {
            OpenError::Malformed => &mut dropped.malformed,
            OpenError::UnknownVersion => &mut dropped.version,
            OpenError::ForeignCluster => &mut dropped.foreign_cluster,
            OpenError::Unsealed => &mut dropped.unsealed,
            OpenError::UnknownKey => &mut dropped.unknown_key,
            OpenError::BadSeal => &mut dropped.bad_seal,
        } += 1;
    }

    /// Handles the notice of a node that cannot open a hello of this one.
    pub(super) fn on_notice(&mut self, now: Time, from: SocketAddr, notice: MismatchNotice) {
        if notice.from != self.local.key || !self.join.has_hello_to(notice.counter, from) {
            self.stats.dropped.unexpected += 1;
            return;
        }
        let mismatch = notice.mismatch;
        if self.mismatch_notices.by_seeds.contains(&(from, mismatch)) {
            return;
        }
        self.mismatch_notices
            .by_seeds
            .retain(|(addr, _)| *addr != from);
        self.mismatch_notices.by_seeds.push((from, mismatch));
        if self
            .mismatch_notices
            .allows_event(now, self.config.probe_interval)
        {
            self.emit(Event::SeedRefused {
                seed: from,
                reason: mismatch,
            });
        }
    }
}

/// Most addresses remembered of each kind.
pub(crate) const MISMATCH_NOTICES_MAX: usize = 64;
/// Least time between two notices to an address, in probe intervals.
const NOTICE_ROUNDS: u32 = 5;
/// Least time between two reports of an address, in probe intervals.
const REPORT_ROUNDS: u32 = 60;
/// Most notices in a probe interval.
const NOTICES_PER_ROUND: usize = 8;
/// Most events in a probe interval.
const EVENTS_PER_ROUND: usize = 2;

#[cfg(test)]
mod tests;
