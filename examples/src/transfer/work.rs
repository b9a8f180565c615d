//! The jobs of a run on some threads, each job on one: what a job finds does not depend on how many there are.

use crate::cell::{self, Cell, repetition_seed};
use crate::plan::Plan;
use crate::scene::{Library, Source};
use crate::shift::Shift;
use crate::store::Store;
use firebrick_examples::failure::Failure;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// News of a run: so many of so many jobs are done, the last being this.
pub(crate) type Tell<'a> = dyn Fn(usize, usize, &str) + Sync + 'a;

/// The sources of a repetition, trained by whoever needs them first.
type Shelf = Vec<[Mutex<Option<std::sync::Arc<Source>>>; 2]>;

/// Runs what the store does not have; the cells in the order of repetition, shift and size.
pub(crate) fn all(
    plan: &Plan,
    library: &Library,
    store: &Store,
    threads: usize,
    stop: &AtomicBool,
    tell: &Tell<'_>,
) -> Result<Vec<Cell>, Failure> {
    let jobs: Vec<(u64, Shift)> = (0..plan.repetitions)
        .flat_map(|repetition| plan.shifts.iter().map(move |shift| (repetition, *shift)))
        .collect();
    let found: Vec<Mutex<Option<Vec<Cell>>>> = jobs
        .iter()
        .map(|(repetition, shift)| Mutex::new(store.read(*repetition, *shift)))
        .collect();
    let shelf: Shelf = (0..plan.repetitions).map(|_| Default::default()).collect();
    let (next, problem) = (AtomicUsize::new(0), Mutex::new(None));
    let done = AtomicUsize::new(found.iter().filter(|cell| lock(cell).is_some()).count());
    let work = || {
        while !stop.load(Ordering::SeqCst) && lock(&problem).is_none() {
            let Some(index) = Some(next.fetch_add(1, Ordering::SeqCst)).filter(|i| *i < jobs.len())
            else {
                return;
            };
            if lock(&found[index]).is_some() {
                continue;
            }
            let (repetition, shift) = jobs[index];
            let job = || -> Result<Vec<Cell>, String> {
                let source = source(plan, library, &shelf, repetition, shift)?;
                let cells = cell::run(plan, library, &source, shift, repetition)?;
                store.write(repetition, shift, &cells)?;
                Ok(cells)
            };
            match job() {
                Ok(cells) => {
                    *lock(&found[index]) = Some(cells);
                    let done = 1 + done.fetch_add(1, Ordering::SeqCst);
                    tell(done, jobs.len(), &format!("repetition {}, {shift}", repetition + 1));
                }
                Err(error) => *lock(&problem) = Some(error),
            }
        }
    };
    std::thread::scope(|scope| -> Result<(), Failure> {
        for _ in 0..threads {
            // A pool of one thread for each worker: what burn runs in parallel stays on it.
            let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
            let pool = pool.map_err(Failure::run)?;
            scope.spawn(move || pool.install(work));
        }
        Ok(())
    })?;
    if let Some(error) = problem.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(Failure::run(error));
    }
    let cells: Vec<Option<Vec<Cell>>> = found.iter().map(|cell| lock(cell).take()).collect();
    let finished = cells.iter().flatten().count();
    let all: Option<Vec<Vec<Cell>>> = cells.into_iter().collect();
    let all = all.ok_or(Failure::Interrupted { finished, total: jobs.len() })?;
    Ok(all.into_iter().flatten().collect())
}

fn source(
    plan: &Plan,
    library: &Library,
    shelf: &Shelf,
    repetition: u64,
    shift: Shift,
) -> Result<std::sync::Arc<Source>, String> {
    let place = &shelf[repetition as usize][usize::from(shift == Shift::OtherDigits)];
    let mut place = lock(place);
    if let Some(source) = place.as_ref() {
        return Ok(source.clone());
    }
    let seed = repetition_seed(plan.seed, repetition);
    let source = library.source(shift, seed, plan.source_steps);
    let source = std::sync::Arc::new(source.map_err(|error| error.to_string())?);
    Ok(place.insert(source).clone())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
