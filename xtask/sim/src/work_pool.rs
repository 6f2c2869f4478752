//! Pool of threads for runs, bounded by memory.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Condvar, Mutex},
    thread,
};

/// Cost of a piece of work.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Cost {
    /// Number in proportion to the time that it takes.
    pub(crate) time: f64,
    pub(crate) memory_bytes: u64,
}

/// Runs `work` for each piece on so many threads, those that take longest first, and gives the
/// results in the order of the pieces. No more run at a time than fit into `memory_bytes`, but
/// always one. `done` hears of each that ends.
pub(crate) fn run_all<T: Sync, R: Send>(
    pieces: &[T],
    threads: usize,
    memory_bytes: u64,
    cost: impl Fn(&T) -> Cost,
    work: impl Fn(&T) -> R + Sync,
    done: impl FnMut(&T, &R) + Send,
) -> Vec<Result<R, String>> {
    let costs: Vec<Cost> = pieces.iter().map(cost).collect();
    let mut pending: Vec<usize> = (0..pieces.len()).collect();
    // Taken from the end.
    pending.sort_by(|a, b| costs[*a].time.total_cmp(&costs[*b].time).then(b.cmp(a)));
    let pool = Mutex::new(Pool {
        pending,
        memory_bytes,
        used_bytes: 0,
        running: 0,
        results: pieces.iter().map(|_| None).collect(),
        done,
    });
    let freed = Condvar::new();
    let lock = || pool.lock().expect("nothing panics with it");
    let run_pieces = || {
        let mut pool = lock();
        while !pool.pending.is_empty() {
            let Some(at) = pool.take(&costs) else {
                pool = freed.wait(pool).expect("nothing panics with it");
                continue;
            };
            drop(pool);
            let result = catch_unwind(AssertUnwindSafe(|| work(&pieces[at])));
            pool = lock();
            pool.running -= 1;
            pool.used_bytes -= costs[at].memory_bytes;
            freed.notify_all();
            if let Ok(result) = &result {
                (pool.done)(&pieces[at], result);
            }
            pool.results[at] = Some(result.map_err(|panic| panic_message(&*panic)));
        }
    };
    thread::scope(|scope| {
        for _ in 0..threads.clamp(1, pieces.len().max(1)) {
            scope.spawn(run_pieces);
        }
    });
    let results = pool.into_inner().expect("nothing panics with it").results;
    let all = results.into_iter();
    all.map(|it| it.expect("each piece ends")).collect()
}

/// State that the threads share.
struct Pool<R, F> {
    /// The pieces that no thread has begun, the longest last.
    pending: Vec<usize>,
    memory_bytes: u64,
    used_bytes: u64,
    running: usize,
    results: Vec<Option<Result<R, String>>>,
    done: F,
}

impl<R, F> Pool<R, F> {
    /// The longest piece that fits beside those that run, if there is one.
    fn take(&mut self, costs: &[Cost]) -> Option<usize> {
        let free_bytes = self.memory_bytes.saturating_sub(self.used_bytes);
        let fits = |at: &usize| self.running == 0 || costs[*at].memory_bytes <= free_bytes;
        let place = self.pending.iter().rposition(fits)?;
        let at = self.pending.remove(place);
        self.used_bytes += costs[at].memory_bytes;
        self.running += 1;
        Some(at)
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "it panicked".to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    fn cost(piece: &u64) -> Cost {
        Cost {
            time: *piece as f64,
            memory_bytes: 10 * piece,
        }
    }

    #[test]
    fn results_come_in_the_order_of_the_pieces() {
        let pieces: Vec<u64> = (0..100).map(|n| n * 37 % 100).collect();
        let mut heard = 0;
        let results = run_all(&pieces, 4, u64::MAX, cost, |n| 2 * n, |_, _| heard += 1);
        let results: Vec<u64> = results.into_iter().map(Result::unwrap).collect();
        assert_eq!(results, pieces.iter().map(|n| 2 * n).collect::<Vec<_>>());
        assert_eq!(heard, 100);
        assert!(run_all(&[], 4, 1, cost, |n| *n, |_, _| ()).is_empty());
    }

    #[test]
    fn the_longest_begin_first() {
        let begun = Mutex::new(Vec::new());
        run_all(
            &[3, 1, 4, 1, 5],
            1,
            u64::MAX,
            cost,
            |n| begun.lock().unwrap().push(*n),
            |_, _| (),
        );
        assert_eq!(*begun.lock().unwrap(), [5, 4, 3, 1, 1]);
    }

    #[test]
    fn no_more_run_than_fit_but_always_one() {
        let (used, most) = (AtomicU64::new(0), AtomicU64::new(0));
        let work = |n: &u64| {
            let now = used.fetch_add(10 * n, Ordering::SeqCst) + 10 * n;
            most.fetch_max(now, Ordering::SeqCst);
            thread::yield_now();
            used.fetch_sub(10 * n, Ordering::SeqCst);
        };
        // 20 alone exceeds the 100 bytes; of the others some fit beside each other.
        let pieces: Vec<u64> = (1..=5).cycle().take(40).chain([20]).collect();
        let results = run_all(&pieces, 8, 100, cost, work, |_, ()| ());
        assert!(results.iter().all(Result::is_ok));
        assert_eq!(most.into_inner(), 200);
        let most = AtomicU64::new(0);
        let work = |n: &u64| {
            most.fetch_max(
                used.fetch_add(10 * n, Ordering::SeqCst) + 10 * n,
                Ordering::SeqCst,
            );
            thread::yield_now();
            used.fetch_sub(10 * n, Ordering::SeqCst);
        };
        run_all(&pieces[..40], 8, 100, cost, work, |_, ()| ());
        assert!(most.into_inner() <= 100);
    }

    #[test]
    fn a_piece_that_panics_is_an_error() {
        let work = |n: &u64| assert!(*n != 2, "two is bad");
        let results = run_all(&[1, 2, 3], 2, u64::MAX, cost, work, |_, ()| ());
        assert_eq!(results[1], Err("two is bad".to_owned()));
        assert!(results[0].is_ok() && results[2].is_ok());
    }
}
