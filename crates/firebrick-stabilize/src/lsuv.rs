//! Layer-sequential unit variance: weights scaled, layer by layer, until each output has variance 1.
//!
//! # Rule
//! ```text
//! for each layer in order, at most `tries` times:   W <- W / std(output),   until |var - 1| < tolerance
//! ```
//! # Reference
//! D. Mishkin, J. Matas, "All you need is a good init", ICLR 2016 (arXiv 1511.06422); start from orthogonal
//! weights ([`Scheme::Orthogonal`](crate::Scheme)).

use crate::adaptive::covers;
use crate::reparameterize::lengths_of;
use crate::{StabilizeError, Taps};
use burn::config::Config;
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::Tensor;
use firebrick_backend::{PathStack, Role, parameters};
use firebrick_core::{ConfigError, check};

/// Configuration of [`Lsuv`].
#[derive(Config, Debug)]
pub struct LsuvConfig {
    /// How far from 1 a variance may stay; above 0.
    #[config(default = 0.1)]
    pub tolerance: f64,
    /// How often a layer is scaled at most; at least 1.
    #[config(default = 10)]
    pub tries: usize,
}

impl LsuvConfig {
    /// Checks the values and builds the initializer.
    ///
    /// # Errors
    /// When `tolerance` is not above 0 or `tries` is 0.
    pub fn init(&self) -> Result<Lsuv, ConfigError> {
        check::positive("tolerance", self.tolerance)?;
        check::at_least("tries", self.tries, 1)?;
        Ok(Lsuv { config: self.clone() })
    }
}

/// Scales the layers of a model by what a batch makes of them.
///
/// ```
/// use burn::{nn::LinearConfig, tensor::{Device, Tensor, TensorData, activation::tanh}};
/// use firebrick_core::Seed;
/// use firebrick_stabilize::{LsuvConfig, Scheme, Taps, initialize};
///
/// let device = Device::flex();
/// let layers: Vec<_> = (0..4).map(|_| LinearConfig::new(32, 32).init(&device)).collect();
/// let layers = initialize(layers, Scheme::Orthogonal { gain: 1.0 }, Seed(1));
/// let mut stream = Seed(1).stream("rows");
/// let rows: Vec<f64> = (0..256 * 32).map(|_| stream.normal()).collect();
/// let batch = Tensor::<2>::from_data(TensorData::new(rows, [256, 32]), &device);
/// let (_, variances) = LsuvConfig::new().init()?.apply(layers, |layers, taps: &mut Taps| {
///     let mut x = batch.clone();
///     for (index, layer) in layers.iter().enumerate() {
///         x = layer.forward(x);
///         taps.see(index.to_string(), &x); // the name is the path of the layer
///         x = tanh(x);
///     }
/// })?;
/// assert!(variances.iter().all(|(_, variance)| (variance - 1.0).abs() < 0.1));
/// # Ok::<(), firebrick_stabilize::StabilizeError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Lsuv {
    config: LsuvConfig,
}

impl Lsuv {
    /// The model with its layers scaled, and the variance of each layer's output at the end.
    ///
    /// `forward` runs one batch, of 256 samples or more, through the model and shows the output of each layer,
    /// in the order of the layers, under the layer's path. Leave dropout off. Of a weight with learned lengths
    /// ([`normalize_weights`](crate::normalize_weights)) the lengths are scaled.
    ///
    /// # Errors
    /// When a name is no path of a weight, when an output's variance is 0 or not finite, and when it does not follow
    /// the weights: standardized weights, or a norm between them and the output, take the factor out again.
    pub fn apply<M: Module>(
        &self,
        mut model: M,
        forward: impl Fn(&M, &mut Taps),
    ) -> Result<(M, Vec<(String, f64)>), StabilizeError> {
        let look = |model: &M| {
            let mut taps = Taps::default();
            forward(model, &mut taps);
            taps.read()
        };
        let known = parameters(&model);
        let size = |path: &str| {
            let lengths = lengths_of(path);
            if known.iter().any(|p| p.path == lengths) { lengths } else { path.to_owned() }
        };
        let mut layers = Vec::new();
        for name in look(&model).into_iter().map(|tap| tap.name) {
            let weights = known.iter().filter(|p| p.role == Role::Weight && covers(&name, &p.path));
            let sizes: Vec<String> = weights.map(|p| size(&p.path)).collect();
            if sizes.is_empty() {
                return Err(StabilizeError::NothingSelected {
                    selection: format!("the output called `{name}`"),
                    known: known.iter().map(|p| p.path.as_str()).collect::<Vec<_>>().join(", "),
                });
            }
            layers.push((name, sizes));
        }
        for (index, (name, sizes)) in layers.iter().enumerate() {
            let mut last: Option<f64> = None;
            for attempt in 0..=self.config.tries {
                let found = look(&model).get(index).map_or(f64::NAN, |tap| tap.deviation);
                if !found.is_finite() || found == 0.0 {
                    let what = format!("1 over the deviation of the output of `{name}`");
                    return Err(StabilizeError::NotFinite { what, value: found.recip() });
                }
                if let Some(factor) = last.filter(|factor| stays(found, *factor)) {
                    return Err(StabilizeError::Unmoved {
                        layer: name.clone(),
                        weights: format!("`{}`", sizes.join("`, `")),
                        factor,
                        deviation: found,
                    });
                }
                if (found * found - 1.0).abs() < self.config.tolerance
                    || attempt == self.config.tries
                {
                    break;
                }
                let factor = found.recip();
                model = model.map(&mut Scale { path: PathStack::default(), sizes, factor });
                last = Some(factor);
            }
        }
        let variances = look(&model).into_iter().map(|tap| (tap.name, tap.deviation.powi(2)));
        let variances = variances.collect();
        Ok((model, variances))
    }
}

/// Whether a deviation that was `1 / factor` has not come a hundredth of its way to 1; short ways do not tell.
fn stays(found: f64, factor: f64) -> bool {
    let way = factor.ln();
    way.abs() > 0.01 && (found * factor).ln().abs() < 0.01 * way.abs()
}

struct Scale<'a> {
    path: PathStack,
    sizes: &'a [String],
    factor: f64,
}

impl ModuleMapper for Scale<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if !self.sizes.contains(&self.path.path()) {
            return param;
        }
        let trainable = param.is_require_grad();
        param.map(|old| {
            old.set_require_grad(false).mul_scalar(self.factor).set_require_grad(trainable)
        })
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::{
        Scheme, Select, initialize, normalize_weights, spectral_norm, standardize_weights,
    };
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::{Device, TensorData, activation::relu};
    use firebrick_backend::testing::devices;
    use firebrick_core::Seed;

    fn batch(device: &Device) -> Tensor<2> {
        let mut stream = Seed(2).stream("batch");
        let rows: Vec<f64> = (0..300 * 24).map(|_| stream.normal()).collect();
        Tensor::from_data(TensorData::new(rows, [300, 24]), device)
    }

    #[test]
    fn learned_lengths_are_scaled_and_their_base_stays() {
        for device in devices() {
            let device = device.autodiff();
            let layers: Vec<Linear> =
                (0..3).map(|_| LinearConfig::new(24, 24).init(&device)).collect();
            let layers = initialize(layers, Scheme::Orthogonal { gain: 0.004 }, Seed(1));
            let layers = normalize_weights(layers, &Select::layer("Linear")).expect("fits");
            let base = layers[1].weight.base().into_data();
            let rows = batch(&device);
            let forward = |layers: &Vec<Linear>, taps: &mut Taps| {
                layers.iter().enumerate().fold(rows.clone(), |x, (index, layer)| {
                    let y = layer.forward(x);
                    taps.see(index.to_string(), &y);
                    relu(y)
                });
            };
            let lsuv = LsuvConfig::new().init().expect("valid");
            let (layers, variances) = lsuv.apply(layers, forward).expect("works");
            for (name, variance) in variances {
                assert!((variance - 1.0).abs() < 0.1, "{name} {variance}");
            }
            layers[1].weight.base().into_data().assert_eq(&base, true);
        }
    }

    #[test]
    fn an_output_that_does_not_follow_its_weights_is_refused() {
        for device in devices() {
            let rows = batch(&device);
            let layer = initialize(
                vec![LinearConfig::new(24, 24).init(&device)],
                Scheme::KaimingNormal,
                Seed(1),
            );
            let lsuv = LsuvConfig::new().with_tries(1).init().expect("valid");
            let refused = |layer: Vec<Linear>, norm: bool| {
                let look = |layer: &Vec<Linear>, taps: &mut Taps| {
                    let y = layer[0].forward(rows.clone());
                    let size = y.clone().square().mean().sqrt().reshape([1, 1]);
                    taps.see("0", &if norm { y / size * 5.0 } else { y });
                };
                let error = lsuv.apply(layer, look).expect_err("refused");
                assert!(matches!(error, StabilizeError::Unmoved { .. }), "{error}");
                let error = error.to_string();
                assert!(error.contains("though `0.weight` was multiplied by"), "{error}");
            };
            let all = Select::layer("Linear");
            refused(standardize_weights(layer.clone(), &all, 1e-6).expect("fits"), false);
            refused(spectral_norm(layer.clone(), &all, 20).expect("fits"), false);
            refused(layer, true);
        }
    }

    #[test]
    fn a_deep_net_ends_with_unit_variances_and_trainable_weights() {
        for device in devices() {
            let device = device.autodiff();
            let layers: Vec<Linear> =
                (0..12).map(|_| LinearConfig::new(24, 24).init(&device)).collect();
            let layers = initialize(layers, Scheme::Orthogonal { gain: 0.3 }, Seed(1));
            let batch = batch(&device);
            let forward = |layers: &Vec<Linear>, taps: &mut Taps| {
                layers.iter().enumerate().fold(batch.clone(), |x, (index, layer)| {
                    let y = layer.forward(x);
                    taps.see(index.to_string(), &y);
                    relu(y)
                });
            };
            let lsuv = LsuvConfig::new().init().expect("valid");
            let (layers, variances) = lsuv.apply(layers, forward).expect("works");
            assert_eq!(variances.len(), 12);
            for (name, variance) in variances {
                assert!((variance - 1.0).abs() < 0.1, "{name} {variance}");
            }
            let loss = layers[0].forward(batch.clone()).square().mean();
            assert!(layers[0].weight.val().grad(&loss.backward()).is_some());
        }
    }

    #[test]
    fn wrong_names_and_dead_outputs_are_refused() {
        for device in devices() {
            let layer = vec![LinearConfig::new(2, 2).init(&device)];
            let lsuv = LsuvConfig::new().init().expect("valid");
            let error = lsuv
                .apply(layer.clone(), |_, taps| taps.see("7", &Tensor::<2>::ones([2, 2], &device)))
                .expect_err("refused");
            assert_eq!(
                error.to_string(),
                "the output called `7` selects no parameter of the model; it has 0.weight, 0.bias"
            );
            let error = lsuv
                .apply(layer, |_, taps| taps.see("0", &Tensor::<2>::ones([2, 2], &device)))
                .expect_err("refused");
            assert!(matches!(error, StabilizeError::NotFinite { .. }));
            assert!(LsuvConfig::new().with_tries(0).init().is_err());
            assert!(LsuvConfig::new().with_tolerance(0.0).init().is_err());
        }
    }
}
