//! Dropout and its kin as burn layers, with masks from a [`MaskSource`](crate::MaskSource).
//!
//! All of them act where their flag is on and the input is on an autodiff device, as burn's own layers do: so
//! `model.valid()` evaluates, `model.train()` goes back and `freeze` switches them off for good. Masks are
//! multiplied, so a NaN or an infinity stays visible rather than being dropped.

mod alpha;
mod block;
mod concrete;
#[cfg(all(test, feature = "flex"))]
mod effects;
mod embedding;
mod gaussian;
mod inverted;
mod monte_carlo;
mod path;
mod recurrent;
mod schedule;
mod spatial;
mod weight;

pub use alpha::{AlphaDropout, AlphaDropoutConfig};
pub use block::{DropBlock, DropBlockConfig};
pub use concrete::{ConcreteDropout, ConcreteDropoutConfig};
pub use embedding::{EmbeddingDropout, EmbeddingDropoutConfig};
pub use gaussian::{GaussianDropout, GaussianDropoutConfig};
pub use inverted::{InvertedDropout, InvertedDropoutConfig};
pub use monte_carlo::{MonteCarlo, MonteCarloConfig, Prediction};
pub use path::{DropPath, DropPathConfig, linear_depth};
pub use recurrent::{
    RegularizedLstm, RegularizedLstmConfig, VariationalDropout, VariationalDropoutConfig, Zoneout,
    ZoneoutConfig,
};
pub use schedule::DropSchedule;
pub use spatial::{Channels, SpatialDropout, SpatialDropoutConfig};
pub use weight::{DropConnect, DropConnectConfig, WeightDrop, WeightDropConfig};

use crate::MaskSource;
use burn::module::{Flag, Module, Param};
use burn::tensor::{DType, Device, Tensor, TensorData};
use firebrick_core::{ConfigError, check};

/// What every layer of the family has: a probability, a flag and a source of masks.
#[derive(Module, Debug)]
pub(crate) struct Noise {
    prob: f64,
    training: Param<Flag>,
    #[module(skip)]
    masks: MaskSource,
}

impl Noise {
    /// Refuses a probability outside [0, 1) and NaN.
    pub(crate) fn new(field: &str, prob: f64, masks: &MaskSource) -> Result<Self, ConfigError> {
        let prob = check::range(field, prob, 0.0..1.0)?;
        Ok(Self { prob, training: Param::from_bool(true), masks: masks.clone() })
    }

    /// The probability that holds now, `None` where the layer is the identity.
    pub(crate) fn active(&self, device: &Device) -> Option<f64> {
        let prob = self.prob * self.masks.strength();
        (prob > 0.0 && self.trains(device)).then_some(prob)
    }

    pub(crate) fn trains(&self, device: &Device) -> bool {
        self.training.is_enabled() && device.is_autodiff()
    }
}

/// A constant on the plain device that belongs to `device`.
pub(crate) fn constant<const D: usize>(
    values: Vec<f32>,
    shape: [usize; D],
    device: &Device,
    dtype: DType,
) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape), (&device.clone().inner(), dtype))
}

/// `x * mask`, the mask being 1 / keep with probability `keep`, else 0, over the axes of `shape`.
pub(crate) fn masked<const D: usize>(
    input: Tensor<D>,
    shape: [usize; D],
    prob: f64,
    masks: &MaskSource,
) -> Tensor<D> {
    let (device, dtype) = (input.device(), input.dtype());
    let keep = 1.0 - prob;
    let mask = masks.pick(shape.iter().product(), keep, (1.0 / keep) as f32, 0.0);
    input * constant(mask, shape, &device, dtype)
}
