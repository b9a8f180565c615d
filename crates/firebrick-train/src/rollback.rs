//! Going back after a spike: to a state before it, and on under a changed condition.
//!
//! # Rule
//! A snapshot of weights, running statistics, optimizer, a plateau, averages, mask positions and the place in the data
//! is taken every so many steps. When a guard asks for a rollback, the training goes back to the newest snapshot that is
//! at least `margin` steps old, and to the one before where that one has been used since. It then either goes on with
//! the data after the spike, or repeats the same data at a lower rate. After `budget` rollbacks the next ends it. Guards
//! forget what they learned in the steps that were undone ([`Guard::rolled_back`]); their counts and budgets stay.
//!
//! The same state under the same data would spike again, which is why one of the two must change.
//!
//! # Reference
//! A. Chowdhery et al., "PaLM: scaling language modeling with pathways", JMLR 2023, section 5.1.

use crate::average::Average;
use crate::event::Event;
use crate::judge::Judged;
use crate::lookahead::lookahead_at;
use crate::plateau::PlateauState;
use crate::running::Run;
use crate::{EarlyStopping, Fit, Learn, Optimize, Outcome, TrainError};
use burn::config::Config;
use firebrick_core::{ConfigError, Record, check};
use firebrick_regularize::{MaskSource, Penalty, Projection};
use firebrick_stabilize::Guard;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// What changes after a rollback.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Retry {
    /// The data go on after the spike, and so many batches more are left out, to the end of the epoch at most.
    SkipBatches(usize),
    /// The data are those since the snapshot again, and the rate is multiplied by this from now on.
    LowerRate(f64),
}

/// Configuration of the rollback.
///
/// | field | default | range |
/// | --- | --- | --- |
/// | `every` | 100 steps | at least 1 |
/// | `keep` | 3 | at least 1 |
/// | `margin` | 3 steps | below `every * keep` |
/// | `budget` | 3 | any |
/// | `retry` | `Retry::SkipBatches(0)` | a factor in (0, 1) |
///
/// A snapshot costs the memory of weights and optimizer state, and one new buffer for each at the step after.
/// Snapshots are not in a checkpoint: a resumed training goes back to where it was resumed, at most.
#[derive(Config, Debug)]
pub struct RollbackConfig {
    /// After every how many steps a snapshot is taken.
    #[config(default = 100)]
    pub every: u64,
    /// How many are kept.
    #[config(default = 3)]
    pub keep: usize,
    /// How many steps before the spike the snapshot must be, where one is kept, for a spike may show late: at least the
    /// patience of the guard that asks, whose first spiked steps are taken. The default is that of `LossSpike`.
    #[config(default = 3)]
    pub margin: u64,
    /// How many rollbacks are allowed.
    #[config(default = 3)]
    pub budget: u64,
    /// What changes.
    #[config(default = "Retry::SkipBatches(0)")]
    pub retry: Retry,
}

impl RollbackConfig {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        check::at_least("keep", self.keep, 1)?;
        if self.every == 0 {
            return Err(ConfigError::new("every", 0, "at least 1"));
        }
        if self.margin >= self.every.saturating_mul(self.keep as u64) {
            let expected = "below `every * keep`, or no snapshot is that old";
            return Err(ConfigError::new("margin", self.margin, expected));
        }
        if let Retry::LowerRate(factor) = self.retry
            && !(factor > 0.0 && factor < 1.0)
        {
            return Err(ConfigError::new("factor", factor, "in (0, 1)"));
        }
        Ok(())
    }
}

/// A state to go back to.
struct Snapshot<M, O> {
    model: M,
    optimizer: O,
    average: Option<Average<M>>,
    /// Lookahead's slow weights.
    slow: Option<M>,
    stopping: Option<EarlyStopping>,
    best: Option<Judged<M>>,
    plateau: Option<PlateauState>,
    masks: Vec<u64>,
    epoch: usize,
    batch: usize,
    step: u64,
    epochs: usize,
    losses: Vec<f64>,
    penalties: Vec<f64>,
    seen_finite: bool,
    judged_at: Option<u64>,
    used: bool,
}

/// The snapshots, and what was done with them.
pub(crate) struct Ring<M, O> {
    snapshots: VecDeque<Snapshot<M, O>>,
}

impl<M, O> Default for Ring<M, O> {
    fn default() -> Self {
        Self { snapshots: VecDeque::new() }
    }
}

impl<O: Optimize, G: Guard, P: Penalty, C: Projection> Fit<O, G, P, C> {
    /// Takes a snapshot when it is due; always takes the first.
    pub(crate) fn remember<M: Learn>(&self, model: &M, ring: &mut Ring<M, O>, run: &mut Run<M>) {
        let Some(config) = &self.settings.rollback else { return };
        let known = ring.snapshots.back().map(|last| last.step);
        let due = run.step.is_multiple_of(config.every) && known != Some(run.step);
        if known.is_some() && !due {
            return;
        }
        ring.snapshots.push_back(Snapshot {
            // A copy in evaluation mode has running statistics of its own; a clone would share them.
            model: model.valid(),
            optimizer: self.optimizer.clone(),
            average: run.average.as_ref().map(Average::snapshot),
            slow: run.lookahead.as_ref().map(|lookahead| lookahead.slow(model).valid()),
            stopping: run.stopping.clone(),
            best: run.best.clone(),
            plateau: self.settings.rate.state(),
            masks: self.settings.masks.iter().map(MaskSource::position).collect(),
            epoch: run.epoch,
            batch: run.batch,
            step: run.step,
            epochs: run.epochs,
            losses: run.losses.clone(),
            penalties: run.penalties.clone(),
            seen_finite: run.seen_finite,
            judged_at: run.judged_at,
            used: false,
        });
        if ring.snapshots.len() > config.keep {
            ring.snapshots.pop_front();
        }
    }

    /// Goes back, or ends the training where the budget is used up or nothing is kept.
    pub(crate) fn roll_back<M: Learn>(
        &mut self,
        mut model: M,
        batches: usize,
        ring: &mut Ring<M, O>,
        run: &mut Run<M>,
    ) -> Result<M, TrainError> {
        let Some(config) = self.settings.rollback.clone() else {
            run.end(Outcome::Stopped);
            return Ok(model);
        };
        if run.rollbacks >= config.budget {
            run.end(Outcome::Stopped);
            return Ok(model);
        }
        let too_new = |snapshot: &Snapshot<M, O>| {
            snapshot.used || run.step.saturating_sub(snapshot.step) < config.margin
        };
        while ring.snapshots.len() > 1 && ring.snapshots.back().is_some_and(too_new) {
            ring.snapshots.pop_back();
        }
        let Some(snapshot) = ring.snapshots.back_mut() else {
            run.end(Outcome::Stopped);
            return Ok(model);
        };
        snapshot.used = true;
        run.rollbacks += 1;
        let from = run.step;
        // A forward pass before this would otherwise write its statistics over the restored ones.
        let _ = model.valid();
        let record = snapshot.model.clone().into_record();
        model = model
            .try_load_record(record)
            .map_err(|error| TrainError::Rollback { reason: error.to_string() })?;
        self.optimizer = snapshot.optimizer.clone();
        run.average = snapshot.average.as_ref().map(Average::snapshot);
        if let (Some(config), Some(slow)) = (&self.settings.lookahead, &snapshot.slow) {
            run.lookahead = Some(lookahead_at(config, slow.clone(), snapshot.step)?);
        }
        for (masks, &position) in self.settings.masks.iter().zip(&snapshot.masks) {
            masks.seek(position);
        }
        let plateau = self.settings.rate.restore(snapshot.plateau.as_ref());
        plateau.map_err(|error| TrainError::Rollback { reason: error.to_string() })?;
        if let Some(guards) = &mut self.guards {
            guards.rolled_back(from - snapshot.step);
        }
        run.step = snapshot.step;
        run.judged_at = snapshot.judged_at;
        match config.retry {
            Retry::SkipBatches(more) => {
                run.batch = run.batch.saturating_add(more).min(batches);
                // The weights that are back were healthy, also where nothing is left of the epoch.
                run.seen_finite = true;
                // One of each a step; those of an earlier epoch are gone already.
                let undone = usize::try_from(from - run.step).unwrap_or(usize::MAX);
                for values in [&mut run.losses, &mut run.penalties] {
                    values.truncate(values.len().saturating_sub(undone));
                }
            }
            Retry::LowerRate(factor) => {
                run.rate_factor *= factor;
                // The best so far goes with the rule that found it.
                run.stopping = snapshot.stopping.clone();
                run.best = snapshot.best.clone();
                run.epoch = snapshot.epoch;
                run.batch = snapshot.batch;
                run.epochs = snapshot.epochs;
                run.losses = snapshot.losses.clone();
                run.penalties = snapshot.penalties.clone();
                run.seen_finite = snapshot.seen_finite;
            }
        }
        let record = Record::new(run.epoch, run.step)
            .with("rollbacks", run.rollbacks as f64)
            .with("rolled_back_from_step", from as f64)
            .with("rate_factor", run.rate_factor);
        self.write(run, record)?;
        let event = Event::RolledBack { from, to: run.step, count: run.rollbacks };
        self.tell(&event, run);
        Ok(model)
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::testing::{Deep, Net, config, data, deep, net, weights};
    use crate::{Batches, EarlyStoppingConfig, FitConfig, Fitted, Labelled, TensorBatches};
    use burn::module::Module;
    use burn::optim::{GradientsParams, SgdConfig};
    use burn::tensor::Device;
    use firebrick_core::{Seed, names};
    use firebrick_optim::schedule::PlateauConfig;
    use firebrick_optim::{AdamWConfig, FusedOptimizer};
    use firebrick_stabilize::{LossSpikeConfig, Verdict};

    /// Asks for a rollback at these calls, counted from 1.
    struct At(Vec<u64>, u64);

    impl Guard for At {
        fn before_step<M: Module>(&mut self, _: &M, _: &mut GradientsParams, _: f64) -> Verdict {
            self.1 += 1;
            if self.0.contains(&self.1) { Verdict::Rollback } else { Verdict::Proceed }
        }
    }

    fn fit(calls: &[u64], config: FitConfig) -> Fit<FusedOptimizer, At> {
        Fit::new(config, AdamWConfig::new().fused().expect("valid"))
            .rate(|step| 0.05 / (step + 1) as f64)
            .guards(At(calls.to_vec(), 0))
    }

    fn run(fit: Fit<FusedOptimizer, At>) -> Fitted<Deep> {
        let (device, masks) = (Device::flex().autodiff(), MaskSource::new(Seed(8)));
        let data = data(&device, 1.0);
        fit.masks(&masks).run(deep(&device, &masks, 8), &data, Some(&data)).expect("runs")
    }

    fn back(retry: Retry) -> RollbackConfig {
        RollbackConfig::new().with_every(4).with_margin(0).with_retry(retry)
    }

    #[test]
    fn what_was_undone_leaves_no_trace() {
        let straight = run(fit(&[], config(1).with_max_steps(Some(4))));
        // Call 6 is the last step of the epoch's 6; it asks to go back to step 4, and the epoch is over.
        let retried = run(fit(&[6], config(1)).rollback(back(Retry::SkipBatches(0))));
        assert_eq!(retried.steps, 4);
        assert_eq!(weights(&retried.model), weights(&straight.model));
        let record =
            retried.history.records.iter().find(|record| record.get("rollbacks").is_some());
        let record = record.expect("it is recorded");
        assert_eq!((record.step, record.get("rolled_back_from_step")), (4, Some(5.0)));
    }

    #[test]
    fn the_losses_of_what_was_undone_are_not_in_the_mean() {
        let config = || config(1).with_judge_training(false);
        let straight = run(fit(&[], config().with_max_steps(Some(4))));
        let retried = run(fit(&[6], config()).rollback(back(Retry::SkipBatches(0))));
        let loss = |fitted: &Fitted<Deep>| fitted.history.last(names::TRAIN_LOSS);
        assert_eq!(loss(&retried), loss(&straight));
    }

    #[test]
    fn what_was_watched_in_an_undone_step_is_in_no_record() {
        // Call 6 looks, for it would have been step 6; step 5 comes after it.
        let config = config(2).with_watch_every(2);
        let retried = run(fit(&[6], config).rollback(back(Retry::LowerRate(0.5))));
        let records = retried.history.records.iter();
        let watched = records.filter(|record| record.get("activation_slope").is_some());
        let steps: Vec<u64> = watched.map(|record| record.step).collect();
        assert_eq!(steps, [2, 4, 6, 8, 10, 12]);
    }

    #[test]
    fn a_plateau_goes_back_with_the_step_under_other_data_too() {
        // The rate falls at every judgement, and there is one a step.
        let plateau = PlateauConfig::new(0.05).with_patience(0).with_threshold(0.9);
        let fit = fit(&[6], config(2).with_judge_every_steps(1))
            .plateau(plateau.build().expect("valid"), names::TRAIN_LOSS)
            .rollback(back(Retry::SkipBatches(0)));
        let history = run(fit).history;
        let rates = |step: u64| -> Vec<f64> {
            let records = history.records.iter().filter(|record| record.step == step);
            records.filter_map(|record| record.get(names::LEARNING_RATE)).collect()
        };
        assert!(rates(4) != rates(5)[..1]);
        assert_eq!(rates(5).len(), 2, "step 5 is taken twice");
        assert_eq!(rates(5)[0], rates(5)[1]);
    }

    #[test]
    fn a_best_that_was_undone_is_none() {
        let config = || {
            let stopping = Some(EarlyStoppingConfig::new(99));
            config(1).with_judge_every_steps(1).with_early_stopping(stopping)
        };
        let straight = run(fit(&[], config().with_max_steps(Some(4))));
        // After the fifth step, which was the best, back to the fourth, and there it ends.
        let back = back(Retry::LowerRate(0.5)).with_budget(1);
        let retried = run(fit(&[6, 7], config()).rollback(back));
        let losses = retried.history.series(names::VALIDATION_LOSS);
        assert!(
            losses.len() == 5 && losses[..4].iter().all(|&loss| loss > losses[4]),
            "{losses:?}"
        );
        assert_eq!((retried.outcome, retried.steps), (Outcome::Stopped, 4));
        assert_eq!(retried.validation, straight.validation);
        assert_eq!(weights(&retried.model), weights(&straight.model));
    }

    #[test]
    fn a_lower_rate_repeats_the_same_data() {
        // Back to the start of the run: at half the rate all along it is the run at half the rate.
        let lowered = run(fit(&[3], config(2)).rollback(back(Retry::LowerRate(0.5))));
        let half = Fit::new(config(2), AdamWConfig::new().fused().expect("valid"))
            .rate(|step| 0.5 * (0.05 / (step + 1) as f64))
            .guards(At(vec![], 0));
        let half = run(half);
        assert_eq!(weights(&lowered.model), weights(&half.model));
        assert_eq!((lowered.steps, lowered.epochs), (half.steps, half.epochs));
        assert_eq!(lowered.train, half.train);
    }

    /// To which steps it went back, and from which.
    fn froms<M>(fitted: &Fitted<M>) -> Vec<(u64, f64)> {
        let records = fitted.history.records.iter();
        records
            .filter_map(|record| Some((record.step, record.get("rolled_back_from_step")?)))
            .collect()
    }

    #[test]
    fn a_snapshot_that_failed_gives_way_to_the_one_before() {
        // Snapshots at 0, 4 and 8; calls 10 and 11 spike, so the second goes back to 4, and call 12 to 0.
        let fitted = run(fit(&[10, 11, 12], config(3)).rollback(back(Retry::SkipBatches(0))));
        assert_eq!(froms(&fitted), [(8, 9.0), (4, 8.0), (0, 4.0)]);
        // A margin of 4 steps leaves out the snapshot at 8.
        let far = back(Retry::SkipBatches(0)).with_margin(4);
        assert_eq!(froms(&run(fit(&[10], config(3)).rollback(far))), [(4, 9.0)]);
    }

    /// The usual data, of which batch 2 of epoch 3, from 0, is mirrored and far off: it throws the weights over.
    struct Spiked(TensorBatches<2>);

    impl Batches for Spiked {
        type Batch = Labelled<2>;

        fn epoch(&self, epoch: usize) -> impl Iterator<Item = Labelled<2>> {
            self.0.epoch(epoch).enumerate().map(move |(index, mut batch)| {
                if (epoch, index) == (3, 2) {
                    batch.inputs = batch.inputs.mul_scalar(-1e3);
                }
                batch
            })
        }

        fn batches_per_epoch(&self) -> usize {
            self.0.batches_per_epoch()
        }

        fn whole(&self) -> impl Iterator<Item = Labelled<2>> {
            self.0.whole()
        }
    }

    #[test]
    fn a_loss_spike_is_undone_and_the_run_recovers() {
        let run = |config: Option<RollbackConfig>| -> Fitted<Net> {
            let device = Device::flex().autodiff();
            let spikes = LossSpikeConfig::new().with_threshold(6.0).with_min_samples(8);
            let train = Spiked(data(&device, 1.0));
            let mut fit = Fit::new(self::config(6), SgdConfig::new().init())
                .rate(|_| 0.5)
                .guards((spikes.init().expect("valid"),));
            if let Some(config) = config {
                fit = fit.rollback(config);
            }
            fit.run(net(&device), &train, None).expect("runs")
        };
        // Call 15 meets the batch after 14 steps; its step and the next are taken, and call 17 asks, after step 16.
        // There a snapshot is due, within the spike; the default margin passes it over.
        let fitted = run(Some(RollbackConfig::new().with_every(4)));
        assert_eq!(froms(&fitted), [(12, 16.0)]);
        // Of the third epoch the last batch is left, then three epochs of six.
        assert_eq!((fitted.outcome, fitted.steps), (Outcome::Finished, 12 + 1 + 18));
        assert_eq!(fitted.train.error(), 0.0);
        assert!(fitted.train.loss() < 0.2, "{}", fitted.train.loss());
        // Without a margin the first way back leads into the spike, and only the second out of it.
        let near = run(Some(RollbackConfig::new().with_every(4).with_margin(0)));
        assert_eq!(froms(&near), [(16, 16.0), (12, 18.0)]);
        assert!(near.train.loss() < 0.2, "{}", near.train.loss());
        // Without a rollback the guard's wish ends it.
        assert_eq!((run(None).outcome, run(None).steps), (Outcome::Stopped, 16));
    }

    #[test]
    fn without_budget_or_snapshots_it_ends() {
        let none = run(fit(&[3], config(3)));
        assert_eq!((none.outcome, none.steps), (Outcome::Stopped, 2));
        let once = back(Retry::SkipBatches(0)).with_budget(1);
        let fitted = run(fit(&[3, 5], config(3)).rollback(once));
        assert_eq!(fitted.outcome, Outcome::Stopped);
    }

    #[test]
    fn bad_values_are_refused() {
        let base = RollbackConfig::new;
        for config in [
            base().with_every(0),
            base().with_keep(0),
            base().with_margin(300),
            base().with_retry(Retry::LowerRate(1.0)),
            base().with_retry(Retry::LowerRate(f64::NAN)),
        ] {
            assert!(config.check().is_err(), "{config:?}");
        }
    }

    #[test]
    fn an_epoch_that_was_undone_whole_is_no_divergence() {
        /// All rows in one batch, which is broken in the second epoch.
        struct Once(TensorBatches<2>);
        impl Batches for Once {
            type Batch = Labelled<2>;
            fn epoch(&self, epoch: usize) -> impl Iterator<Item = Labelled<2>> {
                let factor = if epoch == 2 { f64::NAN } else { 1.0 };
                self.0.epoch(epoch).map(move |batch| Labelled {
                    inputs: batch.inputs.mul_scalar(factor),
                    targets: batch.targets,
                })
            }
            fn batches_per_epoch(&self) -> usize {
                self.0.batches_per_epoch()
            }
            fn whole(&self) -> impl Iterator<Item = Labelled<2>> {
                self.0.whole()
            }
        }
        let device = Device::flex().autodiff();
        let rows = data(&device, 1.0).data().clone();
        let train = Once(TensorBatches::new(rows, 1000, Seed(5)).expect("valid"));
        let fitted = Fit::new(config(3), SgdConfig::new().init())
            .rate(|_| 0.1)
            .guards(LossSpikeConfig::new().init().expect("valid"))
            .rollback(RollbackConfig::new().with_every(1).with_margin(1))
            .run(net(&device), &train, None)
            .expect("trains");
        // Back before the first step, and on with the third epoch.
        assert_eq!((fitted.outcome, fitted.steps, fitted.epochs), (Outcome::Finished, 1, 3));
        assert_eq!(fitted.warnings, [crate::Warning::NoStep { epoch: 2 }]);
    }
}
