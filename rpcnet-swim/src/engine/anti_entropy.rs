//! Anti-entropy: repair of what gossip missed, over datagrams.
//!
//! Every ping and ack carries a hash of the sender's view. If the hashes differ and the views have
//! been stable for a while, one side sends a digest of 64 hashes, the other answers with the
//! versions of the live members in the buckets that differ, and records of exactly those flow both
//! ways.

use std::collections::BTreeMap;
use std::time::Duration;

use super::merge::RecordSource;
use super::timers::NamedTimer;
use super::{DetectorHooks, Engine, Phase, Sender};
use crate::event::MemberState;
use crate::time::Time;
use crate::wire::{Claim, DIGEST_BUCKETS, Payload, Record, SyncPage};

/// State of anti-entropy: when to sync, and the sync in progress.
#[derive(Debug, Default)]
pub(crate) struct AntiEntropy {
    /// Earliest time of the next sync.
    next: Time,
    /// Member whose summaries are awaited, and until when.
    awaited: Option<(u64, Time)>,
    /// Consecutive syncs after which the views still differed.
    unsuccessful_syncs: u32,
    /// Consecutive peers that had the view of this node, since it is stable.
    agreeing_peers: u32,
    /// Time at which the last pass of pruning over the whole gossip queue was complete.
    pruned_at: Time,
    /// First and last time that a peer's view differed.
    differing: Option<(Time, Time)>,
    /// End of the time after a partition in which syncs do not wait for stable views.
    fast_until: Time,
    /// Transfer of the full state in progress.
    pub(super) pull: Option<FullStatePull>,
}

/// Transfer of the full state in progress.
#[derive(Debug)]
pub(crate) struct FullStatePull {
    from: u64,
    /// First key of the next page.
    cursor: u64,
    /// Pages since the last request.
    pages: usize,
    /// Pages that overtook the awaited one, by their first key, with the first key of the page
    /// after.
    out_of_order_pages: BTreeMap<u64, Option<u64>>,
    retries: u8,
    /// Whether this node has just joined: what it learns is known to all others.
    is_first: bool,
}

impl<D: DetectorHooks> Engine<D> {
    /// Compares the view hash of a peer with that of this node, and starts a sync if they have
    /// differed for long enough.
    pub(super) fn compare_views(&mut self, now: Time, peer: u64, view: u64) {
        if !self.detector.extends_swim() {
            return;
        }
        let unit = self.config.probe_interval;
        if view == self.table.view() {
            self.join.complete_view();
            self.anti_entropy.unsuccessful_syncs = 0;
            self.count_agreement(now);
            // A peer that agrees says nothing of the others.
            self.anti_entropy.differing = self
                .anti_entropy
                .differing
                .filter(|(_, last)| now.since(*last) < SYNC_DIFFER_ROUNDS * unit);
            return;
        }
        self.anti_entropy.agreeing_peers = 0;
        let (since, last) = self.anti_entropy.differing.get_or_insert((now, now));
        let differing = now.since(*since);
        *last = now;
        if now < self.anti_entropy.next
            || self.anti_entropy.pull.is_some()
            || self.phase != Phase::Active
        {
            return;
        }
        // Gossip is given time to equalise the views, but not for ever.
        let is_settled =
            differing >= SYNC_DIFFER_ROUNDS * unit && self.table.unchanged_for(now) >= unit;
        let doublings = self.anti_entropy.unsuccessful_syncs.min(SYNC_DOUBLINGS_MAX);
        let (overdue, wait) = match now < self.anti_entropy.fast_until {
            true => (unit / 4, unit / 2),
            false => (SYNC_OVERDUE_ROUNDS * unit, unit * (1 << doublings)),
        };
        if !is_settled && differing < overdue {
            return;
        }
        self.anti_entropy.next = now + wait.mul_f64(1.0 + self.rng.f64());
        self.anti_entropy.unsuccessful_syncs += 1;
        self.start_sync(now, peer);
    }

    /// Records that a failed member recovered. While many are missing, that ends a partition,
    /// and the others will recover too.
    pub(super) fn record_recovery(&mut self, now: Time) {
        if self.partition.is_suspected() {
            self.anti_entropy.fast_until = now + FAST_SYNC_ROUNDS * self.config.probe_interval;
        }
    }

    /// Starts a sync with a member of the other side of a partition: each side tells at once what
    /// only it knows, before the views are stable.
    pub(super) fn sync_after_partition(&mut self, now: Time, peer: u64) {
        let busy = self.is_syncing(now) || self.anti_entropy.pull.is_some();
        if self.partition.is_suspected() && !busy && self.phase == Phase::Active {
            self.start_sync(now, peer);
        }
    }

    /// Whether a sync waits for the peer's summaries.
    pub(super) fn is_syncing(&self, now: Time) -> bool {
        self.anti_entropy
            .awaited
            .is_some_and(|(_, until)| now <= until)
    }

    fn start_sync(&mut self, now: Time, peer: u64) {
        self.anti_entropy.differing = None;
        self.anti_entropy.awaited = Some((peer, now + self.config.probe_interval));
        self.stats.syncs += 1;
        let buckets = Box::new(*self.table.buckets());
        self.send_to(peer, Payload::SyncDigest { buckets });
    }

    /// Counts peers that have the same view. After many in a row, alive members are removed from
    /// the gossip queue: after a thousand joins at once they would fill every datagram for a
    /// minute. What a view hash does not show stays in the queue.
    fn count_agreement(&mut self, now: Time) {
        let unit = self.config.probe_interval;
        let is_settled =
            self.table.unchanged_for(now) >= unit && now.since(self.anti_entropy.pruned_at) >= unit;
        if self.gossip_queue.is_empty() || !is_settled {
            self.anti_entropy.agreeing_peers = 0;
            return;
        }
        self.anti_entropy.agreeing_peers += 1;
        if self.anti_entropy.agreeing_peers >= AGREEING_PEERS {
            let (me, table) = (self.local.key, &self.table);
            let is_complete = self.gossip_queue.prune(PRUNE_VISITS_MAX, |key| {
                let alive = |e: &super::Entry| e.state == MemberState::Alive;
                key != me && !table.get(key).is_some_and(alive)
            });
            if is_complete {
                self.anti_entropy.agreeing_peers = 0;
                self.anti_entropy.pruned_at = now;
            }
        }
    }

    pub(super) fn on_digest(&mut self, now: Time, sender: Sender, theirs: &[u64; DIGEST_BUCKETS]) {
        let differs: Vec<bool> = theirs
            .iter()
            .zip(self.table.buckets())
            .map(|(a, b)| a != b)
            .collect();
        let mut pages = Vec::new();
        let per_page = (self.room(16) / 16).max(1);
        // A small view is one page; else each run of buckets that differ is at least one.
        if differs.contains(&true) && self.live_count() <= per_page {
            pages.push(self.view_page(0, u64::MAX, per_page));
        } else {
            // All buckets of a large view may differ; what the answer has no room for is left out.
            let run_max = (PAGES_MAX * per_page * DIGEST_BUCKETS / self.live_count()).max(1);
            let mut bucket = 0;
            while pages.len() < PAGES_MAX
                && let Some(skip) = differs[bucket..].iter().position(|differs| *differs)
            {
                let first = bucket + skip;
                let run = differs[first..]
                    .iter()
                    .take(run_max)
                    .take_while(|differs| **differs)
                    .count();
                bucket = first + run;
                let (first, last) = (bucket_first(first), bucket_last(bucket - 1));
                let whole = self.view_page(first, last, PAGES_MAX * per_page);
                split_page(whole, per_page, &mut pages);
            }
        }
        let pages = pages.into_iter().take(PAGES_MAX);
        self.send_bulk_reply(now, sender, pages.map(Payload::SyncSummary));
    }

    pub(super) fn on_summary(&mut self, now: Time, sender: Sender, page: &SyncPage) {
        match self.anti_entropy.awaited {
            Some((peer, until)) if peer == sender.key && now <= until => {}
            _ => {
                self.stats.dropped.unexpected += 1;
                return;
            }
        }
        let (ours, _) = self.table.versions(page.first, page.last, VERSIONS_MAX);
        let theirs = &page.entries;
        let lacks = |side: &[(u64, u64)], entry: &(u64, u64)| side.binary_search(entry).is_err();
        let pull: Vec<u64> = theirs
            .iter()
            .filter(|entry| entry.0 != self.local.key && lacks(&ours, entry))
            .map(|entry| entry.0)
            .collect();
        // Members of which this node has another version, and those that are not live here: the
        // peer may not know why.
        let push = ours
            .iter()
            .filter(|entry| lacks(theirs, entry))
            .map(|entry| entry.0);
        let gone = pull.iter().copied().filter(|key| {
            self.table
                .get(*key)
                .is_some_and(|entry| !entry.state.is_live())
        });
        let records = push.chain(gone).flat_map(|key| self.records_of(key));
        let records = self.pack(records, 0, PAGES_MAX);
        let pulls: Vec<_> = pull
            .chunks((self.room(0) / 8).max(1))
            .map(|keys| Payload::SyncPull {
                keys: keys.to_vec(),
            })
            .collect();
        let records = records
            .into_iter()
            .map(|records| Payload::SyncRecords { records });
        self.send_bulk_reply(now, sender, pulls.into_iter().chain(records));
    }

    pub(super) fn on_sync_pull(&mut self, now: Time, sender: Sender, keys: &[u64]) {
        if D::answer_pull(self, sender, keys) {
            return;
        }
        let records = keys.iter().flat_map(|key| self.records_of(*key));
        self.answer_with_records(now, sender, records.collect());
    }

    fn answer_with_records(&mut self, now: Time, sender: Sender, records: Vec<Record>) {
        let packed = self.pack(records, 0, PAGES_MAX).into_iter();
        let payloads = packed.map(|records| Payload::SyncRecords { records });
        self.send_bulk_reply(now, sender, payloads);
    }

    pub(super) fn on_sync_records(&mut self, now: Time, sender: Sender, records: Vec<Record>) {
        if !self.detector.extends_swim() {
            return self.merge_all(now, records, RecordSource::Sync);
        }
        let before = self.table.view();
        let mut newer = Vec::new();
        for record in records {
            let key = record.key();
            let alive = matches!(record.claim, Claim::Alive(_));
            let (epoch, incarnation) = (record.epoch, record.incarnation);
            self.merge(now, record, RecordSource::Sync);
            let stale = |e: &&super::Entry| {
                alive && !e.state.is_live() && (epoch, incarnation) <= (e.epoch, e.incarnation)
            };
            // A stale alive record is answered with the record that made it stale.
            newer.extend(self.table.get(key).filter(stale).map(super::Entry::record));
        }
        if self.table.view() != before {
            self.anti_entropy.unsuccessful_syncs = 0;
        }
        self.answer_with_records(now, sender, newer);
    }

    /// Requests the full state of a member; `is_first` if this node has just joined through it.
    pub(super) fn start_pull(&mut self, now: Time, from: u64, is_first: bool) {
        if self.anti_entropy.pull.is_none() {
            self.anti_entropy.pull = Some(FullStatePull {
                from,
                cursor: 0,
                pages: 0,
                out_of_order_pages: BTreeMap::new(),
                retries: 0,
                is_first,
            });
            self.request_pages(now);
        }
    }

    pub(super) fn on_pull_timer(&mut self, now: Time) {
        let Some(pull) = &mut self.anti_entropy.pull else {
            return;
        };
        pull.retries += 1;
        if pull.retries > PULL_RETRIES_MAX {
            // What is missing shows in the view hash, and a sync with another member brings it.
            self.anti_entropy.pull = None;
            return;
        }
        self.request_pages(now);
    }

    pub(super) fn on_full_pull(&mut self, now: Time, sender: Sender, first: u64) {
        let mut cursor = first;
        let mut pages = Vec::new();
        for _ in 0..BURST_PAGES {
            let mut room = self.room(FULL_PAGE_BYTES);
            let (mut records, mut next) = (Vec::new(), None);
            for (key, entry) in self.table.live_from(cursor) {
                let record = entry.alive_record();
                let len = super::encoded_len(&record);
                if len > room {
                    next = Some(key);
                    break;
                }
                room -= len;
                records.push(record);
            }
            pages.push(Payload::FullPage {
                cursor,
                next,
                records,
            });
            match next {
                Some(next) => cursor = next,
                None => break,
            }
        }
        self.send_bulk_reply(now, sender, pages);
    }

    pub(super) fn on_full_page(
        &mut self,
        now: Time,
        from: u64,
        cursor: u64,
        next: Option<u64>,
        records: Vec<Record>,
    ) {
        let expected = |pull: &&mut FullStatePull| {
            pull.from == from
                && cursor >= pull.cursor
                && pull.out_of_order_pages.len() < BURST_PAGES
                && !pull.out_of_order_pages.contains_key(&cursor)
        };
        let Some(pull) = self.anti_entropy.pull.as_mut().filter(expected) else {
            self.stats.dropped.unexpected += 1;
            return;
        };
        let is_first = pull.is_first;
        pull.out_of_order_pages.insert(cursor, next);
        let mut at = Some(pull.cursor);
        // Pages may overtake each other, as long as none is missing.
        while let Some(next) = at.and_then(|cursor| pull.out_of_order_pages.remove(&cursor)) {
            pull.retries = 0;
            pull.pages += 1;
            at = next;
        }
        match at {
            None => {
                self.anti_entropy.pull = None;
                self.timers.clear(NamedTimer::FullStatePull);
            }
            Some(next) => {
                pull.cursor = next;
                if pull.pages >= BURST_PAGES {
                    self.request_pages(now);
                }
            }
        }
        match is_first {
            true => self.merge_without_gossip(now, records),
            false => self.merge_all(now, records, RecordSource::Sync),
        }
        if self.anti_entropy.pull.is_none() {
            self.on_full_state(now, from);
        }
    }

    /// Merges records that the cluster knows already. A joiner that gossiped all that it pulls
    /// would send a third of the bytes of a mass restart, and three quarters of those of a
    /// bootstrap.
    fn merge_without_gossip(&mut self, now: Time, records: Vec<Record>) {
        for record in records {
            let key = record.key();
            let (was_news, version) = (
                self.gossip_queue.contains(key),
                (record.epoch, record.incarnation),
            );
            self.merge(now, record, RecordSource::Sync);
            // A record that this node knows better stays in the gossip queue.
            let is_taken = self.table.get(key).is_some_and(|entry| {
                entry.state == MemberState::Alive && (entry.epoch, entry.incarnation) == version
            });
            if is_taken && !was_news {
                self.gossip_queue.remove(key);
            }
        }
    }

    fn request_pages(&mut self, now: Time) {
        let Some(pull) = &mut self.anti_entropy.pull else {
            return;
        };
        pull.pages = 0;
        pull.out_of_order_pages.clear();
        let (from, cursor) = (pull.from, pull.cursor);
        self.send_to(from, Payload::FullPull { cursor });
        self.timers
            .set(NamedTimer::FullStatePull, now + self.page_timeout());
    }

    fn page_timeout(&self) -> Duration {
        self.config.effective_probe_timeout()
    }

    /// Page of the live members in a range of keys, cut after `max` members.
    fn view_page(&self, first: u64, last: u64, max: usize) -> SyncPage {
        let (entries, last) = self.table.versions(first, last, max);
        SyncPage {
            first,
            last,
            entries,
        }
    }

    /// All records of a member: that it is alive and, if so, that it is suspect.
    fn records_of(&self, key: u64) -> Vec<Record> {
        if key == self.local.key {
            return vec![self.own_record()];
        }
        let Some(entry) = self.table.get(key) else {
            return Vec::new();
        };
        match entry.state {
            MemberState::Suspect => vec![entry.alive_record(), entry.record()],
            _ => vec![entry.record()],
        }
    }
}

fn bucket_first(bucket: usize) -> u64 {
    (bucket as u64) << (64 - DIGEST_BUCKETS.ilog2())
}

fn bucket_last(bucket: usize) -> u64 {
    bucket_first(bucket) | (u64::MAX >> DIGEST_BUCKETS.ilog2())
}

/// Splits a page into pages of at most `max` entries that together cover the same range.
fn split_page(page: SyncPage, max: usize, pages: &mut Vec<SyncPage>) {
    let SyncPage {
        mut first,
        last,
        entries,
    } = page;
    let mut chunks = entries.chunks(max).peekable();
    while let Some(chunk) = chunks.next() {
        let end = match chunks.peek() {
            Some(_) => chunk.last().map_or(last, |entry| entry.0),
            None => last,
        };
        pages.push(SyncPage {
            first,
            last: end,
            entries: chunk.to_vec(),
        });
        first = end.saturating_add(1);
    }
    if entries.is_empty() {
        pages.push(SyncPage {
            first,
            last,
            entries: Vec::new(),
        });
    }
}

/// Cursor and next.
const FULL_PAGE_BYTES: usize = 16;
/// Most datagrams in answer to one.
const PAGES_MAX: usize = 18;
/// Most members compared with one page: more than an answer has room for.
const VERSIONS_MAX: usize = 2_048;
/// Pages of the full state sent for one request.
const BURST_PAGES: usize = 8;
const PULL_RETRIES_MAX: u8 = 5;
/// How long views differ before a sync, once they are stable, in probe intervals.
const SYNC_DIFFER_ROUNDS: u32 = 2;
/// Longest wait of a sync for stable views, in probe intervals.
const SYNC_OVERDUE_ROUNDS: u32 = 10;
/// How long syncs do not wait for stable views after a member recovered from a partition, in probe
/// intervals.
const FAST_SYNC_ROUNDS: u32 = 10;
/// Consecutive peers with the same view after which nearly all members have it; a sync brings it to
/// the rest.
const AGREEING_PEERS: u32 = 16;
/// Most members of the gossip queue that are visited for one datagram to prune it: of a longer
/// queue, the next peer that agrees prunes the next ones.
const PRUNE_VISITS_MAX: usize = 2_048;
/// Doublings of the wait after syncs that left the views different, at most.
const SYNC_DOUBLINGS_MAX: u32 = 5;

#[cfg(test)]
mod tests;
