//! Element-wise update rules: the recurrence, written once, and the optimizer that runs it.

use crate::decay::{Decay, DecayOn};
use crate::kernel::{self, Pass};
use crate::state::RuleState;
use crate::tensor_rule::{TensorRule, Whole};
use crate::value::Value;
use burn::module::Module;
use burn::optim::{LearningRate, ModuleOptimizer, Optimizer};
use burn::tensor::{DType, Device, FloatDType, Shape, Tensor};
use firebrick_backend::host::HostTensor;
use firebrick_core::ConfigError;
use std::fmt;
use std::sync::Arc;

/// What a rule knows about the step that it takes.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Clock {
    /// The learning rate of this step.
    pub lr: f64,
    /// Number of this step: 1 for the first update of a parameter.
    pub t: u64,
    /// Whether weight decay applies to this parameter.
    pub decays: bool,
}

impl Clock {
    /// The `t`-th step at rate `lr` of a parameter that decays.
    #[must_use]
    pub fn new(lr: f64, t: u64) -> Self {
        Self { lr, t, decays: true }
    }
}

/// An element-wise update rule with `N` numbers of state per element.
///
/// The recurrence is one function over [`Value`]: the fused pass runs it on `f32`, other back-ends run it on
/// tensors, references run it on `f64`. Weight decay, `maximize` and gradient scaling are not part of a rule:
/// [`Elementwise`] applies them around it.
///
/// ```
/// use firebrick_optim::{Clock, Elementwise, Rule, Value};
///
/// /// Steps by the sign of the gradient.
/// #[derive(Debug, Clone)]
/// struct SignDescent;
/// impl Rule<0> for SignDescent {
///     type Step = f64;
///     const NAME: &'static str = "sign_descent";
///     const SLOTS: [&'static str; 0] = [];
///     fn at(&self, clock: &Clock, _: &mut [f64]) -> f64 {
///         clock.lr
///     }
///     fn update<V: Value>(lr: &f64, param: V, grad: V, _: [V; 0]) -> (V, [V; 0]) {
///         (param - grad.sign().scale(*lr), [])
///     }
/// }
/// let optimizer = Elementwise::new(SignDescent).init(); // burn's ModuleOptimizer
/// # let _ = optimizer;
/// ```
pub trait Rule<const N: usize>: Clone + fmt::Debug + Send + Sync + 'static {
    /// What one step needs besides the values, computed once per parameter and step in f64.
    type Step: Copy + Send + Sync;

    /// Name of the rule and of what shapes its state; a saved state is refused under another name.
    const NAME: &'static str;

    /// The names of the state's numbers, as the paper or PyTorch spells them.
    const SLOTS: [&'static str; N];

    /// What each number of the state starts from at the first step with rate `lr`.
    fn start(&self, lr: f64) -> [f64; N] {
        let _ = lr;
        [0.0; N]
    }

    /// Scalars that a parameter carries from step to step besides its state; what they start from.
    fn memory(&self) -> Vec<f64> {
        Vec::new()
    }

    /// Whether the `t`-th step moves a parameter at all; where it does not, nothing decays either.
    fn moves(&self, t: u64) -> bool {
        let _ = t;
        true
    }

    /// For a rule that trains one point and evaluates another: `(slot, weight)` of `p + weight (slot - p)`.
    fn evaluation(&self) -> Option<(usize, f64)> {
        None
    }

    /// The constants of this step; moves `memory` one step on.
    fn at(&self, clock: &Clock, memory: &mut [f64]) -> Self::Step;

    /// The recurrence: new parameter and new state from old ones and the gradient.
    fn update<V: Value>(step: &Self::Step, param: V, grad: V, state: [V; N]) -> (V, [V; N]);
}

/// A [`Rule`] with its number of slots erased.
pub(crate) trait DynRule: fmt::Debug + Send + Sync {
    fn name(&self) -> &'static str;
    fn slots(&self) -> &'static [&'static str];
    fn start(&self, lr: f64) -> Vec<f64>;
    fn memory(&self) -> Vec<f64>;
    fn moves(&self, t: u64) -> bool;
    fn evaluation(&self) -> Option<(usize, f64)>;
    /// Whether each element is stepped by itself, so that the fused pass may run it.
    fn is_elementwise(&self) -> bool;
    /// Number of elements of each slot for a parameter of `shape`.
    fn lengths(&self, shape: &[usize]) -> Vec<usize>;
    /// One pass over host memory; parallel inside when `n` is large.
    fn run(&self, clock: &Clock, memory: &mut [f64], around: &Around, pass: Pass<'_>);
    /// The same as tensor operations.
    #[allow(clippy::too_many_arguments)] // one call of the engine to itself
    fn run_tensors(
        &self,
        clock: &Clock,
        memory: &mut [f64],
        around: &Around,
        shape: &[usize],
        param: Tensor<1>,
        grad: Tensor<1>,
        state: Vec<Tensor<1>>,
    ) -> (Tensor<1>, Vec<Tensor<1>>);
    /// The same for one element in f64.
    fn run_f64(
        &self,
        clock: &Clock,
        memory: &mut [f64],
        around: &Around,
        param: f64,
        grad: f64,
        state: &mut [f64],
    ) -> f64;
}

/// What happens around a rule, for every rule alike: `g' = scale g + l2 p`, `p' = keep p`, and
/// `after` times the result.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Around {
    pub(crate) scale: f64,
    pub(crate) l2: f64,
    pub(crate) keep: f64,
    /// Factor of the new parameter.
    pub(crate) after: f64,
    /// The part of a parameter that decays where the update does not oppose it.
    pub(crate) cautious: Option<f64>,
}

impl Around {
    /// The parameter and the gradient that a rule sees.
    pub(crate) fn before(&self, param: &Tensor<1>, grad: Tensor<1>) -> (Tensor<1>, Tensor<1>) {
        let grad = if self.scale == 1.0 { grad } else { grad.mul_scalar(self.scale) };
        let grad = if self.l2 == 0.0 { grad } else { grad + param.clone().mul_scalar(self.l2) };
        let param = param.clone();
        (if self.keep == 1.0 { param } else { param.mul_scalar(self.keep) }, grad)
    }

    /// What is left to do to the new parameter.
    pub(crate) fn finish(&self, new: Tensor<1>) -> Tensor<1> {
        if self.after == 1.0 { new } else { new.mul_scalar(self.after) }
    }
}

#[inline(always)]
pub(crate) fn whole<R: Rule<N>, V: Value, const N: usize>(
    step: &R::Step,
    around: &Around,
    cautious: bool,
    param: V,
    grad: V,
    state: [V; N],
) -> (V, [V; N]) {
    let grad = grad.scale(around.scale) + param.clone().scale(around.l2);
    let kept = param.clone().scale(around.keep);
    let (new, state) = R::update(step, kept.clone(), grad, state);
    let new = new.scale(around.after);
    if !cautious {
        return (new, state);
    }
    let shrink = param.clone().scale(around.cautious.unwrap_or(0.0));
    let opposed = -((kept - new.clone()) * param);
    (opposed.where_positive(new.clone(), new - shrink), state)
}

/// Pairs a rule with its number of slots, so that the pair can stand behind `dyn`.
struct Counted<R, const N: usize>(R);

impl<R: Rule<N>, const N: usize> fmt::Debug for Counted<R, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<R: Rule<N>, const N: usize> DynRule for Counted<R, N> {
    fn name(&self) -> &'static str {
        R::NAME
    }
    fn slots(&self) -> &'static [&'static str] {
        const { &R::SLOTS }
    }
    fn start(&self, lr: f64) -> Vec<f64> {
        self.0.start(lr).to_vec()
    }
    fn memory(&self) -> Vec<f64> {
        self.0.memory()
    }
    fn moves(&self, t: u64) -> bool {
        self.0.moves(t)
    }
    fn evaluation(&self) -> Option<(usize, f64)> {
        self.0.evaluation()
    }
    fn is_elementwise(&self) -> bool {
        true
    }
    fn lengths(&self, shape: &[usize]) -> Vec<usize> {
        vec![shape.iter().product(); N]
    }
    fn run(&self, clock: &Clock, memory: &mut [f64], around: &Around, pass: Pass<'_>) {
        let step = self.0.at(clock, memory);
        kernel::run::<R, N>(&step, around, pass);
    }
    fn run_tensors(
        &self,
        clock: &Clock,
        memory: &mut [f64],
        around: &Around,
        _: &[usize],
        param: Tensor<1>,
        grad: Tensor<1>,
        state: Vec<Tensor<1>>,
    ) -> (Tensor<1>, Vec<Tensor<1>>) {
        let step = self.0.at(clock, memory);
        let mut slots = state.into_iter();
        let zeros = || param.zeros_like();
        let state: [Tensor<1>; N] = std::array::from_fn(|_| slots.next().unwrap_or_else(zeros));
        let (kept, grad) = around.before(&param, grad);
        let Some(rate) = around.cautious else {
            drop(param);
            let (new, state) = R::update(&step, kept, grad, state);
            return (around.finish(new), state.into());
        };
        let (new, state) = R::update(&step, kept.clone(), grad, state);
        let opposed = -((kept - new.clone()) * param.clone());
        (opposed.where_positive(new.clone(), new - param.mul_scalar(rate)), state.into())
    }
    fn run_f64(
        &self,
        clock: &Clock,
        memory: &mut [f64],
        around: &Around,
        param: f64,
        grad: f64,
        state: &mut [f64],
    ) -> f64 {
        let step = self.0.at(clock, memory);
        let old: [f64; N] = std::array::from_fn(|k| state.get(k).copied().unwrap_or(0.0));
        let cautious = around.cautious.is_some();
        let (param, new) = whole::<R, f64, N>(&step, around, cautious, param, grad, old);
        state.copy_from_slice(&new);
        param
    }
}

/// A validated element-wise optimizer: a [`Rule`] with its weight decay.
///
/// It is burn's [`Optimizer`], so [`init`](Self::init) and `with_group` of burn's `ModuleOptimizer` take it, and
/// burn-train's Learner too; [`fused`](Self::fused) makes the module-level optimizer, which is the fast one.
/// On flex and ndarray in f32 a step is one pass in place; elsewhere it is tensor operations. Parameters of 16
/// bits keep their state, and compute, in f32.
///
/// burn's `Optimizer` does not tell a rule which parameter it steps, so there weight decay goes by rank: it
/// applies to two axes and more. [`FusedOptimizer`](crate::FusedOptimizer) and [`init_for`](Self::init_for)
/// know the layers and leave embeddings alone too.
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
        Self {
            rule: Arc::new(Counted::<R, N>(rule)),
            decay: Decay::None,
            decay_on: DecayOn::Weights,
            maximize: false,
            fuse: true,
        }
    }

    /// The optimizer of a rule that looks at a whole tensor at once, without weight decay.
    #[must_use]
    pub fn of_tensor<R: TensorRule>(rule: R) -> Self {
        Self {
            rule: Arc::new(Whole(rule)),
            decay: Decay::None,
            decay_on: DecayOn::Weights,
            maximize: false,
            fuse: false,
        }
    }

    /// Whether each element is stepped by itself; the fused pass runs such rules alone.
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
        self.fuse = fuse && self.rule.is_elementwise();
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
        use firebrick_backend::host::is_host;
        if !is_host(&tensor) || !is_host(&grad) || !state.slots.iter().all(is_host) {
            return Err((tensor, grad));
        }
        let back = grad.clone();
        let mut param = HostTensor::take(tensor).map_err(|tensor| (tensor, back))?;
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
        let mut state = match state {
            Some(state) if state.fits(self, &tensor) => state,
            _ => RuleState::new(self, lr, &tensor),
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
