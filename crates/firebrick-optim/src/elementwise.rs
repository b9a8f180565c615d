//! The optimizer of a rule: burn's own trait, weight decay, and the choice between the pass and tensor operations.

use crate::decay::{Decay, DecayOn};
use crate::kernel;
use crate::recurrence::{Around, Clock, Counted, DynRule, Rule};
use crate::reducing::{Reduced, ReducingRule};
use crate::state::{RuleState, fits};
use crate::tensor_rule::{TensorRule, Whole};
use burn::module::Module;
use burn::optim::{LearningRate, ModuleOptimizer, Optimizer};
use burn::tensor::{DType, Device, FloatDType, Shape, Tensor};
use firebrick_backend::host::{HostTensor, is_host};
use firebrick_core::ConfigError;
use std::sync::Arc;

/// A validated element-wise optimizer: a [`Rule`] with its weight decay.
///
/// It is burn's [`Optimizer`], so [`init`](Self::init) and `with_group` of burn's `ModuleOptimizer` take it, and
/// burn-train's Learner too; [`fused`](Self::fused) makes the module-level optimizer, which is the fast one.
/// On flex and ndarray in f32 a step is one pass in place; elsewhere it is tensor operations. Parameters of 16
/// bits keep their state, and compute, in f32.
///
/// burn's `Optimizer` does not tell a rule which parameter it steps, so there weight decay goes by rank: it
/// applies to two axes and more. [`FusedOptimizer`](crate::FusedOptimizer) and [`init_for`](Self::init_for)
/// know the layers and leave embeddings alone too. Nor does it have errors: a state of another rule, or of another
/// shape, is dropped at the next step, and the log says so. [`FusedOptimizer`](crate::FusedOptimizer) refuses to load it.
///
/// ```
/// use burn::nn::LinearConfig;
/// use burn::optim::GradientsParams;
/// use burn::tensor::{Device, Tensor};
/// use firebrick_optim::AdamWConfig;
///
/// let device = Device::flex().autodiff();
/// let mut model = LinearConfig::new(4, 2).init(&device);
/// let mut optimizer = AdamWConfig::new().with_weight_decay(0.1).init()?;
/// let loss = model.forward(Tensor::<2>::ones([3, 4], &device)).square().mean();
/// let grads = GradientsParams::from_grads(loss.backward(), &model);
/// model = optimizer.step(1e-3, model, grads);
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Elementwise {
    rule: Arc<dyn DynRule>,
    decay: Decay,
    decay_on: DecayOn,
    maximize: bool,
    fuse: bool,
}

impl Elementwise {
    /// The optimizer of `rule`, without weight decay.
    #[must_use]
    pub fn new<R: Rule<N>, const N: usize>(rule: R) -> Self {
        Self::of(Counted::<R, N>(rule))
    }

    /// The optimizer of a rule of any kind, by its pass where it has one.
    pub(crate) fn of(rule: impl DynRule + 'static) -> Self {
        Self {
            fuse: rule.has_pass(),
            rule: Arc::new(rule),
            decay: Decay::None,
            decay_on: DecayOn::Weights,
            maximize: false,
        }
    }

    /// The optimizer of a rule that looks at a whole tensor at once, without weight decay.
    #[must_use]
    pub fn of_tensor<R: TensorRule>(rule: R) -> Self {
        Self::of(Whole(rule))
    }

    /// The optimizer of a rule that needs sums over a tensor first, without weight decay.
    #[must_use]
    pub fn reducing<R: ReducingRule<N, S>, const N: usize, const S: usize>(rule: R) -> Self {
        Self::of(Reduced::<R, N, S>(rule))
    }

    /// Whether each element is stepped by itself.
    #[must_use]
    pub fn is_elementwise(&self) -> bool {
        self.rule.is_elementwise()
    }

    /// Sets the weight decay.
    ///
    /// # Errors
    /// When a strength is negative, NaN or infinite.
    pub fn with_decay(mut self, decay: Decay) -> Result<Self, ConfigError> {
        decay.check()?;
        self.decay = decay;
        Ok(self)
    }

    /// The same rule without weight decay.
    #[must_use]
    pub fn without_decay(mut self) -> Self {
        self.decay = Decay::None;
        self.decay_on = DecayOn::Nothing;
        self
    }

    /// Sets which parameters decay; [`DecayOn::Weights`] unless said otherwise.
    #[must_use]
    pub fn with_decay_on(mut self, on: DecayOn) -> Self {
        self.decay_on = on;
        self
    }

    /// Climbs instead of descending: the gradient's sign is turned before anything else.
    #[must_use]
    pub fn with_maximize(mut self, maximize: bool) -> Self {
        self.maximize = maximize;
        self
    }

    /// Whether host tensors take the fused pass (the default) or tensor operations as everywhere else.
    #[must_use]
    pub fn with_fused_pass(mut self, fuse: bool) -> Self {
        self.fuse = fuse && self.rule.has_pass();
        self
    }

    /// burn's optimizer for a whole module.
    #[must_use]
    pub fn init(&self) -> ModuleOptimizer {
        ModuleOptimizer::from(self.clone())
    }

    /// burn's optimizer for `model`, whose embeddings are left without weight decay as well.
    #[must_use]
    pub fn init_for<M: Module>(&self, model: &M) -> ModuleOptimizer {
        crate::groups::module_optimizer(self, model)
    }

    /// The module-level optimizer, which steps all parameters in one parallel pass.
    #[must_use]
    pub fn fused(&self) -> crate::FusedOptimizer {
        crate::FusedOptimizer::new(self.clone())
    }

    /// Name of the rule.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.rule.name()
    }

    /// The names of the numbers that it keeps for each element.
    #[must_use]
    pub fn slots(&self) -> &'static [&'static str] {
        self.rule.slots()
    }

    /// How many numbers each slot has for a parameter of `shape`: as many as the parameter for most rules, those of a
    /// row and a column for Adafactor, none where a rule needs none (ASGD, as long as its average is the parameter).
    ///
    /// ```
    /// use firebrick_optim::{AdafactorConfig, AdamWConfig};
    ///
    /// assert_eq!(AdamWConfig::new().build()?.state_lengths(&[3, 5]), [15, 15]);
    /// assert_eq!(AdafactorConfig::new().build()?.state_lengths(&[3, 5]), [3, 5]);
    /// # Ok::<(), firebrick_core::ConfigError>(())
    /// ```
    #[must_use]
    pub fn state_lengths(&self, shape: &[usize]) -> Vec<usize> {
        self.rule.lengths(shape)
    }

    /// How often the pass over host memory reads the gradient: twice where sums over the tensor come first.
    ///
    /// Rules that run by tensor operations alone count once.
    #[must_use]
    pub fn passes(&self) -> usize {
        if self.rule.has_pass() && !self.rule.is_elementwise() { 2 } else { 1 }
    }

    /// The weight decay.
    #[must_use]
    pub fn decay(&self) -> Decay {
        self.decay
    }

    /// Which parameters decay.
    #[must_use]
    pub fn decay_on(&self) -> DecayOn {
        self.decay_on
    }

    pub(crate) fn rule(&self) -> &Arc<dyn DynRule> {
        &self.rule
    }

    /// The weight decay that a parameter of `shape` has, where it decays.
    pub(crate) fn strength(&self, shape: &[usize]) -> f64 {
        self.rule.weight_decay(shape).unwrap_or_else(|| self.decay.strength())
    }

    pub(crate) fn fuses(&self) -> bool {
        self.fuse
    }

    pub(crate) fn around(&self, clock: &Clock, grad_scale: f64) -> Around {
        let scale = if self.maximize { -grad_scale } else { grad_scale };
        let none = Around { scale, l2: 0.0, keep: 1.0, after: 1.0, cautious: None };
        if !clock.decays {
            return none;
        }
        let around = self.decay.around(clock.lr, none);
        // A step that moves nothing still sees the coupled gradient.
        if self.rule.moves(clock.t) { around } else { Around { l2: around.l2, ..none } }
    }

    /// Steps one tensor whose state lies in `state`.
    pub(crate) fn step_tensor<const D: usize>(
        &self,
        clock: &Clock,
        grad_scale: f64,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        state: &mut RuleState<D>,
    ) -> Tensor<D> {
        let dtype = tensor.dtype();
        if matches!(dtype, DType::F16 | DType::BF16) {
            let grad = grad.cast(FloatDType::F32);
            let tensor = tensor.cast(FloatDType::F32);
            let new = self.step_tensor(clock, grad_scale, tensor, grad, state);
            return new.cast(if dtype == DType::F16 { FloatDType::F16 } else { FloatDType::BF16 });
        }
        if tensor.shape().num_elements() == 0 {
            return tensor;
        }
        let grad = if grad.dtype() == dtype || dtype != DType::F32 && dtype != DType::F64 {
            grad
        } else {
            grad.cast(if dtype == DType::F64 { FloatDType::F64 } else { FloatDType::F32 })
        };
        let around = self.around(clock, grad_scale);
        if self.fuse {
            match self.step_host(clock, &around, tensor, grad, state) {
                Ok(new) => new,
                Err((tensor, grad)) => self.step_ops(clock, &around, tensor, grad, state),
            }
        } else {
            self.step_ops(clock, &around, tensor, grad, state)
        }
    }

    #[allow(clippy::result_large_err)] // the error is the arguments themselves
    fn step_host<const D: usize>(
        &self,
        clock: &Clock,
        around: &Around,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        state: &mut RuleState<D>,
    ) -> Result<Tensor<D>, (Tensor<D>, Tensor<D>)> {
        if !state.slots.iter().all(is_host) {
            return Err((tensor, grad));
        }
        let mut param = match HostTensor::take(tensor) {
            Ok(param) => param,
            Err(tensor) => return Err((tensor, grad)),
        };
        let grad = match HostTensor::take(grad) {
            Ok(grad) => grad,
            Err(grad) => return Err((param.give(), grad)),
        };
        let slots = std::mem::take(&mut state.slots);
        let mut slots: Vec<HostTensor> =
            slots.into_iter().filter_map(|slot| HostTensor::take(slot).ok()).collect();
        kernel::step_host(
            &*self.rule,
            clock,
            around,
            &mut state.memory,
            &mut param,
            &grad,
            &mut slots,
        );
        state.slots = slots.into_iter().map(HostTensor::give).collect();
        Ok(param.give())
    }

    fn step_ops<const D: usize>(
        &self,
        clock: &Clock,
        around: &Around,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        state: &mut RuleState<D>,
    ) -> Tensor<D> {
        let shape = tensor.shape();
        let flat = Shape::from([shape.num_elements()]);
        let line = |tensor: Tensor<D>| tensor.reshape::<1, _>(flat.clone());
        let slots = std::mem::take(&mut state.slots);
        let (param, slots) = self.rule.run_tensors(
            clock,
            &mut state.memory,
            around,
            &state.shape,
            line(tensor),
            line(grad),
            slots,
        );
        state.slots = slots;
        param.reshape::<D, _>(shape)
    }
}

impl Optimizer for Elementwise {
    type State<const D: usize> = RuleState<D>;

    fn step<const D: usize>(
        &self,
        lr: LearningRate,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        state: Option<Self::State<D>>,
    ) -> (Tensor<D>, Option<Self::State<D>>) {
        if !fits(self.name(), tensor.dims(), &grad) {
            return (tensor, state);
        }
        let state = state.filter(|state| state.fits(self, &tensor));
        let mut state = match state {
            Some(state) => state.beside(&tensor),
            None => RuleState::new(self, lr, &tensor),
        };
        state.time += 1;
        let clock = Clock { lr, t: state.time, decays: self.decay_on.by_rank(D) };
        let tensor = self.step_tensor(&clock, 1.0, tensor, grad, &mut state);
        (tensor, Some(state))
    }

    fn to_device<const D: usize>(state: Self::State<D>, device: &Device) -> Self::State<D> {
        state.moved_to(device)
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::testing::logged;
    use crate::{AdamConfig, YogiConfig};
    use firebrick_backend::testing::devices;

    #[test]
    fn a_state_of_another_rule_is_dropped_and_the_log_says_so() {
        for device in devices() {
            let ones = || Tensor::<2>::ones([2, 2], &device);
            let adam = AdamConfig::new().build().expect("valid");
            let yogi = YogiConfig::new().build().expect("valid");
            let (_, of_adam) = adam.step(0.1, ones(), ones(), None);
            logged();
            let (fresh, of_yogi) = yogi.step(0.1, ones(), ones(), None);
            let (_, again) = yogi.step(0.1, ones(), ones(), of_yogi);
            assert_eq!(logged(), [] as [&str; 0]);
            assert_eq!(again.map(|state| state.steps()), Some(2));
            let (seen, state) = yogi.step(0.1, ones(), ones(), of_adam);
            assert_eq!(
                logged(),
                [
                    "yogi: shape [2, 2], but a state of another rule, or of shape [2, 2]: it starts anew"
                ]
            );
            assert_eq!(state.map(|state| state.steps()), Some(1));
            seen.into_data().assert_eq(&fresh.into_data(), true);
        }
    }
}
