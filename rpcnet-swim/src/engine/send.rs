//! Sending: gossip, piggybacked records, and datagrams of bounded size.

use std::net::SocketAddr;

use super::bounded_queue::BoundedQueue;
use super::buffer_pool::BufferPool;
use super::entry::Entry;
use super::gossip::retransmit_limit;
use super::path_mtu::SmallPaths;
use super::timers::NamedTimer;
use super::{DetectorHooks, Engine, Phase, Sender};
use crate::config::DATAGRAM_BYTES_MIN;
use crate::id::short_instance_key;
use crate::time::Time;
use crate::wire::{ByteCount, GossipMessage, Origin, Payload, Record};

/// Datagrams that wait to be polled, and what the next one is made of.
#[derive(Debug, Default)]
pub(super) struct SendQueue {
    pub(super) transmits: BoundedQueue<(SocketAddr, Vec<u8>), TRANSMITS_MAX>,
    pub(super) buffers: BufferPool,
    /// Counter of the last datagram sent.
    pub(super) counter: u64,
    pub(super) small_paths: SmallPaths,
}

impl<D: DetectorHooks> Engine<D> {
    pub(super) fn on_gossip_timer(&mut self, now: Time) {
        if self.gossip_queue.is_empty() || matches!(self.phase, Phase::Left | Phase::Superseded) {
            return;
        }
        let fanout = self.config.gossip_fanout;
        let targets = D::gossip_targets(self, now, fanout)
            .unwrap_or_else(|| self.sample_live(fanout, |_, _| true));
        for key in targets {
            let updates = self.piggyback(DATAGRAM_BYTES_MIN, 0, None);
            if !updates.is_empty() {
                self.send_to(key, Payload::Gossip { updates });
            }
        }
        // Alone, there is no member to gossip to: a newcomer gets the full state.
        if !self.gossip_queue.is_empty() && !self.table.live().is_empty() {
            self.timers
                .set(NamedTimer::Gossip, now + self.config.gossip_interval);
        }
    }

    /// Puts the record of a member into the gossip queue.
    pub(super) fn enqueue_gossip(&mut self, now: Time, key: u64) {
        self.gossip_queue.push(key);
        // Spread over the interval, or members that heard it together would send together.
        let delay = self.config.gossip_interval.mul_f64(self.rng.f64());
        self.timers.set_if_unset(NamedTimer::Gossip, now + delay);
    }

    /// Records for a datagram of at most `size` bytes that has `fixed` bytes of payload beside
    /// them: `first` if there is such a record, then from the gossip queue what fits.
    pub(super) fn piggyback(
        &mut self,
        size: usize,
        fixed: usize,
        first: Option<Record>,
    ) -> Vec<Record> {
        let mut room = self.room_in(size, fixed);
        let mut records = std::mem::take(&mut self.send_queue.buffers.records);
        if let Some(record) = first {
            room = room.saturating_sub(encoded_len(&record));
            records.push(record);
        }
        if self.gossip_queue.is_empty() {
            return records;
        }
        let limit = retransmit_limit(self.config.retransmit_mult, self.live_count());
        let mut misfits = 0;
        let mut keys = std::mem::take(&mut self.send_queue.buffers.keys);
        keys.extend(self.gossip_queue.in_send_order().take(PIGGYBACK_MAX));
        for key in keys.drain(..) {
            let Some(record) = self.record_of(key) else {
                self.gossip_queue.remove(key);
                continue;
            };
            let len = encoded_len(&record);
            if len > room {
                misfits += 1;
                if misfits == MISFITS_MAX {
                    break;
                }
            } else if records.first() != Some(&record) {
                // The queue has one record of each member; only `first` may be the same.
                room -= len;
                records.push(record);
                self.gossip_queue.mark_sent(key, limit);
            }
        }
        self.send_queue.buffers.keys = keys;
        records
    }

    /// One record for a datagram without gossip.
    pub(super) fn single_record(&mut self, record: Record) -> Vec<Record> {
        let mut records = std::mem::take(&mut self.send_queue.buffers.records);
        records.push(record);
        records
    }

    /// Bytes left for records in a datagram with `fixed` bytes of other payload that every path
    /// carries: bulk, and what is sent once, is not risked on a larger one.
    pub(super) fn room(&self, fixed: usize) -> usize {
        self.room_in(DATAGRAM_BYTES_MIN, fixed)
    }

    fn room_in(&self, size: usize, fixed: usize) -> usize {
        let taken = self.envelope.overhead() + HEADER_BYTES + fixed;
        size.saturating_sub(taken)
    }

    /// Packs records into as few payloads as possible, at most `max`, each with `fixed` bytes
    /// beside. Takes no more records than that.
    pub(super) fn pack(
        &self,
        records: impl IntoIterator<Item = Record>,
        fixed: usize,
        max: usize,
    ) -> Vec<Vec<Record>> {
        let room = self.room(fixed);
        let (mut packed, mut free) = (Vec::<Vec<Record>>::new(), 0);
        for record in records {
            let len = encoded_len(&record);
            if len > free {
                if packed.len() == max {
                    break;
                }
                packed.push(Vec::new());
                free = room;
            }
            free = free.saturating_sub(len);
            packed.last_mut().expect("one was pushed").push(record);
        }
        packed
    }

    /// Sends to a member of the table. Gives the size of the datagram.
    pub(super) fn send_to(&mut self, key: u64, payload: Payload) -> usize {
        let Some(entry) = self.table.get(key) else {
            return 0;
        };
        let (addr, instance) = (entry.addr(), entry.instance(key));
        self.send(addr, instance, payload)
    }

    /// Sends back to the source of a message.
    pub(super) fn reply(&mut self, sender: Sender, payload: Payload) {
        self.send(sender.addr, sender.instance(), payload);
    }

    /// Sends a datagram and gives its size.
    pub(super) fn send(&mut self, addr: SocketAddr, to: u64, payload: Payload) -> usize {
        self.send_queue.counter += 1;
        #[cfg(feature = "unstable")]
        self.record_sent(&payload);
        let origin = Origin {
            from: self.local.key,
            epoch: self.local.epoch,
            counter: self.send_queue.counter,
        };
        let to = short_instance_key(to);
        let mut datagram = self.send_queue.buffers.take_datagram();
        let message = GossipMessage { to, payload };
        self.envelope
            .seal(origin, &mut datagram, |out| message.encode(out));
        if let Some(updates) = message.payload.into_updates() {
            self.send_queue.buffers.recycle_records(updates);
        }
        debug_assert!(
            datagram.len() <= self.config.datagram_bytes_max,
            "{}",
            datagram.len()
        );
        let len = datagram.len();
        self.send_raw(addr, datagram);
        len
    }

    pub(super) fn send_raw(&mut self, addr: SocketAddr, datagram: Vec<u8>) {
        self.stats.sent += 1;
        self.stats.sent_bytes += datagram.len() as u64;
        self.send_queue.transmits.push((addr, datagram));
    }

    /// Up to `count` different live members of those that are `wanted`, at random.
    pub(super) fn sample_live(
        &mut self,
        count: usize,
        wanted: impl Fn(u64, &Entry) -> bool,
    ) -> Vec<u64> {
        let live = self.table.live();
        let key_of = |at: usize| self.table.entry_at(live[at]).key;
        let wanted = |key: &u64| self.table.get(*key).is_some_and(|e| wanted(*key, e));
        let mut sample = Vec::with_capacity(count);
        if live.len() <= 4 * count {
            sample.extend((0..live.len()).map(key_of).filter(wanted));
            self.rng.shuffle(&mut sample);
            sample.truncate(count);
            return sample;
        }
        for _ in 0..4 * count {
            let at = self.rng.usize(..live.len());
            if sample.len() == count {
                continue;
            }
            let key = key_of(at);
            if !sample.contains(&key) && wanted(&key) {
                sample.push(key);
            }
        }
        sample
    }
}

pub(super) fn encoded_len(record: &Record) -> usize {
    let mut len = ByteCount::default();
    record.encode(&mut len);
    len.0
}

/// Kind and receiver.
const HEADER_BYTES: usize = 1 + 4;
/// Most records that ride on one datagram.
const PIGGYBACK_MAX: usize = 64;
/// Records that did not fit after which a datagram counts as full.
const MISFITS_MAX: usize = 4;
/// Most datagrams that wait to be polled; a driver drains them after each input.
pub(super) const TRANSMITS_MAX: usize = 4_096;
