//! Rules that need sums over a whole tensor before they can step it: two passes over host memory.

use crate::kernel::{self, Element, Pass, Summand};
use crate::recurrence::{Around, Clock, DynRule, Extent};
use crate::value::Value;
use burn::tensor::Tensor;
use std::fmt;

/// An update rule with `N` numbers of state per element that looks at `S` sums over the tensor.
///
/// As for a [`Rule`](crate::Rule), every function is over [`Value`]: on the host a first pass forms the sums, in
/// f64, and a second one steps; elsewhere both are tensor operations. Weight decay, `maximize` and gradient
/// scaling are applied around it.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn::optim::Optimizer;
/// use firebrick_optim::{Clock, Elementwise, ReducingRule, Value};
///
/// /// Steps of length `lr` along the gradient.
/// #[derive(Debug)]
/// struct Normalized;
/// impl ReducingRule<0, 1> for Normalized {
///     type Step = f64;
///     const NAME: &'static str = "normalized";
///     const SLOTS: [&'static str; 0] = [];
///     fn at(&self, clock: &Clock, _: &[usize]) -> f64 {
///         clock.lr
///     }
///     fn begin<V: Value>(_: &f64, _: &V, grad: &V, _: [V; 0]) -> ([V; 0], [V; 1]) {
///         ([], [grad.clone().square()])
///     }
///     fn factor<V: Value>(lr: &f64, [squares]: [V; 1]) -> V {
///         let norm = squares.sqrt();
///         norm.constant(*lr) / norm
///     }
///     fn finish<V: Value>(_: &f64, factor: V, param: V, grad: V, _: [V; 0]) -> (V, [V; 0]) {
///         (param - grad * factor, [])
///     }
/// }
/// let device = Device::flex();
/// let (param, grad) = (Tensor::<1>::zeros([2], &device), Tensor::<1>::from_floats([3.0, 4.0], &device));
/// let (param, _) = Elementwise::reducing(Normalized).step(0.1, param, grad, None);
/// let moved: Vec<f32> = param.into_data().try_into_vec().expect("f32");
/// assert!((moved[0] + 0.06).abs() < 1e-7 && (moved[1] + 0.08).abs() < 1e-7);
/// ```
pub trait ReducingRule<const N: usize, const S: usize>: fmt::Debug + Send + Sync + 'static {
    /// The constants of one step.
    type Step: Copy + Send + Sync;

    /// Name of the rule and of what shapes its state.
    const NAME: &'static str;

    /// The names of the state's numbers, which all start from 0.
    const SLOTS: [&'static str; N];

    /// The strength of weight decay for a parameter of `shape`, of a rule that has one for each kind in its own formula.
    fn weight_decay(&self, shape: &[usize]) -> Option<f64> {
        let _ = shape;
        None
    }

    /// The constants of this step for a parameter of `shape`.
    fn at(&self, clock: &Clock, shape: &[usize]) -> Self::Step;

    /// As far as an element gets without the sums: its state, and its terms of them.
    fn begin<V: Value>(step: &Self::Step, param: &V, grad: &V, state: [V; N]) -> ([V; N], [V; S]);

    /// What the step needs to know of the sums.
    fn factor<V: Value>(step: &Self::Step, sums: [V; S]) -> V;

    /// New parameter and new state, from what [`begin`](Self::begin) made of the state.
    fn finish<V: Value>(
        step: &Self::Step,
        factor: V,
        param: V,
        grad: V,
        state: [V; N],
    ) -> (V, [V; N]);
}

/// A reducing rule behind the engine's trait.
pub(crate) struct Reduced<R, const N: usize, const S: usize>(pub(crate) R);

impl<R: ReducingRule<N, S>, const N: usize, const S: usize> fmt::Debug for Reduced<R, N, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The constants of the first pass.
struct First<R: ReducingRule<N, S>, const N: usize, const S: usize> {
    step: R::Step,
    around: Around,
}

/// The constants of the second pass; `EXTENT` is an [`Extent`].
struct Second<R: ReducingRule<N, S>, const N: usize, const S: usize, const EXTENT: u8> {
    first: First<R, N, S>,
    factor: f32,
}

impl<R: ReducingRule<N, S>, const N: usize, const S: usize> Clone for First<R, N, S> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<R: ReducingRule<N, S>, const N: usize, const S: usize> Copy for First<R, N, S> {}
impl<R: ReducingRule<N, S>, const N: usize, const S: usize, const EXTENT: u8> Clone
    for Second<R, N, S, EXTENT>
{
    fn clone(&self) -> Self {
        *self
    }
}
impl<R: ReducingRule<N, S>, const N: usize, const S: usize, const EXTENT: u8> Copy
    for Second<R, N, S, EXTENT>
{
}

impl<R: ReducingRule<N, S>, const N: usize, const S: usize> Summand<N, S> for First<R, N, S> {
    #[inline(always)]
    fn of(&self, param: f32, grad: f32, state: [f32; N]) -> [f32; S] {
        let (kept, grad) = self.around.scaled(param, grad);
        R::begin(&self.step, &kept, &grad, state).1
    }
}

impl<R: ReducingRule<N, S>, const N: usize, const S: usize, const EXTENT: u8> Element<N>
    for Second<R, N, S, EXTENT>
{
    #[inline(always)]
    fn step(&self, param: f32, grad: f32, state: [f32; N]) -> (f32, [f32; N]) {
        let First { step, around } = &self.first;
        around.apply(const { Extent::of(EXTENT) }, param, grad, |param, grad| {
            let (state, _) = R::begin(step, &param, &grad, state);
            R::finish(step, self.factor, param, grad, state)
        })
    }
}

impl<R: ReducingRule<N, S>, const N: usize, const S: usize> DynRule for Reduced<R, N, S> {
    fn name(&self) -> &'static str {
        R::NAME
    }
    fn slots(&self) -> &'static [&'static str] {
        const { &R::SLOTS }
    }
    fn has_pass(&self) -> bool {
        true
    }
    fn weight_decay(&self, shape: &[usize]) -> Option<f64> {
        self.0.weight_decay(shape)
    }
    fn run(&self, clock: &Clock, _: &mut [f64], around: &Around, pass: Pass<'_>) {
        let first = First::<R, N, S> { step: self.0.at(clock, pass.shape), around: *around };
        let factor = R::factor::<f64>(&first.step, kernel::sums(first, &pass)) as f32;
        match around.extent() {
            Extent::Cautious => {
                kernel::each(Second::<R, N, S, { Extent::CAUTIOUS }> { first, factor }, pass);
            }
            _ => kernel::each(Second::<R, N, S, { Extent::FACTORS }> { first, factor }, pass),
        }
    }
    fn run_tensors(
        &self,
        clock: &Clock,
        _: &mut [f64],
        around: &Around,
        shape: &[usize],
        param: Tensor<1>,
        grad: Tensor<1>,
        state: Vec<Tensor<1>>,
    ) -> (Tensor<1>, Vec<Tensor<1>>) {
        let step = self.0.at(clock, shape);
        let mut slots = state.into_iter();
        let zeros = || param.zeros_like();
        let state: [Tensor<1>; N] = std::array::from_fn(|_| slots.next().unwrap_or_else(zeros));
        let (new, state) = around.tensors(param, grad, |param, grad| {
            let (state, terms) = R::begin(&step, &param, &grad, state);
            let factor = R::factor(&step, terms.map(Tensor::sum));
            R::finish(&step, factor, param, grad, state)
        });
        (new, state.into())
    }
}
