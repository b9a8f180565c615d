//! Augmentation: images, tables and sequences, batched and seeded.
//!
//! Whether a transformation preserves the label is known to the user alone: a mirrored cat is a cat, a mirrored 7
//! is no digit. Every step is therefore declared, and what carries labels refuses steps that do not preserve them.
//!
//! The work is done in host memory, sample by sample in parallel, and goes back to the device of the input; the
//! result depends on the seed alone, not on the back-end or the number of threads. Augment before the data go to a
//! GPU.

mod image;
pub(crate) mod kernel;
mod policy;
mod sequence;
mod table;

pub use image::{ImageAugment, ImageOp, LabelEffect, Step};
pub use policy::{
    AugMix, AugMixConfig, RandAugment, RandAugmentConfig, TrivialAugment, jensen_shannon,
};
pub use sequence::{SequenceAugment, SequenceOp};
pub use table::{
    FeatureDropout, FeatureDropoutConfig, Smote, SmoteConfig, TableNoise, TableNoiseConfig,
};

use crate::{MaskSource, RegularizeError};
use burn::tensor::{Tensor, TensorData};
use firebrick_core::{Philox, Seed};
use rayon::prelude::*;

/// Gives every sample of axis 0 to `change` with a generator of its own, in parallel.
pub(crate) fn each_sample<const D: usize>(
    input: Tensor<D>,
    masks: &MaskSource,
    change: impl Fn(&mut [f32], &mut Philox) + Sync,
) -> Result<Tensor<D>, RegularizeError> {
    let (device, dtype, shape) = (input.device(), input.dtype(), input.dims());
    let batch = Seed(masks.reserve(4).next_u64());
    let mut values: Vec<f32> = input.try_to_vec_as()?;
    let samples = shape.first().copied().unwrap_or(0);
    if !values.is_empty() {
        let size = values.len() / samples;
        values.par_chunks_mut(size).enumerate().for_each(|(index, sample)| {
            change(sample, &mut batch.child(index as u64).stream("augment"));
        });
    }
    Ok(Tensor::from_data(TensorData::new(values, shape), (&device, dtype)))
}

/// Uniform between two ends.
pub(crate) fn between(generator: &mut Philox, low: f64, high: f64) -> f64 {
    low + (high - low) * generator.uniform()
}
