//! The recurrence of an element-wise rule, and what the engine does around it.

use crate::kernel::{self, Element, Pass};
use crate::shared::Shared;
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

    /// Name of the rule and of what shapes its state; a saved state of another name is refused at loading by
    /// [`FusedOptimizer`](crate::FusedOptimizer), and dropped at the next step, with a line in the log, by burn's.
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

/// A rule of any kind with its number of slots erased; what most kinds answer alike need not be written.
pub(crate) trait DynRule: fmt::Debug + Send + Sync {
    fn name(&self) -> &'static str;
    fn slots(&self) -> &'static [&'static str];
    fn start(&self, _lr: f64) -> Vec<f64> {
        vec![0.0; self.slots().len()]
    }
    fn memory(&self) -> Vec<f64> {
        Vec::new()
    }
    fn moves(&self, _t: u64) -> bool {
        true
    }
    fn evaluation(&self) -> Option<(usize, f64)> {
        None
    }
    /// Whether each element is stepped by itself.
    fn is_elementwise(&self) -> bool {
        false
    }
    /// The strength of weight decay for a parameter of `shape`, where the rule has one for each kind.
    fn weight_decay(&self, _shape: &[usize]) -> Option<f64> {
        None
    }
    /// What it shares among the parameters of a group.
    fn shared(&self) -> Option<&dyn Shared> {
        None
    }
    /// Whether [`run`](Self::run) is there for host memory.
    fn has_pass(&self) -> bool;
    /// Number of elements of each slot for a parameter of `shape`.
    fn lengths(&self, shape: &[usize]) -> Vec<usize> {
        vec![shape.iter().product(); self.slots().len()]
    }
    /// Whether slots with these numbers of elements are a state for a parameter of `shape`.
    fn fits(&self, shape: &[usize], lengths: &[usize]) -> bool {
        lengths == self.lengths(shape)
    }
    /// Over host memory, in place; parallel inside when the parameter is large.
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
    /// The same for one element in f64, of a rule that steps each by itself; others leave it as it is.
    fn run_f64(
        &self,
        _clock: &Clock,
        _memory: &mut [f64],
        _around: &Around,
        param: f64,
        _grad: f64,
        _state: &mut [f64],
    ) -> f64 {
        param
    }
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
    /// The `update` of a tensor, and what happens around it; no operation more than there is to do.
    pub(crate) fn tensors<T>(
        &self,
        param: Tensor<1>,
        grad: Tensor<1>,
        update: impl FnOnce(Tensor<1>, Tensor<1>) -> (Tensor<1>, T),
    ) -> (Tensor<1>, T) {
        let times = |x: Tensor<1>, k: f64| if k == 1.0 { x } else { x.mul_scalar(k) };
        let grad = times(grad, self.scale);
        let grad = if self.l2 == 0.0 { grad } else { grad + param.clone().mul_scalar(self.l2) };
        let kept = match 1.0 - self.keep {
            0.0 => param.clone(),
            gone => param.clone() - param.clone().mul_scalar(gone),
        };
        let Some(rate) = self.cautious else {
            drop(param);
            let (new, state) = update(kept, grad);
            return (times(new, self.after), state);
        };
        let (new, state) = update(kept.clone(), grad);
        let new = times(new, self.after);
        let opposed = -((kept - new.clone()) * param.clone());
        (opposed.where_positive(new.clone(), new - param.mul_scalar(rate)), state)
    }
}

/// How much of an [`Around`] there is to do: the loop over the elements does no more than that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    Nothing,
    Factors,
    Cautious,
}

impl Extent {
    pub(crate) const NOTHING: u8 = 0;
    pub(crate) const FACTORS: u8 = 1;
    pub(crate) const CAUTIOUS: u8 = 2;

    pub(crate) const fn of(code: u8) -> Self {
        match code {
            Self::NOTHING => Self::Nothing,
            Self::FACTORS => Self::Factors,
            _ => Self::Cautious,
        }
    }
}

impl Around {
    pub(crate) fn extent(&self) -> Extent {
        match *self {
            Self { cautious: Some(_), .. } => Extent::Cautious,
            Self { scale: 1.0, l2: 0.0, keep: 1.0, after: 1.0, .. } => Extent::Nothing,
            _ => Extent::Factors,
        }
    }

    /// The parameter and the gradient that a rule sees.
    #[inline(always)]
    pub(crate) fn scaled<V: Value>(&self, param: V, grad: V) -> (V, V) {
        let grad = grad.scale(self.scale) + param.clone().scale(self.l2);
        // What decays in a step is small, and f32 has few digits for a factor near 1.
        (param.clone() - param.scale(1.0 - self.keep), grad)
    }

    /// One element's `update`, and what happens around it.
    #[inline(always)]
    pub(crate) fn apply<V: Value, const N: usize>(
        &self,
        extent: Extent,
        param: V,
        grad: V,
        update: impl FnOnce(V, V) -> (V, [V; N]),
    ) -> (V, [V; N]) {
        if extent == Extent::Nothing {
            return update(param, grad);
        }
        let (kept, grad) = self.scaled(param.clone(), grad);
        let (new, state) = update(kept.clone(), grad);
        let new = new.scale(self.after);
        if extent == Extent::Factors {
            return (new, state);
        }
        let shrink = param.clone().scale(self.cautious.unwrap_or(0.0));
        let opposed = -((kept - new.clone()) * param);
        (opposed.where_positive(new.clone(), new - shrink), state)
    }
}

/// The constants of a step of a rule, and of what happens around it; `EXTENT` is an [`Extent`].
struct Stepped<R: Rule<N>, const N: usize, const EXTENT: u8> {
    step: R::Step,
    around: Around,
}

impl<R: Rule<N>, const N: usize, const EXTENT: u8> Clone for Stepped<R, N, EXTENT> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<R: Rule<N>, const N: usize, const EXTENT: u8> Copy for Stepped<R, N, EXTENT> {}

impl<R: Rule<N>, const N: usize, const EXTENT: u8> Element<N> for Stepped<R, N, EXTENT> {
    #[inline(always)]
    fn step(&self, param: f32, grad: f32, state: [f32; N]) -> (f32, [f32; N]) {
        let update = |param, grad| R::update(&self.step, param, grad, state);
        self.around.apply(const { Extent::of(EXTENT) }, param, grad, update)
    }
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
    fn has_pass(&self) -> bool {
        true
    }
    fn run(&self, clock: &Clock, memory: &mut [f64], around: &Around, pass: Pass<'_>) {
        let (step, around) = (self.0.at(clock, memory), *around);
        match around.extent() {
            Extent::Nothing => {
                kernel::each(Stepped::<R, N, { Extent::NOTHING }> { step, around }, pass)
            }
            Extent::Factors => {
                kernel::each(Stepped::<R, N, { Extent::FACTORS }> { step, around }, pass)
            }
            Extent::Cautious => {
                kernel::each(Stepped::<R, N, { Extent::CAUTIOUS }> { step, around }, pass);
            }
        }
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
        let (new, state) =
            around.tensors(param, grad, |param, grad| R::update(&step, param, grad, state));
        (new, state.into())
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
        let update = |param, grad| R::update(&step, param, grad, old);
        let (param, new) = around.apply(around.extent(), param, grad, update);
        state.copy_from_slice(&new);
        param
    }
}
