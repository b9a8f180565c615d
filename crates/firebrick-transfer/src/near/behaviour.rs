//! DELTA: features that stay where the source's are, each channel as far as it matters.
//!
//! # Formula
//! ```text
//! D   = 1/2 sum_layers sum_c W_c  C / (H W)  sum_n |F_nc - F0_nc|^2  / n         C channels of H W positions
//! W_c = softmax_c(rise_c / s)          rise_c: by how much the loss grows when channel c is set to 0
//! ```
//! Add `t D` to the loss; t is 0.01 as a rule. TLLib does not divide by n, and has s = 5.
//!
//! # Reference
//! X. Li et al., "DELTA: deep learning transfer using feature map with attention", ICLR 2019.

use super::distill::same_shape;
use crate::TransferError;
use burn::tensor::Tensor;
use burn::tensor::activation::softmax;
use firebrick_backend::checkpointing::beside;
use firebrick_core::{ConfigError, check};

/// The attention of each channel from the losses `[channels]` with that channel set to 0 and the loss as it is.
///
/// # Errors
/// When `scale` is not above 0.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebrick_transfer::channel_weights;
///
/// let without = Tensor::<1>::from_floats([0.5, 0.5], &Device::flex());
/// let weights: Vec<f32> = channel_weights(without, 0.4, 1.0)?.try_to_vec_as().unwrap();
/// assert_eq!(weights, [0.5, 0.5]);
/// # Ok::<(), firebrick_transfer::TransferError>(())
/// ```
pub fn channel_weights(
    losses_without: Tensor<1>,
    loss: f64,
    scale: f64,
) -> Result<Tensor<1>, TransferError> {
    check::positive("scale", scale)?;
    check::finite("loss", loss)?;
    Ok(softmax((losses_without - loss).div_scalar(scale), 0))
}

/// [DELTA](self)'s term of one or more layers: feature maps `[n, channels, positions..]` of the model and of the source
/// on the same inputs, with the weights of the channels; of shape `[1]`. No gradient goes to the source.
///
/// # Errors
/// When there is no layer, the lists differ in length, or shapes do not fit.
pub fn delta<const D: usize>(
    maps: &[Tensor<D>],
    source: &[Tensor<D>],
    weights: &[Tensor<1>],
) -> Result<Tensor<1>, TransferError> {
    if maps.is_empty() || maps.len() != source.len() || maps.len() != weights.len() {
        let expected = format!("{} and not 0, as many as layers of the model", maps.len());
        let found = format!("{} and {}", source.len(), weights.len());
        return Err(ConfigError::new("source maps and weights", found, expected).into());
    }
    let mut total: Option<Tensor<1>> = None;
    for ((map, source), weights) in maps.iter().zip(source).zip(weights) {
        let rows = same_shape("a feature map of the source", map, source)?;
        let channels = map.dims()[1.min(D - 1)];
        let found = weights.dims();
        if D < 2 || found != [channels] {
            let expected = format!("[{channels}], one for each channel");
            let what = "the weights of a layer".into();
            return Err(TransferError::Shape { what, found: found.to_vec(), expected });
        }
        let positions: usize = map.dims()[2..].iter().product();
        let gap = map.clone() - beside(source.clone(), map);
        let squares: Tensor<2> =
            gap.square().reshape([rows, channels, positions]).sum_dim(2).squeeze_dim(2);
        let weights = beside(weights.clone(), map).reshape([1, channels]);
        let factor = 0.5 * channels as f64 / positions as f64 / rows as f64;
        let term = (squares * weights).sum().mul_scalar(factor);
        total = Some(match total.take() {
            Some(total) => total + term,
            None => term,
        });
    }
    total.ok_or_else(|| TransferError::Data { reason: "there is no layer".into() })
}
