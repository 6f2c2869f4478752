//! Stripes: per-thread copies of state that picks change.

use std::{
    cell::Cell,
    fmt,
    sync::atomic::{AtomicUsize, Ordering},
};

/// Several copies of a value, each on cache lines of its own; a thread always uses the same one.
///
/// Threads that pick at the same time do not wait for each other's writes, as they would with a
/// single atomic. There are 16 copies, which more threads than that share, so they are made of
/// atomics.
pub struct Stripes<T>(Box<[CacheAligned<T>; STRIPES]>);

impl<T> Stripes<T> {
    /// Copies that are made by `copy`.
    pub fn new(copy: impl Fn() -> T) -> Self {
        Self(Box::new(std::array::from_fn(|_| CacheAligned(copy()))))
    }

    /// The copy of the current thread.
    #[must_use]
    #[inline]
    pub fn local(&self) -> &T {
        let thread = THREAD.get();
        let thread = if thread == UNKNOWN {
            assign_stripe()
        } else {
            thread
        };
        &self.0[thread % STRIPES].0
    }

    /// The copies of all threads.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|line| &line.0)
    }
}

impl<T> fmt::Debug for Stripes<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stripes").finish_non_exhaustive()
    }
}

/// A pair of cache lines, as the prefetcher loads them.
#[repr(align(128))]
struct CacheAligned<T>(T);

/// Gives the thread a number in order of arrival, so that the first threads do not share a copy.
#[cold]
fn assign_stripe() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    let thread = THREADS.fetch_add(1, Ordering::Relaxed) % STRIPES;
    THREAD.set(thread);
    thread
}

thread_local! {
    static THREAD: Cell<usize> = const { Cell::new(UNKNOWN) };
}

const UNKNOWN: usize = usize::MAX;

/// 2 KiB for each balancer, and little contention up to several times as many threads.
const STRIPES: usize = 16;

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, thread};

    use super::*;

    #[test]
    fn a_thread_keeps_its_copy_and_others_have_their_own() {
        let stripes = Stripes::new(|| AtomicUsize::new(0));
        let of = |stripes: &Stripes<AtomicUsize>| stripes.local().as_ptr() as usize;
        assert_eq!(of(&stripes), of(&stripes));
        let threads: HashSet<usize> = (0..STRIPES)
            .map(|_| thread::scope(|scope| scope.spawn(|| of(&stripes)).join().unwrap()))
            .collect();
        // Other tests may be taking numbers meanwhile.
        assert!(threads.len() > STRIPES / 4, "{} copies", threads.len());
        assert!(align_of::<CacheAligned<AtomicUsize>>() >= 128);
    }
}
