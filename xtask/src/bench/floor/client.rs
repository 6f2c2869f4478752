//! Client of the floor: keeps datagrams on the way.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use xtask_load::{ClosedLoopState, Failure, Load, Phase};

use super::{
    calls::FloorCalls,
    port::{BatchSender, FloorPort},
    seal::Sealing,
};

/// Exchanges datagrams until the loop is over; the number of calls that ended in the window.
pub(crate) async fn run(
    mut port: FloorPort,
    server: SocketAddr,
    sealing: Sealing,
    load: Load,
    state: &ClosedLoopState,
) -> Result<u64, Failure> {
    let calls = FloorCalls::new(load.body_bytes, load.in_flight);
    let datagram_bytes = calls.part_bytes() + sealing.overhead_bytes();
    let calls = calls.with_on_the_way_max(port.datagrams_max(datagram_bytes));
    let mut requests = Requests::new(&calls, sealing, server, port.sender());
    let mut log = CallLog::new(state, load.in_flight);
    let mut calls = calls;
    while log.phase != Phase::Over {
        requests.send_all(&mut calls, port.sender())?;
        let Some(mut received) = port.receive(STALL_TIME).await? else {
            log.look_at_clock();
            calls.resend();
            continue;
        };
        log.look_at_clock();
        for mut batch in received.iter() {
            for datagram in batch.datagrams() {
                requests.sealing.open(datagram)?;
                let body = requests
                    .sealing
                    .body(datagram)
                    .ok_or("a reply is too short")?;
                requests.check(body)?;
                if let Some(caller) = calls.on_reply(body)? {
                    log.on_end(caller);
                }
            }
        }
    }
    Ok(log.finish())
}

/// Requests as they are sent.
struct Requests {
    sealing: Sealing,
    server: SocketAddr,
    /// Body of every datagram, but for its identity.
    pattern: Vec<u8>,
    /// Datagrams that leave at once. Without encryption only identities are written into them.
    batch: Vec<u8>,
}

impl Requests {
    fn new(calls: &FloorCalls, sealing: Sealing, server: SocketAddr, sender: &BatchSender) -> Self {
        let pattern = (0..calls.part_bytes()).map(|at| (at * 31 + 7) as u8);
        let pattern: Vec<u8> = pattern.collect();
        let datagram_bytes = pattern.len() + sealing.overhead_bytes();
        let datagrams = sender.batch_len_max(datagram_bytes);
        let batch = match sealing.overhead_bytes() {
            0 => pattern.repeat(datagrams),
            _ => vec![0; datagrams * datagram_bytes],
        };
        Self {
            sealing,
            server,
            pattern,
            batch,
        }
    }

    /// Sends what is to be sent, in as few batches as there can be.
    fn send_all(&mut self, calls: &mut FloorCalls, sender: &BatchSender) -> Result<(), Failure> {
        let datagram_bytes = self.pattern.len() + self.sealing.overhead_bytes();
        let mut end = 0;
        while let Some(id) = calls.next_to_send() {
            let begin = end;
            end = self.write(begin, id.to_bytes(), calls.bytes_of(id))?;
            // A shorter one is the last of a batch.
            if end == self.batch.len() || end - begin < datagram_bytes {
                sender.send(self.server, &self.batch[..end], datagram_bytes)?;
                end = 0;
            }
        }
        if end > 0 {
            sender.send(self.server, &self.batch[..end], datagram_bytes)?;
        }
        Ok(())
    }

    /// Writes a datagram into the batch, from `begin` on; its end.
    fn write(&mut self, begin: usize, id: [u8; 8], body_bytes: usize) -> Result<usize, Failure> {
        let end = begin + body_bytes + self.sealing.overhead_bytes();
        let datagram = &mut self.batch[begin..end];
        let body = &mut datagram[self.sealing.header_bytes()..][..body_bytes];
        if self.sealing.overhead_bytes() > 0 {
            body.copy_from_slice(&self.pattern[..body_bytes]);
        }
        body[..ID_BYTES].copy_from_slice(&id);
        self.sealing.seal(datagram)?;
        Ok(end)
    }

    /// Compares the content of a short reply, as for all subjects.
    fn check(&self, body: &[u8]) -> Result<(), Failure> {
        let is_right = body.len() > SHORT_BYTES_MAX || {
            let pattern = self.pattern.get(ID_BYTES..body.len());
            pattern.is_some() && body.get(ID_BYTES..) == pattern
        };
        match is_right {
            true => Ok(()),
            false => Err("wrong reply: its content differs".into()),
        }
    }
}

/// Log of the calls: counts those that end in the window, and times those that lie in it.
struct CallLog<'a> {
    state: &'a ClosedLoopState,
    phase: Phase,
    now: Instant,
    /// Beginning of each caller's call, and the phase then.
    begun: Vec<(Instant, Phase)>,
    latencies: Vec<Duration>,
    ended: u64,
}

impl<'a> CallLog<'a> {
    fn new(state: &'a ClosedLoopState, in_flight: usize) -> Self {
        let now = Instant::now();
        Self {
            state,
            phase: Phase::WarmUp,
            now,
            begun: vec![(now, Phase::WarmUp); in_flight],
            latencies: Vec::with_capacity(BATCH_LEN),
            ended: 0,
        }
    }

    /// Reads clock and phase, for all calls that end by one receipt.
    fn look_at_clock(&mut self) {
        self.now = Instant::now();
        self.phase = self.state.phase();
    }

    fn on_end(&mut self, caller: u32) {
        let begun = &mut self.begun[caller as usize];
        let (began, begun_in) = std::mem::replace(begun, (self.now, self.phase));
        if self.phase != Phase::Window {
            return;
        }
        self.ended += 1;
        if begun_in == Phase::Window {
            self.latencies.push(self.now - began);
            if self.latencies.len() == BATCH_LEN {
                self.state.record(&mut self.latencies);
            }
        }
    }

    fn finish(mut self) -> u64 {
        self.state.record(&mut self.latencies);
        self.ended
    }
}

/// Bytes of a datagram's identity.
const ID_BYTES: usize = 8;

/// Longest reply that is compared as a whole.
const SHORT_BYTES_MAX: usize = 1024;

/// Time without a reply after which datagrams count as lost.
const STALL_TIME: Duration = Duration::from_millis(20);

/// Latencies that are recorded at a time.
const BATCH_LEN: usize = 1024;
