//! Guards in burn-train's Learner, whose only place between backward and step is `TrainStep::optimize`.

use burn::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::{GradientsParams, ModuleOptimizer, MultiGradientsParams};
use burn::tensor::Tensor;
use firebrick_core::Record;
use firebrick_stabilize::{Guard, Verdict};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

type OnStop = Box<dyn Fn(Verdict) + Send>;

/// Guards that a model carries in a field, so that `TrainStep::optimize` finds them.
///
/// Clones share the guards, as the copies that the Learner makes of a model must. Nothing of it is saved with the
/// model. A skipped step leaves weights and optimizer as they are; the Learner's rate and the running statistics of
/// batch norm have moved on by then. A rollback counts as a skipped step, for the Learner cannot go back, and
/// [`Verdict::Stop`] calls [`on_stop`](Self::on_stop), from which burn's `Interrupter` ends the run.
///
/// Where the Learner accumulates the gradients of several batches, or adds up those of several devices, the guards
/// get the mean of the losses since the last step: one that is broken breaks it, one that spikes raises it.
///
/// Not for burn's `ddp`: its workers step a copy of the model each, and would all meet in the one set of guards.
///
/// ```
/// use burn::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
/// use burn::module::Module;
/// use burn::nn::Linear;
/// use burn::optim::{GradientsParams, ModuleOptimizer, MultiGradientsParams};
/// use firebrick_stabilize::{ClipGlobalNorm, SkipNonFinite};
/// use firebrick_train::Guarded;
///
/// #[derive(Module, Debug)]
/// struct Net {
///     layer: Linear,
///     #[module(skip)]
///     guards: Guarded<(SkipNonFinite, ClipGlobalNorm)>,
/// }
///
/// // In `impl TrainStep for Net`, whose `step` calls `self.guards.before_backward(loss).backward()`:
/// impl Net {
///     fn optimize(self, optim: &mut ModuleOptimizer, lr: ModuleLearningRate, grads: GradientsParams) -> Self {
///         self.guards.clone().optimize(self, optim, lr, grads)
///     }
///     fn optimize_multi(self, optim: &mut ModuleOptimizer, lr: ModuleLearningRate, grads: MultiGradientsParams) -> Self {
///         self.guards.clone().optimize_multi(self, optim, lr, grads)
///     }
/// }
/// ```
pub struct Guarded<G> {
    shared: Arc<Mutex<Shared<G>>>,
}

struct Shared<G> {
    guards: G,
    /// The losses since the last step: their sum and number.
    losses: (f64, u64),
    skipped: u64,
    stopped: bool,
    on_stop: Option<OnStop>,
}

impl<G> Shared<G> {
    fn note(&mut self, loss: f64) {
        self.losses = (self.losses.0 + loss, self.losses.1 + 1);
    }

    /// The mean of the losses since the last step, which are forgotten; 0 where nobody told one.
    fn take_loss(&mut self) -> f64 {
        match std::mem::take(&mut self.losses) {
            (_, 0) => 0.0,
            (sum, count) => sum / count as f64,
        }
    }
}

impl<G> Clone for Guarded<G> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<G: fmt::Debug> fmt::Debug for Guarded<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Guarded").field(&self.lock().guards).finish()
    }
}

impl<G> Guarded<G> {
    fn lock(&self) -> MutexGuard<'_, Shared<G>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<G: Guard> Guarded<G> {
    /// Carries these guards.
    pub fn new(guards: G) -> Self {
        let shared = Shared { guards, losses: (0.0, 0), skipped: 0, stopped: false, on_stop: None };
        Self { shared: Arc::new(Mutex::new(shared)) }
    }

    /// Calls `on_stop` once, when a guard asks for the end of the run.
    #[must_use]
    pub fn on_stop(self, on_stop: impl Fn(Verdict) + Send + 'static) -> Self {
        self.lock().on_stop = Some(Box::new(on_stop));
        self
    }

    /// Tells the guards the loss of a batch of the coming step, from `TrainStep::step`; where nobody does, they judge
    /// by the gradients alone.
    pub fn note_loss(&self, loss: f64) {
        self.lock().note(loss);
    }

    /// Tells the guards the loss of a batch of the coming step and gives back what is to be differentiated: the loss,
    /// multiplied where a guard scales it.
    ///
    /// A loss that cannot be read counts as broken.
    #[must_use = "the gradients must be those of what is given back"]
    pub fn before_backward(&self, loss: Tensor<1>) -> Tensor<1> {
        let value = loss.clone().inner().try_into_scalar::<f64>().unwrap_or(f64::NAN);
        let mut shared = self.lock();
        shared.note(value);
        match shared.guards.loss_factor() {
            1.0 => loss,
            factor => loss.mul_scalar(factor),
        }
    }

    /// Takes the step that the guards allow.
    pub fn optimize<M: Module>(
        &self,
        model: M,
        optimizer: &mut ModuleOptimizer,
        rate: ModuleLearningRate,
        mut gradients: GradientsParams,
    ) -> M {
        let mut shared = self.lock();
        let loss = shared.take_loss();
        let verdict = shared.guards.before_step(&model, &mut gradients, loss);
        if verdict == Verdict::Proceed {
            let model = shared.guards.revise(optimizer.step(rate, model, gradients));
            shared.guards.after_step(&model);
            return model;
        }
        shared.skipped += 1;
        if verdict == Verdict::Stop && !shared.stopped {
            shared.stopped = true;
            let on_stop = shared.on_stop.take();
            // Who is called may ask the guards.
            drop(shared);
            if let Some(on_stop) = on_stop {
                on_stop(verdict);
            }
        }
        model
    }

    /// The same with gradients from several devices, which are added up before the guards see them.
    pub fn optimize_multi<M: Module>(
        &self,
        model: M,
        optimizer: &mut ModuleOptimizer,
        rate: ModuleLearningRate,
        gradients: MultiGradientsParams,
    ) -> M {
        let mut merge = Merge { from: gradients, to: GradientsParams::new() };
        model.visit(&mut merge);
        self.optimize(model, optimizer, rate, merge.to)
    }

    /// How many steps were not taken.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.lock().skipped
    }

    /// Whether a guard asked for the end of the run.
    #[must_use]
    pub fn stopped(&self) -> bool {
        self.lock().stopped
    }

    /// Adds what the guards measured in the last step to a record.
    pub fn record(&self, record: &mut Record) {
        self.lock().guards.record(record);
    }
}

struct Merge {
    from: MultiGradientsParams,
    to: GradientsParams,
}

impl ModuleVisitor for Merge {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some((gradient, _)) = self.from.remove::<D>(param.id) {
            self.to.register::<D>(param.id, gradient);
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::testing::{Net, data, net, weights};
    use crate::{Batches, Learn};
    use burn::lr_scheduler::module_lr_scheduler::ModuleLrScheduler;
    use burn::optim::SgdConfig;
    use burn::tensor::Device;
    use firebrick_stabilize::{ClipGlobalNormConfig, SkipNonFiniteConfig};
    use std::sync::atomic::{AtomicU64, Ordering};

    fn gradients(model: &Net, factor: f64) -> GradientsParams {
        let device = Device::flex().autodiff();
        let batch = data(&device, 1.0).epoch(1).next().expect("there is one");
        let loss = model.loss(batch).mul_scalar(factor);
        GradientsParams::from_grads(loss.backward(), model)
    }

    fn rate() -> ModuleLearningRate {
        ModuleLrScheduler::new(0.5).step()
    }

    #[test]
    fn the_adapter_clips_skips_and_stops() {
        let device = Device::flex().autodiff();
        let stops = Arc::new(AtomicU64::new(0));
        let counted = stops.clone();
        let guards = (
            SkipNonFiniteConfig::new().with_max_consecutive(1).init().expect("valid"),
            ClipGlobalNormConfig::new(0.1).init().expect("valid"),
        );
        let guarded = Guarded::new(guards);
        let asked = guarded.clone();
        let guarded = guarded.on_stop(move |_| {
            assert_eq!(asked.skipped(), 2, "whoever is called may ask");
            counted.fetch_add(1, Ordering::Relaxed);
        });
        let mut optimizer = SgdConfig::new().init();
        let model = net(&device);
        let start = model.clone();
        // The clipped step is the gradient scaled to length 0.1, by hand.
        let mut by_hand = gradients(&model, 1.0);
        let norm = ClipGlobalNormConfig::new(0.1).init().expect("valid").clip(&model, &mut by_hand);
        assert!(norm > 0.1);
        let expected = SgdConfig::new().init().step(0.5, model.clone(), by_hand);
        let grads = gradients(&model, 1.0);
        let model = guarded.clone().optimize(model, &mut optimizer, rate(), grads);
        assert_eq!(weights(&model), weights(&expected));
        assert_ne!(weights(&model), weights(&start));
        let mut record = Record::default();
        guarded.record(&mut record);
        assert_eq!(record.get("grad_norm"), Some(norm));

        let mut left = model.clone();
        for _ in 0..3 {
            let grads = gradients(&left, f64::NAN);
            left = guarded.optimize(left, &mut optimizer, rate(), grads);
        }
        assert_eq!(weights(&left), weights(&model));
        assert_eq!((guarded.skipped(), guarded.stopped()), (3, true));
        assert_eq!(stops.load(Ordering::Relaxed), 1, "told once");
        guarded.note_loss(f64::INFINITY);
        let grads = gradients(&left, 1.0);
        let same = guarded.optimize(left, &mut optimizer, rate(), grads);
        assert_eq!(weights(&same), weights(&model));
    }

    #[test]
    fn the_guards_get_the_mean_of_the_losses_of_a_step() {
        /// Writes down what it is told.
        struct Told(Arc<Mutex<Vec<f64>>>);
        impl Guard for Told {
            fn before_step<M: Module>(
                &mut self,
                _: &M,
                _: &mut GradientsParams,
                loss: f64,
            ) -> Verdict {
                self.0.lock().expect("one thread").push(loss);
                Verdict::Skip
            }
        }
        let device = Device::flex().autodiff();
        let told = Arc::new(Mutex::new(Vec::new()));
        let guarded = Guarded::new(Told(told.clone()));
        let mut model = net(&device);
        let mut optimizer = SgdConfig::new().init();
        // A broken batch and one that spikes come before a good one; the last step is told nothing.
        for losses in [[f64::NAN, 1.0].as_slice(), &[99.0, 1.0, 2.0], &[0.1], &[]] {
            for &loss in losses {
                guarded.note_loss(loss);
            }
            let grads = gradients(&model, 1.0);
            model = guarded.optimize(model, &mut optimizer, rate(), grads);
        }
        // Both ways of telling count.
        let loss = model.loss(data(&device, 1.0).epoch(1).next().expect("there is one"));
        let value = loss.clone().inner().try_into_scalar::<f64>().expect("reads");
        guarded.note_loss(value + 2.0);
        let _ = guarded.before_backward(loss);
        let grads = gradients(&model, 1.0);
        let _ = guarded.optimize(model, &mut optimizer, rate(), grads);
        let told = told.lock().expect("one thread").clone();
        assert!(told[0].is_nan());
        assert_eq!(told[1..4], [34.0, 0.1, 0.0]);
        assert!((told[4] - value - 1.0).abs() < 1e-12);
    }

    #[test]
    fn gradients_of_several_devices_are_added_first() {
        let device = Device::flex().autodiff();
        let guarded = || Guarded::new((ClipGlobalNormConfig::new(0.1).init().expect("valid"),));
        let model = net(&device);
        let inner = device.clone().inner();
        let parts = (0..2).map(|_| (gradients(&model, 0.5), inner.clone())).collect();
        let multi = MultiGradientsParams { grads: parts };
        let both =
            guarded().optimize_multi(model.clone(), &mut SgdConfig::new().init(), rate(), multi);
        let whole = gradients(&model, 1.0);
        let one = guarded().optimize(model, &mut SgdConfig::new().init(), rate(), whole);
        let read = |model: Net| model.layer.weight.val().try_to_vec_as::<f64>().expect("reads");
        for (both, one) in read(both).into_iter().zip(read(one)) {
            assert!((both - one).abs() < 1e-6, "{both} {one}");
        }
    }
}
