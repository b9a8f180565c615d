//! Augmentation: images, tables and sequences, batched and seeded.
//!
//! Whether a transformation preserves the label is known to the user alone: a mirrored cat is a cat, a mirrored 7
//! is no digit. Every step is therefore declared, and what carries labels refuses steps that do not preserve them.
//!
//! The work is done where the batch is. In host memory (flex, ndarray) it is done sample by sample, in parallel and in
//! place where nobody else holds the batch; on any other device by tensor operations over the whole batch. The numbers
//! of a change come from the seed alone, so both give the same result but for rounding, whatever the number of
//! threads. No gradient flows through a changed image.
//!
//! [`AugmentMapper`] gives the same changes to a burn dataset, item by item.

mod device;
mod edit;
mod image;
pub(crate) mod kernel;
mod mapper;
mod policy;
mod sequence;
mod table;
mod warp;

pub use image::{ImageAugment, ImageOp, LabelEffect, Step};
pub use mapper::{Augment, AugmentItem, AugmentMapper};
pub use policy::{
    AugMix, AugMixConfig, RandAugment, RandAugmentConfig, TrivialAugment, jensen_shannon,
};
pub use sequence::{SequenceAugment, SequenceOp};
pub use table::{
    FeatureDropout, FeatureDropoutConfig, Smote, SmoteConfig, TableNoise, TableNoiseConfig,
};

use crate::dropout::constant;
use crate::{MaskSource, RegularizeError};
use burn::tensor::{DType, FloatDType, Tensor};
pub(crate) use edit::Edit;
use edit::Plan;
use firebrick_backend::checkpointing::rejoin;
use firebrick_backend::host::HostTensor;
use firebrick_core::{Philox, Seed};
use kernel::{Scratch, Size};
use rayon::prelude::*;

/// The generators of a batch: one for each sample, whatever the batch's size.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Generators(Seed);

impl Generators {
    pub(crate) fn next(masks: &MaskSource) -> Self {
        Self(Seed(masks.reserve(4).next_u64()))
    }

    pub(crate) fn of(self, sample: usize) -> Philox {
        self.0.child(sample as u64).stream("augment")
    }
}

/// Draws a plan for each image and carries it out where the images are.
pub(crate) fn each_image(
    images: Tensor<4>,
    masks: &MaskSource,
    draw: impl Fn(Size, &mut Philox) -> Plan + Sync,
) -> Tensor<4> {
    let [n, c, h, w] = images.dims();
    let size = Size { c, h, w };
    let generators = Generators::next(masks);
    if n * c * h * w == 0 {
        return images;
    }
    let (strategy, dtype) = (images.gradient_checkpointing_strategy(), images.dtype());
    let images = images.inner();
    let images = if dtype == DType::F32 { images } else { images.cast(FloatDType::F32) };
    let plan = |index| draw(size, &mut generators.of(index));
    let in_place = |index, image: &mut [f32], scratch: &mut Scratch| {
        plan(index).apply(image, size, scratch);
    };
    let done = each_sample(images, in_place)
        .unwrap_or_else(|images| device::apply(images, (0..n).into_par_iter().map(plan).collect()));
    let done = if dtype == DType::F32 { done } else { done.cast(dtype) };
    rejoin(done, strategy)
}

/// What is declared as a whole to preserve labels or to change them.
macro_rules! declared {
    ($($name:ty),*) => {$(
        impl $name {
            /// The same with the user's word on what it does to labels; by default it preserves them.
            #[must_use]
            pub fn with_effect(self, effect: LabelEffect) -> Self {
                Self { effect, ..self }
            }

            pub(super) fn changes(&self) -> bool {
                self.effect == LabelEffect::Changes
            }
        }
    )*};
}
use declared;

/// An error where the labels of the samples cannot be used afterwards.
pub(crate) fn preserved(changes: bool) -> Result<(), RegularizeError> {
    if !changes {
        return Ok(());
    }
    Err(RegularizeError::Refused(
        "this augmentation, or a step of it, is declared to change labels: use it on unlabelled samples, or declare it as label-preserving",
    ))
}

/// One change of each of the images, which are f32, not empty and on no autodiff device.
pub(crate) fn carry_out(images: Tensor<4>, edits: Vec<Edit>) -> Tensor<4> {
    let [_, c, h, w] = images.dims();
    let size = Size { c, h, w };
    let apply = |index: usize, image: &mut [f32], scratch: &mut Scratch| {
        edits[index].apply(image, size, scratch);
    };
    each_sample(images, apply).unwrap_or_else(|images| {
        let plans = edits.iter().map(|edit| Plan::Chain(vec![edit.clone()]));
        device::apply(images, plans.collect())
    })
}

/// Gives every sample of axis 0 of a host tensor that is not empty to `change`, in parallel; in place where nobody
/// else holds the elements. The error is a tensor that lives elsewhere.
#[allow(clippy::result_large_err)] // the error is the argument itself
pub(crate) fn each_sample<const D: usize>(
    input: Tensor<D>,
    change: impl Fn(usize, &mut [f32], &mut Scratch) + Sync,
) -> Result<Tensor<D>, Tensor<D>> {
    let (device, shape) = (input.device(), input.dims());
    let mut host = HostTensor::take(input)?;
    let sample = host.len() / shape.first().copied().unwrap_or(1).max(1);
    if let Some(values) = host.unique_slice() {
        values
            .par_chunks_mut(sample)
            .enumerate()
            .for_each_init(Scratch::default, |scratch, (index, to)| change(index, to, scratch));
        return Ok(host.give());
    }
    let source = host.as_slice();
    let mut values = vec![0f32; source.len()];
    values.par_chunks_mut(sample).zip(source.par_chunks(sample)).enumerate().for_each_init(
        Scratch::default,
        |scratch, (index, (to, from))| {
            to.copy_from_slice(from);
            change(index, to, scratch);
        },
    );
    Ok(constant(values, shape, &device, DType::F32))
}

/// Uniform between two ends.
pub(crate) fn between(generator: &mut Philox, low: f64, high: f64) -> f64 {
    low + (high - low) * generator.uniform()
}
