//! A token costs no allocation, on either side or between them.
#![expect(unsafe_code, reason = "a global allocator can not be written without")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use haggle_benches::Pair;
use haggle_core::spec::Failover;

/// Counts what the current thread allocates, then asks the system.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

fn count() {
    let _exiting = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: every call is passed on as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count();
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

/// Allocations of some work on this thread.
fn allocations(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(vec![1_u8; 10]))), 1);
}

#[test]
fn a_token_costs_no_allocation_in_the_steady_state() {
    assert_eq!(steady_state(Failover::Never), 0, "in 10,000 tokens");
}

#[test]
fn keeping_the_answer_for_a_failover_costs_its_doublings_only() {
    let doublings = steady_state(Failover::Continue);
    assert!(doublings <= 4, "text and ids double at most twice from 3,000 to 13,000 tokens: {doublings}");
}

/// Allocations of 10,000 tokens, after enough of them for every buffer, table and window to have had its largest size.
fn steady_state(failover: Failover) -> usize {
    let mut pair = Pair::streaming(failover);
    for _ in 0..3000 {
        pair.token();
        pair.tick();
    }
    let (mut by_tokens, mut by_timers, mut timers) = (0, 0, 0);
    for _ in 0..10_000 {
        by_tokens += allocations(|| pair.token());
        by_timers += allocations(|| timers += usize::from(pair.tick()));
    }
    assert_eq!(pair.taken(), 13_000);
    // A timer hands its handlers a list of who is due.
    assert!((1..=1000).contains(&timers) && by_timers <= 2 * timers, "{by_timers} in {timers} timers");
    by_tokens
}
