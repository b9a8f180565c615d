//! The fused pass: parameter, gradient and state are read once and written once, in parallel chunks.

use crate::recurrence::{Around, Clock, DynRule};
use firebrick_backend::host::HostTensor;

/// Elements that are stepped without a pause: 900 KB of traffic for Adam.
pub(crate) const CHUNK: usize = 1 << 15;
/// Elements of a module, or of one parameter, that several cores share. Whoever hands work to rayon waits until one of its
/// threads has woken, 25 to 75 us on two cores; one core alone takes some 100 us for so many elements of Adam in its cache.
pub(crate) const SHARED: usize = 1 << 18;

/// Elements that are summed in f32, in [`LANES`] sums side by side, before f64 takes over.
const BLOCK: usize = 1 << 10;
const LANES: usize = 16;

/// Where the parameter is read and written.
pub(crate) enum Target<'a> {
    InPlace(&'a mut [f32]),
    /// Somebody else holds the old values: they are read, and the new ones go elsewhere.
    Fresh {
        old: &'a [f32],
        new: &'a mut [f32],
    },
}

impl Target<'_> {
    pub(crate) fn old(&self) -> &[f32] {
        match self {
            Self::InPlace(values) => values,
            Self::Fresh { old, .. } => old,
        }
    }
}

/// The slices of one parameter, all of one length.
pub(crate) struct Pass<'a> {
    /// Of the parameter; empty for rules that do not ask.
    pub(crate) shape: &'a [usize],
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
    let shape = if rule.is_elementwise() { Vec::new() } else { param.shape() };
    let (shape, grad) = (&*shape, grad.as_slice());
    if let Some(values) = param.unique_slice() {
        let target = Target::InPlace(values);
        rule.run(clock, memory, around, Pass { shape, target, grad, state });
        return;
    }
    let mut fresh = param.zeros_like();
    let old = param.as_slice();
    if let Some(new) = fresh.unique_slice() {
        let target = Target::Fresh { old, new };
        rule.run(clock, memory, around, Pass { shape, target, grad, state });
    }
    *param = fresh;
}

/// What happens to one element: new parameter and new state from old ones and the gradient.
pub(crate) trait Element<const N: usize>: Copy + Send + Sync {
    fn step(&self, param: f32, grad: f32, state: [f32; N]) -> (f32, [f32; N]);
}

/// What is summed over the elements before they are stepped.
pub(crate) trait Summand<const N: usize, const S: usize>: Copy + Send + Sync {
    fn of(&self, param: f32, grad: f32, state: [f32; N]) -> [f32; S];
}

/// Steps every element.
pub(crate) fn each<E: Element<N>, const N: usize>(element: E, pass: Pass<'_>) {
    let mut slots = pass.state.iter_mut();
    let state: [&mut [f32]; N] =
        std::array::from_fn(|_| slots.next().map_or(&mut [][..], HostTensor::as_mut_slice));
    let n = pass.grad.len();
    if state.iter().all(|slot| slot.len() == n) {
        split(element, Part { target: pass.target, grad: pass.grad, state }, SHARED);
    }
}

/// The sums over all elements, in an order that depends on their number alone.
pub(crate) fn sums<E: Summand<N, S>, const N: usize, const S: usize>(
    summand: E,
    pass: &Pass<'_>,
) -> [f64; S] {
    let mut slots = pass.state.iter();
    let state: [&[f32]; N] =
        std::array::from_fn(|_| slots.next().map_or(&[][..], HostTensor::as_slice));
    let (param, grad) = (pass.target.old(), pass.grad);
    let n = grad.len();
    if param.len() != n || state.iter().any(|slot| slot.len() != n) {
        return [0.0; S];
    }
    sum(summand, View { param, grad, state }, n > SHARED)
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

/// Where a part of `n` elements is cut in two.
fn middle(n: usize) -> usize {
    (n / 2).next_multiple_of(BLOCK)
}

/// Halves the work down to so many elements; idle cores steal halves.
fn split<E: Element<N>, const N: usize>(element: E, part: Part<'_, N>, least: usize) {
    let n = part.grad.len();
    if n <= least {
        return pulp::Arch::new().dispatch(Leaf { element, part });
    }
    let (left, right) = part.split_at(middle(n));
    rayon::join(|| split(element, left, CHUNK), || split(element, right, CHUNK));
}

struct Leaf<'a, E, const N: usize> {
    element: E,
    part: Part<'a, N>,
}

impl<E: Element<N>, const N: usize> pulp::NullaryFnOnce for Leaf<'_, E, N> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        // A copy, so that no write through a slice can be thought to change it.
        let element = self.element;
        let n = self.part.grad.len();
        let grad = &self.part.grad[..n];
        let state = self.part.state.map(|slot| &mut slot[..n]);
        match self.part.target {
            Target::InPlace(values) => {
                let values = &mut values[..n];
                for i in 0..n {
                    let old = std::array::from_fn(|k| state[k][i]);
                    let (param, new) = element.step(values[i], grad[i], old);
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
                    let (param, new) = element.step(values[i], grad[i], old);
                    target[i] = param;
                    for k in 0..N {
                        state[k][i] = new[k];
                    }
                }
            }
        }
    }
}

#[derive(Clone, Copy)]
struct View<'a, const N: usize> {
    param: &'a [f32],
    grad: &'a [f32],
    state: [&'a [f32]; N],
}

impl<const N: usize> View<'_, N> {
    fn range(&self, from: usize, to: usize) -> Self {
        Self {
            param: &self.param[from..to],
            grad: &self.grad[from..to],
            state: self.state.map(|slot| &slot[from..to]),
        }
    }
}

fn sum<E: Summand<N, S>, const N: usize, const S: usize>(
    summand: E,
    view: View<'_, N>,
    several: bool,
) -> [f64; S] {
    let n = view.grad.len();
    if n <= CHUNK {
        return pulp::Arch::new().dispatch(Sum::<E, N, S> { summand, view });
    }
    let half = |from, to| move || sum(summand, view.range(from, to), several);
    let (left, right) = (half(0, middle(n)), half(middle(n), n));
    let (left, right) = if several { rayon::join(left, right) } else { (left(), right()) };
    std::array::from_fn(|k| left[k] + right[k])
}

struct Sum<'a, E, const N: usize, const S: usize> {
    summand: E,
    view: View<'a, N>,
}

impl<E: Summand<N, S>, const N: usize, const S: usize> pulp::NullaryFnOnce for Sum<'_, E, N, S> {
    type Output = [f64; S];

    #[inline(always)]
    fn call(self) -> [f64; S] {
        let Self { summand, view } = self;
        let mut total = [0.0f64; S];
        let n = view.grad.len();
        for start in (0..n).step_by(BLOCK) {
            let block = view.range(start, n.min(start + BLOCK));
            let (param, rest) = block.param.as_chunks::<LANES>();
            let whole = param.len();
            let grad = &block.grad.as_chunks::<LANES>().0[..whole];
            let state = block.state.map(|slot| &slot.as_chunks::<LANES>().0[..whole]);
            let mut lanes = [[0.0f32; LANES]; S];
            for i in 0..whole {
                for j in 0..LANES {
                    let old = std::array::from_fn(|k| state[k][i][j]);
                    let terms = summand.of(param[i][j], grad[i][j], old);
                    for k in 0..S {
                        lanes[k][j] += terms[k];
                    }
                }
            }
            let at = whole * LANES;
            for (j, &param) in rest.iter().enumerate() {
                let old = std::array::from_fn(|k| block.state[k][at + j]);
                let terms = summand.of(param, block.grad[at + j], old);
                for k in 0..S {
                    lanes[k][j] += terms[k];
                }
            }
            for k in 0..S {
                total[k] += lanes[k].iter().map(|&lane| f64::from(lane)).sum::<f64>();
            }
        }
        total
    }
}
