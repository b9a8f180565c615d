//! Keeps the gradients of a burn model from vanishing and exploding.
//!
#![doc = include_str!("../README.md")]

mod adaptive;
#[cfg(all(test, feature = "flex"))]
mod allocation_tests;
mod audit;
mod auto_clip;
mod batch_norm;
mod centralize;
mod clip;
mod clip_each;
mod curvature;
mod draw;
mod error;
mod gain;
mod ghost;
mod glance;
mod guard;
mod init;
mod initialize;
#[cfg(all(test, feature = "flex"))]
mod kolmogorov;
mod lanczos;
mod lanes;
mod logits;
mod loss_scale;
mod lsuv;
mod measured;
mod monitor;
mod noise;
mod noise_scale;
mod non_finite;
mod norm;
mod outlier;
mod probe;
mod read;
mod recurrent;
mod reduce;
#[cfg(all(test, feature = "flex"))]
mod reference_tests;
mod reparameterize;
mod replay;
mod residual;
mod saddle;
mod spam;
mod spike;
mod start;
mod state;
mod taps;
mod transform;
mod units;
mod updates;
mod watch;

pub use adaptive::{AdaptiveClip, AdaptiveClipConfig};
pub use audit::{InitAudit, LayerForecast, audit_init};
pub use auto_clip::{AutoClip, AutoClipConfig, ZClip, ZClipConfig};
pub use batch_norm::{check_batch_norm_input, freeze_batch_norm, recalibrate};
pub use centralize::CentralizeGradients;
pub use clip::{ClipGlobalNorm, ClipGlobalNormConfig, NonFinite};
pub use clip_each::{ClipTensorNorm, ClipTensorNormConfig, ClipValue, ClipValueConfig};
pub use curvature::{Critical, Curvature, CurvatureConfig, Spectrum};
pub use error::StabilizeError;
pub use gain::Nonlinearity;
pub use ghost::{GhostBatchNorm, GhostBatchNormConfig};
pub use guard::{Guard, Verdict};
pub use init::{Distribution, Fan, Scheme, initialize};
pub use initialize::{Initialize, Select};
pub use logits::{soft_cap, z_loss};
pub use loss_scale::{LossScale, LossScaleConfig};
pub use lsuv::{Lsuv, LsuvConfig};
pub use measured::Measured;
pub use monitor::{Monitor, MonitorConfig};
pub use noise::{GradientNoise, GradientNoiseConfig};
pub use noise_scale::{NoiseScale, NoiseScaleConfig};
pub use non_finite::{SkipNonFinite, SkipNonFiniteConfig};
pub use norm::{GradientNorms, NormType, TensorNorm, gradient_norms};
pub use outlier::{SkipOutliers, SkipOutliersConfig};
pub use recurrent::{ForgetBias, initialize_recurrent};
pub use reparameterize::{
    SpectralNorm, WeightNorm, WeightStandardization, normalize_weights, spectral_norm,
    standardize_weights,
};
pub use replay::{ClipReplay, replay_clip};
pub use residual::{Residual, ResidualConfig, ResidualKind, deep_norm};
pub use saddle::{SaddleEscape, SaddleEscapeConfig, positive_definite_share};
pub use spam::{ClipSpikes, ClipSpikesConfig, MomentumReset, MomentumResetConfig};
pub use spike::{LossSpike, LossSpikeConfig};
pub use start::{class_prior_bias, fixup_factor};
pub use state::GuardStateError;
pub use taps::{Tap, Taps, depth_slope, record_taps};
pub use transform::scale_gradients;
pub use units::unit_axis;
pub use watch::Watch;

#[cfg(all(test, feature = "flex"))]
mod tests {
    //! A model of one layer and gradients by hand, for the tests of every guard.

    use burn::module::Module;
    use burn::nn::{Linear, LinearConfig};
    use burn::optim::GradientsParams;
    use burn::tensor::{Device, Tensor};

    #[derive(Module, Debug)]
    pub(crate) struct OneLayer {
        layer: Linear,
    }

    pub(crate) fn model(device: &Device) -> OneLayer {
        OneLayer { layer: LinearConfig::new(2, 1).init(&device.clone().autodiff()) }
    }

    pub(crate) fn gradients(
        model: &OneLayer,
        device: &Device,
        weight: &[f32; 2],
        bias: &[f32; 1],
    ) -> GradientsParams {
        let mut gradients = GradientsParams::new();
        let weight = Tensor::<1>::from_floats(*weight, device).reshape([2, 1]);
        gradients.register::<2>(model.layer.weight.id, weight);
        let id = model.layer.bias.as_ref().expect("the layer has a bias").id;
        gradients.register::<1>(id, Tensor::from_floats(*bias, device));
        gradients
    }

    pub(crate) fn values(model: &OneLayer, gradients: &GradientsParams) -> Vec<f32> {
        let weight = gradients.get::<2>(model.layer.weight.id).expect("present");
        let id = model.layer.bias.as_ref().expect("the layer has a bias").id;
        let bias = gradients.get::<1>(id).expect("present");
        let mut values: Vec<f32> = weight.try_to_vec_as().expect("reads");
        values.extend(bias.try_to_vec_as::<f32>().expect("reads"));
        values
    }
}
