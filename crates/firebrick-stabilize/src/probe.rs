//! A step behind a hidden value that shows its gradient on the way back, and changes nothing.
//!
//! burn keeps the gradients of leaves only. A leaf of zeros that is added to the value gets the same gradient on every
//! back-end, but costs two nodes, the merging of two graphs and an addition. Where tensors live in host memory one
//! node does: what comes back to it is looked at in place and passed on.

#![cfg_attr(
    feature = "ndarray",
    allow(deprecated, reason = "burn marks burn-ndarray as deprecated; kept while 0.22 has it")
)]
#![cfg_attr(
    not(any(feature = "flex", feature = "ndarray")),
    allow(unused, reason = "there is no host back-end, and each value gets a leaf")
)]

use crate::glance::{Glance, glance, size};
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, BackendTensor, DispatchTensor, DispatchTensorKind};
use burn::tensor::{DType, Tensor};
use firebrick_backend::host::HostTensor;
use std::sync::{Arc, OnceLock};

/// What is wanted of a gradient, and what was found of it.
#[derive(Debug, Clone)]
pub(crate) struct Sight {
    units: usize,
    /// Elements behind each along the units' axis.
    inner: usize,
    /// Whether its size is all that is wanted.
    brief: bool,
    found: Arc<OnceLock<Glance>>,
}

impl Sight {
    /// Of the gradient of a value with these axes, of which `axis` counts the units.
    pub(crate) fn new(dims: &[usize], axis: usize, brief: bool) -> Self {
        let units = dims.get(axis).copied().unwrap_or(1);
        let inner = dims.iter().skip(axis + 1).product();
        Self { units, inner, brief, found: Arc::default() }
    }

    /// What was found; `None` where no gradient has come back.
    pub(crate) fn found(&self) -> Option<Glance> {
        self.found.get().copied()
    }

    fn see(&self, gradient: Tensor<1>) {
        let Ok(host) = HostTensor::take(gradient) else { return };
        let values = host.as_slice();
        let found =
            if self.brief { size(values) } else { glance(values, self.units, self.inner, None) };
        // A graph is walked back once, so the place is free.
        let _ = self.found.set(found);
    }
}

/// Puts the step behind `hidden`, which is not empty.
///
/// # Errors
/// Gives `hidden` back, untouched, when it is not f32 in host memory or no gradient comes back to it.
#[allow(clippy::result_large_err)] // the error is the argument itself
pub(crate) fn probe<const D: usize>(
    hidden: Tensor<D>,
    sight: &Sight,
) -> Result<Tensor<D>, Tensor<D>> {
    if hidden.dtype() != DType::F32 || !hidden.is_tracked() {
        return Err(hidden);
    }
    let DispatchTensor { kind, autodiff } = hidden.into_dispatch();
    let back = |kind| Tensor::from_dispatch(DispatchTensor { kind, autodiff });
    match put(kind, sight) {
        Ok(kind) => Ok(back(kind)),
        Err(kind) => Err(back(kind)),
    }
}

#[allow(clippy::result_large_err)] // the error is the argument itself
fn put(kind: DispatchTensorKind, sight: &Sight) -> Result<DispatchTensorKind, DispatchTensorKind> {
    let DispatchTensorKind::Autodiff(inner) = kind else { return Err(kind) };
    let kind = match *inner {
        #[cfg(feature = "flex")]
        DispatchTensorKind::Flex(BackendTensor::Autodiff(tensor)) => {
            let tensor = behind::<burn::backend::Flex>(tensor, sight);
            DispatchTensorKind::Flex(BackendTensor::Autodiff(tensor))
        }
        #[cfg(feature = "ndarray")]
        DispatchTensorKind::NdArray(BackendTensor::Autodiff(tensor)) => {
            let tensor = behind::<burn::backend::NdArray>(tensor, sight);
            DispatchTensorKind::NdArray(BackendTensor::Autodiff(tensor))
        }
        other => return Err(DispatchTensorKind::Autodiff(Box::new(other))),
    };
    Ok(DispatchTensorKind::Autodiff(Box::new(kind)))
}

/// The step itself: the identity.
#[derive(Debug)]
struct Show;

/// The same tensor as the output of the step.
fn behind<B: Backend>(tensor: FloatTensor<Autodiff<B>>, sight: &Sight) -> FloatTensor<Autodiff<B>>
where
    Show: Backward<B, 1, State = Sight>,
{
    let (value, parent) = tensor.into_parts();
    // Computed rather than recomputed: with checkpointing the value is kept, which shares its memory.
    let step = <Show as Backward<B, 1>>::prepare::<NoCheckpointing>(Show, [parent]);
    match step.compute_bound().stateful() {
        OpsKind::Tracked(step) => step.finish(sight.clone(), value),
        OpsKind::UnTracked(step) => step.finish(value),
    }
}

/// The way back on a host back-end.
macro_rules! shows {
    ($backend:ty) => {
        impl Backward<$backend, 1> for Show {
            type State = Sight;

            fn backward(self, ops: Ops<Sight, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
                let Ops { parents, node, state } = ops;
                unary::<$backend, _>(parents, node, gradients, |gradient| {
                    state.see(Tensor::from_primitive::<$backend>(gradient.clone()));
                    gradient
                });
            }
        }
    };
}

#[cfg(feature = "flex")]
shows!(burn::backend::Flex);
#[cfg(feature = "ndarray")]
shows!(burn::backend::NdArray);
