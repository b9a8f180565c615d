//! One optimizer step: the gradients of one or several batches, the guards, the step.

use crate::running::Run;
use crate::{Fit, Learn, Optimize, SourceError, TrainError, Warning};
use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::{Gradients, Tensor, TensorReadError};
use firebrick_backend::PathStack;
use firebrick_backend::checkpointing::training_copy;
use firebrick_backend::host::HostTensor;
use firebrick_core::{ConfigError, Record, check};
use firebrick_optim::wrapper::Buffers;
use firebrick_regularize::{Penalty, Projection};
use firebrick_stabilize::{Guard, NormType, Verdict, Watch, gradient_norms};
use std::collections::BTreeMap;

/// The batches of one step.
pub(crate) type Window<B> = Vec<Part<B>>;

/// A batch of a step.
pub(crate) struct Part<B> {
    batch: B,
    /// Its share of the step's samples.
    share: f64,
    samples: Option<usize>,
}

/// Which time the batches of a step are met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pass {
    /// At the weights that are trained.
    First,
    /// Where the loss is worst nearby.
    Second,
}

/// What a step came to.
pub(crate) struct Taken {
    pub(crate) loss: f64,
    pub(crate) rate: f64,
    pub(crate) verdict: Verdict,
}

/// Takes the next batches that make one step; none at the end of the epoch.
pub(crate) fn window<B, M>(
    batches: &mut impl Iterator<Item = Result<(B, Option<usize>), SourceError>>,
    count: usize,
    field: &str,
    run: &mut Run<M>,
) -> Result<Window<B>, TrainError> {
    let mut window = Vec::new();
    for batch in batches.take(count) {
        let (batch, samples) = batch.map_err(TrainError::Data)?;
        if samples == Some(1) && run.has_buffers && !run.warned_of_one {
            run.warned_of_one = true;
            run.warn(Warning::BatchOfOne { epoch: run.epoch });
        }
        window.push(Part { batch, share: 1.0, samples });
    }
    if window.len() > 1 {
        let Some(total) = window.iter().map(|part| part.samples).sum::<Option<usize>>() else {
            let expected = "1 for a source that does not know the samples of a batch";
            return Err(ConfigError::new(field, count, expected).into());
        };
        for part in &mut window {
            part.share = part.samples.unwrap_or(0) as f64 / total as f64;
        }
    }
    Ok(window)
}

impl<O: Optimize, G: Guard, P: Penalty, C: Projection> Fit<O, G, P, C> {
    /// Trains on one window; `again` has its batches a second time where the step is sharpness-aware.
    pub(crate) fn step<M: Learn>(
        &mut self,
        model: M,
        window: Window<M::Batch>,
        again: Window<M::Batch>,
        run: &mut Run<M>,
    ) -> Result<(M, Taken), TrainError> {
        run.batch += window.len();
        run.passes += 1;
        self.settings.drop_as_in(run.step)?;
        // A forward pass moves running statistics, also that of a step that is not taken.
        let buffers = run.keeps_state.then(|| Buffers::of(&model));
        let (loss, penalty, gradients) = self.backward(&model, window, Pass::First, run)?;
        if !run.looked_for_gradients {
            run.looked_for_gradients = true;
            for path in without_gradient(&model, &gradients) {
                run.warn(Warning::NoGradient { path });
            }
        }
        let (mut model, mut gradients) = self.sharpen(model, gradients, again, run)?;
        let reset = self.settings.momentum_reset.filter(|reset| reset.due(run.step));
        let (verdict, scale) = match &mut self.guards {
            Some(guards) => {
                // As the optimizer's, their first gradient after the reset is this one. A step that is skipped comes
                // here again, which changes nothing.
                if reset.is_some() {
                    guards.momentum_reset();
                }
                guards.before_step_scaled(&model, &mut gradients, loss)
            }
            None => (Verdict::Proceed, 1.0),
        };
        let rate = check::non_negative("rate", self.rate_of(run.step, run))?;
        run.seen_finite |= loss.is_finite();
        if verdict == Verdict::Proceed {
            if let (Some(_), Some(fresh)) = (reset, &self.fresh) {
                self.optimizer = fresh.clone();
            }
            model = self.optimizer.step_scaled(rate, model, gradients, scale);
            if let Some(lookahead) = &mut run.lookahead {
                model = lookahead.after_step(model);
            }
            if let Some(guards) = &mut self.guards {
                model = guards.revise(model);
            }
            // The last word: a kick off a saddle point must not leave the constraint.
            model = self.constraint.project(model, rate)?;
            run.step += 1;
            run.losses.push(loss);
            run.penalties.extend(penalty);
            if let Some(guards) = &mut self.guards {
                guards.after_step(&model);
            }
            if let Some(average) = &mut run.average {
                average.take(&model, run.step);
            }
        } else {
            run.watched.clear();
            if let Some(buffers) = buffers {
                model = buffers.put(model);
            }
        }
        Ok((model, Taken { loss, rate, verdict }))
    }

    /// The gradients to step with: where the loss is worst nearby, if that is asked for. The model is as it was.
    fn sharpen<M: Learn>(
        &mut self,
        model: M,
        gradients: GradientsParams,
        again: Window<M::Batch>,
        run: &mut Run<M>,
    ) -> Result<(M, GradientsParams), TrainError> {
        let Some(config) = &self.settings.sharpness else { return Ok((model, gradients)) };
        let sam = config.init()?;
        let (up, snapshot) = sam.up(model, gradients);
        let (_, _, gradients) = self.backward(&up, again, Pass::Second, run)?;
        // Running statistics come back too: those of the first pass.
        Ok(sam.down(up, gradients, snapshot))
    }

    /// Loss, penalty and gradients of a window: the mean over its samples, and the penalty once. The gradients are
    /// multiplied by the guards' factor.
    fn backward<M: Learn>(
        &mut self,
        model: &M,
        window: Window<M::Batch>,
        pass: Pass,
        run: &mut Run<M>,
    ) -> Result<(f64, Option<f64>, GradientsParams), TrainError> {
        let read = |tensor: &Tensor<1>| value(tensor.clone().inner());
        let scaled = |loss: Tensor<1>, by: f64| if by == 1.0 { loss } else { loss.mul_scalar(by) };
        let norm =
            |gradients: &GradientsParams| gradient_norms(model, gradients, NormType::Two).global;
        let count = window.len();
        let several = count > 1;
        let devices = self.settings.devices.clone().unwrap_or_default();
        // A clone would share running statistics, and `fork` would move them. The first device has the model itself.
        let others = devices.iter().take(count).skip(1);
        let replicas: Vec<M> = others.map(|device| training_copy(model).fork(device)).collect();
        let mut accumulator = GradientsAccumulator::<M>::new();
        let mut gradients = GradientsParams::new();
        let (mut losses, mut penalty) = (Vec::new(), None);
        let factor = self.guards.as_ref().map_or(1.0, Guard::loss_factor);
        // The noise scale is of equal batches, and of the loss alone.
        let mut noise = match pass {
            Pass::First => self.settings.noise_scale.take(),
            Pass::Second => None,
        };
        let size = window[0].samples.filter(|_| several && noise.is_some());
        let size = size.filter(|_| window.iter().all(|part| part.samples == window[0].samples));
        let mut norms = Vec::new();
        let every = self.settings.config.watch_every;
        let due = pass == Pass::First && every > 0 && (run.step + 1).is_multiple_of(every);
        let mut watch = due.then(Watch::brief);
        // One batch a device: all are at work before the first gradient is asked for.
        let mut round = Vec::new();
        for (index, Part { batch, share, .. }) in window.into_iter().enumerate() {
            let (batch, here) = match devices.get(round.len()) {
                Some(device) => {
                    let batch = model.place(batch, device).ok_or(TrainError::NotPlaced)?;
                    let replica = round.len().checked_sub(1).and_then(|at| replicas.get(at));
                    (batch, replica.unwrap_or(model))
                }
                None => (batch, model),
            };
            let mut seen = watch.take();
            let loss = match &mut seen {
                Some(watch) => here.watch(batch, watch),
                None => here.loss(batch),
            };
            if loss.shape().num_elements() != 1 {
                return Err(TrainError::LossShape { elements: loss.shape().num_elements() });
            }
            if !loss.device().is_autodiff() {
                return Err(TrainError::NotDifferentiable);
            }
            if !loss.is_tracked() {
                return Err(TrainError::NoGradient);
            }
            losses.push((share, loss.clone().inner()));
            let mut total = scaled(loss, share * factor);
            if index == 0
                && size.is_none()
                && let Some(term) = self.penalty.term(model)
            {
                penalty = Some(read(&term)?);
                // A loss in f32 over a model in half precision, say.
                let term = scaled(term, factor).cast(total.dtype());
                total = total + term;
            }
            let all = total.backward();
            if let Some(watch) = seen {
                run.watched = watched(watch, &all, share * factor);
            }
            round.push((GradientsParams::from_grads(all, here), share));
            if round.len() < devices.len() && index + 1 < count {
                continue;
            }
            for (place, (part, share)) in round.drain(..).enumerate() {
                let part = match devices.first() {
                    Some(first) if place > 0 => part.to_device(first, model),
                    _ => part,
                };
                if size.is_some() {
                    norms.push(norm(&part) / (share * factor));
                }
                if several {
                    accumulator.accumulate(model, part);
                } else {
                    gradients = part;
                }
            }
        }
        let mut mean = 0.0;
        for (share, loss) in losses {
            mean += share * value(loss)?;
        }
        if several {
            gradients = accumulator.grads();
        }
        if let (Some(size), Some(noise)) = (size, &mut noise) {
            noise.observe(&norms, size, norm(&gradients) / factor)?;
            if let Some(term) = self.penalty.term(model) {
                penalty = Some(read(&term)?);
                let part = GradientsParams::from_grads(scaled(term, factor).backward(), model);
                accumulator.accumulate(model, gradients);
                accumulator.accumulate(model, part);
                gradients = accumulator.grads();
            }
        }
        if pass == Pass::First {
            self.settings.noise_scale = noise;
        }
        if gradients.is_empty() {
            return Err(TrainError::NoGradient);
        }
        Ok((mean, penalty, gradients))
    }
}

/// The one element of `tensor`, read in place where that is in host memory.
fn value(tensor: Tensor<1>) -> Result<f64, TensorReadError> {
    match HostTensor::take(tensor) {
        Ok(host) => Ok(host.as_slice().first().copied().map_or(f64::NAN, f64::from)),
        Err(tensor) => tensor.try_into_scalar::<f64>(),
    }
}

/// What `watch` saw, by name; the errors are those of the batch's own mean loss.
fn watched(watch: Watch, gradients: &Gradients, factor: f64) -> BTreeMap<String, f64> {
    let mut record = Record::default();
    watch.record(gradients, &mut record);
    for (name, value) in &mut record.values {
        if name.starts_with("error_rms/") {
            *value /= factor;
        }
    }
    record.values
}

/// The trainable parameters without an entry in `gradients`.
fn without_gradient<M: Module>(model: &M, gradients: &GradientsParams) -> Vec<String> {
    struct Look<'a> {
        gradients: &'a GradientsParams,
        path: PathStack,
        without: Vec<String>,
    }
    impl ModuleVisitor for Look<'_> {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if param.is_require_grad() && self.gradients.get::<D>(param.id).is_none() {
                self.without.push(self.path.path());
            }
        }
    }
    let mut look = Look { gradients, path: PathStack::default(), without: Vec::new() };
    model.visit(&mut look);
    look.without
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use crate::testing::{Net, config, data, deep, net, weights};
    use crate::{
        Batches, Fit, FitConfig, Fitted, Labelled, Learn, Outcome, Score, Source, SourceError,
        TensorBatches, TrainError, Warning,
    };
    use burn::module::{Module, Param};
    use burn::nn::{Linear, LinearConfig};
    use burn::optim::SgdConfig;
    use burn::tensor::{DType, Device, Tensor, TensorReadError};
    use firebrick_backend::testing::devices;
    use firebrick_core::{Seed, names};
    use firebrick_optim::wrapper::SamConfig;
    use firebrick_regularize::{L2Config, MaskSource};
    use firebrick_stabilize::SkipNonFiniteConfig;

    fn device() -> Device {
        Device::flex().autodiff()
    }

    /// `rows` rows of the usual data in batches of `size`.
    fn batches(device: &Device, rows: usize, size: usize) -> TensorBatches<2> {
        let rows: Vec<u32> = (0..rows as u32).collect();
        TensorBatches::new(data(device, 1.0).data().select(&rows), size, Seed(5)).expect("valid")
    }

    fn fit(
        config: FitConfig,
        train: &TensorBatches<2>,
        device: &Device,
    ) -> Result<Fitted<Net>, TrainError> {
        Fit::new(config, SgdConfig::new().init())
            .rate(|_| 0.5)
            .penalty(L2Config::new(0.1).init()?)
            .run(net(device), train, None)
    }

    #[test]
    fn micro_batches_make_the_step_of_the_whole_batch() {
        for device in devices() {
            let device = device.autodiff();
            // 28 rows: whole batches of 10, 10 and 8, micro-batches of 5, 5 | 5, 5 | 5, 3.
            let whole = fit(config(2), &batches(&device, 28, 10), &device).expect("trains");
            let parts = fit(config(2).with_accumulation(2), &batches(&device, 28, 5), &device);
            let parts = parts.expect("trains");
            assert_eq!((parts.steps, whole.steps), (6, 6));
            let read = |fitted: &Fitted<Net>| {
                fitted.model.layer.weight.val().try_to_vec_as::<f32>().expect("reads")
            };
            for (part, whole) in read(&parts).into_iter().zip(read(&whole)) {
                assert!((part - whole).abs() < 1e-6, "{part} {whole}");
            }
            let penalty =
                |fitted: &Fitted<Net>| fitted.history.last(names::PENALTY).expect("noted");
            assert!((penalty(&parts) - penalty(&whole)).abs() < 1e-6);
        }
    }

    #[test]
    fn a_penalty_in_half_precision_joins_a_loss_in_f32() {
        /// A layer in half precision, its loss in f32.
        #[derive(Module, Debug)]
        struct Half {
            layer: Linear,
        }
        impl Learn for Half {
            type Batch = Labelled<2>;
            fn loss(&self, batch: Labelled<2>) -> Tensor<1> {
                self.layer.forward(batch.inputs).cast(DType::F32).square().mean()
            }
            fn score(&self, batch: Labelled<2>) -> Result<Score, TensorReadError> {
                Score::classification(self.layer.forward(batch.inputs), batch.targets)
            }
        }
        for device in devices() {
            for dtype in [DType::F16, DType::BF16] {
                if !device.supports_dtype(dtype) {
                    continue;
                }
                let device = device.clone().autodiff();
                let mut rows = data(&device, 1.0).data().clone();
                rows.inputs = rows.inputs.cast(dtype);
                let train = TensorBatches::new(rows, 7, Seed(5)).expect("valid");
                let weight = Param::from_tensor(Tensor::ones([2, 2], (&device, dtype)));
                let fitted = Fit::new(config(2), SgdConfig::new().init())
                    .rate(|_| 0.1)
                    .penalty(L2Config::new(0.1).init().expect("valid"))
                    .run(Half { layer: Linear { weight, bias: None } }, &train, None)
                    .expect("trains");
                assert_eq!((fitted.outcome, fitted.steps), (Outcome::Finished, 12));
                assert_eq!(fitted.model.layer.weight.val().dtype(), dtype);
                let penalties = fitted.history.series(names::PENALTY);
                assert!(penalties[0] > penalties[1] && penalties[1] > 0.0, "{penalties:?}");
            }
        }
    }

    #[test]
    fn a_window_over_one_batch_is_that_batch() {
        let device = device();
        let one = fit(config(2), &batches(&device, 28, 28), &device).expect("trains");
        let wide = fit(config(2).with_accumulation(usize::MAX), &batches(&device, 28, 28), &device);
        assert_eq!(weights(&one.model), weights(&wide.expect("trains").model));
    }

    #[test]
    fn several_devices_are_as_many_batches_accumulated() {
        let device = device();
        let run = |rows, size, config: FitConfig, devices: usize| {
            let mut fit = Fit::new(config, SgdConfig::new().init())
                .rate(|_| 0.5)
                .penalty(L2Config::new(0.1).init().expect("valid"));
            if devices > 0 {
                fit = fit.devices(vec![device.clone(); devices]);
            }
            fit.run(net(&device), &batches(&device, rows, size), None).expect("trains")
        };
        // Batches of 7, 7 | 7, 7 | 5 over two; of 5, 5, 5, 5, 5, 3 over two with two each: 4 | 2.
        for (rows, size, accumulation, steps) in [(33, 7, 1, 6), (28, 5, 2, 4)] {
            let once = config(2).with_accumulation(2 * accumulation);
            let one = run(rows, size, once, 0);
            let two = run(rows, size, config(2).with_accumulation(accumulation), 2);
            assert_eq!((one.steps, two.steps), (steps, steps));
            assert_eq!(weights(&two.model), weights(&one.model));
            assert_eq!(two.history, one.history);
        }
        // One device is no device.
        let (one, none) = (run(33, 7, config(2), 1), run(33, 7, config(2), 0));
        assert_eq!((weights(&one.model), one.history), (weights(&none.model), none.history));
    }

    #[test]
    fn devices_that_cannot_be_used_are_refused() {
        let device = device();
        let fit = |devices| Fit::new(config(1), SgdConfig::new().init()).devices(devices);
        let error = fit(vec![]).run(net(&device), &data(&device, 1.0), None).expect_err("none");
        assert_eq!(error.to_string(), "`devices` must be at least 1, got 0");
        let error = fit(vec![device.clone(); 2]).run(odd(&device, 1.0), &data(&device, 1.0), None);
        assert!(matches!(error, Err(TrainError::NotPlaced)));
        let silent = Silent(data(&device, 1.0));
        let error = fit(vec![device.clone(); 2]).run(net(&device), &silent, None);
        assert_eq!(
            error.expect_err("sizes are unknown").to_string(),
            "`devices` must be 1 for a source that does not know the samples of a batch, got 2"
        );
    }

    #[test]
    fn a_sharpness_aware_step_is_that_of_all_its_batches() {
        let device = device();
        let run = |config: FitConfig, size, rho| {
            Fit::new(config, SgdConfig::new().init())
                .rate(|_| 0.5)
                .penalty(L2Config::new(0.1).init().expect("valid"))
                .sharpness(SamConfig::new().with_rho(rho))
                .run(net(&device), &batches(&device, 28, size), None)
        };
        let whole = run(config(2), 10, 0.3).expect("trains");
        let parts = run(config(2).with_accumulation(2), 5, 0.3).expect("trains");
        assert_eq!((parts.steps, whole.steps), (6, 6));
        let read = |fitted: &Fitted<Net>| {
            fitted.model.layer.weight.val().try_to_vec_as::<f32>().expect("reads")
        };
        for (part, whole) in read(&parts).into_iter().zip(read(&whole)) {
            assert!((part - whole).abs() < 1e-5, "{part} {whole}");
        }
        let error = run(config(2), 10, 0.0).expect_err("no neighbourhood");
        assert_eq!(error.to_string(), "`rho` must be in (0, inf), got 0");
    }

    #[test]
    fn running_statistics_are_those_of_the_first_pass() {
        // At rate 0 the second pass is all that differs, far away.
        let run = |sharpness: Option<SamConfig>| {
            let masks = MaskSource::new(Seed(1));
            let mut fit = Fit::new(config(2), SgdConfig::new().init()).rate(|_| 0.0);
            if let Some(config) = sharpness {
                fit = fit.sharpness(config);
            }
            let model = deep(&device(), &masks, 4);
            weights(&fit.run(model, &data(&device(), 1.0), None).expect("trains").model)
        };
        assert_eq!(run(Some(SamConfig::new().with_rho(5.0))), run(None));
    }

    /// The usual batches, of which number 2 of each epoch, from 0, is broken, or is not there.
    struct Spoilt {
        batches: TensorBatches<2>,
        broken: bool,
    }

    impl Batches for Spoilt {
        type Batch = Labelled<2>;

        fn epoch(&self, epoch: usize) -> impl Iterator<Item = Labelled<2>> {
            let all = self.batches.epoch(epoch).enumerate();
            all.filter(|(index, _)| *index != 2 || self.broken).map(|(index, mut batch)| {
                if index == 2 {
                    batch.inputs = batch.inputs.mul_scalar(f64::NAN);
                }
                batch
            })
        }

        fn batches_per_epoch(&self) -> usize {
            self.batches.batches_per_epoch() - usize::from(!self.broken)
        }

        fn whole(&self) -> impl Iterator<Item = Labelled<2>> {
            self.batches.whole()
        }
    }

    #[test]
    fn a_broken_batch_leaves_no_trace_in_running_statistics() {
        let run = |broken: bool| {
            let masks = MaskSource::new(Seed(1));
            masks.set_strength(0.0).expect("no dropout");
            let train = Spoilt { batches: data(&device(), 1.0), broken };
            Fit::new(config(3), SgdConfig::new().init())
                .rate(|_| 0.5)
                .run(deep(&device(), &masks, 4), &train, None)
                .expect("runs")
        };
        let (broken, without) = (run(true), run(false));
        assert_eq!((broken.outcome, broken.steps), (Outcome::Finished, without.steps));
        assert_eq!(broken.history.last(names::SKIPPED), Some(3.0));
        assert_eq!(weights(&broken.model), weights(&without.model));
    }

    /// Batches that do not tell their size.
    struct Silent(TensorBatches<2>);

    impl Batches for Silent {
        type Batch = Labelled<2>;
        fn epoch(&self, epoch: usize) -> impl Iterator<Item = Labelled<2>> {
            self.0.epoch(epoch)
        }
        fn batches_per_epoch(&self) -> usize {
            self.0.batches_per_epoch()
        }
        fn whole(&self) -> impl Iterator<Item = Labelled<2>> {
            self.0.whole()
        }
    }

    #[test]
    fn a_source_without_sizes_cannot_be_accumulated() {
        let device = device();
        let silent = Silent(data(&device, 1.0));
        let run =
            |config| Fit::new(config, SgdConfig::new().init()).run(net(&device), &silent, None);
        assert!(run(config(1)).is_ok());
        let error = run(config(1).with_accumulation(4)).expect_err("sizes are unknown");
        assert_eq!(
            error.to_string(),
            "`accumulation` must be 1 for a source that does not know the samples of a batch, got 4"
        );
    }

    /// A model of two layers of which the loss may leave one out, or give something odd.
    #[derive(Module, Debug)]
    struct Odd {
        layer: Linear,
        idle: Linear,
        factor: f64,
    }

    impl Learn for Odd {
        type Batch = Labelled<2>;
        fn loss(&self, batch: Labelled<2>) -> Tensor<1> {
            self.layer.forward(batch.inputs).square().mean().mul_scalar(self.factor)
        }
        fn score(&self, batch: Labelled<2>) -> Result<Score, TensorReadError> {
            Score::classification(self.layer.forward(batch.inputs), batch.targets)
        }
    }

    fn odd(device: &Device, factor: f64) -> Odd {
        let layer = || LinearConfig::new(2, 2).init(device);
        Odd { layer: layer(), idle: layer(), factor }
    }

    fn run_odd(model: Odd) -> Result<Fitted<Odd>, TrainError> {
        Fit::new(config(3), SgdConfig::new().init()).run(model, &data(&device(), 1.0), None)
    }

    #[test]
    fn a_parameter_without_gradient_is_told_and_stays() {
        let model = odd(&device(), 1.0);
        let before = weights(&model.idle);
        let fitted = run_odd(model).expect("trains");
        let missing = |path: &str| Warning::NoGradient { path: path.into() };
        assert_eq!(fitted.warnings, [missing("idle.weight"), missing("idle.bias")]);
        assert_eq!(weights(&fitted.model.idle), before);
        assert!(fitted.warnings[0].to_string().starts_with("`idle.weight` is trainable"));
    }

    #[test]
    fn an_infinite_loss_is_skipped_until_the_guard_ends_it() {
        let model = odd(&device(), f64::INFINITY);
        let before = weights(&model);
        let fitted = run_odd(model).expect("runs");
        // 6 steps an epoch, all skipped: none of the losses of a whole epoch is finite.
        assert_eq!((fitted.outcome, fitted.steps, fitted.epochs), (Outcome::Diverged, 0, 1));
        assert_eq!(weights(&fitted.model), before);
        let strict = SkipNonFiniteConfig::new().with_max_consecutive(2).init().expect("valid");
        let fitted = Fit::new(config(3), SgdConfig::new().init())
            .guards(strict)
            .run(odd(&device(), f64::NAN), &data(&device(), 1.0), None)
            .expect("runs");
        assert_eq!((fitted.outcome, fitted.steps), (Outcome::Stopped, 0));
    }

    #[test]
    fn one_sample_under_batch_norm_trains_and_is_told() {
        let (device, masks) = (device(), MaskSource::new(Seed(1)));
        // 22 rows: the last batch has one.
        let train = batches(&device, 22, 7);
        let run = |train: &TensorBatches<2>| {
            Fit::new(config(3), SgdConfig::new().init())
                .run(deep(&device, &masks, 4), train, None)
                .expect("trains")
        };
        let fitted = run(&train);
        assert_eq!(fitted.warnings, [Warning::BatchOfOne { epoch: 1 }]);
        assert!(fitted.train.loss().is_finite());
        assert_eq!(run(&train.drop_last(true)).warnings, []);
    }

    #[test]
    fn a_loss_that_depends_on_nothing_is_an_error() {
        #[derive(Module, Debug)]
        struct Aloof {
            layer: Linear,
        }
        impl Learn for Aloof {
            type Batch = Labelled<2>;
            fn loss(&self, batch: Labelled<2>) -> Tensor<1> {
                batch.inputs.square().mean()
            }
            fn score(&self, _: Labelled<2>) -> Result<Score, TensorReadError> {
                Ok(Score::default())
            }
        }
        let model = Aloof { layer: LinearConfig::new(2, 2).init(&device()) };
        let error = Fit::new(config(1), SgdConfig::new().init())
            .run(model, &data(&device(), 1.0), None)
            .expect_err("nothing can be learned");
        assert!(matches!(error, TrainError::NoGradient), "{error}");
    }

    #[test]
    fn parameters_tied_by_clones_are_refused() {
        let layer = LinearConfig::new(2, 2).init(&device());
        let model = Odd { layer: layer.clone(), idle: layer, factor: 1.0 };
        let error = run_odd(model).expect_err("tied");
        assert!(matches!(&error, TrainError::Tied { first, second }
            if first == "layer.weight" && second == "idle.weight"));
    }

    /// A source that is empty, or fails at a batch.
    struct Failing {
        device: Device,
        at: usize,
    }

    impl Source for Failing {
        type Batch = Labelled<2>;
        fn read(
            &self,
            epoch: usize,
            start: usize,
        ) -> impl Iterator<Item = Result<(Labelled<2>, Option<usize>), SourceError>> {
            let batches: Vec<_> = data(&self.device, 1.0).epoch(epoch).take(self.at).collect();
            let error = (self.at > 0).then(|| Err("disk gone".into()));
            batches.into_iter().map(|batch| Ok((batch, None))).chain(error).skip(start)
        }
        fn read_whole(&self) -> impl Iterator<Item = Result<Labelled<2>, SourceError>> {
            std::iter::empty()
        }
        fn length(&self) -> usize {
            self.at
        }
        fn fingerprint(&self) -> u64 {
            0
        }
    }

    #[test]
    fn an_empty_source_and_a_failing_one_are_errors() {
        let run = |at| {
            let source = Failing { device: device(), at };
            Fit::new(config(2), SgdConfig::new().init()).run(net(&device()), &source, None)
        };
        assert!(matches!(run(0), Err(TrainError::NoBatch { epoch: 1 })));
        assert_eq!(run(3).expect_err("fails").to_string(), "the data failed: disk gone");
        let source = |at| Failing { device: device(), at };
        let error = Fit::new(config(2).with_judge_every_steps(1), SgdConfig::new().init())
            .run(net(&device()), &source(3), Some(&source(0)))
            .expect_err("there is nothing to judge by");
        assert_eq!(error.to_string(), "`validation samples` must be at least 1, got 0");
    }
}
