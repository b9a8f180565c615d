//! What the rules that look at a whole tensor share; no value leaves the device.

use super::moments::Step;
use crate::value::Value;
use burn::tensor::Tensor;

/// Euclidean norm, as one element.
pub(super) fn norm(x: Tensor<1>) -> Tensor<1> {
    x.square().sum().sqrt()
}

/// Root mean square, as one element.
pub(super) fn rms(x: Tensor<1>) -> Tensor<1> {
    x.square().mean().sqrt()
}

/// 1 where `x > 0`, else 0.
#[inline(always)]
pub(super) fn positive<V: Value>(x: V) -> V {
    let (one, zero) = (x.constant(1.0), x.constant(0.0));
    x.where_positive(one, zero)
}

/// `a / (b + epsilon)` where both are above 0, else 1.
pub(super) fn ratio<V: Value>(a: V, b: V, epsilon: f64) -> V {
    let one = a.constant(1.0);
    let both = a.clone() * b.clone();
    both.where_positive(a / b.offset(epsilon), one)
}

/// The slots, which a rule has made and gets back in the same order.
pub(super) fn take<const N: usize>(state: Vec<Tensor<1>>, like: &Tensor<1>) -> [Tensor<1>; N] {
    let mut slots = state.into_iter();
    std::array::from_fn(|_| slots.next().unwrap_or_else(|| like.zeros_like()))
}

/// Adam's moments after this step.
#[inline(always)]
pub(super) fn adam<V: Value>(s: &Step, g: V, m: V, v: V) -> (V, V) {
    (s.first(m, g.clone()), s.second(v, g))
}

/// Rows and columns of a matrix whose units lie along one axis, from a parameter's shape: (batch, rows, columns).
pub(super) fn matrices(shape: &[usize]) -> Option<[usize; 3]> {
    let [batch @ .., rows, columns] = shape else { return None };
    Some([batch.iter().product(), *rows, *columns])
}
