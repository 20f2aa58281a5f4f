//! Threads that help with one computation. The leader goes from task to task; a task's columns are divided into pieces,
//! and whoever runs takes the next piece. Nobody waits for a thread that the system has put aside, unless in the middle
//! of a piece: on a busy machine helpers may come to nothing, but do not hold up the leader.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, RwLock, RwLockWriteGuard};
use std::thread;

/// What is computed: one task at a time, told by the state itself.
pub(crate) trait Divide: Send + Sync {
    /// Room of a thread for intermediate results.
    type Room: Default + Send;

    /// The result of the present task: how many rows, of how many columns, divided at multiples of how many.
    fn shape(&self) -> (usize, usize, usize);

    /// Computes some columns of the present task, row by row.
    fn compute(&self, columns: Range<usize>, into: &mut [f32], room: &mut Self::Room);
}

/// Does one computation after another, with threads that live for one of them only.
pub(crate) struct Team<R> {
    size: usize,
    room: R,
    /// A piece's result each.
    pieces: Vec<Mutex<Vec<f32>>>,
}

/// The thread that decides what comes next.
pub(crate) struct Leader<'a, W: Divide> {
    shared: &'a Shared<'a, W>,
    room: &'a mut W::Room,
}

struct Shared<'a, W> {
    work: RwLock<&'a mut W>,
    pieces: &'a [Mutex<Vec<f32>>],
    /// Number of the task, its pieces, and the next of them to be taken; or [`OVER`].
    ticket: AtomicU64,
    done: AtomicUsize,
    broken: AtomicBool,
}

const OVER: u64 = u64::MAX;
/// More than one, so that a thread that comes late finds something left.
const PIECES_PER_THREAD: usize = 2;

impl<R: Default + Send> Team<R> {
    /// Of at least one thread, the caller's.
    pub(crate) fn new(size: usize) -> Self {
        let size = size.clamp(1, 256);
        let pieces = if size == 1 { 0 } else { size * PIECES_PER_THREAD };
        Self { size, room: R::default(), pieces: (0..pieces).map(|_| Mutex::default()).collect() }
    }

    /// Does the work on the caller's thread, with the help of others if there are any to be had. They end before this
    /// returns.
    ///
    /// # Panics
    /// If the work does, on any thread.
    pub(crate) fn run<W: Divide<Room = R>>(&mut self, work: &mut W, lead: impl FnOnce(&mut Leader<W>)) {
        let shared = Shared {
            work: RwLock::new(work),
            pieces: &self.pieces,
            ticket: AtomicU64::new(0),
            done: AtomicUsize::new(0),
            broken: AtomicBool::new(false),
        };
        let mut leader = Leader { shared: &shared, room: &mut self.room };
        if self.size == 1 {
            return lead(&mut leader);
        }
        thread::scope(|scope| {
            let mut leader = leader;
            for _ in 1..self.size {
                // Without a thread there is less help.
                let _ = thread::Builder::new().spawn_scoped(scope, || shared.help());
            }
            lead(&mut leader);
        });
    }
}

impl<'a, W: Divide> Leader<'a, W> {
    /// The work between tasks, which nobody else looks at then.
    pub(crate) fn alone(&mut self) -> RwLockWriteGuard<'_, &'a mut W> {
        self.shared.work.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Computes the present task.
    pub(crate) fn divide(&mut self, whole: &mut Vec<f32>) {
        let shared = self.shared;
        let (rows, columns, unit) = shared.shape();
        whole.resize(rows * columns, 0.0);
        if shared.pieces.is_empty() {
            let work = shared.work.read().unwrap_or_else(PoisonError::into_inner);
            return work.compute(0..columns, whole, self.room);
        }
        let number = (shared.ticket.load(Ordering::Relaxed) >> 32) + 1;
        let pieces = shared.pieces.len().min(columns.div_ceil(unit));
        shared.done.store(0, Ordering::Relaxed);
        shared.ticket.store(number << 32 | (pieces as u64) << 16, Ordering::Release);
        while shared.take(self.room) {}
        let mut waited = Patience::default();
        while shared.done.load(Ordering::Acquire) < pieces {
            assert!(!shared.broken.load(Ordering::Relaxed), "a thread of the engine panicked");
            waited.on();
        }
        for (i, piece) in shared.pieces[..pieces].iter().enumerate() {
            let columns_of_piece = piece_of(columns, unit, i, pieces);
            let piece = piece.lock().unwrap_or_else(PoisonError::into_inner);
            for (row, part) in whole.chunks_exact_mut(columns).zip(piece.chunks_exact(columns_of_piece.len())) {
                row[columns_of_piece.clone()].copy_from_slice(part);
            }
        }
    }
}

impl<W: Divide> Drop for Leader<'_, W> {
    fn drop(&mut self) {
        self.shared.ticket.store(OVER, Ordering::Release);
    }
}

impl<W: Divide> Shared<'_, W> {
    fn shape(&self) -> (usize, usize, usize) {
        self.work.read().unwrap_or_else(PoisonError::into_inner).shape()
    }

    fn help(&self) {
        let _guard = Guard(&self.broken);
        let mut room = W::Room::default();
        let mut waited = Patience::default();
        while self.ticket.load(Ordering::Relaxed) != OVER {
            if self.take(&mut room) {
                waited = Patience::default();
            } else {
                waited.on();
            }
        }
    }

    /// Computes the next piece of the present task, if there is one left.
    fn take(&self, room: &mut W::Room) -> bool {
        let next = |ticket: u64| {
            let (pieces, taken) = (ticket >> 16 & 0xffff, ticket & 0xffff);
            (ticket != OVER && taken < pieces).then(|| ticket + 1)
        };
        let Ok(ticket) = self.ticket.fetch_update(Ordering::AcqRel, Ordering::Relaxed, next) else { return false };
        let (pieces, i) = ((ticket >> 16 & 0xffff) as usize, (ticket & 0xffff) as usize);
        {
            // The leader does not touch the work before this piece is done.
            let work = self.work.read().unwrap_or_else(PoisonError::into_inner);
            let (rows, columns, unit) = work.shape();
            let columns = piece_of(columns, unit, i, pieces);
            let mut piece = self.pieces[i].lock().unwrap_or_else(PoisonError::into_inner);
            piece.resize(rows * columns.len(), 0.0);
            work.compute(columns, &mut piece, room);
        }
        self.done.fetch_add(1, Ordering::Release);
        true
    }
}

fn piece_of(columns: usize, unit: usize, i: usize, pieces: usize) -> Range<usize> {
    let units = columns.div_ceil(unit);
    let start = |i: usize| (units * i / pieces * unit).min(columns);
    start(i)..start(i + 1)
}

/// Waits a little, then lets others run.
#[derive(Default)]
struct Patience(u32);

impl Patience {
    fn on(&mut self) {
        const SPINS: u32 = 1_000;
        self.0 = self.0.saturating_add(1);
        if self.0 < SPINS { std::hint::spin_loop() } else { thread::yield_now() }
    }
}

/// Tells the leader of a panic: the piece will not come.
struct Guard<'a>(&'a AtomicBool);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::{Divide, Team};

    /// Writes the number of each column, and breaks at one.
    struct Numbers {
        columns: usize,
        unit: usize,
        broken: Option<usize>,
    }

    impl Divide for Numbers {
        type Room = ();

        fn shape(&self) -> (usize, usize, usize) {
            (2, self.columns, self.unit)
        }

        fn compute(&self, columns: Range<usize>, into: &mut [f32], (): &mut ()) {
            assert!(columns.start.is_multiple_of(self.unit));
            for row in into.chunks_exact_mut(columns.len()) {
                for (column, to) in columns.clone().zip(row) {
                    assert_ne!(Some(column), self.broken, "broken on purpose");
                    *to = column as f32;
                }
            }
        }
    }

    #[test]
    fn every_column_is_computed_once_for_each_task() {
        for threads in [1, 2, 3, 20] {
            let mut team = Team::new(threads);
            let mut result = Vec::new();
            let mut work = Numbers { columns: 1, unit: 1, broken: None };
            team.run(&mut work, |leader| {
                for round in 1..200 {
                    {
                        let mut work = leader.alone();
                        (work.columns, work.unit) = (round * 7 % 90 + 1, round % 5 + 1);
                    }
                    leader.divide(&mut result);
                    let columns = round * 7 % 90 + 1;
                    let expected: Vec<f32> = (0..2).flat_map(|_| (0..columns).map(|column| column as f32)).collect();
                    assert_eq!(result, expected, "{threads} threads, task {round}");
                }
            });
        }
    }

    #[test]
    fn a_panic_on_any_thread_reaches_the_caller() {
        for broken in 0..40 {
            let mut team = Team::new(4);
            let mut work = Numbers { columns: 40, unit: 1, broken: Some(broken) };
            let run = || team.run(&mut work, |leader| leader.divide(&mut Vec::new()));
            assert!(catch_unwind(AssertUnwindSafe(run)).is_err());
        }
    }
}
