//! The measuring half of `cargo xtask bench rpc`, the same for all that is measured.
//!
//! A measurement is a chain of processes: the one that compares starts a *client*, the client
//! starts the *server* that it calls. Each is pinned to a core unless they share all, runs the
//! runtime it is told to, and takes its orders as lines of JSON on standard input; whichever of
//! them goes, the ones below see their input end and go too. What is measured, a [`Subject`], says
//! how to serve, to connect and to call; all else (load, clocks, checks of replies) is here and is
//! the same for all.
//!
//! Every process uses the system's allocator.

mod body;
mod bulk;
mod closed;
mod control;
mod latencies;
mod open;
mod processes;
mod protocol;
mod relay;
mod spread;
mod subject;
mod system;

pub use crate::{
    body::{BODY_BYTES_MIN, Body, Mismatch},
    bulk::{BULK_BYTES_MAX, answer},
    latencies::{Latencies, Quantiles},
    processes::{run_client, run_server},
    protocol::{
        Assignment, BulkLoad, CallReport, ClientMessage, ClosedLoop, ConnectionReport, Direction,
        Handshake, Job, Link, OpenLoop, ReconnectLoad, Relay, Runtime, Setup, Spread, StreamLoad,
        StreamReport, Usage,
    },
    subject::{CLIENT, Caller, Failure, SERVER, Subject},
    system::{cores, monotonic_us, parallelism, pin, thread_cpu_ns, usage},
};
