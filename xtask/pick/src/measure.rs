//! Measurement of a subject by one or several threads.

use std::{
    ops::Range,
    sync::{
        Barrier,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{CountingAllocator, Reading, Work};

/// Strategy with the workers that it chooses among.
pub trait Subject: Send + Sync {
    /// Does the work once for each number, which stands for a call. `alone`: no other thread does
    /// the same meanwhile. Fails if the subject does not support the work.
    fn batch(&self, work: Work, calls: Range<u64>, alone: bool) -> Result<(), String>;
}

/// Measures: threads on cores of their own, as far as there are enough, in batches until the time
/// is over.
///
/// A thread alone goes by its CPU clock, so that other programs on its core do not count. Of
/// several, what one waits for another counts too: they go by the clock on the wall.
pub(crate) fn measure(
    subject: &dyn Subject,
    work: Work,
    threads: usize,
    window: Duration,
) -> Result<Reading, String> {
    let cores = xtask_load::cores();
    let (stop, together) = (AtomicBool::new(false), Barrier::new(threads + 1));
    let alone = threads == 1;
    let readings: Result<Vec<Reading>, String> = thread::scope(|scope| {
        let run = |number: usize| {
            let (stop, together) = (&stop, &together);
            let core = cores.get(number % cores.len().max(1)).copied();
            move || {
                if let Some(core) = core {
                    // Where there is no pinning, the system chooses.
                    let _ = xtask_load::pin(core);
                }
                // What is computed at the first use is no part of it.
                let first = number as u64 * CALLS_PER_THREAD;
                let warm = subject.batch(work, first..first + BATCH, alone);
                together.wait();
                warm?;
                let allocations = CountingAllocator::allocations();
                let (begin, cpu) = (Instant::now(), xtask_load::thread_cpu_ns());
                let mut done = 0;
                // At least once, also where the time was over before this thread had any.
                loop {
                    let from = first + done;
                    subject.batch(work, from..from + BATCH, alone)?;
                    done += BATCH;
                    if stop.load(Relaxed) {
                        break;
                    }
                }
                let ns = match alone {
                    true => xtask_load::thread_cpu_ns() - cpu,
                    false => begin.elapsed().as_nanos() as f64,
                };
                let done = done as f64;
                Ok(Reading {
                    ns: ns / done,
                    allocations: (CountingAllocator::allocations() - allocations) as f64 / done,
                })
            }
        };
        let running: Vec<_> = (0..threads)
            .map(|number| scope.spawn(run(number)))
            .collect();
        together.wait();
        thread::sleep(window);
        stop.store(true, Relaxed);
        let ended = running.into_iter().map(|thread| thread.join());
        ended
            .map(|ended| ended.map_err(|_| "a thread panicked".to_owned())?)
            .collect()
    });
    let readings = readings?;
    let mean = |figure: fn(&Reading) -> f64| {
        readings.iter().map(figure).sum::<f64>() / readings.len() as f64
    };
    Ok(Reading {
        ns: mean(|it| it.ns),
        allocations: mean(|it| it.allocations),
    })
}

/// Picks between two checks whether the window is over.
const BATCH: u64 = 1024;

/// Distance between the call numbers of two threads.
const CALLS_PER_THREAD: u64 = 1 << 40;

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Noted(Mutex<Vec<(u64, bool)>>);

    impl Subject for Noted {
        fn batch(&self, work: Work, calls: Range<u64>, alone: bool) -> Result<(), String> {
            match work {
                Work::Pick => self.0.lock().unwrap().push((calls.start, alone)),
                Work::Call => return Err("it has none".to_owned()),
            }
            Ok(())
        }
    }

    #[test]
    fn each_thread_has_calls_of_its_own() {
        for threads in [1, 2] {
            let noted = Noted::default();
            let reading = measure(&noted, Work::Pick, threads, Duration::from_millis(2)).unwrap();
            assert!(reading.ns > 0.0);
            let batches = noted.0.into_inner().unwrap();
            assert!(batches.iter().all(|(_, alone)| *alone == (threads == 1)));
            for thread in 0..2 {
                let first = thread as u64 * CALLS_PER_THREAD;
                let has = batches.iter().any(|(start, _)| *start == first);
                assert_eq!(has, thread < threads);
            }
        }
    }

    #[test]
    fn an_empty_window_gives_a_reading() {
        let reading = measure(&Noted::default(), Work::Pick, 2, Duration::ZERO).unwrap();
        assert!(reading.ns.is_finite() && reading.allocations.is_finite());
    }

    #[test]
    fn unsupported_work_is_an_error() {
        for threads in [1, 2] {
            let error = measure(&Noted::default(), Work::Call, threads, Duration::ZERO);
            assert_eq!(error, Err("it has none".to_owned()));
        }
    }
}
