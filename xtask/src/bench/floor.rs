//! Floor of `bench rpc`: what the machine allows, without any RPC.
//!
//! Two processes exchange the bytes of the calls in bare UDP datagrams, on the same runtimes and
//! cores as the subjects. The client keeps as many requests on the way as there are calls in
//! flight; the server sends each datagram back as it came. Nothing else is done that a network
//! protocol does: no task, no wake-up and no allocation for a call, no acknowledgement, no flow or
//! congestion control. A request is in one datagram, or in several of at most 32 KiB.
//!
//! Both sides batch as the system allows, through quinn-udp as rpcnet does: up to 64 datagrams of
//! one size leave by one `sendmsg` (GSO) and come by one `recvmmsg`, joined (GRO). Both spin for as
//! long as nothing comes and never sleep, on every runtime, so that no wake-up is in the floor,
//! however long one takes on the machine; CPU times have the spinning in them. Only where there is
//! one core do they sleep after 50 µs, to let the other side run. At most as many datagrams are on
//! the way as the receive buffer holds for sure. Should the system lose one all the same, all that
//! are missing are sent again when none came for 20 ms.
//!
//! `floor-udp` is this alone. `floor-aes-gcm` encrypts and authenticates each datagram with
//! AES-128-GCM (ring), on each side both ways, with a header of 8 bytes and a tag of 16. It does so
//! for each request: a protocol that packs many requests into a packet pays less for each.

mod calls;
mod client;
mod port;
mod seal;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::task::JoinHandle;
use xtask_load::{CallLoop, Caller, ClosedLoopState, Failure, Job, Load, Setup, Subject};

use self::{
    port::FloorPort,
    seal::{Sealing, Side},
};
use super::{
    rows::Row,
    subjects::{FLOOR, FLOOR_SEALED},
};

/// The floor as a subject: its client.
#[derive(Debug)]
pub(crate) struct Floor {
    setup: Setup,
}

/// Means to exchange datagrams with a server.
#[derive(Debug, Clone)]
pub(crate) struct FloorCaller {
    setup: Setup,
    server: SocketAddr,
}

/// Whether this is a name of the floor's subjects.
pub(crate) fn is_floor(subject: &str) -> bool {
    [FLOOR, FLOOR_SEALED].contains(&subject)
}

impl Subject for Floor {
    type Caller = FloorCaller;
    type Server = JoinHandle<Result<(), Failure>>;

    async fn serve(setup: &Setup) -> Result<(SocketAddr, Self::Server), Failure> {
        let port = FloorPort::bind(setup)?;
        let address = port.local_addr()?;
        let sealing = sealing(setup, Side::Server);
        Ok((address, tokio::spawn(echo(port, sealing))))
    }

    fn client(setup: &Setup) -> Result<Self, Failure> {
        Ok(Self {
            setup: setup.clone(),
        })
    }

    async fn connect(&self, server: SocketAddr) -> Result<FloorCaller, Failure> {
        Ok(FloorCaller {
            setup: self.setup.clone(),
            server,
        })
    }
}

impl Caller for FloorCaller {
    type Error = Failure;

    async fn call(&self, _body: Bytes) -> Result<Bytes, Failure> {
        Err("the floor is measured in a closed loop alone".into())
    }

    fn closed_loop(&self, load: Load, state: &Arc<ClosedLoopState>) -> Option<CallLoop> {
        let (setup, server, state) = (self.setup.clone(), self.server, Arc::clone(state));
        Some(Box::pin(async move {
            let port = FloorPort::bind(&setup)?;
            let sealing = sealing(&setup, Side::Client);
            client::run(port, server, sealing, load, &state).await
        }))
    }
}

fn sealing(setup: &Setup, side: Side) -> Sealing {
    match setup.subject.as_str() {
        FLOOR_SEALED => Sealing::aes_128_gcm(side),
        _ => Sealing::none(),
    }
}

/// Sends every datagram back to where it came from.
async fn echo(mut port: FloorPort, mut sealing: Sealing) -> Result<(), Failure> {
    loop {
        let Some(mut received) = port.receive(Duration::MAX).await? else {
            continue;
        };
        for mut batch in received.iter() {
            for datagram in batch.datagrams() {
                sealing.open(datagram)?;
                sealing.seal(datagram)?;
            }
            batch.send_back()?;
        }
    }
}

/// Gives each row of calls the reports of the floor in the same cell, round by round.
pub(crate) fn compare(rows: &mut [Row]) {
    let cell = |row: &Row| (row.load.body_bytes, row.load.in_flight);
    let is_closed = |row: &&Row| row.job == Job::Closed { bulk: None };
    let floors: Vec<_> = (rows.iter().filter(is_closed))
        .filter(|row| row.subject.name == FLOOR)
        .map(|row| (cell(row), row.reports.clone()))
        .collect();
    for row in rows.iter_mut() {
        let floor = floors.iter().find(|(floor, _)| *floor == cell(row));
        if let (Some((_, reports)), true) = (floor, row.failed.is_none()) {
            row.baseline.clone_from(reports);
        }
    }
}

/// The rate as a multiple of the floor's.
pub(crate) fn rate(row: &Row) -> Option<f64> {
    row.paired(|it, floor| it.per_s() / floor.per_s())
}

/// The median latency as a multiple of the floor's.
pub(crate) fn p50(row: &Row) -> Option<f64> {
    row.paired(|it, floor| it.latency.p50_us / floor.latency.p50_us)
}

/// The CPU time of a call as a multiple of the floor's.
pub(crate) fn cpu(row: &Row) -> Option<f64> {
    row.paired(|it, floor| it.cpu_us_per_call() / floor.cpu_us_per_call())
}

#[cfg(test)]
mod tests;
