//! Clocks, memory and cores of this process.

use std::{fs, io, num::NonZeroUsize, thread::available_parallelism};

use rustix::{
    param::page_size,
    time::{ClockId, clock_gettime},
};

use crate::Usage;

/// Resource usage of this process so far.
///
/// The CPU time is the process's CPU clock: what `getrusage` adds up as user and system time, in
/// nanoseconds.
pub fn usage() -> Usage {
    Usage {
        cpu_us: nanos(ClockId::ProcessCPUTime) as f64 / 1e3,
        rss_bytes: resident_pages().unwrap_or_default() * page_size() as u64,
        run_queue_wait_us: run_queue_wait_us(),
    }
}

/// CPU time of this thread so far, user and system, in nanoseconds.
pub fn thread_cpu_ns() -> f64 {
    nanos(ClockId::ThreadCPUTime) as f64
}

/// Microseconds of the monotonic clock, which all processes of the machine share.
pub fn monotonic_us() -> u64 {
    nanos(ClockId::Monotonic) / 1_000
}

fn nanos(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// The cores that this process may use, in order.
pub fn cores() -> Vec<usize> {
    #[cfg(target_os = "linux")]
    if let Ok(set) = rustix::thread::sched_getaffinity(None) {
        let all = 0..rustix::thread::CpuSet::MAX_CPU;
        return all.filter(|core| set.is_set(*core)).collect();
    }
    (0..parallelism().get()).collect()
}

/// How many threads of this process can run at a time: its [`cores`], or fewer where the time of
/// all its threads is limited. As many as a tokio runtime of several threads has.
pub fn parallelism() -> NonZeroUsize {
    available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// Pins this thread, and those that it will start, to a core.
pub fn pin(core: usize) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        let mut set = rustix::thread::CpuSet::new();
        set.set(core);
        Ok(rustix::thread::sched_setaffinity(None, &set)?)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = core;
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Time on run queues of the threads that there are now, from Linux's `schedstat`.
fn run_queue_wait_us() -> Option<f64> {
    let threads = fs::read_dir("/proc/self/task").ok()?.flatten();
    // A thread that has ended meanwhile has no file.
    let waits = threads.filter_map(|thread| {
        let schedstat = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        run_queue_wait_ns(&schedstat)
    });
    waits.reduce(|sum, wait| sum + wait).map(|ns| ns / 1e3)
}

/// Second figure of `schedstat`: time on the CPU, time on a run queue, time slices. A kernel that
/// does not count has zeros in all of them.
fn run_queue_wait_ns(schedstat: &str) -> Option<f64> {
    let figures: Vec<f64> = schedstat
        .split_whitespace()
        .map_while(|it| it.parse().ok())
        .collect();
    match figures[..] {
        [_, waited, slices] if slices > 0.0 => Some(waited),
        _ => None,
    }
}

/// Second figure of Linux's `statm`.
fn resident_pages() -> Option<u64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    statm.split(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_on_run_queues_is_known_where_it_is_counted() {
        assert_eq!(
            run_queue_wait_ns("72212351 432221962 185\n"),
            Some(432_221_962.0)
        );
        for unknown in ["0 0 0\n", "72212351 7\n", ""] {
            assert_eq!(run_queue_wait_ns(unknown), None, "{unknown:?}");
        }
    }

    #[test]
    fn a_process_uses_time_and_memory() {
        let before = usage();
        let mut sum = 0u64;
        while usage().cpu_us <= before.cpu_us {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(before.rss_bytes > 0 || cfg!(not(target_os = "linux")));
        assert!(parallelism().get() <= cores().len());
    }
}
