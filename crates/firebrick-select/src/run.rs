//! The run: every candidate on every fold, on some threads, with a store, an observer and a way to stop.

use crate::fold::{check_candidates, check_folds, folds_hash, job_seed};
use crate::store::{Identity, Store, Stored};
use crate::{Candidate, Fold, FoldResult, FoldScore, Job, Outcome, Report, SelectError};
use firebrick_core::{Seed, check};
use serde::Serialize;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// News of a run: a job is finished.
#[derive(Debug)]
#[non_exhaustive]
pub struct Progress<'a> {
    /// Jobs with a result, this one counted.
    pub finished: usize,
    /// Jobs in all.
    pub total: usize,
    /// How many of the finished ones were read from the store.
    pub restored: usize,
    /// Name of the candidate of this job.
    pub candidate: &'a str,
    /// Number of its fold, from 0.
    pub fold: usize,
    /// How it ended.
    pub outcome: &'a Outcome,
    /// Time since the run began.
    pub elapsed: Duration,
    /// Time that the rest will take at the pace so far; none before the first job of this run is done.
    pub remaining: Option<Duration>,
}

type Observer<'a> = Box<dyn Fn(&Progress<'_>) + Sync + 'a>;
type Describe<C> = fn(&C) -> Result<String, String>;

/// Cross-validation of candidates over the same folds.
///
/// The result does not depend on the number of threads or on the order in which jobs finish, as long as the
/// closure is a function of its [`Job`]. See the crate's page for an example.
pub struct CrossValidation<'a, C> {
    candidates: Vec<Candidate<C>>,
    folds: Vec<Fold>,
    seed: Seed,
    threads: usize,
    identity: Identity,
    store: Option<(PathBuf, Describe<C>)>,
    cancel: Option<Arc<AtomicBool>>,
    observer: Option<Observer<'a>>,
}

impl<C: fmt::Debug> fmt::Debug for CrossValidation<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CrossValidation")
            .field("candidates", &self.candidates)
            .field("folds", &self.folds.len())
            .field("seed", &self.seed)
            .field("threads", &self.threads)
            .field("store", &self.store.as_ref().map(|(folder, _)| folder))
            .finish_non_exhaustive()
    }
}

impl<'a, C> CrossValidation<'a, C> {
    /// One thread, seed 0, nothing stored.
    #[must_use]
    pub fn new(candidates: Vec<Candidate<C>>, folds: Vec<Fold>) -> Self {
        Self {
            candidates,
            folds,
            seed: Seed(0),
            threads: 1,
            identity: Vec::new(),
            store: None,
            cancel: None,
            observer: None,
        }
    }

    /// Sets the seed of all jobs.
    #[must_use]
    pub fn with_seed(mut self, seed: Seed) -> Self {
        self.seed = seed;
        self
    }

    /// Sets how many jobs run at once, at least 1.
    #[must_use]
    pub fn with_threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// Adds something that the results depend on besides seed, folds and candidates: the data's fingerprint,
    /// the number of epochs, the back-end. A store made under another value is refused.
    #[must_use]
    pub fn with_identity(mut self, what: impl Into<String>, value: impl fmt::Display) -> Self {
        let what = what.into();
        self.identity.retain(|(name, _)| *name != what);
        self.identity.push((what, value.to_string()));
        self
    }

    /// Keeps finished jobs in `folder` and takes those that are already there.
    #[must_use]
    pub fn with_store(mut self, folder: impl Into<PathBuf>) -> Self
    where
        C: Serialize,
    {
        let describe: Describe<C> =
            |value| serde_json::to_string(value).map_err(|error| error.to_string());
        self.store = Some((folder.into(), describe));
        self
    }

    /// Ends the run when the flag is set: no new job begins, finished ones are in the store.
    #[must_use]
    pub fn with_cancel(mut self, flag: Arc<AtomicBool>) -> Self {
        self.cancel = Some(flag);
        self
    }

    /// Calls `observer` after each job, one call at a time.
    #[must_use]
    pub fn with_observer(mut self, observer: impl Fn(&Progress<'_>) + Sync + 'a) -> Self {
        self.observer = Some(Box::new(observer));
        self
    }

    /// Runs every candidate on every fold, all candidates on a fold before the next fold.
    ///
    /// An error or a panic of `train`, or a number that is not finite, disqualifies the candidate and is told
    /// in the report; such a job is not stored, so a resumed run tries it again.
    ///
    /// # Errors
    /// Before any work: no candidate, equal names, a complexity that is not finite, fewer than two folds, an
    /// empty or overlapping part, no thread, a store of another run or with a damaged file. Later: the store
    /// cannot be written, the run was cancelled, or every candidate failed.
    pub fn run<E, F>(&self, train: F) -> Result<Report, SelectError>
    where
        C: Sync,
        E: fmt::Display,
        F: Fn(&Job<'_, C>) -> Result<FoldScore, E> + Sync,
    {
        check_candidates(&self.candidates)?;
        check_folds(&self.folds)?;
        check::at_least("threads", self.threads, 1)?;
        let store = self.open_store()?;
        let (width, total) = (self.candidates.len(), self.candidates.len() * self.folds.len());
        let mut board = Board { results: vec![None; total], error: None, restored: 0, finished: 0 };
        for job in 0..total {
            board.results[job] = self.restore(store.as_ref(), job % width, job / width)?;
            board.restored += usize::from(board.results[job].is_some());
        }
        board.finished = board.restored;
        let todo: Vec<usize> = (0..total).filter(|&job| board.results[job].is_none()).collect();
        let desk = Desk {
            todo: &todo,
            next: AtomicUsize::new(0),
            board: Mutex::new(board),
            store: store.as_ref(),
            start: Instant::now(),
        };
        std::thread::scope(|scope| {
            for _ in 1..self.threads.min(todo.len()) {
                scope.spawn(|| self.work(&desk, &train));
            }
            self.work(&desk, &train);
        });
        let board = desk.board.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = board.error {
            return Err(error);
        }
        let results: Vec<FoldResult> = board.results.into_iter().flatten().collect();
        if results.len() < total {
            return Err(SelectError::Cancelled { finished: results.len(), total });
        }
        Report::new(self.seed, &self.candidates, &self.folds, results)
    }

    fn open_store(&self) -> Result<Option<Store>, SelectError> {
        let Some((folder, describe)) = &self.store else { return Ok(None) };
        let mut identity: Identity = vec![
            ("seed".into(), self.seed.to_string()),
            ("folds".into(), folds_hash(&self.folds)),
            ("number of candidates".into(), self.candidates.len().to_string()),
        ];
        for (index, candidate) in self.candidates.iter().enumerate() {
            let settings = describe(&candidate.value).map_err(|problem| SelectError::Settings {
                name: candidate.name.clone(),
                problem,
            })?;
            let (name, complexity) = (&candidate.name, candidate.complexity);
            let text = format!("{name:?} of complexity {complexity} with {settings}");
            identity.push((format!("candidate {index}"), text));
        }
        let own = self.identity.iter().map(|(what, value)| (format!("`{what}`"), value.clone()));
        identity.extend(own);
        Store::open(folder, &identity).map(Some)
    }

    fn restore(
        &self,
        store: Option<&Store>,
        candidate: usize,
        fold: usize,
    ) -> Result<Option<FoldResult>, SelectError> {
        let Some(store) = store else { return Ok(None) };
        let name = self.candidates[candidate].name.as_str();
        let rows = self.folds[fold].validation.len();
        let stored = store.read((candidate, name), fold, rows)?;
        Ok(stored.map(|stored| FoldResult {
            outcome: Outcome::Done(stored.score),
            seconds: stored.seconds,
        }))
    }

    /// Takes jobs until there are none, the flag is set or the store has failed.
    fn work<E: fmt::Display>(
        &self,
        desk: &Desk<'_>,
        train: &(impl Fn(&Job<'_, C>) -> Result<FoldScore, E> + Sync),
    ) {
        let width = self.candidates.len();
        while !self.cancelled() && lock(&desk.board).error.is_none() {
            let Some(&index) = desk.todo.get(desk.next.fetch_add(1, Ordering::SeqCst)) else {
                return;
            };
            let (candidate, fold) = (&self.candidates[index % width], index / width);
            let job = Job {
                candidate,
                candidate_index: index % width,
                fold: &self.folds[fold],
                fold_index: fold,
                seed: job_seed(self.seed, &candidate.name, fold),
                cancel: self.cancel.as_deref(),
            };
            let start = Instant::now();
            let outcome = judge(&job, train);
            // A job that failed because it was told to stop has not failed.
            if self.cancelled() && outcome.score().is_none() {
                return;
            }
            let result = FoldResult { outcome, seconds: start.elapsed().as_secs_f64() };
            self.put(desk, index, &job, result);
        }
    }

    fn put(&self, desk: &Desk<'_>, index: usize, job: &Job<'_, C>, result: FoldResult) {
        let mut board = lock(&desk.board);
        if let (Some(store), Outcome::Done(score)) = (desk.store, &result.outcome) {
            let stored = Stored {
                candidate: job.candidate.name.clone(),
                fold: job.fold_index,
                seconds: result.seconds,
                score: score.clone(),
            };
            if let Err(error) = store.write(job.candidate_index, &stored) {
                board.error.get_or_insert(error);
                return;
            }
        }
        board.finished += 1;
        if let Some(observer) = &self.observer {
            let (finished, total) = (board.finished, board.results.len());
            let elapsed = desk.start.elapsed();
            let done = finished - board.restored;
            let pace = elapsed.as_secs_f64() / done as f64;
            observer(&Progress {
                finished,
                total,
                restored: board.restored,
                candidate: &job.candidate.name,
                fold: job.fold_index,
                outcome: &result.outcome,
                elapsed,
                remaining: Duration::try_from_secs_f64(pace * (total - finished) as f64).ok(),
            });
        }
        board.results[index] = Some(result);
    }

    fn cancelled(&self) -> bool {
        self.cancel.as_ref().is_some_and(|flag| flag.load(Ordering::SeqCst))
    }
}

/// What the threads share.
struct Desk<'a> {
    todo: &'a [usize],
    next: AtomicUsize,
    board: Mutex<Board>,
    store: Option<&'a Store>,
    start: Instant,
}

struct Board {
    /// Job `fold * candidates + candidate`.
    results: Vec<Option<FoldResult>>,
    error: Option<SelectError>,
    restored: usize,
    finished: usize,
}

/// A panic of the observer leaves the board whole, so a poisoned lock is still good.
fn lock(board: &Mutex<Board>) -> MutexGuard<'_, Board> {
    board.lock().unwrap_or_else(PoisonError::into_inner)
}

fn judge<C, E: fmt::Display>(
    job: &Job<'_, C>,
    train: impl Fn(&Job<'_, C>) -> Result<FoldScore, E>,
) -> Outcome {
    match catch_unwind(AssertUnwindSafe(|| train(job))) {
        Ok(Ok(score)) => match score.flaw(job.fold.validation.len()) {
            None => Outcome::Done(score),
            Some(flaw) => Outcome::Failed(flaw),
        },
        Ok(Err(error)) => Outcome::Failed(error.to_string()),
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_string());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            Outcome::Failed(format!("panicked: {}", text.unwrap_or_else(|| "no message".into())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Criterion, Rule};
    use std::fs;

    fn folds() -> Vec<Fold> {
        let parts = [[0u32, 1], [2, 3], [4, 5]];
        (0..3)
            .map(|i| Fold {
                train: (0..3).filter(|j| *j != i).flat_map(|j| parts[j]).collect(),
                validation: parts[i].into(),
            })
            .collect()
    }

    fn candidates() -> Vec<Candidate<f64>> {
        ["a", "b", "c"].iter().zip([3.0, 2.0, 1.0]).map(|(n, x)| Candidate::new(*n, x, x)).collect()
    }

    /// Something that depends on everything a job has.
    fn train(job: &Job<'_, f64>) -> Result<FoldScore, String> {
        let noise = job.seed.stream("noise").uniform();
        let rows: u32 = job.fold.validation.iter().sum();
        Ok(FoldScore::new(0.1, 0.0, job.candidate.value + noise, f64::from(rows) / 100.0 + noise)
            .with_best_epoch(job.fold_index + 5))
    }

    fn timeless(mut report: Report) -> Report {
        for candidate in &mut report.candidates {
            candidate.folds.iter_mut().for_each(|fold| fold.seconds = 0.0);
        }
        report
    }

    #[test]
    fn threads_change_nothing_and_each_job_is_told_once() {
        let run = |threads| {
            let seen = Mutex::new(Vec::new());
            let report = CrossValidation::new(candidates(), folds())
                .with_threads(threads)
                .with_seed(Seed(3))
                .with_observer(|progress: &Progress<'_>| {
                    let mut seen = seen.lock().expect("not poisoned");
                    seen.push((progress.finished, progress.candidate.to_string(), progress.fold));
                })
                .run(train)
                .expect("runs");
            (timeless(report), seen.into_inner().expect("not poisoned"))
        };
        let (one, seen) = run(1);
        assert_eq!(seen.iter().map(|(n, ..)| *n).collect::<Vec<_>>(), (1..=9).collect::<Vec<_>>());
        for threads in [2, 8, 100] {
            let (many, seen) = run(threads);
            assert_eq!(one, many);
            let jobs: std::collections::BTreeSet<_> =
                seen.into_iter().map(|(_, name, fold)| (name, fold)).collect();
            assert_eq!(jobs.len(), 9);
        }
        // Nor does the order of the candidates, but for the order of the report.
        let mut turned = candidates();
        turned.reverse();
        let turned =
            CrossValidation::new(turned, folds()).with_seed(Seed(3)).run(train).expect("runs");
        assert_eq!(timeless(turned).candidates[2], one.candidates[0]);
    }

    #[test]
    fn a_cancelled_run_resumes_to_the_same_report() {
        let folder = tempfile::tempdir().expect("a folder");
        let whole = CrossValidation::new(candidates(), folds()).run(train).expect("runs");
        let flag = Arc::new(AtomicBool::new(false));
        let cv = || CrossValidation::new(candidates(), folds()).with_store(folder.path());
        let stopped = cv()
            .with_cancel(flag.clone())
            .with_observer(|progress: &Progress<'_>| {
                flag.store(progress.finished == 4, Ordering::SeqCst);
            })
            .run(train);
        assert!(matches!(stopped, Err(SelectError::Cancelled { finished: 4, total: 9 })));
        let count = AtomicUsize::new(0);
        let resumed = cv()
            .with_threads(2)
            .with_observer(|progress: &Progress<'_>| assert_eq!(progress.restored, 4))
            .run(|job| {
                count.fetch_add(1, Ordering::SeqCst);
                train(job)
            })
            .expect("resumes");
        assert_eq!(count.load(Ordering::SeqCst), 5);
        assert_eq!(timeless(resumed), timeless(whole));
    }

    #[test]
    fn a_store_of_another_run_or_a_damaged_one_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let cv = |candidates| {
            CrossValidation::new(candidates, folds())
                .with_store(folder.path())
                .with_identity("epochs", 20)
        };
        cv(candidates()).run(train).expect("runs");
        let what = |result: Result<Report, SelectError>| match result {
            Err(SelectError::OtherRun { what, .. }) => what,
            other => format!("{other:?}"),
        };
        assert_eq!(what(cv(candidates()).with_seed(Seed(9)).run(train)), "seed");
        assert_eq!(what(cv(candidates()).with_identity("epochs", 21).run(train)), "`epochs`");
        let mut other = candidates();
        other[1].value = 7.0;
        assert_eq!(what(cv(other).run(train)), "candidate 1");
        let mut moved = folds();
        moved[0].train.pop();
        let moved = CrossValidation::new(candidates(), moved).with_store(folder.path());
        assert_eq!(what(moved.with_identity("epochs", 20).run(train)), "folds");
        fs::write(folder.path().join("candidate-2-fold-1.json"), "{").expect("writes");
        let error = cv(candidates()).run(train).expect_err("damaged").to_string();
        assert!(error.contains("candidate-2-fold-1.json is damaged"), "{error}");
    }

    #[test]
    fn failures_disqualify_and_are_tried_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let cv = || CrossValidation::new(candidates(), folds()).with_store(folder.path());
        let report = cv()
            .run(|job| match (job.candidate.name.as_str(), job.fold_index) {
                ("a", 1) => Err("out of memory".to_string()),
                ("b", 2) => Ok(FoldScore::new(0.1, 0.1, f64::NAN, 0.1)),
                _ => train(job),
            })
            .expect("one candidate is left");
        let reason = |index: usize| report.candidates[index].disqualified.as_deref();
        assert_eq!(reason(0), Some("fold 1: out of memory"));
        assert_eq!(reason(1), Some("fold 2: validation_loss is NaN"));
        assert_eq!((reason(2), report.candidates[0].scores.is_none()), (None, true));
        let choice = report.choose(Criterion::ValidationLoss, Rule::BestMean).expect("chooses");
        assert_eq!(choice.name, "c");
        let again = cv().run(train).expect("all good now");
        assert!(again.candidates.iter().all(|candidate| candidate.disqualified.is_none()));
    }

    #[test]
    fn panics_are_failures_and_all_failed_is_an_error() {
        let cv = CrossValidation::new(candidates(), folds()).with_threads(2);
        let error = cv.run(|_| -> Result<FoldScore, String> { panic!("shape") });
        let text = error.expect_err("all failed").to_string();
        assert!(
            text.starts_with("no candidate finished all its folds: a: fold 0: panicked: shape")
        );
    }

    #[test]
    fn a_job_that_heeds_the_flag_is_no_failure() {
        let flag = Arc::new(AtomicBool::new(false));
        let cv = CrossValidation::new(candidates(), folds()).with_cancel(flag.clone());
        let result = cv.run(|job| {
            flag.store(true, Ordering::SeqCst);
            if job.cancelled() { Err("stopped") } else { Ok(FoldScore::default()) }
        });
        assert!(matches!(result, Err(SelectError::Cancelled { finished: 0, total: 9 })));
    }

    #[test]
    fn row_losses_line_up_and_correct_the_winner() {
        let mut twice = folds();
        twice.push(Fold { train: vec![2, 3], validation: vec![0, 4] });
        let losses = |job: &Job<'_, f64>| {
            let losses = job.fold.validation.iter().map(|&row| job.fold_index as f32 + row as f32);
            Ok::<_, String>(FoldScore::default().with_row_losses(losses.collect()))
        };
        let report = CrossValidation::new(candidates(), twice.clone()).run(losses).expect("runs");
        let (numbers, losses) = report.row_losses(&twice).expect("all gave them");
        assert_eq!(numbers, [0, 1, 2]);
        // Rows 0 and 4 are in two folds: the means of 0 and 3, of 6 and 7.
        assert_eq!(losses[1], [1.5, 1.0, 3.0, 4.0, 6.5, 7.0]);
        assert!(crate::bbc_cv(&losses, 20, Seed(1)).is_ok());
        assert!(report.row_losses(&folds()).is_err());
        let without = CrossValidation::new(candidates(), folds()).run(train).expect("runs");
        let error = without.row_losses(&folds()).expect_err("none given").to_string();
        assert_eq!(error, "candidate \"a\" gave no row losses");
    }

    #[test]
    fn no_threads_are_refused() {
        let error = CrossValidation::new(candidates(), folds()).with_threads(0).run(train);
        assert_eq!(error.expect_err("refused").to_string(), "`threads` must be at least 1, got 0");
    }
}
