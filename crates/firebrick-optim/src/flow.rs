//! Work that other threads begin while more of it is still being gathered.

use rayon::Scope;
use std::collections::VecDeque;
use std::mem;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Batches of work in the order in which they came; any thread may do one, and they come back in order.
///
/// The thread that gathers is the one that waits for the results: it does batches itself rather than wait.
pub(crate) struct Flow<'a, T> {
    run: &'a (dyn Fn(&mut T) + Sync),
    state: Mutex<State<T>>,
    ready: Condvar,
}

struct State<T> {
    /// Not begun, with their numbers.
    waiting: VecDeque<(usize, Vec<T>)>,
    /// By number; none while it is not done.
    done: Vec<Option<Vec<T>>>,
}

impl<'a, T: Send> Flow<'a, T> {
    /// No work yet; `run` does one piece.
    pub(crate) fn new(run: &'a (dyn Fn(&mut T) + Sync)) -> Self {
        let state = State { waiting: VecDeque::new(), done: Vec::new() };
        Self { run, state: Mutex::new(state), ready: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        // Nothing is left half done under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Offers a batch to the threads of rayon.
    pub(crate) fn push<'scope>(&'scope self, scope: &Scope<'scope>, batch: Vec<T>)
    where
        T: 'scope,
    {
        let mut state = self.state();
        let number = state.done.len();
        state.done.push(None);
        state.waiting.push_back((number, batch));
        drop(state);
        scope.spawn(|_| {
            self.help();
        });
    }

    /// Does a batch here and now, after those that were pushed.
    pub(crate) fn here(&self, mut batch: Vec<T>) {
        batch.iter_mut().for_each(self.run);
        self.state().done.push(Some(batch));
    }

    /// Does one batch that nobody has begun; whether there was one.
    fn help(&self) -> bool {
        let Some((number, batch)) = self.state().waiting.pop_front() else { return false };
        // A batch in which a piece panicked is done, too: whoever waits for it goes on, and rayon hands on the panic.
        let mut begun = Begun { flow: self, number, batch };
        begun.batch.iter_mut().for_each(self.run);
        true
    }

    /// The batch with this number, once it is done.
    pub(crate) fn finish(&self, number: usize) -> Vec<T> {
        loop {
            let mut state = self.state();
            loop {
                match state.done.get_mut(number).map(Option::take) {
                    Some(None) if !state.waiting.is_empty() => break,
                    Some(None) if rayon::current_thread_index().is_some() => break,
                    Some(None) => {
                        state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
                    }
                    batch => return batch.flatten().unwrap_or_default(),
                }
            }
            drop(state);
            // One of rayon's own threads must not sleep: what it waits for may lie in its own queue.
            if !self.help() && rayon::yield_now() != Some(rayon::Yield::Executed) {
                std::thread::yield_now();
            }
        }
    }
}

/// A batch that a thread is doing.
struct Begun<'a, T: Send> {
    flow: &'a Flow<'a, T>,
    number: usize,
    batch: Vec<T>,
}

impl<T: Send> Drop for Begun<'_, T> {
    fn drop(&mut self) {
        let mut state = self.flow.state();
        if let Some(done) = state.done.get_mut(self.number) {
            *done = Some(mem::take(&mut self.batch));
        }
        drop(state);
        self.flow.ready.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn squares(batches: usize) -> Vec<Vec<u64>> {
        let flow = Flow::new(&|x: &mut u64| *x *= *x);
        rayon::in_place_scope(|scope| {
            for k in 0..batches as u64 {
                flow.push(scope, vec![2 * k, 2 * k + 1]);
            }
            flow.here(vec![9]);
            (0..=batches).map(|number| flow.finish(number)).collect()
        })
    }

    #[test]
    fn batches_come_back_in_order_from_any_thread() {
        let check = || {
            let seen = squares(100);
            for (k, batch) in seen[..100].iter().enumerate() {
                let k = 2 * k as u64;
                assert_eq!(batch, &[k * k, (k + 1) * (k + 1)]);
            }
            assert_eq!(seen[100], [81]);
        };
        check();
        for threads in [1, 2, 5] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            // From one of its own threads, and one in which all are taken.
            pool.expect("threads").install(|| {
                check();
                rayon::join(check, check);
            });
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_nobody_waits_for_ever() {
        let flow = Flow::new(&|x: &mut u64| assert_ne!(*x, 3, "three"));
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            rayon::in_place_scope(|scope| {
                for k in 0..8 {
                    flow.push(scope, vec![k]);
                }
                (0..8).map(|number| flow.finish(number).len()).sum::<usize>()
            })
        }));
        assert!(caught.is_err());
    }
}
