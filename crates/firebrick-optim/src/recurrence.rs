//! The recurrence of an element-wise rule, and what the engine does around it.

use crate::kernel::{self, Pass};
use crate::value::Value;
use burn::tensor::Tensor;
use std::fmt;

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
/// [`Elementwise`](crate::Elementwise) applies them around it.
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
pub(crate) struct Counted<R, const N: usize>(pub(crate) R);

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
