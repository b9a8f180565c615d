//! The adapter from any [`Schedule`] to burn's `LrScheduler`.
//!
//! Its record holds two numbers: the next update's number, and the hash of the configuration, so that a record
//! of another schedule is noticed instead of silently continued.

use super::{Schedule, ScheduleError};
use burn::lr_scheduler::{LrScheduler, LrSchedulerRecord};
use std::sync::{Arc, Mutex, PoisonError};

const STEP: &str = "step";
const CONFIG: &str = "config";

/// A [`Schedule`] and the number of the next update, as burn's `LrScheduler`.
///
/// Works alone and by parameter group in burn's `ModuleLrScheduler`, and in burn-train's Learner:
///
/// ```
/// use burn::lr_scheduler::{LrScheduler, module_lr_scheduler::ModuleLrScheduler};
/// use burn::module::{ParamGroup, ParamId};
/// use firebrick_optim::schedule::{ConstantConfig, CosineConfig};
///
/// let mut rates = ModuleLrScheduler::new(CosineConfig::new(2.0, 10).init()?)
///     .with_group(ParamGroup::from_predicate("head"), ConstantConfig::new(0.5).init()?);
/// let now = rates.step();
/// assert_eq!(now.base(), 2.0);
/// assert_eq!(now.lr_from_param(ParamId::new(), Some("head.weight")), 0.5);
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Scheduler {
    schedule: Arc<dyn Schedule>,
    next: u64,
    status: LoadStatus,
}

impl Scheduler {
    /// Starts `schedule` at update 0.
    pub fn new(schedule: impl Schedule + 'static) -> Self {
        Self { schedule: Arc::new(schedule), next: 0, status: LoadStatus::default() }
    }

    /// The same schedule with `next` as its next update: the way to resume from the step alone.
    #[must_use]
    pub fn starting_at(mut self, next: u64) -> Self {
        self.next = next;
        self
    }

    /// The schedule itself.
    #[must_use]
    pub fn schedule(&self) -> &dyn Schedule {
        &*self.schedule
    }

    /// The number of the next update, which is also how many were made.
    #[must_use]
    pub fn next_step(&self) -> u64 {
        self.next
    }

    /// The momentum that goes with the next update, for the schedules that move it.
    #[must_use]
    pub fn momentum(&self) -> Option<f64> {
        self.schedule.momentum(self.next)
    }

    /// A handle that tells what became of the last record, also once burn owns the scheduler.
    #[must_use]
    pub fn status(&self) -> LoadStatus {
        self.status.clone()
    }

    /// Takes the position from a record, or changes nothing.
    ///
    /// # Errors
    /// As [`check_record`].
    pub fn try_load_record(&mut self, record: &LrSchedulerRecord) -> Result<(), ScheduleError> {
        self.next = check_record(record, &*self.schedule)?;
        Ok(())
    }
}

impl LrScheduler for Scheduler {
    /// The rate of the next update; each call counts one update.
    fn step(&mut self) -> f64 {
        let rate = self.schedule.rate(self.next);
        self.next = self.next.saturating_add(1);
        rate
    }

    fn to_record(&self) -> LrSchedulerRecord {
        LrSchedulerRecord::new()
            .with_scalar(STEP, self.next)
            .with_scalar(CONFIG, self.schedule.fingerprint())
    }

    /// Takes the position from the record, if it is of this configuration.
    ///
    /// burn leaves no way to fail here. A record of another configuration is not loaded: the schedule stays where
    /// it is, the error is logged with the level of errors and kept in [`Scheduler::status`].
    fn load_record(&mut self, record: LrSchedulerRecord) {
        let result = self.try_load_record(&record);
        self.status.report(result);
    }
}

/// What became of the last record that burn loaded into a [`Scheduler`]; shared by its clones.
///
/// ```
/// use burn::lr_scheduler::{LrScheduler, module_lr_scheduler::ModuleLrScheduler};
/// use firebrick_optim::schedule::CosineConfig;
///
/// let other = ModuleLrScheduler::new(CosineConfig::new(0.1, 500).init()?).to_record();
/// let scheduler = CosineConfig::new(0.1, 1000).init()?;
/// let status = scheduler.status();
/// let rates = ModuleLrScheduler::new(scheduler).load_record(other);
/// assert!(status.last().is_err()); // a record over 500 steps does not fit one over 1000
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct LoadStatus(Arc<Mutex<Option<ScheduleError>>>);

impl LoadStatus {
    /// The result of the last load; `Ok` when nothing was loaded yet.
    ///
    /// # Errors
    /// Why the record was not loaded.
    pub fn last(&self) -> Result<(), ScheduleError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone().map_or(Ok(()), Err)
    }

    /// Logs a failure and keeps the result.
    pub(super) fn report(&self, result: Result<(), ScheduleError>) {
        if let Err(error) = &result {
            log::error!("the learning-rate schedule was not restored: {error}");
        }
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = result.err();
    }
}

/// The number of the next update in a record, which must have been written by the same configuration.
///
/// The record of a `ModuleLrScheduler` holds one of each group: `record.record("0")` is the base's.
///
/// # Errors
/// When the record is of something else or of another configuration.
pub fn check_record(
    record: &LrSchedulerRecord,
    schedule: &dyn Schedule,
) -> Result<u64, ScheduleError> {
    let scalar = |field| record.scalar::<u64>(field).ok_or(ScheduleError::NotASchedule { field });
    let (next, found, expected) = (scalar(STEP)?, scalar(CONFIG)?, schedule.fingerprint());
    if found == expected {
        Ok(next)
    } else {
        Err(ScheduleError::OtherConfiguration { expected, found })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::{CosineConfig, LinearConfig, OneCycleConfig};
    use burn::lr_scheduler::module_lr_scheduler::ModuleLrScheduler;
    use burn::module::{ParamGroup, ParamId};

    #[test]
    fn counts_from_zero() {
        let mut scheduler = LinearConfig::new(4.0, 0.0, 4).init().expect("valid");
        let rates: Vec<f64> = (0..6).map(|_| scheduler.step()).collect();
        assert_eq!(rates, [4.0, 3.0, 2.0, 1.0, 0.0, 0.0]);
        assert_eq!(scheduler.next_step(), 6);
    }

    #[test]
    fn resumes_through_bytes() {
        let make = || OneCycleConfig::new(3.0, 50).init().expect("valid");
        let mut truth = make();
        for _ in 0..17 {
            truth.step();
        }
        let bytes = truth.to_record().into_bytes().expect("serializes");
        let record = LrSchedulerRecord::from_bytes(bytes).expect("reads back");
        let mut resumed = make();
        resumed.load_record(record);
        assert_eq!(resumed.status().last(), Ok(()));
        for _ in 0..40 {
            assert_eq!(resumed.momentum(), truth.momentum());
            assert_eq!(resumed.step().to_bits(), truth.step().to_bits());
        }
        assert_eq!(make().starting_at(17).step(), make().schedule().rate(17));
    }

    #[test]
    fn another_configuration_is_noticed() {
        let record = CosineConfig::new(0.1, 500).init().expect("valid").starting_at(9).to_record();
        let mut scheduler = CosineConfig::new(0.1, 1000).init().expect("valid").starting_at(4);
        let error = scheduler.try_load_record(&record).expect_err("500 is not 1000");
        assert!(matches!(error, ScheduleError::OtherConfiguration { .. }));
        scheduler.load_record(record);
        assert_eq!(scheduler.status().last(), Err(error));
        assert_eq!(scheduler.next_step(), 4);

        scheduler.load_record(scheduler.clone().starting_at(7).to_record());
        assert_eq!((scheduler.status().last(), scheduler.next_step()), (Ok(()), 7));

        let empty = scheduler.try_load_record(&LrSchedulerRecord::new());
        assert_eq!(empty, Err(ScheduleError::NotASchedule { field: "step" }));
    }

    #[test]
    fn groups_keep_their_own_position() {
        let id = ParamId::new();
        let make = || {
            let base = CosineConfig::new(1.0, 20).init().expect("valid");
            let head = LinearConfig::new(5.0, 0.0, 20).init().expect("valid");
            ModuleLrScheduler::new(base).with_group(ParamGroup::from_ids(vec![id]), head)
        };
        let mut truth = make();
        for _ in 0..7 {
            truth.step();
        }
        let record = truth.to_record();
        let base = CosineConfig::new(1.0, 20).build().expect("valid");
        assert_eq!(check_record(&record.record("0"), &base), Ok(7));
        let (now, expected) = (make().load_record(record).step(), truth.step());
        assert_eq!(now.base(), expected.base());
        assert_eq!(now.lr_from_param(id, None), 5.0 * 13.0 / 20.0);
    }

    #[test]
    fn the_last_update_number_does_not_overflow() {
        let mut scheduler = LinearConfig::new(1.0, 0.5, 2).init().expect("valid");
        scheduler = scheduler.starting_at(u64::MAX);
        assert_eq!((scheduler.step(), scheduler.step()), (0.5, 0.5));
    }
}
