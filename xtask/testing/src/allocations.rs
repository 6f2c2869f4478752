//! Global allocator that counts the allocations of each thread.

// A global allocator cannot be written without it; this one passes every request to the system's.
#![allow(unsafe_code, reason = "an allocator that counts is an unsafe trait")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

/// The system's allocator, which counts what each thread requests of it.
///
/// A program has it as its global allocator, or nothing is counted:
///
/// ```standalone_crate
/// use std::hint::black_box;
///
/// use rpcnet_testing::CountingAllocator;
///
/// #[global_allocator]
/// static ALLOCATOR: CountingAllocator = CountingAllocator;
///
/// assert_eq!(CountingAllocator::count(|| drop(black_box(Box::new(1)))), 1);
/// ```
#[derive(Debug)]
pub struct CountingAllocator;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static HELD_BYTES: Cell<i64> = const { Cell::new(0) };
}

impl CountingAllocator {
    /// Allocations of this thread so far, each reallocation counted as one.
    pub fn allocations() -> u64 {
        ALLOCATIONS.get()
    }

    /// Allocations of this thread during `work`.
    pub fn count(work: impl FnOnce()) -> u64 {
        let before = Self::allocations();
        work();
        Self::allocations() - before
    }

    /// Bytes that this thread has allocated, less those that it has freed. Negative if it frees
    /// more of what other threads allocated.
    pub fn held_bytes() -> i64 {
        HELD_BYTES.get()
    }

    fn on_allocation() {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
    }

    fn on_bytes(allocated: usize, freed: usize) {
        HELD_BYTES.set(HELD_BYTES.get() + allocated as i64 - freed as i64);
    }
}

// SAFETY: `System` manages the memory; in addition only thread-local numbers without destructors
// are touched.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::on_allocation();
        Self::on_bytes(layout.size(), 0);
        // SAFETY: the caller's promises are passed on as they are.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::on_allocation();
        Self::on_bytes(layout.size(), 0);
        // SAFETY: the caller's promises are passed on as they are.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        Self::on_allocation();
        Self::on_bytes(new_size, layout.size());
        // SAFETY: the caller's promises are passed on as they are.
        unsafe { System.realloc(pointer, layout, new_size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        Self::on_bytes(0, layout.size());
        // SAFETY: the caller's promises are passed on as they are.
        unsafe { System.dealloc(pointer, layout) }
    }
}
