//! Predicts how the signal's size changes with depth, from the initial weights alone.
//!
//! # Rule
//! With mean square `q` of a layer's inputs and weights of mean square `s`:
//! ```text
//! forward     v = fan_in s q + mean(b^2)         q' = E[f(z)^2],  z ~ N(0, v)
//! backward    the gradient's mean square is multiplied by   fan_out s E[f'(z)^2]
//! norm        v' = mean(gamma^2) + mean(beta^2)             and by   mean(gamma^2) / v
//! ```
//! # Reference
//! B. Poole et al., "Exponential expressivity in deep neural networks through transient chaos", NeurIPS 2016;
//! S. Schoenholz et al., "Deep information propagation", ICLR 2017.

use crate::init::fans;
use crate::read::read;
use crate::units::unit_axis;
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
/// skipped, and reparameterized weights are judged by what they come to. A convolution is taken to have as many
/// groups as the channels of the layer before ask for. One read from the device.
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
    let mut gather = Gather::default();
    // A visitor sees the base of a reparameterized weight, not the weight.
    model.valid().materialize().visit(&mut gather);
    let statistics = read(gather.statistics);
    let numbers = statistics.chunks_exact(3);
    let numbers = numbers.map(|n| Numbers { mean: n[0], square: n[1], spread: n[2] });
    let parts: Vec<(Part, Numbers)> = gather.parts.into_iter().zip(numbers).collect();
    Ok(forecast(&parts, activation, input_rms))
}

/// A parameter that the forecast needs.
enum Part {
    Weight {
        path: String,
        fan_in: usize,
        fan_out: usize,
    },
    /// The scale of a norm.
    Scale,
    /// A bias, or the offset of a norm.
    Offset,
}

/// What is read of a parameter: mean, mean square, and largest less smallest element.
struct Numbers {
    mean: f64,
    square: f64,
    spread: f64,
}

#[derive(Default)]
struct Gather {
    path: PathStack,
    parts: Vec<Part>,
    statistics: Vec<Tensor<1>>,
    /// How many channels or features the last layer gives.
    channels: Option<usize>,
}

impl Gather {
    fn weight(&mut self, shape: &[usize]) -> Part {
        let owner = self.path.owner();
        let (fan_in, mut fan_out) = fans(owner, shape);
        let axis = unit_axis(owner, shape.len());
        // The second axis of a kernel counts the inputs of one group. A transposed one does not show its groups.
        if let (Some(0), Some(channels), [out, inputs, _, ..]) = (axis, self.channels, shape) {
            let groups = channels / inputs;
            if groups > 1 && channels % inputs == 0 && out % groups == 0 {
                fan_out /= groups;
            }
        }
        self.channels = axis.map(|axis| shape[axis]);
        Part::Weight { path: self.path.path(), fan_in, fan_out }
    }
}

impl ModuleVisitor for Gather {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        let shape = value.dims();
        if shape.contains(&0) {
            return;
        }
        let part = match self.path.role(D) {
            Role::Weight => self.weight(&shape),
            Role::Norm if self.path.path().rsplit('.').next() != Some("beta") => Part::Scale,
            Role::Norm | Role::Bias => Part::Offset,
            _ => return,
        };
        self.parts.push(part);
        let value = value.cast(FloatDType::F32);
        let spread = value.clone().max() - value.clone().min();
        let numbers = vec![value.clone().mean(), value.square().mean(), spread];
        self.statistics.push(Tensor::cat(numbers, 0));
    }
}

fn forecast(parts: &[(Part, Numbers)], activation: Nonlinearity, input_rms: f64) -> InitAudit {
    let mut warnings = Vec::new();
    let mut layers: Vec<(LayerForecast, f64)> = Vec::new();
    let mut q = input_rms * input_rms;
    let mut rest = parts.iter().peekable();
    while let Some((part, Numbers { mean, square, spread })) = rest.next() {
        // What stands before the first weight is the input's.
        let Part::Weight { path, fan_in, fan_out } = part else { continue };
        let weight_gain = square * *fan_in as f64;
        if !square.is_finite() {
            warnings.push(format!("`{path}` holds weights that are not finite"));
        } else if *fan_in > 1 && *fan_out > 1 && *spread <= 1e-6 * mean.abs() {
            warnings.push(format!("all weights of `{path}` are {mean:.3}: its units stay alike"));
        }
        let mut variance = weight_gain * q;
        let mut slope = *fan_out as f64 * square;
        let beside = |next: &&(Part, Numbers)| !matches!(next.0, Part::Weight { .. });
        while let Some((other, Numbers { square, .. })) = rest.next_if(beside) {
            if matches!(other, Part::Scale) {
                // The norm divides by the deviation, forward and back.
                slope *= square / variance.max(f64::MIN_POSITIVE);
                variance = *square;
            } else {
                variance += square;
            }
        }
        let after = if rest.peek().is_none() { Nonlinearity::Linear } else { activation };
        slope *= after.squared_slope(variance);
        q = after.second_moment(variance);
        let layer = LayerForecast { path: path.clone(), rms: q.sqrt(), gradient: 1.0, weight_gain };
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
    use crate::{
        Distribution, Fan, Scheme, Select, initialize, normalize_weights, spectral_norm,
        standardize_weights,
    };
    use burn::nn::conv::Conv2dConfig;
    use burn::nn::{BatchNormConfig, Linear, LinearConfig};
    use burn::tensor::{Device, activation::relu};
    use firebrick_backend::testing::devices;
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
    fn reparameterized_weights_are_judged_by_what_they_come_to() {
        let all = Select::layer("Linear");
        let audit =
            |model: &Vec<Linear>| audit_init(model, Nonlinearity::Relu, 1.0).expect("valid");
        for device in devices() {
            let make = || -> Vec<Linear> {
                let device = device.clone().autodiff();
                (0..12).map(|_| LinearConfig::new(32, 32).init(&device)).collect()
            };
            // It fades, with learned lengths or without.
            let small =
                Scheme::Scaled { gain: 0.5, fan: Fan::In, distribution: Distribution::Normal };
            let plain = initialize(make(), small, Seed(4));
            let normalized = normalize_weights(plain.clone(), &all).expect("fits");
            let (expected, found) = (audit(&plain), audit(&normalized));
            assert_eq!(expected.layers.len(), found.layers.len());
            for (expected, found) in expected.layers.iter().zip(&found.layers) {
                assert_eq!(expected.path, found.path);
                assert!((expected.rms / found.rms - 1.0).abs() < 1e-4, "{found:?}");
                assert!((expected.gradient / found.gradient - 1.0).abs() < 1e-4, "{found:?}");
            }
            assert!(expected.warnings.len() == 2 && found.warnings.len() == 2, "{found:?}");
            // Variance 1 and 32 inputs; a largest singular value of 1.
            let standardized = standardize_weights(plain.clone(), &all, 1e-6).expect("fits");
            let gain = audit(&standardized).layers[0].weight_gain;
            assert!((gain - 32.0).abs() < 0.01, "{gain}");
            let wide = initialize(plain, Scheme::Orthogonal { gain: 7.0 }, Seed(1));
            let bounded = spectral_norm(wide, &all, 5).expect("fits");
            let gain = audit(&bounded).layers[0].weight_gain;
            assert!((gain - 1.0).abs() < 1e-3, "{gain}");
        }
    }

    #[test]
    fn the_offset_of_a_norm_has_no_part_in_the_gradient() {
        let device = Device::flex();
        let mut norm = BatchNormConfig::new(64).init(&device);
        norm.beta = Param::from_tensor(Tensor::full([64], 3.0, &device));
        let layer = LinearConfig::new(64, 64).with_bias(false).init(&device);
        let audit = audit_init(&(layer, norm), Nonlinearity::Relu, 1.0).expect("valid").layers;
        // As many inputs as outputs: what the weights do to the gradient, the norm takes back.
        assert!((audit[0].gradient - 1.0).abs() < 1e-6, "{audit:?}");
        assert!((audit[0].rms - 10f64.sqrt()).abs() < 1e-6, "{audit:?}");
    }

    #[test]
    fn an_input_of_a_group_reaches_the_outputs_of_the_group() {
        let device = Device::flex();
        for groups in [4, 64] {
            let block = || {
                let conv = |size, groups| {
                    let conv = Conv2dConfig::new([64, 64], [size, size]).with_groups(groups);
                    conv.init(&device)
                };
                (conv(3, groups), conv(1, 1))
            };
            let model: Vec<_> = (0..8).map(|_| block()).collect();
            let model = initialize(model, Scheme::KaimingNormal, Seed(2));
            let audit = audit_init(&model, Nonlinearity::Relu, 1.0).expect("valid");
            // The layer in front of the first is not known, so the first two stand apart.
            let change = audit.layers[2].gradient / audit.layers[14].gradient;
            // Six kernels of 576 weights or more stray by 0.14 together.
            assert!(change.ln().abs() < 0.8, "{groups}: {change}");
        }
    }

    #[test]
    fn constant_weights_are_warned_of_whatever_their_value() {
        for device in devices() {
            for value in [0.0, 0.1, 0.01, 0.7, 1e-3, -20.3] {
                let layer = LinearConfig::new(37, 29).init(&device);
                let layer = initialize(layer, Scheme::Constant { value }, Seed(1));
                let audit = audit_init(&layer, Nonlinearity::Relu, 1.0).expect("valid");
                assert_eq!(audit.warnings.len(), 1, "{value} {:?}", audit.warnings);
                assert!(audit.warnings[0].starts_with("all weights of `weight` are"));
            }
        }
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
