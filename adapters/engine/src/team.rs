//! Several threads that compute one result together. Each does the same steps on a copy of its own, and where a step
//! is divided, each computes some columns of the result and takes those of the others.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock};
use std::thread;

/// What the threads share while they work.
pub(crate) struct Team {
    size: usize,
    arrived: AtomicUsize,
    round: AtomicUsize,
    broken: AtomicBool,
    /// What each thread hands to the others. Two in turn: a thread that is ahead fills the second while others still
    /// read the first; it cannot be two ahead.
    parts: Vec<[RwLock<Vec<f32>>; 2]>,
}

/// Another thread is gone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Alone;

/// One of the threads.
pub(crate) struct Member<'a> {
    team: &'a Team,
    place: usize,
    turn: usize,
}

impl Team {
    /// For at least one thread.
    pub(crate) fn new(size: usize) -> Self {
        let size = size.max(1);
        Self {
            size,
            arrived: AtomicUsize::new(0),
            round: AtomicUsize::new(0),
            broken: AtomicBool::new(false),
            parts: (0..size).map(|_| Default::default()).collect(),
        }
    }

    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Does the work on every thread, each with a state of its own; one of them is the caller's, the others end before
    /// this returns.
    ///
    /// # Errors
    /// If the system gives no thread. The work was left in the middle then.
    ///
    /// # Panics
    /// If the work does.
    pub(crate) fn run<S: Send>(
        &self,
        states: &mut [S],
        work: impl Fn(&mut Member, &mut S) -> Result<(), Alone> + Sync,
    ) -> io::Result<()> {
        debug_assert_eq!(states.len(), self.size);
        self.broken.store(false, Ordering::Relaxed);
        self.arrived.store(0, Ordering::Relaxed);
        let one = |place: usize, state: &mut S| {
            // Who is left alone has nothing to add: the reason is told where it happened.
            let _ = work(&mut Member { team: self, place, turn: 0 }, state);
        };
        let Some((first, others)) = states.split_first_mut() else { return Ok(()) };
        let one = &one;
        thread::scope(|scope| {
            for (place, state) in others.iter_mut().enumerate() {
                let spawned = thread::Builder::new().spawn_scoped(scope, move || one(place + 1, state));
                if let Err(error) = spawned {
                    self.broken.store(true, Ordering::Release);
                    return Err(error);
                }
            }
            one(0, first);
            Ok(())
        })
    }
}

impl Member<'_> {
    /// Computes rows of `width` columns, of which each thread computes some: `fill` is told which, and gets room for
    /// them row by row. Afterwards every thread has the whole. Columns are divided at multiples of `unit`.
    pub(crate) fn share(
        &mut self,
        whole: &mut [f32],
        width: usize,
        unit: usize,
        fill: impl FnOnce(Range<usize>, &mut [f32]),
    ) -> Result<(), Alone> {
        let team = self.team;
        if team.size == 1 {
            fill(0..width, whole);
            return Ok(());
        }
        let rows = whole.len() / width;
        let columns = |place: usize| {
            let units = width.div_ceil(unit);
            let start = |place: usize| (units * place / team.size * unit).min(width);
            start(place)..start(place + 1)
        };
        self.turn ^= 1;
        {
            let mine = columns(self.place);
            let mut part = team.parts[self.place][self.turn].write().unwrap_or_else(PoisonError::into_inner);
            part.resize(rows * mine.len(), 0.0);
            if !mine.is_empty() {
                fill(mine, &mut part);
            }
        }
        self.wait()?;
        for (place, parts) in team.parts.iter().enumerate() {
            let theirs = columns(place);
            let part = parts[self.turn].read().unwrap_or_else(PoisonError::into_inner);
            if theirs.is_empty() {
                continue;
            }
            for (row, part) in whole.chunks_exact_mut(width).zip(part.chunks_exact(theirs.len())) {
                row[theirs.clone()].copy_from_slice(part);
            }
        }
        Ok(())
    }

    /// Whether this is the caller's thread.
    pub(crate) fn is_first(&self) -> bool {
        self.place == 0
    }

    /// Waits until all threads are here.
    ///
    /// # Errors
    /// If another thread has panicked or could not be started: it would not come.
    pub(crate) fn wait(&self) -> Result<(), Alone> {
        const SPINS: u32 = 2_000;
        let team = self.team;
        if team.size == 1 {
            return Ok(());
        }
        let round = team.round.load(Ordering::Acquire);
        if team.arrived.fetch_add(1, Ordering::AcqRel) + 1 == team.size {
            team.arrived.store(0, Ordering::Relaxed);
            team.round.store(round.wrapping_add(1), Ordering::Release);
            return Ok(());
        }
        let mut spins = 0;
        while team.round.load(Ordering::Acquire) == round {
            if team.broken.load(Ordering::Acquire) {
                return Err(Alone);
            }
            spins += 1;
            if spins < SPINS { std::hint::spin_loop() } else { thread::yield_now() }
        }
        Ok(())
    }
}

impl Drop for Member<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.team.broken.store(true, Ordering::Release);
        }
    }
}
