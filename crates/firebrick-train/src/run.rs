//! The training loop.

use crate::average::Average;
use crate::checkpoint::Store;
use crate::event::{Event, Flow};
use crate::judge::{Data, Judged, Numbers, numbers, total};
use crate::progress::Progress;
use crate::rollback::Ring;
use crate::running::Run;
use crate::step::window;
use crate::trainable::{readable, trainable};
use crate::{
    EarlyStoppingConfig, Fit, Fitted, Learn, Optimize, Outcome, Source, TrainError, history_file,
};
use firebrick_backend::checkpointing::training_copy;
use firebrick_backend::{Role, parameters};
use firebrick_core::{ConfigError, History, Record, check, names};
use firebrick_regularize::{Penalty, Projection};
use firebrick_stabilize::{Guard, Verdict};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

impl<O: Optimize, G: Guard, P: Penalty, C: Projection> Fit<O, G, P, C> {
    /// Trains `model` on `train`, judging it on `validation` after every epoch.
    ///
    /// The training data live on an autodiff device, as the model does.
    ///
    /// # Errors
    /// Before any work when a configuration value is out of range, nothing is trainable, parameters are tied by
    /// clones, or a checkpoint does not fit; later when the loss cannot be differentiated, there is no batch or nothing
    /// to judge by, the data or the device fail, or the history or a checkpoint cannot be written.
    pub fn run<M: Learn<Batch = S::Batch>, S: Source>(
        mut self,
        mut model: M,
        train: &S,
        validation: Option<&S>,
    ) -> Result<Fitted<M>, TrainError> {
        let data = Data { train, validation };
        let mut run = self.begin(&model, validation.is_some())?;
        self.fresh = self.settings.momentum_reset.map(|_| self.optimizer.clone());
        model = self.resume(model, &data, &mut run)?;
        if let Some(path) = &self.settings.history_file {
            self.settings.history_open = Some(history_file::begin(path, &run.history)?);
        }
        let epochs = self.settings.config.max_epochs;
        let progress = Progress::new(self.settings.config.progress);
        let mut ring = Ring::default();
        while run.outcome.is_none() && run.epoch <= epochs && !self.out_of_steps(&run) {
            progress.epoch(run.epoch, epochs, train.length());
            let whole;
            (model, whole) = self.epoch(model, &data, &mut run, &mut ring, &progress)?;
            if whole {
                self.close(&model, &data, &mut run)?;
            }
        }
        progress.finish();
        self.finish(&model, &data, run)
    }

    fn begin<M: Learn>(&self, model: &M, validated: bool) -> Result<Run<M>, TrainError> {
        let config = &self.settings.config;
        check::at_least("max_epochs", config.max_epochs, 1)?;
        check::at_least("accumulation", config.accumulation, 1)?;
        check::at_least("judge_every", config.judge_every, 1)?;
        if config.max_steps == Some(0) {
            return Err(ConfigError::new("max_steps", 0, "at least 1").into());
        }
        if let Some(devices) = &self.settings.devices {
            check::at_least("devices", devices.len(), 1)?;
            if let Some(other) = model.devices().into_iter().find(|device| *device != devices[0]) {
                let expected = format!("a list that begins with the model's, {other:?}");
                let devices = format!("{:?}", devices[0]);
                return Err(ConfigError::new("devices", devices, expected).into());
            }
        }
        if self.settings.noise_scale.is_some() && self.batches_per_step() < 2 {
            let expected = "at least 2 for the noise scale";
            return Err(ConfigError::new("accumulation", config.accumulation, expected).into());
        }
        let stopping = config.early_stopping.as_ref();
        if stopping.is_some() && !validated {
            let expected = "none, or validation data given to `run`";
            return Err(ConfigError::new("early_stopping", "a rule without data", expected).into());
        }
        let stopping = stopping.map(EarlyStoppingConfig::init).transpose()?;
        if let Some(rollback) = &self.settings.rollback {
            rollback.check()?;
        }
        if let Some(averaging) = &self.settings.averaging {
            averaging.check()?;
        }
        if let Some(sharpness) = &self.settings.sharpness {
            sharpness.init()?;
        }
        let parameters = parameters(model);
        trainable(&parameters)?;
        readable(&parameters, &self.settings)?;
        let lookahead = &self.settings.lookahead;
        let lookahead = lookahead.as_ref().map(|config| config.init(model)).transpose()?;
        self.penalty.check(model)?;
        // On a copy, for the error of a constraint that does not fit.
        self.constraint.project(training_copy(model), 0.0)?;
        let store = match &self.settings.checkpoints {
            Some(config) => {
                config.check()?;
                Some(Store::open(config.clone())?)
            }
            None => None,
        };
        Ok(Run {
            epoch: 1,
            batch: 0,
            step: 0,
            epochs: 0,
            outcome: None,
            history: History::default(),
            losses: Vec::new(),
            penalties: Vec::new(),
            seen_finite: false,
            stopping,
            best: None,
            average: self.settings.averaging.clone().map(|kind| Average::new(kind, model)),
            lookahead,
            passes: 0,
            store,
            saved_at: None,
            resumed: None,
            warnings: Vec::new(),
            watched: BTreeMap::new(),
            failures: 0,
            rollbacks: 0,
            rate_factor: 1.0,
            has_buffers: parameters.iter().any(|parameter| parameter.role == Role::Buffer),
            keeps_state: parameters.iter().any(|parameter| !parameter.trainable),
            warned_of_one: false,
            looked_for_gradients: false,
            judged_at: None,
            saved: Vec::new(),
            not_saved: Vec::new(),
            told: 0,
        })
    }

    /// What is left of the running epoch; false where it ended early or went back.
    fn epoch<M, S>(
        &mut self,
        mut model: M,
        data: &Data<'_, S>,
        run: &mut Run<M>,
        ring: &mut Ring<M, O>,
        progress: &Progress,
    ) -> Result<(M, bool), TrainError>
    where
        M: Learn<Batch = S::Batch>,
        S: Source,
    {
        let mut batches = data.train.read(run.epoch, run.batch);
        // Sharpness-aware steps meet their batches twice; a batch cannot be cloned, but an epoch has one order.
        let twice = self.settings.sharpness.is_some();
        let mut again = twice.then(|| data.train.read(run.epoch, run.batch));
        let count = self.batches_per_step();
        let field = if self.settings.devices.is_some() { "devices" } else { "accumulation" };
        loop {
            if self.settings.interrupt.load(Ordering::Relaxed) {
                run.end(Outcome::Interrupted);
                return Ok((model, false));
            }
            self.remember(&model, ring, run);
            let first = window(&mut batches, count, field, run)?;
            if first.is_empty() {
                break;
            }
            let second = match &mut again {
                Some(again) => window(again, count, field, run)?,
                None => Vec::new(),
            };
            if twice && second.len() != first.len() {
                let reason = "the epoch has other batches when it is read a second time";
                return Err(TrainError::Data(reason.into()));
            }
            let taken;
            (model, taken) = self.step(model, first, second, run)?;
            progress.step(run.batch, taken.loss, taken.rate, || self.gradient_norm());
            let event = Event::Step {
                epoch: run.epoch,
                step: run.step,
                loss: taken.loss,
                rate: taken.rate,
                verdict: taken.verdict,
            };
            self.tell(&event, run);
            match taken.verdict {
                Verdict::Proceed => self.after(&model, data, run, taken.loss, taken.rate)?,
                Verdict::Skip => {}
                Verdict::Rollback => {
                    model = self.roll_back(model, data.train.length(), ring, run)?;
                    return Ok((model, false));
                }
                Verdict::Stop => run.end(Outcome::Stopped),
            }
            if run.outcome.is_some() || self.out_of_steps(run) {
                return Ok((model, false));
            }
        }
        if run.batch == 0 {
            return Err(TrainError::NoBatch { epoch: run.epoch });
        }
        Ok((model, true))
    }

    /// What is due after a step that was taken: a record, a judgement, a checkpoint.
    fn after<M, S>(
        &mut self,
        model: &M,
        data: &Data<'_, S>,
        run: &mut Run<M>,
        loss: f64,
        rate: f64,
    ) -> Result<(), TrainError>
    where
        M: Learn<Batch = S::Batch>,
        S: Source,
    {
        let config = &self.settings.config;
        let due = |every: u64| every > 0 && run.step.is_multiple_of(every);
        let (record, judge) = (due(config.record_every as u64), due(config.judge_every_steps));
        let save = run.store.as_ref().is_some_and(|store| due(store.config.every_steps));
        if record || !run.watched.is_empty() {
            let mut record = Record::new(run.epoch, run.step);
            record.values = std::mem::take(&mut run.watched);
            record.values.insert(names::BATCH_LOSS.into(), loss);
            self.note(&mut record, rate, run);
            self.write(run, record)?;
        }
        if judge {
            self.judge(model, data, run)?;
        }
        if save {
            self.save(model, data, run)?;
        }
        self.pass_on(run);
        Ok(())
    }

    /// What is due at the end of an epoch.
    fn close<M, S>(
        &mut self,
        model: &M,
        data: &Data<'_, S>,
        run: &mut Run<M>,
    ) -> Result<(), TrainError>
    where
        M: Learn<Batch = S::Batch>,
        S: Source,
    {
        let config = &self.settings.config;
        run.epochs = run.epoch;
        let last = run.epoch == config.max_epochs;
        let broken = run.broke();
        if (last || broken || run.epoch.is_multiple_of(config.judge_every))
            && run.judged_at != Some(run.step)
        {
            self.judge(model, data, run)?;
        }
        if broken {
            run.end(Outcome::Diverged);
        } else {
            run.warn_of_no_step();
        }
        run.epoch += 1;
        run.batch = 0;
        run.losses.clear();
        run.penalties.clear();
        run.seen_finite = false;
        let every = run.store.as_ref().map_or(0, |store| store.config.every_epochs);
        if every > 0 && run.epochs.is_multiple_of(every) && run.outcome.is_none() {
            self.save(model, data, run)?;
        }
        self.pass_on(run);
        Ok(())
    }

    /// The last checkpoint and judgement, and what is given back.
    fn finish<M, S>(
        mut self,
        model: &M,
        data: &Data<'_, S>,
        mut run: Run<M>,
    ) -> Result<Fitted<M>, TrainError>
    where
        M: Learn<Batch = S::Batch>,
        S: Source,
    {
        if run.outcome != Some(Outcome::Diverged) && run.saved_at != Some(run.place()) {
            self.save(model, data, &mut run)?;
        }
        // Steps that ran out in the middle of an epoch: their model is the last one, and not judged yet.
        let unjudged = run.judged_at != Some(run.step) && run.batch > 0;
        if run.outcome.is_none() && unjudged && self.out_of_steps(&run) {
            self.judge(model, data, &mut run)?;
        }
        let outcome = run.outcome.unwrap_or(Outcome::Finished);
        self.pass_on(&mut run);
        let best = match run.best.take() {
            Some(best) => best,
            None => {
                let model = self.evaluated(model, data, &mut run)?;
                let Numbers { train, validation } = numbers(&model, data, true)?;
                let score = |measures: crate::Measures| measures.score;
                let (train, validation) = (train.map(score), validation.map(score));
                let (step, passes) = (run.step, run.passes);
                Judged { model, epoch: 0, step, passes, train, validation }
            }
        };
        // The model given back evaluates as it did when it was judged.
        self.settings.drop_as_in(best.step.saturating_sub(1))?;
        let train = match best.train {
            Some(score) => score,
            None => total(&best.model, data.train)?.score,
        };
        // An epoch that ended with the last step allowed was run, though nothing was closed after it.
        let whole = run.batch > 0 && run.batch >= data.train.length();
        Ok(Fitted {
            model: best.model,
            epoch: best.epoch,
            epochs: if whole { run.epoch } else { run.epochs },
            steps: run.step,
            outcome,
            train,
            validation: best.validation,
            history: run.history,
            warnings: run.warnings,
            resumed: run.resumed,
        })
    }

    fn out_of_steps<M>(&self, run: &Run<M>) -> bool {
        self.settings.config.max_steps.is_some_and(|max| run.step >= max)
    }

    /// How many batches make one step.
    fn batches_per_step(&self) -> usize {
        let devices = self.settings.devices.as_ref().map_or(1, Vec::len);
        self.settings.config.accumulation.saturating_mul(devices)
    }

    fn gradient_norm(&self) -> Option<f64> {
        let mut record = Record::default();
        self.guards.as_ref()?.record(&mut record);
        record.get(names::GRADIENT_NORM)
    }

    pub(crate) fn note<M>(&self, record: &mut Record, rate: f64, run: &Run<M>) {
        record.values.insert(names::LEARNING_RATE.into(), rate);
        if run.failures > 0 {
            record.values.insert("checkpoint_failures".into(), run.failures as f64);
        }
        if let Some(guards) = &self.guards {
            guards.record(record);
        }
        if let Some(noise) = &self.settings.noise_scale {
            noise.record(record);
        }
    }

    pub(crate) fn write<M>(&mut self, run: &mut Run<M>, record: Record) -> Result<(), TrainError> {
        if let Some(sink) = &mut self.settings.sink {
            History::write_line(sink, &record)?;
        }
        if let Some(file) = &mut self.settings.history_open {
            History::write_line(file, &record)?;
        }
        run.history.push(record);
        Ok(())
    }

    pub(crate) fn tell<M>(&mut self, event: &Event<'_>, run: &mut Run<M>) {
        for observer in &mut self.settings.observers {
            if observer(event) == Flow::Stop {
                run.end(Outcome::Stopped);
            }
        }
    }

    /// Tells the observers of checkpoints and warnings.
    fn pass_on<M>(&mut self, run: &mut Run<M>) {
        for path in std::mem::take(&mut run.saved) {
            self.tell(&Event::Saved { path: &path }, run);
        }
        for error in std::mem::take(&mut run.not_saved) {
            self.tell(&Event::NotSaved { error: &error }, run);
        }
        while let Some(warning) = run.warnings.get(run.told).cloned() {
            run.told += 1;
            self.tell(&Event::Warned(&warning), run);
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::testing::{Net, config, data, net};
    use crate::{
        Batches, EarlyStoppingConfig, FitConfig, Labelled, Measures, Score, TensorBatches, Warning,
    };
    use burn::module::Module;
    use burn::optim::{GradientsParams, SgdConfig};
    use burn::tensor::{Device, Tensor, TensorReadError};
    use firebrick_backend::testing::devices;
    use firebrick_core::Seed;
    use firebrick_optim::AdamWConfig;
    use firebrick_optim::schedule::{CosineConfig, Schedule};
    use firebrick_regularize::L2Config;
    use firebrick_stabilize::ClipGlobalNormConfig;
    use std::io::Write;
    use std::sync::atomic::AtomicBool;
    use std::sync::{Arc, Mutex};

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
    fn a_broken_batch_is_skipped() {
        let device = Device::flex().autodiff();
        let mut broken = data(&device, 1.0).data().clone();
        broken.inputs = broken.inputs.slice_fill([3..4, 0..1], f32::NAN);
        let broken = TensorBatches::new(broken, 7, Seed(5)).expect("valid");
        let fitted = Fit::new(config(2).with_judge_training(false), SgdConfig::new().init())
            .rate(|_| 0.5)
            .run(net(&device), &broken, None)
            .expect("runs");
        // One batch of six has the NaN: its step is skipped, its loss left out of the mean.
        assert_eq!((fitted.outcome, fitted.steps, fitted.epochs), (Outcome::Finished, 10, 2));
        assert_eq!(fitted.history.last(names::SKIPPED), Some(2.0));
        assert!(fitted.history.series(names::TRAIN_LOSS).iter().all(|loss| loss.is_finite()));
        assert!(fitted.train.loss().is_nan(), "the broken row is judged too");
        let weights: Vec<f32> = fitted.model.layer.weight.val().try_to_vec_as().expect("reads");
        assert!(weights.iter().all(|weight| weight.is_finite()));
    }

    #[test]
    fn a_run_that_broke_in_its_last_steps_is_not_finished() {
        let device = Device::flex().autodiff();
        let run = |rate: f64| {
            Fit::new(config(9).with_max_steps(Some(3)), SgdConfig::new().init())
                .guards(())
                .rate(move |_| rate)
                .run(net(&device), &data(&device, 1.0), None)
                .expect("runs")
        };
        let (sound, broken) = (run(0.5), run(f64::MAX));
        assert_eq!((sound.outcome, sound.steps), (Outcome::Finished, 3));
        assert_eq!((broken.outcome, broken.steps), (Outcome::Diverged, 3));
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

    #[test]
    fn judgements_come_when_they_are_asked_for() {
        let device = Device::flex().autodiff();
        let run = |config| {
            let train = data(&device, 1.0);
            Fit::new(config, SgdConfig::new().init()).run(net(&device), &train, Some(&train))
        };
        let at = |config: FitConfig| -> Vec<(usize, u64)> {
            let records = run(config).expect("trains").history.records;
            records.iter().map(|record| (record.epoch, record.step)).collect()
        };
        // 6 steps an epoch.
        assert_eq!(at(config(5).with_judge_every(2)), [(2, 12), (4, 24), (5, 30)]);
        let often = config(2).with_judge_every_steps(4);
        assert_eq!(at(often.clone()), [(1, 4), (1, 6), (2, 8), (2, 12)]);
        assert_eq!(at(often.with_max_steps(Some(9))), [(1, 4), (1, 6), (2, 8), (2, 9)]);
        let limited = run(config(5).with_max_steps(Some(6))).expect("trains");
        assert_eq!((limited.outcome, limited.steps, limited.epoch), (Outcome::Finished, 6, 1));
        assert_eq!(limited.epochs, 1);
        assert_eq!(run(config(5).with_max_steps(Some(11))).expect("trains").epochs, 1);
        for config in [
            config(1).with_judge_every(0),
            config(1).with_accumulation(0),
            config(1).with_max_steps(Some(0)),
        ] {
            assert!(matches!(run(config), Err(TrainError::Config(_))));
        }
    }

    #[test]
    fn observers_see_the_events_and_may_end_it() {
        let device = Device::flex().autodiff();
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let notes = seen.clone();
        let fitted = Fit::new(config(9), SgdConfig::new().init())
            .observe(move |event| {
                let mut seen = notes.lock().expect("one thread");
                match event {
                    Event::Step { step, verdict, .. } => seen.push(format!("{step} {verdict:?}")),
                    Event::Judged { record, best, .. } => {
                        seen.push(format!("{} {best}", record.epoch))
                    }
                    other => seen.push(format!("{other:?}")),
                }
                if seen.len() == 9 { Flow::Stop } else { Flow::Continue }
            })
            .run(net(&device), &data(&device, 1.0), None)
            .expect("runs");
        assert_eq!((fitted.outcome, fitted.steps, fitted.epochs), (Outcome::Stopped, 8, 1));
        let seen = seen.lock().expect("one thread").clone();
        assert_eq!(seen[5..], ["6 Proceed", "1 true", "7 Proceed", "8 Proceed"]);
    }

    #[test]
    fn further_measures_go_into_the_history() {
        #[derive(Module, Debug)]
        struct Measured {
            net: Net,
        }
        impl Learn for Measured {
            type Batch = Labelled<2>;
            fn loss(&self, batch: Labelled<2>) -> Tensor<1> {
                self.net.loss(batch)
            }
            fn score(&self, batch: Labelled<2>) -> Result<Score, TensorReadError> {
                self.net.score(batch)
            }
            fn measure(&self, batch: Labelled<2>) -> Result<Measures, TensorReadError> {
                let score = self.score(batch)?;
                let right = score.samples as f64 - score.error_sum;
                Ok(Measures::new(score).with("accuracy", right))
            }
        }
        let device = Device::flex().autodiff();
        let train = data(&device, 1.0);
        let fitted = Fit::new(config(2), SgdConfig::new().init())
            .run(Measured { net: net(&device) }, &train, Some(&train))
            .expect("trains");
        for name in ["train", "validation"] {
            let errors = fitted.history.series(&format!("{name}_error"));
            let rights = fitted.history.series(&format!("{name}_accuracy"));
            assert_eq!(rights.len(), 2);
            assert!(
                errors
                    .iter()
                    .zip(&rights)
                    .all(|(error, right)| (error + right - 1.0).abs() < 1e-12)
            );
        }
    }

    /// One layer with a loss that is infinite over 5 rows, which are the last of each epoch, or where that is asked for
    /// is finite and has gradients of NaN.
    #[derive(Module, Debug)]
    struct Odd {
        net: Net,
        #[module(skip)]
        broken: bool,
    }

    impl Learn for Odd {
        type Batch = Labelled<2>;

        fn loss(&self, batch: Labelled<2>) -> Tensor<1> {
            let last = batch.len() == 5;
            let loss = self.net.loss(batch);
            if self.broken {
                // 0 with the derivative of the root at 0: infinity times 0.
                return loss + self.net.layer.weight.val().mul_scalar(0.0).sqrt().sum();
            }
            if last { loss.add_scalar(f64::INFINITY) } else { loss }
        }

        fn score(&self, batch: Labelled<2>) -> Result<Score, TensorReadError> {
            self.net.score(batch)
        }
    }

    #[test]
    fn an_infinite_loss_that_was_let_pass_is_no_divergence() {
        let device = Device::flex().autodiff();
        let fitted = Fit::new(config(2), SgdConfig::new().init())
            .rate(|_| 0.1)
            .guards(())
            .run(Odd { net: net(&device), broken: false }, &data(&device, 1.0), None)
            .expect("trains");
        assert_eq!((fitted.outcome, fitted.steps), (Outcome::Finished, 12));
        assert!(fitted.warnings.is_empty() && fitted.train.loss().is_finite());
    }

    #[test]
    fn epochs_whose_steps_were_all_skipped_are_told() {
        let device = Device::flex().autodiff();
        let fitted = Fit::new(config(3), SgdConfig::new().init())
            .rate(|_| 0.1)
            .guards(ClipGlobalNormConfig::new(1.0).init().expect("valid"))
            .run(Odd { net: net(&device), broken: true }, &data(&device, 1.0), None)
            .expect("trains");
        assert_eq!((fitted.outcome, fitted.steps), (Outcome::Finished, 0));
        assert_eq!(fitted.warnings, [Warning::NoStep { epoch: 1 }]);
    }
}
