//! Fleet of workers that take a millisecond for a call and serve eight at a time.
//!
//! The benchmark asks whether twice the workers do twice the calls, so the capacity of a worker
//! must be the same however many there are and however busy the machine is. A timer of the runtime
//! does not serve for that: it knows milliseconds only, and is late by another part of one, which
//! differs with the load. So a worker keeps account of its eight slots by the clock: a call takes
//! the slot that is free first, from the time at which it is free or the call came, whichever is
//! later, for exactly a millisecond. The answer goes out when the timer fires, up to two
//! milliseconds late; but its slot was free on time. Late answers cost no capacity as long as other
//! calls wait: hence 64 in flight for each worker.
//!
//! All workers are in one process and wait most of the time.

use std::{
    any::Any,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use parking_lot::Mutex;
use rpcnet_client::{Endpoint, Router, RpcServer, TransportConfig};
use tokio::time::sleep_until;
use xtask_load::{Failure, Setup};

use crate::bench::rpcnet_subject::open_endpoint;

/// Number of workers of the subject of this name.
pub(crate) fn workers(subject: &str) -> Option<usize> {
    let fleet = FLEETS.into_iter().find(|(name, _)| *name == subject)?;
    Some(fleet.1)
}

/// Serves so many workers. The first of them knows the addresses of the others.
pub(crate) fn serve(setup: &Setup, workers: usize) -> Result<(SocketAddr, Box<dyn Any>), Failure> {
    let mut servers: Vec<RpcServer> = Vec::new();
    for number in (1..=workers).rev() {
        let endpoint = open_endpoint(setup, &name(number), TransportConfig::lan())?;
        let mut router = router();
        if number == 1 {
            let others = servers.iter().rev().map(|it| it.local_addr().to_string());
            let others = Bytes::from(others.collect::<Vec<_>>().join("\n"));
            router = router.raw(OTHERS, move |_cx, _body| {
                let others = others.clone();
                async move { Ok(others) }
            });
        }
        servers.push(endpoint.serve(router));
    }
    let first = servers.last().ok_or("a fleet has a worker")?.local_addr();
    Ok((first, Box::new(servers)))
}

/// Names and addresses of the workers, of which the first is at `addr`.
pub(crate) async fn find_all(
    endpoint: &Endpoint,
    addr: SocketAddr,
) -> Result<Vec<(String, SocketAddr)>, Failure> {
    let first = endpoint.connect(addr, &name(1)).await?;
    let others = first.call(OTHERS, Bytes::new()).await?;
    first.close("done");
    let mut workers = vec![(name(1), addr)];
    for (number, addr) in (2..).zip(std::str::from_utf8(&others)?.lines()) {
        workers.push((name(number), addr.parse()?));
    }
    Ok(workers)
}

fn router() -> Router {
    let slots = Arc::new(Mutex::new(WorkerSlots::new(Instant::now())));
    Router::new().raw("echo", move |_cx, body| {
        let over = slots.lock().reserve(Instant::now());
        async move {
            sleep_until(over.into()).await;
            Ok(body)
        }
    })
}

/// Slots of a worker: when each is free.
#[derive(Debug)]
struct WorkerSlots([Instant; CONCURRENCY]);

impl WorkerSlots {
    fn new(now: Instant) -> Self {
        Self([now; CONCURRENCY])
    }

    /// Gives the slot that is free first to a call; returns when the call is over.
    fn reserve(&mut self, now: Instant) -> Instant {
        let slot = self.0.iter_mut().min().expect("there are some");
        *slot = (*slot).max(now) + SERVICE_TIME;
        *slot
    }
}

fn name(number: usize) -> String {
    format!("worker-{number}")
}

/// The names of all workers of the largest fleet.
pub(crate) fn names() -> Vec<String> {
    let most = FLEETS.iter().map(|(_, workers)| *workers).max();
    (1..=most.unwrap_or_default()).map(name).collect()
}

/// Subjects with their numbers of workers; the first is the measure of the others.
pub(crate) const FLEETS: [(&str, usize); 5] = [
    ("workers-1", 1),
    ("workers-2", 2),
    ("workers-4", 4),
    ("workers-8", 8),
    ("workers-16", 16),
];

/// Eight are served, and the others wait long enough that a late answer leaves no slot empty.
pub(crate) const IN_FLIGHT_PER_WORKER: usize = 64;

const CONCURRENCY: usize = 8;
const SERVICE_TIME: Duration = Duration::from_millis(1);

/// Method that returns the addresses of the other workers.
const OTHERS: &str = "others";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_does_eight_calls_a_millisecond_and_no_more() {
        let begin = Instant::now();
        let mut slots = WorkerSlots::new(begin);
        for round in 1..=3 {
            for _ in 0..CONCURRENCY {
                assert_eq!(slots.reserve(begin), begin + round * SERVICE_TIME);
            }
        }
        // What was not used is lost.
        let later = begin + Duration::from_millis(10);
        assert_eq!(slots.reserve(later), later + SERVICE_TIME);
    }

    #[test]
    fn fleets_grow_from_one() {
        assert_eq!(FLEETS[0].1, 1);
        for (subject, count) in FLEETS {
            assert_eq!(subject, format!("workers-{count}"));
            assert_eq!(workers(subject), Some(count));
        }
        assert_eq!(names().len(), 16);
        assert_eq!(workers("workers-3"), None);
    }
}
