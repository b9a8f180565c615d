//! Reduce on plateau: the rate falls when a metric has stopped improving.
//!
//! The one schedule that is no function of the step: it is told a metric after each validation and keeps a state,
//! which is saved and restored.
//!
//! # Differences
//! PyTorch and Keras count the patience differently, so both conventions have a name. PyTorch's relative
//! threshold `a < best (1 - t)` calls every equal value an improvement when the metric is negative; here the threshold is
//! on the size of the best value. A value that is not finite never counts as an improvement, but for the plateau that
//! [`create_torch`](super::create_torch) makes: there, as in PyTorch, infinity can be the best value.

use super::{LoadStatus, ScheduleError, fingerprint_of};
use burn::config::Config;
use burn::lr_scheduler::{LrScheduler, LrSchedulerRecord};
use firebrick_core::{ConfigError, check};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Which direction of the metric is an improvement.
#[derive(Config, Debug, PartialEq, Copy)]
pub enum PlateauMode {
    /// Smaller is better, as for a loss.
    Min,
    /// Larger is better, as for an accuracy.
    Max,
}

/// By how much a value must beat the best one so far (`t` is the threshold; signs for `PlateauMode::Min`).
#[derive(Config, Debug, PartialEq, Copy)]
pub enum PlateauThreshold {
    /// `a < best - t |best|`.
    Relative,
    /// `a < best - t`.
    Absolute,
    /// PyTorch's `a < best (1 - t)`, with its fault at negative values.
    RelativeTorch,
}

/// When the patience is over.
#[derive(Config, Debug, PartialEq, Copy)]
pub enum Patience {
    /// PyTorch's: after more than `patience` bad values in a row. Patience 2 and a constant metric: the 4th value.
    Torch,
    /// Keras's: after `patience` bad values (0 counts as 1). Patience 2 and a constant metric: the 3rd value. The cool-down
    /// ends one value earlier, too.
    Keras,
}

/// Configuration of [`Plateau`].
///
/// | field | default | range |
/// | --- | --- | --- |
/// | `initial_lr` | required | `[0, inf)` |
/// | `mode` | `Min` | |
/// | `factor` | 0.1 | `[0, 1)` |
/// | `patience` | 10 | |
/// | `patience_rule` | `Torch` | |
/// | `threshold` | 1e-4 | `[0, inf)` |
/// | `threshold_rule` | `Relative` | |
/// | `cooldown` | 0 | |
/// | `min_lr` | 0 | `[0, initial_lr]` |
/// | `min_change` | 1e-8 | `[0, inf)` |
#[derive(Config, Debug)]
pub struct PlateauConfig {
    /// The rate until the first plateau.
    pub initial_lr: f64,
    /// Which direction is better.
    #[config(default = "PlateauMode::Min")]
    pub mode: PlateauMode,
    /// Factor of each reduction.
    #[config(default = 0.1)]
    pub factor: f64,
    /// Bad values that are borne.
    #[config(default = 10)]
    pub patience: usize,
    /// How they are counted.
    #[config(default = "Patience::Torch")]
    pub patience_rule: Patience,
    /// By how much a better value must be better.
    #[config(default = 1e-4)]
    pub threshold: f64,
    /// What the threshold is relative to.
    #[config(default = "PlateauThreshold::Relative")]
    pub threshold_rule: PlateauThreshold,
    /// Values after a reduction that do not count as bad.
    #[config(default = 0)]
    pub cooldown: usize,
    /// The floor.
    #[config(default = 0.0)]
    pub min_lr: f64,
    /// A reduction by no more than this is left out (PyTorch's `eps`).
    #[config(default = 1e-8)]
    pub min_change: f64,
}

impl PlateauConfig {
    /// Checks the configuration and makes the schedule.
    ///
    /// # Errors
    /// When a value is out of its range.
    pub fn build(&self) -> Result<Plateau, ConfigError> {
        check::non_negative("initial_lr", self.initial_lr)?;
        check::range("factor", self.factor, 0.0..1.0)?;
        check::non_negative("threshold", self.threshold)?;
        super::check_floor(self.min_lr, self.initial_lr)?;
        check::non_negative("min_change", self.min_change)?;
        Ok(Plateau::new(self.clone()))
    }

    /// Checks the configuration and makes a scheduler for burn, whose clones share the state.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub fn init(&self) -> Result<PlateauScheduler, ConfigError> {
        Ok(self.build()?.into())
    }
}

/// `rate = max(rate factor, m)` whenever the metric has been bad for too long.
///
/// | value | 1 | 2 | 3 | 4 | 7 |
/// | --- | --- | --- | --- | --- | --- |
/// | metric | 5 | 5 | 5 | 5 | 5 |
/// | rate after it, L = 1, patience 2, factor 0.5 | 1 | 1 | 1 | 0.5 | 0.25 |
/// | the same, `Patience::Keras` | 1 | 1 | 0.5 | 0.5 | 0.125 |
///
/// ```
/// use firebrick_optim::schedule::PlateauConfig;
/// let mut plateau = PlateauConfig::new(1.0).with_patience(2).with_factor(0.5).build()?;
/// let rates: Vec<f64> = [5.0; 4].iter().map(|&loss| plateau.observe(loss)).collect();
/// assert_eq!(rates, [1.0, 1.0, 1.0, 0.5]);
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Plateau {
    config: PlateauConfig,
    rate: f64,
    best: Option<f64>,
    bad: u64,
    cooldown: u64,
    /// Whether infinity in the better direction is a value like any other.
    infinite: bool,
}

impl Plateau {
    pub(super) fn new(config: PlateauConfig) -> Self {
        let rate = config.initial_lr;
        Self { rate, best: None, bad: 0, cooldown: 0, infinite: false, config }
    }

    /// PyTorch's: the best value starts at infinity in the worse direction, and every number is compared with it.
    pub(super) fn of_torch(config: PlateauConfig) -> Self {
        Self { infinite: true, ..Self::new(config) }
    }

    /// The rate to use now.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.rate
    }

    /// The best value so far, if any counted.
    #[must_use]
    pub fn best(&self) -> Option<f64> {
        self.best
    }

    /// Takes the metric's next value and returns the rate to use from now on.
    pub fn observe(&mut self, metric: f64) -> f64 {
        let better = self.improves(metric);
        if better {
            self.best = Some(metric);
        }
        match self.config.patience_rule {
            Patience::Torch => {
                self.bad = if better { 0 } else { self.bad + 1 };
                if self.cooldown > 0 {
                    self.cooldown -= 1;
                    self.bad = 0;
                }
                if self.bad > self.config.patience as u64 {
                    self.reduce();
                }
            }
            Patience::Keras => {
                if self.cooldown > 0 {
                    self.cooldown -= 1;
                    self.bad = 0;
                }
                if better {
                    self.bad = 0;
                } else if self.cooldown == 0 {
                    self.bad += 1;
                    if self.bad >= self.config.patience as u64 {
                        self.reduce();
                    }
                }
            }
        }
        self.rate
    }

    fn improves(&self, metric: f64) -> bool {
        let PlateauConfig { threshold, threshold_rule, mode, .. } = self.config;
        if metric.is_nan() || !self.infinite && metric.is_infinite() {
            return false;
        }
        let worst = match mode {
            PlateauMode::Min => f64::INFINITY,
            PlateauMode::Max => f64::NEG_INFINITY,
        };
        let Some(best) = self.best.or(self.infinite.then_some(worst)) else { return true };
        let margin = match threshold_rule {
            PlateauThreshold::Relative => threshold * best.abs(),
            PlateauThreshold::Absolute => threshold,
            // Written as PyTorch does, so that the same values round the same way.
            PlateauThreshold::RelativeTorch => {
                return match mode {
                    PlateauMode::Min => metric < best * (1.0 - threshold),
                    PlateauMode::Max => metric > best * (1.0 + threshold),
                };
            }
        };
        match mode {
            PlateauMode::Min => metric < best - margin,
            PlateauMode::Max => metric > best + margin,
        }
    }

    fn reduce(&mut self) {
        let reduced = (self.rate * self.config.factor).max(self.config.min_lr);
        if self.rate - reduced > self.config.min_change {
            self.rate = reduced;
        }
        self.cooldown = self.config.cooldown as u64;
        self.bad = 0;
    }

    /// The state and the hash of the configuration.
    #[must_use]
    pub fn to_record(&self) -> LrSchedulerRecord {
        let record = LrSchedulerRecord::new()
            .with_scalar("rate", self.rate)
            .with_scalar("bad", self.bad)
            .with_scalar("cooldown", self.cooldown)
            .with_scalar("config", fingerprint_of(&self.config));
        match self.best {
            Some(best) => record.with_scalar("best", best),
            None => record,
        }
    }

    /// Takes the state from a record, or changes nothing.
    ///
    /// # Errors
    /// When the record is of something else or of another configuration.
    pub fn try_load_record(&mut self, record: &LrSchedulerRecord) -> Result<(), ScheduleError> {
        let count =
            |field| record.scalar::<u64>(field).ok_or(ScheduleError::NotASchedule { field });
        let (found, expected) = (count("config")?, fingerprint_of(&self.config));
        if found != expected {
            return Err(ScheduleError::OtherConfiguration { expected, found });
        }
        let rate = record.scalar("rate").ok_or(ScheduleError::NotASchedule { field: "rate" })?;
        let (bad, cooldown) = (count("bad")?, count("cooldown")?);
        *self = Self { rate, best: record.scalar("best"), bad, cooldown, ..self.clone() };
        Ok(())
    }
}

/// A [`Plateau`] as burn's `LrScheduler`: burn owns one clone, the loop feeds the metric to another.
///
/// ```
/// use burn::lr_scheduler::module_lr_scheduler::ModuleLrScheduler;
/// use firebrick_optim::schedule::PlateauConfig;
///
/// let plateau = PlateauConfig::new(0.1).with_patience(0).init()?;
/// let mut rates = ModuleLrScheduler::new(plateau.clone());
/// plateau.observe(3.0);
/// plateau.observe(3.0); // no better than before
/// assert_eq!(rates.step().base(), 0.1 * 0.1);
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[derive(Debug, Clone)]
pub struct PlateauScheduler {
    plateau: Arc<Mutex<Plateau>>,
    status: LoadStatus,
}

/// The scheduler that starts where the plateau stands, as by name from [`create`](super::create).
impl From<Plateau> for PlateauScheduler {
    fn from(plateau: Plateau) -> Self {
        Self { plateau: Arc::new(Mutex::new(plateau)), status: LoadStatus::default() }
    }
}

impl PlateauScheduler {
    fn lock(&self) -> MutexGuard<'_, Plateau> {
        self.plateau.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the metric's next value and returns the rate to use from now on.
    pub fn observe(&self, metric: f64) -> f64 {
        self.lock().observe(metric)
    }

    /// The state as it is now.
    #[must_use]
    pub fn plateau(&self) -> Plateau {
        self.lock().clone()
    }

    /// A handle that tells what became of the last record.
    #[must_use]
    pub fn status(&self) -> LoadStatus {
        self.status.clone()
    }
}

impl LrScheduler for PlateauScheduler {
    /// The rate as it is; only [`observe`](PlateauScheduler::observe) changes it.
    fn step(&mut self) -> f64 {
        self.lock().rate()
    }

    fn to_record(&self) -> LrSchedulerRecord {
        self.lock().to_record()
    }

    /// As the other schedulers: a record of another configuration is not loaded but logged and kept in the status.
    fn load_record(&mut self, record: LrSchedulerRecord) {
        let result = self.lock().try_load_record(&record);
        self.status.report(result);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::testing::refused;
    use burn::lr_scheduler::module_lr_scheduler::ModuleLrScheduler;

    fn config() -> PlateauConfig {
        PlateauConfig::new(1.0).with_factor(0.5).with_patience(2)
    }

    fn rates(config: &PlateauConfig, metrics: &[f64]) -> Vec<f64> {
        let mut plateau = config.build().expect("valid");
        metrics.iter().map(|&metric| plateau.observe(metric)).collect()
    }

    #[test]
    fn table() {
        let torch = rates(&config(), &[5.0; 7]);
        assert_eq!(torch, [1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25]);
        let keras = rates(&config().with_patience_rule(Patience::Keras), &[5.0; 7]);
        assert_eq!(keras, [1.0, 1.0, 0.5, 0.5, 0.25, 0.25, 0.125]);
    }

    /// torch's relative mode never reduces at a constant negative metric.
    #[test]
    fn a_negative_plateau_is_a_plateau() {
        let eager = config().with_patience(0);
        for (mode, value) in
            [(PlateauMode::Min, -1.0), (PlateauMode::Max, -1.0), (PlateauMode::Max, 3.0)]
        {
            let config = eager.clone().with_mode(mode);
            assert_eq!(rates(&config, &[value; 4]), [1.0, 0.5, 0.25, 0.125]);
        }
        let torch = eager.with_threshold_rule(PlateauThreshold::RelativeTorch);
        assert_eq!(rates(&torch, &[-1.0; 30]), [1.0; 30]);
    }

    /// optax reduces with patience 0 on every improvement and never on a plateau.
    #[test]
    fn no_patience_reduces_on_the_plateau_only() {
        let eager = config().with_patience(0);
        assert_eq!(rates(&eager, &[3.0, 2.0, 1.0, 1.0, 0.5]), [1.0, 1.0, 1.0, 0.5, 0.5]);
        let keras = eager.with_patience_rule(Patience::Keras);
        assert_eq!(rates(&keras, &[3.0, 2.0, 1.0, 1.0, 0.5]), [1.0, 1.0, 1.0, 0.5, 0.5]);
    }

    #[test]
    fn what_is_not_finite_is_bad_and_never_the_best() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let mut plateau = config().with_patience(1).build().expect("valid");
            plateau.observe(bad);
            assert_eq!(plateau.best(), None);
            assert_eq!(plateau.observe(bad), 0.5);
            plateau.observe(2.0);
            assert_eq!((plateau.best(), plateau.observe(1.0)), (Some(2.0), 0.5));
        }
    }

    #[test]
    fn thresholds_are_strict() {
        let relative = config().with_patience(0).with_threshold(0.25);
        assert_eq!(rates(&relative, &[4.0, 3.0]), [1.0, 0.5]);
        assert_eq!(rates(&relative, &[4.0, 2.999]), [1.0, 1.0]);
        assert_eq!(rates(&relative, &[-4.0, -5.0]), [1.0, 0.5]);
        assert_eq!(rates(&relative, &[-4.0, -5.001]), [1.0, 1.0]);
        let absolute = relative.with_threshold_rule(PlateauThreshold::Absolute);
        assert_eq!(rates(&absolute, &[4.0, 3.75]), [1.0, 0.5]);
        assert_eq!(rates(&absolute, &[4.0, 3.7]), [1.0, 1.0]);
    }

    #[test]
    fn the_cooldown_bears_bad_values_but_keeps_the_best() {
        let eager = config().with_patience(0).with_cooldown(2);
        assert_eq!(rates(&eager, &[5.0; 7]), [1.0, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25]);
        let keras = eager.clone().with_patience_rule(Patience::Keras);
        assert_eq!(rates(&keras, &[5.0; 6]), [1.0, 0.5, 0.5, 0.25, 0.25, 0.125]);
        let mut plateau = eager.build().expect("valid");
        for metric in [5.0, 5.0, 1.0] {
            plateau.observe(metric);
        }
        assert_eq!(plateau.best(), Some(1.0));
    }

    #[test]
    fn the_floor_holds_and_tiny_changes_are_left_out() {
        let floor = config().with_patience(0).with_min_lr(0.3);
        assert_eq!(rates(&floor, &[5.0; 5]), [1.0, 0.5, 0.3, 0.3, 0.3]);
        let coarse = config().with_patience(0).with_min_change(0.3);
        assert_eq!(rates(&coarse, &[5.0; 4]), [1.0, 0.5, 0.5, 0.5]);
    }

    #[test]
    fn resumes_through_bytes_inside_burn() {
        let config = config().with_cooldown(1);
        let metrics = [5.0, 4.0, f64::NAN, 4.0, 4.0, 4.5, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0];
        let whole = rates(&config, &metrics);
        for at in 0..metrics.len() {
            let first = config.init().expect("valid");
            metrics[..at].iter().for_each(|&metric| {
                first.observe(metric);
            });
            let bytes = ModuleLrScheduler::new(first).to_record().into_bytes().expect("serializes");
            let record = LrSchedulerRecord::from_bytes(bytes).expect("reads back");
            let second = config.init().expect("valid");
            let mut module = ModuleLrScheduler::new(second.clone()).load_record(record);
            assert_eq!(second.status().last(), Ok(()));
            for (k, &metric) in metrics.iter().enumerate().skip(at) {
                second.observe(metric);
                assert_eq!(module.step().base(), whole[k]);
            }
        }
    }

    #[test]
    fn another_configuration_is_noticed() {
        let record = config().with_patience(3).init().expect("valid").to_record();
        let mut scheduler = config().init().expect("valid");
        scheduler.load_record(record);
        let error = scheduler.status().last().expect_err("patience 3 is not 2");
        assert!(matches!(error, ScheduleError::OtherConfiguration { .. }));
        scheduler.load_record(LrSchedulerRecord::new());
        assert_eq!(scheduler.status().last(), Err(ScheduleError::NotASchedule { field: "config" }));
    }

    #[test]
    fn refuses() {
        assert_eq!(refused(config().with_factor(1.0).build()), "`factor` must be in [0, 1), got 1");
        assert!(refused(config().with_threshold(-1.0).build()).contains("`threshold`"));
        assert!(refused(config().with_min_lr(2.0).build()).contains("`min_lr` must be in [0, 1]"));
        assert!(refused(config().with_min_change(f64::NAN).build()).contains("`min_change`"));
        assert!(refused(PlateauConfig::new(-1.0).build()).contains("`initial_lr`"));
    }
}
