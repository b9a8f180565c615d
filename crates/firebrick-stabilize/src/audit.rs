//! Predicts how the signal's size changes with depth, from the initial weights alone.
//!
//! # Rule
//! With mean square `q` of a layer's inputs and weights of mean square `s`:
//! ```text
//! forward     v = fan_in s q + mean(b^2)         q' = E[f(z)^2],  z ~ N(0, v)
//! backward    the gradient's mean square is multiplied by   fan_out s E[f'(z)^2]
//! ```
//! # Reference
//! B. Poole et al., "Exponential expressivity in deep neural networks through transient chaos", NeurIPS 2016;
//! S. Schoenholz et al., "Deep information propagation", ICLR 2017.

use crate::init::fans;
use crate::read::read;
use crate::{Nonlinearity, StabilizeError};
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{FloatDType, Tensor};
use firebrick_backend::{PathStack, Role};
use firebrick_core::check;

/// What is predicted for one layer.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct LayerForecast {
    /// Path of its weight.
    pub path: String,
    /// Root mean square of its outputs, after the nonlinearity (the last layer has none).
    pub rms: f64,
    /// Root mean square of the gradient by its inputs, relative to that by the network's output.
    pub gradient: f64,
    /// Mean square of its weights times its fan-in; the nonlinearity's squared gain keeps the size.
    pub weight_gain: f64,
}

/// What the initial weights of a model let expect.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct InitAudit {
    /// Layer by layer, in the order in which burn visits them.
    pub layers: Vec<LayerForecast>,
    /// What is wrong, one sentence each; empty when the signal keeps its size.
    pub warnings: Vec<String>,
}

/// Predicts the size of activations and gradients by depth for a chain of layers with `activation` in between,
/// fed with inputs of root mean square `input_rms`, and warns when either fades or grows.
///
/// Layers count in the order of the struct's fields. A normalization layer right behind a layer resets the size;
/// residual branches are not seen, so for them measure with [`Taps`](crate::Taps) instead. Embeddings are
/// skipped. One read from the device.
///
/// A fading or growing by more than a factor of 1.35 a layer (0.3 in the logarithm, no false alarm in 87 healthy
/// runs) over the whole depth, by 10 in all at least, is warned of; so are constant weights and weights that
/// are not finite.
///
/// # Errors
/// When `input_rms` is not above 0.
///
/// ```
/// use burn::{nn::LinearConfig, tensor::Device};
/// use firebrick_stabilize::{Nonlinearity, audit_init};
///
/// let device = Device::flex();
/// let layers: Vec<_> = (0..20).map(|_| LinearConfig::new(256, 256).init(&device)).collect();
/// let audit = audit_init(&layers, Nonlinearity::Relu, 1.0)?;
/// assert!(audit.warnings[0].contains("fades")); // burn's default: U(+-1/sqrt(fan_in))
/// # Ok::<(), firebrick_stabilize::StabilizeError>(())
/// ```
pub fn audit_init<M: Module>(
    model: &M,
    activation: Nonlinearity,
    input_rms: f64,
) -> Result<InitAudit, StabilizeError> {
    check::positive("input_rms", input_rms)?;
    let mut gather =
        Gather { path: PathStack::default(), parts: Vec::new(), statistics: Vec::new() };
    model.visit(&mut gather);
    let statistics = read(gather.statistics);
    let parts: Vec<(Part, f64, f64)> = gather
        .parts
        .into_iter()
        .zip(statistics.chunks_exact(2))
        .map(|(part, pair)| (part, pair[0], pair[1]))
        .collect();
    Ok(forecast(&parts, activation, input_rms))
}

/// A parameter that the forecast needs, with the two numbers read for it: mean and mean square.
struct Part {
    path: String,
    role: Role,
    fan_in: usize,
    fan_out: usize,
}

struct Gather {
    path: PathStack,
    parts: Vec<Part>,
    statistics: Vec<Tensor<1>>,
}

impl ModuleVisitor for Gather {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let role = self.path.role(D);
        let value = param.val();
        let shape = value.dims();
        let counts = matches!(role, Role::Weight | Role::Bias | Role::Norm);
        if !counts || shape.iter().product::<usize>() == 0 {
            return;
        }
        let value = if value.is_autodiff() { value.inner() } else { value };
        let value = value.cast(FloatDType::F32);
        let (fan_in, fan_out) = fans(self.path.owner(), &shape);
        self.parts.push(Part { path: self.path.path(), role, fan_in, fan_out });
        self.statistics.push(Tensor::cat(vec![value.clone().mean(), value.square().mean()], 0));
    }
}

fn forecast(parts: &[(Part, f64, f64)], activation: Nonlinearity, input_rms: f64) -> InitAudit {
    let mut warnings = Vec::new();
    let mut layers: Vec<(LayerForecast, f64)> = Vec::new();
    let weights: Vec<usize> =
        (0..parts.len()).filter(|&i| parts[i].0.role == Role::Weight).collect();
    let mut q = input_rms * input_rms;
    for (place, &start) in weights.iter().enumerate() {
        let (part, mean, square) = &parts[start];
        let end = weights.get(place + 1).copied().unwrap_or(parts.len());
        let last = place + 1 == weights.len();
        let weight_gain = square * part.fan_in as f64;
        if !square.is_finite() {
            warnings.push(format!("`{}` holds weights that are not finite", part.path));
        } else if part.fan_in > 1 && part.fan_out > 1 && square - mean * mean <= 1e-10 * square {
            warnings.push(format!(
                "all weights of `{}` are {mean:.3}: its units stay alike",
                part.path
            ));
        }
        let mut variance = weight_gain * q;
        let mut norm = 0.0;
        let mut normalized = false;
        for (other, _, square) in &parts[start + 1..end] {
            match other.role {
                Role::Bias => variance += square,
                Role::Norm => {
                    normalized = true;
                    norm += square;
                }
                _ => {}
            }
        }
        let mut slope = part.fan_out as f64 * square;
        if normalized {
            // The norm divides by the deviation, forward and back.
            slope *= norm / variance.max(f64::MIN_POSITIVE);
            variance = norm;
        }
        let after = if last { Nonlinearity::Linear } else { activation };
        slope *= after.squared_slope(variance);
        q = after.second_moment(variance);
        let layer =
            LayerForecast { path: part.path.clone(), rms: q.sqrt(), gradient: 1.0, weight_gain };
        layers.push((layer, slope));
    }
    let mut gradient = 1.0;
    for (layer, slope) in layers.iter_mut().rev() {
        gradient *= *slope;
        layer.gradient = gradient.sqrt();
    }
    let layers: Vec<LayerForecast> = layers.into_iter().map(|(layer, _)| layer).collect();
    // The last layer's width differs for reasons of its own.
    let hidden = &layers[..layers.len().saturating_sub(1)];
    let forward = hidden.last().map(|layer| layer.rms / input_rms);
    let back =
        hidden.first().zip(hidden.last()).map(|(first, last)| first.gradient / last.gradient);
    for (what, change) in [("the signal", forward), ("the gradient", back)] {
        let Some(change) = change.filter(|change| !change.is_nan()) else { continue };
        let way = if change < 1.0 { "fades" } else { "grows" };
        let total = change.ln().abs();
        if total > 10f64.ln() && total > 0.3 * hidden.len() as f64 {
            warnings.push(format!(
                "{what} {way} by a factor of {change:.1e} over {} layers: draw weights with gain {:.3} for this nonlinearity (Kaiming for ReLU, Xavier for tanh)",
                hidden.len(),
                activation.gain(),
            ));
        }
    }
    InitAudit { layers, warnings }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::{Distribution, Fan, Scheme, initialize};
    use burn::nn::{BatchNormConfig, Linear, LinearConfig};
    use burn::tensor::{Device, activation::relu};
    use firebrick_core::Seed;

    fn net(scheme: Option<Scheme>) -> Vec<Linear> {
        let device = Device::flex();
        let layers = (0..20).map(|_| LinearConfig::new(256, 256).init(&device)).collect();
        let scheme = scheme.unwrap_or(Scheme::Scaled {
            gain: 3f64.sqrt().recip(),
            fan: Fan::In,
            distribution: Distribution::Uniform,
        });
        initialize(layers, scheme, Seed(4))
    }

    /// Root mean square of the activations after each layer, measured on normal inputs.
    fn measured(layers: &[Linear]) -> Vec<f64> {
        let mut stream = Seed(9).stream("inputs");
        let inputs: Vec<f64> = (0..64 * 256).map(|_| stream.normal()).collect();
        let data = burn::tensor::TensorData::new(inputs, [64, 256]);
        let mut x = Tensor::<2>::from_data(data, &Device::flex());
        let last = layers.len() - 1;
        let mut sizes = Vec::new();
        for (depth, layer) in layers.iter().enumerate() {
            x = layer.forward(x);
            x = if depth < last { relu(x) } else { x };
            sizes.push(f64::from(x.clone().square().mean().sqrt().into_scalar::<f32>()));
        }
        sizes
    }

    #[test]
    fn the_forecast_agrees_with_a_measured_forward_pass() {
        for (scheme, warned) in
            [(None, true), (Some(Scheme::XavierNormal), true), (Some(Scheme::KaimingNormal), false)]
        {
            let model = net(scheme);
            let audit = audit_init(&model, Nonlinearity::Relu, 1.0).expect("valid");
            assert_eq!(!audit.warnings.is_empty(), warned, "{scheme:?} {:?}", audit.warnings);
            for (layer, size) in audit.layers.iter().zip(measured(&model)) {
                // Width 256: the mean square fluctuates by about sqrt(5 / 256) a layer, 0.6 after 20 in the log.
                assert!((layer.rms / size).ln().abs() < 0.7, "{layer:?} {size}");
            }
        }
    }

    #[test]
    fn burns_default_decays_to_1e_8() {
        let audit = audit_init(&net(None), Nonlinearity::Relu, 1.0).expect("valid");
        let rms = audit.layers[18].rms;
        // (1 / 6)^(19 / 2) = 4e-8.
        assert!((rms / 6f64.powf(-9.5)).ln().abs() < 0.05, "{rms:e}");
        assert_eq!(audit.warnings.len(), 2, "{:?}", audit.warnings);
    }

    #[test]
    fn a_norm_behind_each_layer_keeps_the_size() {
        let device = Device::flex();
        let block = || {
            let layer = initialize(
                LinearConfig::new(64, 64).init(&device),
                Scheme::Scaled { gain: 0.1, fan: Fan::In, distribution: Distribution::Normal },
                Seed(1),
            );
            (layer, BatchNormConfig::new(64).init(&device))
        };
        let model: Vec<_> = (0..10).map(|_| block()).collect();
        let audit = audit_init(&model, Nonlinearity::Relu, 1.0).expect("valid");
        assert!((audit.layers[8].rms - 0.5f64.sqrt()).abs() < 1e-6);
        assert_eq!(audit.warnings, Vec::<String>::new());
    }

    #[test]
    fn constant_and_broken_weights_are_warned_of() {
        let device = Device::flex();
        let layer = LinearConfig::new(4, 4).init(&device);
        let layer = initialize(layer, Scheme::Constant { value: 0.5 }, Seed(1));
        let audit = audit_init(&layer, Nonlinearity::Relu, 1.0).expect("valid");
        assert_eq!(audit.warnings, ["all weights of `weight` are 0.500: its units stay alike"]);
        let mut broken = LinearConfig::new(4, 4).init(&device);
        broken.weight = Param::from_tensor(Tensor::full([4, 4], f32::NAN, &device));
        let audit = audit_init(&broken, Nonlinearity::Relu, 1.0).expect("valid");
        assert_eq!(audit.warnings, ["`weight` holds weights that are not finite"]);
        assert!(audit_init(&broken, Nonlinearity::Relu, 0.0).is_err());
        let nothing: Vec<Linear> = Vec::new();
        assert!(audit_init(&nothing, Nonlinearity::Relu, 1.0).expect("valid").layers.is_empty());
    }
}
