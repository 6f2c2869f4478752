//! Measuring half of `cargo xtask bench rpc`, the same for all subjects.
//!
//! A measurement is a chain of processes: the benchmark starts a *client*, and the client starts
//! the *server* that it calls. Each is pinned to a core unless they share all, runs the runtime
//! that its setup names, and takes its orders as lines of JSON on standard input; when one of them
//! ends, the ones below see their input end and end too. A [`Subject`] serves, connects and calls;
//! load, clocks and checks of replies are here and are the same for all.
//!
//! Every process uses the system's allocator.

mod body;
mod bulk;
mod clock_loop;
mod closed;
mod control;
mod cpu_time;
mod file_limit;
mod loop_state;
mod machine;
mod open;
mod processes;
mod protocol;
mod relay;
mod spread;
mod stream_window;
mod subject;
mod system;
mod wake_up;

pub use crate::{
    body::{BODY_BYTES_MIN, Body},
    bulk::answer,
    clock_loop::{ClockGaps, clock_gaps},
    control::answer_each,
    cpu_time::{CpuTimes, ProcessTimes},
    file_limit::raise_file_limit,
    loop_state::{ClosedLoopState, Phase},
    machine::Machine,
    processes::{Executor, execute, run},
    protocol::{
        Assignment, BulkLoad, Direction, Handshake, Job, Link, Load, Order, Relay, Report, Runtime,
        Serving, Setup, Spread, Usage,
    },
    stream_window::StreamWindow,
    subject::{CLIENT, CallLoop, Caller, Failure, SERVER, Subject},
    system::{cores, monotonic_us, parallelism, pin, thread_cpu_ns, usage},
    wake_up::wake_up_time,
};
