//! The fused pass: parameter, gradient and state are read once and written once, in parallel chunks.

use crate::recurrence::{Around, Clock, DynRule, Rule, whole};
use firebrick_backend::host::HostTensor;

/// Elements below which a pass is not split further. 32 Ki elements of Adam are 900 KB of traffic, about 50
/// microseconds: far more than handing a chunk to another core costs.
const CHUNK: usize = 1 << 15;

/// Where the parameter is read and written.
pub(crate) enum Target<'a> {
    InPlace(&'a mut [f32]),
    /// Somebody else holds the old values: they are read, and the new ones go elsewhere.
    Fresh {
        old: &'a [f32],
        new: &'a mut [f32],
    },
}

/// The slices of one parameter, all of one length.
pub(crate) struct Pass<'a> {
    pub(crate) target: Target<'a>,
    pub(crate) grad: &'a [f32],
    pub(crate) state: &'a mut [HostTensor],
}

/// Steps one host parameter; a shared one moves to a new buffer without being copied first.
pub(crate) fn step_host(
    rule: &dyn DynRule,
    clock: &Clock,
    around: &Around,
    memory: &mut [f64],
    param: &mut HostTensor,
    grad: &HostTensor,
    state: &mut [HostTensor],
) {
    let grad = grad.as_slice();
    if let Some(values) = param.unique_slice() {
        rule.run(clock, memory, around, Pass { target: Target::InPlace(values), grad, state });
        return;
    }
    let mut fresh = param.zeros_like();
    let old = param.as_slice();
    if let Some(new) = fresh.unique_slice() {
        rule.run(clock, memory, around, Pass { target: Target::Fresh { old, new }, grad, state });
    }
    *param = fresh;
}

pub(crate) fn run<R: Rule<N>, const N: usize>(step: &R::Step, around: &Around, pass: Pass<'_>) {
    let mut slots = pass.state.iter_mut();
    let state: [&mut [f32]; N] =
        std::array::from_fn(|_| slots.next().map_or(&mut [][..], HostTensor::as_mut_slice));
    let n = pass.grad.len();
    if state.iter().any(|slot| slot.len() != n) {
        return;
    }
    let part = Part { target: pass.target, grad: pass.grad, state };
    split::<R, N>(step, around, part);
}

struct Part<'a, const N: usize> {
    target: Target<'a>,
    grad: &'a [f32],
    state: [&'a mut [f32]; N],
}

impl<'a, const N: usize> Part<'a, N> {
    fn split_at(self, at: usize) -> (Self, Self) {
        let (left, right) = match self.target {
            Target::InPlace(values) => {
                let (a, b) = values.split_at_mut(at);
                (Target::InPlace(a), Target::InPlace(b))
            }
            Target::Fresh { old, new } => {
                let ((a, b), (c, d)) = (old.split_at(at), new.split_at_mut(at));
                (Target::Fresh { old: a, new: c }, Target::Fresh { old: b, new: d })
            }
        };
        let (grad_left, grad_right) = self.grad.split_at(at);
        let mut rest: [&mut [f32]; N] = std::array::from_fn(|_| &mut [][..]);
        let mut slots = self.state.into_iter().zip(&mut rest);
        let first: [&mut [f32]; N] = std::array::from_fn(|_| match slots.next() {
            Some((slot, rest)) => {
                let (a, b) = slot.split_at_mut(at);
                *rest = b;
                a
            }
            None => &mut [],
        });
        (
            Self { target: left, grad: grad_left, state: first },
            Self { target: right, grad: grad_right, state: rest },
        )
    }
}

/// Halves the work until it is small; idle cores steal halves.
fn split<R: Rule<N>, const N: usize>(step: &R::Step, around: &Around, part: Part<'_, N>) {
    let n = part.grad.len();
    if n <= CHUNK {
        let arch = pulp::Arch::new();
        return match around.cautious {
            None => arch.dispatch(Leaf::<R, N, false> { step, around, part }),
            Some(_) => arch.dispatch(Leaf::<R, N, true> { step, around, part }),
        };
    }
    let (left, right) = part.split_at((n / 2).next_multiple_of(64));
    rayon::join(|| split::<R, N>(step, around, left), || split::<R, N>(step, around, right));
}

struct Leaf<'a, R: Rule<N>, const N: usize, const CAUTIOUS: bool> {
    step: &'a R::Step,
    around: &'a Around,
    part: Part<'a, N>,
}

impl<R: Rule<N>, const N: usize, const CAUTIOUS: bool> pulp::NullaryFnOnce
    for Leaf<'_, R, N, CAUTIOUS>
{
    type Output = ();

    #[inline(always)]
    fn call(self) {
        // Copies, so that no write through a slice can be thought to change them.
        let (step, around) = (*self.step, *self.around);
        let n = self.part.grad.len();
        let grad = &self.part.grad[..n];
        let state = self.part.state.map(|slot| &mut slot[..n]);
        match self.part.target {
            Target::InPlace(values) => {
                let values = &mut values[..n];
                for i in 0..n {
                    let old = std::array::from_fn(|k| state[k][i]);
                    let (param, new) =
                        whole::<R, f32, N>(&step, &around, CAUTIOUS, values[i], grad[i], old);
                    values[i] = param;
                    for k in 0..N {
                        state[k][i] = new[k];
                    }
                }
            }
            Target::Fresh { old: values, new: target } => {
                let (values, target) = (&values[..n], &mut target[..n]);
                for i in 0..n {
                    let old = std::array::from_fn(|k| state[k][i]);
                    let (param, new) =
                        whole::<R, f32, N>(&step, &around, CAUTIOUS, values[i], grad[i], old);
                    target[i] = param;
                    for k in 0..N {
                        state[k][i] = new[k];
                    }
                }
            }
        }
    }
}
