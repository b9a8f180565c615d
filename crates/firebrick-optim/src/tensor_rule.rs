//! Rules that look at a whole tensor at once: at its norm, at its rows and columns.

use crate::kernel::Pass;
use crate::recurrence::{Around, Clock, DynRule};
use crate::shared::Shared;
use burn::tensor::Tensor;
use std::fmt;

/// An update rule over one whole tensor, by tensor operations.
///
/// Parameter, gradient and state come flat, in row-major order, with the parameter's shape beside them; weight decay,
/// `maximize` and gradient scaling have been applied, as for a [`Rule`](crate::Rule).
pub trait TensorRule: fmt::Debug + Send + Sync + 'static {
    /// Name of the rule and of what shapes its state.
    fn name(&self) -> &'static str;

    /// The names of the tensors of its state.
    fn slots(&self) -> &'static [&'static str];

    /// The number of elements of each, for a parameter of `shape`; all start from 0.
    fn lengths(&self, shape: &[usize]) -> Vec<usize> {
        vec![shape.iter().product(); self.slots().len()]
    }

    /// Scalars that a parameter carries from step to step; what they start from.
    fn memory(&self) -> Vec<f64> {
        Vec::new()
    }

    /// Whether the `t`-th step moves a parameter at all.
    fn moves(&self, t: u64) -> bool {
        let _ = t;
        true
    }

    /// What it shares among the parameters of a group, if it does.
    fn shared(&self) -> Option<&dyn Shared> {
        None
    }

    /// New parameter and new state from old ones and the gradient.
    fn step(
        &self,
        clock: &Clock,
        shape: &[usize],
        memory: &mut [f64],
        param: Tensor<1>,
        grad: Tensor<1>,
        state: Vec<Tensor<1>>,
    ) -> (Tensor<1>, Vec<Tensor<1>>);
}

/// A tensor rule behind the engine's trait.
#[derive(Debug)]
pub(crate) struct Whole<R>(pub(crate) R);

impl<R: TensorRule> DynRule for Whole<R> {
    fn name(&self) -> &'static str {
        self.0.name()
    }
    fn slots(&self) -> &'static [&'static str] {
        self.0.slots()
    }
    fn memory(&self) -> Vec<f64> {
        self.0.memory()
    }
    fn moves(&self, t: u64) -> bool {
        self.0.moves(t)
    }
    fn shared(&self) -> Option<&dyn Shared> {
        self.0.shared()
    }
    fn has_pass(&self) -> bool {
        false
    }
    fn lengths(&self, shape: &[usize]) -> Vec<usize> {
        self.0.lengths(shape)
    }
    fn run(&self, _: &Clock, _: &mut [f64], _: &Around, _: Pass<'_>) {}
    fn run_tensors(
        &self,
        clock: &Clock,
        memory: &mut [f64],
        around: &Around,
        shape: &[usize],
        param: Tensor<1>,
        grad: Tensor<1>,
        state: Vec<Tensor<1>>,
    ) -> (Tensor<1>, Vec<Tensor<1>>) {
        around.tensors(param, grad, |param, grad| {
            self.0.step(clock, shape, memory, param, grad, state)
        })
    }
}
