//! The training loop.

use crate::progress::Progress;
use crate::{Batches, EarlyStopping, EarlyStoppingConfig, Learn, Optimize, Score, TrainError};
use burn::config::Config;
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use firebrick_backend::parameters;
use firebrick_core::{ConfigError, History, Record, check, names};
use firebrick_optim::schedule::Schedule;
use firebrick_regularize::Penalty;
use firebrick_stabilize::{Guard, SkipNonFinite, SkipNonFiniteConfig, Verdict};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Configuration of [`Fit`].
///
/// | field | default | range |
/// | --- | --- | --- |
/// | `max_epochs` | required | at least 1 |
/// | `early_stopping` | none | needs validation data |
/// | `record_every` | 0: once an epoch | any number of steps |
/// | `judge_training` | true | |
/// | `progress` | true | |
#[derive(Config, Debug)]
pub struct FitConfig {
    /// Passes over the training data, at most.
    pub max_epochs: usize,
    /// When to end before, and to return the weights of the best epoch.
    pub early_stopping: Option<EarlyStoppingConfig>,
    /// Every how many steps a record goes into the history besides the one an epoch; 0 for none.
    #[config(default = 0)]
    pub record_every: usize,
    /// Whether the training data are judged in evaluation mode after every epoch, one more forward pass; if not,
    /// `train_loss` is the mean of the losses the steps saw, and there is a `train_error` only at the end.
    #[config(default = true)]
    pub judge_training: bool,
    /// Whether to draw a progress bar when a terminal is there.
    #[config(default = true)]
    pub progress: bool,
}

/// Why a training ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// All epochs were run.
    Finished,
    /// The validation loss stopped improving.
    EarlyStopped,
    /// The loss of an epoch was not finite.
    Diverged,
    /// A guard asked for the end.
    Stopped,
    /// The interrupt flag was raised.
    Interrupted,
}

/// What a training gives back.
#[derive(Debug)]
#[non_exhaustive]
pub struct Fitted<M> {
    /// The model in evaluation mode, on the device without autodiff: that of the best epoch if early stopping
    /// watched, else the last. Call `train()` on it to go on training.
    pub model: M,
    /// The epoch that `model` is from, counted from 1; 0 if none was completed.
    pub epoch: usize,
    /// How many epochs were run.
    pub epochs: usize,
    /// How many optimizer steps were taken.
    pub steps: u64,
    /// Why it ended.
    pub outcome: Outcome,
    /// How `model` does on the training data.
    pub train: Score,
    /// How `model` does on the validation data, where there are any.
    pub validation: Option<Score>,
    /// What was written down on the way.
    pub history: History,
}

/// The learning rate by step.
enum Rate {
    Closure(Box<dyn Fn(u64) -> f64 + Send>),
    Schedule(Box<dyn Schedule>),
}

impl Rate {
    fn at(&self, step: u64) -> f64 {
        match self {
            Self::Closure(rate) => rate(step),
            Self::Schedule(schedule) => schedule.rate(step),
        }
    }
}

/// A training that is set up: optimizer, schedule, guards, penalty.
///
/// See the crate's page for an example.
pub struct Fit<O, G = SkipNonFinite, P = ()> {
    config: FitConfig,
    optimizer: O,
    rate: Rate,
    guards: Option<G>,
    penalty: P,
    sink: Option<Box<dyn Write + Send>>,
    interrupt: Arc<AtomicBool>,
}

impl<O: std::fmt::Debug, G: std::fmt::Debug, P: std::fmt::Debug> std::fmt::Debug for Fit<O, G, P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fit")
            .field("config", &self.config)
            .field("optimizer", &self.optimizer)
            .field("guards", &self.guards)
            .field("penalty", &self.penalty)
            .finish_non_exhaustive()
    }
}

impl<O: Optimize> Fit<O> {
    /// A training at the constant learning rate 1e-3 that skips non-finite steps.
    #[must_use]
    pub fn new(config: FitConfig, optimizer: O) -> Self {
        Self {
            config,
            optimizer,
            rate: Rate::Closure(Box::new(|_| 1e-3)),
            guards: SkipNonFiniteConfig::new().init().ok(),
            penalty: (),
            sink: None,
            interrupt: Arc::default(),
        }
    }
}

impl<O: Optimize, G: Guard, P: Penalty> Fit<O, G, P> {
    /// Sets the learning rate as a function of the step, counted from 0. A skipped step does not count.
    #[must_use]
    pub fn rate(mut self, rate: impl Fn(u64) -> f64 + Send + 'static) -> Self {
        self.rate = Rate::Closure(Box::new(rate));
        self
    }

    /// Sets the learning rate by a schedule of firebrick, whose update 0 is the first step. A skipped step does not
    /// count.
    #[must_use]
    pub fn schedule(mut self, schedule: impl Schedule + 'static) -> Self {
        self.rate = Rate::Schedule(Box::new(schedule));
        self
    }

    /// Sets what looks at each step before it is taken; replaces the default, which skips non-finite steps.
    #[must_use]
    pub fn guards<H: Guard>(self, guards: H) -> Fit<O, H, P> {
        let Self { config, optimizer, rate, penalty, sink, interrupt, .. } = self;
        Fit { config, optimizer, rate, guards: Some(guards), penalty, sink, interrupt }
    }

    /// Sets what is added to the loss at each step; recorded apart from it.
    #[must_use]
    pub fn penalty<Q: Penalty>(self, penalty: Q) -> Fit<O, G, Q> {
        let Self { config, optimizer, rate, guards, sink, interrupt, .. } = self;
        Fit { config, optimizer, rate, guards, penalty, sink, interrupt }
    }

    /// Writes each record of the history to `sink` as a JSON line at once.
    #[must_use]
    pub fn history_to(mut self, sink: impl Write + Send + 'static) -> Self {
        self.sink = Some(Box::new(sink));
        self
    }

    /// Ends the training after the current step once `flag` is true.
    #[must_use]
    pub fn interrupt(mut self, flag: Arc<AtomicBool>) -> Self {
        self.interrupt = flag;
        self
    }

    /// Trains `model` on `train`, judging it on `validation` after every epoch.
    ///
    /// The training data live on an autodiff device, as the model does.
    ///
    /// # Errors
    /// Before any work when a configuration value is out of range or nothing is trainable; later when the loss
    /// cannot be differentiated, there is no batch, the device fails or the history cannot be written.
    pub fn run<M, B>(
        mut self,
        mut model: M,
        train: &B,
        validation: Option<&B>,
    ) -> Result<Fitted<M>, TrainError>
    where
        M: Learn<Batch = B::Batch>,
        B: Batches,
    {
        let mut stopping = self.check(&model, validation.is_some())?;
        let epochs = self.config.max_epochs;
        let progress = Progress::new(self.config.progress, epochs, train.batches_per_epoch());
        let mut run = Run::default();
        let mut best: Option<Judged<M>> = None;

        for epoch in 1..=epochs {
            progress.epoch(epoch, epochs);
            let ended;
            (model, ended) = self.epoch(model, train, epoch, &mut run, &progress)?;
            if let Some(outcome) = ended {
                run.outcome = Some(outcome);
                break;
            }
            run.epochs = epoch;
            let judged = self.judge(&model, train, validation, epoch, &mut run)?;
            if !judged.loss.is_finite() {
                run.outcome = Some(Outcome::Diverged);
                best = best.or(Some(judged));
                break;
            }
            let verdict = match (&mut stopping, &judged.validation) {
                (Some(rule), Some(score)) => Some(rule.judge(epoch, score.loss())),
                _ => None,
            };
            if verdict.is_none_or(|verdict| verdict.improved) {
                best = Some(judged);
            }
            if verdict.is_some_and(|verdict| verdict.stop) {
                run.outcome = Some(Outcome::EarlyStopped);
                break;
            }
        }
        progress.finish();
        let best = match best {
            Some(best) => best,
            None => Judged::of(&model, train, validation, true, 0)?,
        };
        let train = match best.train {
            Some(score) => score,
            None => total(&best.model, train)?,
        };
        Ok(Fitted {
            model: best.model,
            epoch: best.epoch,
            epochs: run.epochs,
            steps: run.step,
            outcome: run.outcome.unwrap_or(Outcome::Finished),
            train,
            validation: best.validation,
            history: run.history,
        })
    }

    fn check<M: Learn>(
        &self,
        model: &M,
        validated: bool,
    ) -> Result<Option<EarlyStopping>, TrainError> {
        check::at_least("max_epochs", self.config.max_epochs, 1)?;
        let stopping = self.config.early_stopping.as_ref();
        if stopping.is_some() && !validated {
            let expected = "none, or validation data given to `run`";
            return Err(ConfigError::new("early_stopping", "a rule without data", expected).into());
        }
        if !parameters(model).iter().any(|parameter| parameter.trainable) {
            return Err(TrainError::NothingToTrain);
        }
        Ok(stopping.map(EarlyStoppingConfig::init).transpose()?)
    }

    /// One pass over the training data; the outcome where it had to end early.
    fn epoch<M, B>(
        &mut self,
        mut model: M,
        train: &B,
        epoch: usize,
        run: &mut Run,
        progress: &Progress,
    ) -> Result<(M, Option<Outcome>), TrainError>
    where
        M: Learn<Batch = B::Batch>,
        B: Batches,
    {
        run.losses.clear();
        run.penalties.clear();
        for batch in train.epoch(epoch) {
            if self.interrupt.load(Ordering::Relaxed) {
                return Ok((model, Some(Outcome::Interrupted)));
            }
            let (loss, penalty, mut gradients) = self.backward(&model, batch)?;
            run.losses.push(loss);
            run.penalties.extend(penalty);
            let verdict = match &mut self.guards {
                Some(guards) => guards.before_step(&model, &mut gradients, loss),
                None => Verdict::Proceed,
            };
            let rate = check::non_negative("rate", self.rate.at(run.step))?;
            match verdict {
                Verdict::Proceed => {
                    model = self.optimizer.step(rate, model, gradients);
                    run.step += 1;
                    if let Some(guards) = &mut self.guards {
                        guards.after_step(&model);
                    }
                }
                Verdict::Skip => {}
                Verdict::Rollback | Verdict::Stop => return Ok((model, Some(Outcome::Stopped))),
            }
            progress.step(loss, rate);
            let due = self.config.record_every > 0
                && run.step.is_multiple_of(self.config.record_every as u64);
            if due && verdict == Verdict::Proceed {
                let mut record = Record::new(epoch, run.step).with(names::BATCH_LOSS, loss);
                self.note_step(&mut record, rate);
                self.write(run, record)?;
            }
        }
        if run.losses.is_empty() {
            return Err(TrainError::NoBatch { epoch });
        }
        Ok((model, None))
    }

    /// Loss, penalty and gradients of one batch.
    fn backward<M: Learn>(
        &self,
        model: &M,
        batch: M::Batch,
    ) -> Result<(f64, Option<f64>, GradientsParams), TrainError> {
        let loss = model.loss(batch);
        if loss.shape().num_elements() != 1 {
            return Err(TrainError::LossShape { elements: loss.shape().num_elements() });
        }
        if !loss.device().is_autodiff() {
            return Err(TrainError::NotDifferentiable);
        }
        let read = |tensor: &Tensor<1>| tensor.clone().inner().try_into_scalar::<f64>();
        let value = read(&loss)?;
        let (penalty, total) = match self.penalty.term(model) {
            Some(term) => (Some(read(&term)?), loss + term),
            None => (None, loss),
        };
        let gradients = GradientsParams::from_grads(total.backward(), model);
        if gradients.is_empty() {
            return Err(TrainError::NoGradient);
        }
        Ok((value, penalty, gradients))
    }

    /// Judges the model after an epoch and writes the epoch's record.
    fn judge<M, B>(
        &mut self,
        model: &M,
        train: &B,
        validation: Option<&B>,
        epoch: usize,
        run: &mut Run,
    ) -> Result<Judged<M>, TrainError>
    where
        M: Learn<Batch = B::Batch>,
        B: Batches,
    {
        let mut judged = Judged::of(model, train, validation, self.config.judge_training, epoch)?;
        let mut record = Record::new(epoch, run.step);
        judged.loss = match judged.train {
            Some(score) => {
                record.values.insert(names::TRAIN_ERROR.into(), score.error());
                score.loss()
            }
            None => mean(&run.losses),
        };
        record.values.insert(names::TRAIN_LOSS.into(), judged.loss);
        if let Some(score) = judged.validation {
            record.values.insert(names::VALIDATION_LOSS.into(), score.loss());
            record.values.insert(names::VALIDATION_ERROR.into(), score.error());
        }
        if !run.penalties.is_empty() {
            record.values.insert(names::PENALTY.into(), mean(&run.penalties));
        }
        let rate = self.rate.at(run.step.saturating_sub(1));
        self.note_step(&mut record, rate);
        self.write(run, record)?;
        Ok(judged)
    }

    fn note_step(&self, record: &mut Record, rate: f64) {
        record.values.insert(names::LEARNING_RATE.into(), rate);
        if let Some(guards) = &self.guards {
            guards.record(record);
        }
    }

    fn write(&mut self, run: &mut Run, record: Record) -> Result<(), TrainError> {
        if let Some(sink) = &mut self.sink {
            History::write_line(sink, &record)?;
        }
        run.history.push(record);
        Ok(())
    }
}

/// What moves on while a training runs.
#[derive(Default)]
struct Run {
    step: u64,
    epochs: usize,
    outcome: Option<Outcome>,
    history: History,
    losses: Vec<f64>,
    penalties: Vec<f64>,
}

/// A model after an epoch, with its scores.
struct Judged<M> {
    model: M,
    epoch: usize,
    loss: f64,
    train: Option<Score>,
    validation: Option<Score>,
}

impl<M: Learn> Judged<M> {
    fn of<B: Batches<Batch = M::Batch>>(
        model: &M,
        train: &B,
        validation: Option<&B>,
        judge_training: bool,
        epoch: usize,
    ) -> Result<Self, TrainError> {
        // An evaluation copy has running statistics of its own, which a clone would share.
        let model = model.valid();
        let train = if judge_training { Some(total(&model, train)?) } else { None };
        let validation = validation.map(|data| total(&model, data)).transpose()?;
        Ok(Self { model, epoch, loss: f64::NAN, train, validation })
    }
}

fn total<M: Learn<Batch = B::Batch>, B: Batches>(model: &M, data: &B) -> Result<Score, TrainError> {
    let mut score = Score::default();
    for batch in data.whole() {
        score = score + model.score(batch)?;
    }
    Ok(score)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::{Labelled, TensorBatches};
    use burn::module::Module;
    use burn::nn::loss::CrossEntropyLossConfig;
    use burn::nn::{Linear, LinearConfig};
    use burn::optim::SgdConfig;
    use burn::tensor::{Device, TensorReadError};
    use firebrick_backend::testing::devices;
    use firebrick_core::Seed;
    use firebrick_optim::AdamWConfig;
    use firebrick_optim::schedule::CosineConfig;
    use firebrick_regularize::L2Config;
    use firebrick_stabilize::{ClipGlobalNormConfig, Scheme, initialize};
    use std::sync::Mutex;

    #[derive(Module, Debug)]
    struct Net {
        layer: Linear,
    }

    impl Learn for Net {
        type Batch = Labelled<2>;

        fn loss(&self, batch: Labelled<2>) -> Tensor<1> {
            let logits = self.layer.forward(batch.inputs);
            CrossEntropyLossConfig::new().init(&logits.device()).forward(logits, batch.targets)
        }

        fn score(&self, batch: Labelled<2>) -> Result<Score, TensorReadError> {
            Score::classification(self.layer.forward(batch.inputs), batch.targets)
        }
    }

    fn net(device: &Device) -> Net {
        initialize(
            Net { layer: LinearConfig::new(2, 2).init(device) },
            Scheme::LecunNormal,
            Seed(4),
        )
    }

    /// Two classes on either side of a line, `scale` apart.
    fn data(device: &Device, scale: f32) -> TensorBatches<2> {
        let rows: Vec<f32> = (0..40)
            .flat_map(|i| {
                let side = if i % 2 == 0 { scale } else { -scale };
                [side + 0.01 * i as f32, 0.5 * side]
            })
            .collect();
        let inputs = Tensor::<1>::from_floats(rows.as_slice(), device).reshape([40, 2]);
        let classes: Vec<i32> = (0..40).map(|i| i % 2).collect();
        let targets = Tensor::from_ints(classes.as_slice(), device);
        TensorBatches::new(Labelled { inputs, targets }, 7, Seed(5)).expect("valid")
    }

    fn config(epochs: usize) -> FitConfig {
        FitConfig::new(epochs).with_progress(false)
    }

    #[test]
    fn the_loop_is_the_loop_one_would_write_by_hand() {
        for device in devices() {
            let device = device.autodiff();
            let train = data(&device, 1.0);
            let fitted = Fit::new(config(3), SgdConfig::new().init())
                .rate(|step| 0.5 / (step + 1) as f64)
                .run(net(&device), &train, None)
                .expect("trains");

            let (mut model, mut optimizer, mut step) = (net(&device), SgdConfig::new().init(), 0);
            for batch in (1..=3).flat_map(|epoch| train.epoch(epoch)) {
                let gradients = GradientsParams::from_grads(model.loss(batch).backward(), &model);
                step += 1;
                model = optimizer.step(0.5 / f64::from(step), model, gradients);
            }
            let expected = model.valid().layer.weight.val().into_data();
            fitted.model.layer.weight.val().into_data().assert_eq(&expected, true);
            assert_eq!((fitted.steps, fitted.epochs, fitted.outcome), (18, 3, Outcome::Finished));
            assert_eq!(fitted.train.error(), 0.0);
            assert_eq!(fitted.history.records.len(), 3);
        }
    }

    #[test]
    fn a_schedule_is_the_closure_of_its_rates_and_the_fused_optimizer_steps() {
        for device in devices() {
            let device = device.autodiff();
            let train = data(&device, 1.0);
            let schedule = || CosineConfig::new(0.05, 18).build().expect("valid");
            let fit = || {
                let optimizer = AdamWConfig::new().fused().expect("valid");
                Fit::new(config(3), optimizer)
            };
            let left = fit().schedule(schedule()).run(net(&device), &train, None).expect("trains");
            let rates = schedule();
            let right = fit().rate(move |step| rates.rate(step)).run(net(&device), &train, None);
            let right = right.expect("trains");
            let expected = right.model.layer.weight.val().into_data();
            left.model.layer.weight.val().into_data().assert_eq(&expected, true);
            assert_eq!(left.history.last(names::LEARNING_RATE), Some(schedule().rate(17)));
            assert!(
                left.history.series(names::TRAIN_LOSS)[2]
                    < left.history.series(names::TRAIN_LOSS)[0]
            );
        }
    }

    #[test]
    fn early_stopping_gives_back_the_best_weights() {
        for device in devices() {
            let device = device.autodiff();
            // What is right for training is wrong for validation, so the first epoch is the best.
            let (train, opposite) = (data(&device, 1.0), data(&device, -1.0));
            let run = |epochs| {
                let stopping = EarlyStoppingConfig::new(3);
                Fit::new(
                    config(epochs).with_early_stopping(Some(stopping)),
                    SgdConfig::new().init(),
                )
                .rate(|_| 0.5)
                .run(net(&device), &train, Some(&opposite))
                .expect("trains")
            };
            let (one, all) = (run(1), run(50));
            assert_eq!((all.epoch, all.epochs, all.outcome), (1, 5, Outcome::EarlyStopped));
            let first = one.model.layer.weight.val().into_data();
            all.model.layer.weight.val().into_data().assert_eq(&first, true);
            assert_eq!(all.validation, one.validation);
            let losses = all.history.series(names::VALIDATION_LOSS);
            assert_eq!(losses[0], one.validation.expect("judged").loss());
            assert!(losses[0] < losses[4]);
        }
    }

    #[test]
    fn a_broken_batch_is_skipped_and_a_broken_run_ends() {
        let device = Device::flex().autodiff();
        let mut broken = data(&device, 1.0).data().clone();
        broken.inputs = broken.inputs.slice_fill([3..4, 0..1], f32::NAN);
        let broken = TensorBatches::new(broken, 7, Seed(5)).expect("valid");
        let fitted = Fit::new(config(2).with_judge_training(false), SgdConfig::new().init())
            .rate(|_| 0.5)
            .run(net(&device), &broken, None)
            .expect("runs");
        // One batch of six has the NaN, so the mean of the losses is no number and the first epoch is the last.
        assert_eq!((fitted.outcome, fitted.steps, fitted.epochs), (Outcome::Diverged, 5, 1));
        assert_eq!(fitted.history.last(names::SKIPPED), Some(1.0));
        let weights: Vec<f32> = fitted.model.layer.weight.val().try_to_vec_as().expect("reads");
        assert!(weights.iter().all(|weight| weight.is_finite()));
    }

    #[test]
    fn guards_and_penalties_take_part_and_are_recorded() {
        let device = Device::flex().autodiff();
        let run = |strength: f64| {
            Fit::new(config(20).with_record_every(4), SgdConfig::new().init())
                .rate(|_| 0.5)
                .guards(
                    (ClipGlobalNormConfig::new(1.0).with_by_layer(true).init().expect("valid"),),
                )
                .penalty(L2Config::new(strength).init().expect("valid"))
                .run(net(&device), &data(&device, 1.0), None)
                .expect("trains")
        };
        let (free, held) = (run(0.0), run(1.0));
        let size = |fitted: &Fitted<Net>| {
            fitted.model.layer.weight.val().square().sum().into_scalar::<f32>()
        };
        assert!(size(&held) < 0.5 * size(&free));
        let names = held.history.names();
        for name in ["grad_norm", "grad_norm/layer", "lr", "penalty", "train_loss", "batch_loss"] {
            assert!(names.contains(name), "{name} is missing from {names:?}");
        }
        assert_eq!(held.history.series(names::BATCH_LOSS).len(), 20 * 6 / 4);
    }

    #[test]
    fn the_history_is_written_line_by_line_and_an_interrupt_ends() {
        #[derive(Clone, Default)]
        struct Shared(Arc<Mutex<Vec<u8>>>);
        impl Write for Shared {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.lock().expect("one thread").extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let device = Device::flex().autodiff();
        let (sink, flag) = (Shared::default(), Arc::new(AtomicBool::new(false)));
        let raised = flag.clone();
        let fitted = Fit::new(config(9), SgdConfig::new().init())
            .rate(move |step| {
                raised.store(step >= 8, Ordering::Relaxed);
                0.1
            })
            .history_to(sink.clone())
            .interrupt(flag)
            .run(net(&device), &data(&device, 1.0), None)
            .expect("runs");
        assert_eq!((fitted.outcome, fitted.epochs, fitted.steps), (Outcome::Interrupted, 1, 9));
        let written = sink.0.lock().expect("one thread").clone();
        assert_eq!(History::read(written.as_slice()).expect("reads"), fitted.history);
    }

    #[test]
    fn what_cannot_be_trained_is_refused_before_any_work() {
        let plain = Device::flex();
        let device = plain.clone().autodiff();
        let train = data(&device, 1.0);
        let fit = |config| Fit::new(config, SgdConfig::new().init());
        let error = fit(config(0)).run(net(&device), &train, None).expect_err("no epoch");
        assert_eq!(error.to_string(), "`max_epochs` must be at least 1, got 0");
        let stopping = config(1).with_early_stopping(Some(EarlyStoppingConfig::new(1)));
        assert!(matches!(
            fit(stopping).run(net(&device), &train, None),
            Err(TrainError::Config(_))
        ));
        let frozen = net(&device).no_grad();
        assert!(matches!(
            fit(config(1)).run(frozen, &train, None),
            Err(TrainError::NothingToTrain)
        ));
        let error = fit(config(1)).rate(|_| f64::NAN).run(net(&device), &train, None);
        assert_eq!(error.expect_err("no rate").to_string(), "`rate` must be in [0, inf), got NaN");
        let plain_data = data(&plain, 1.0);
        let outside = fit(config(1)).run(net(&plain), &plain_data, None);
        assert!(matches!(outside, Err(TrainError::NotDifferentiable | TrainError::NothingToTrain)));
    }
}
