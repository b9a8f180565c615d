//! Curvature of the loss by first-order means: Hessian-vector products, the edges of the spectrum, the kind of a
//! critical point.
//!
//! # Rules
//! ```text
//! H v = (grad L(w + e v) - grad L(w - e v)) / (2 e)          |v| = 1,  e = step * |w|
//! ```
//! accepted only where `e` and `e / 3` agree. Lanczos with full reorthogonalization turns products into the
//! edges of the spectrum.
//!
//! # Reference
//! B. Pearlmutter, Neural Computation 1994; C. Lanczos, 1950; Y. Dauphin et al., "Identifying and attacking the
//! saddle point problem", NeurIPS 2014; J. Cohen et al., ICLR 2021 (sharpness against 2 / rate).
//!
//! # Differences
//! burn differentiates once only, so the exact product is out of reach. In f32 the difference is good to about
//! 1e-4 on smooth nets; on ReLU nets it needs a step near 5e-5 and is refused otherwise.

use crate::StabilizeError;
use crate::lanczos::{lanczos, norm};
use crate::read::read;
use burn::config::Config;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Tensor, TensorData};
use firebrick_core::{ConfigError, Seed, check};

/// Configuration of [`Curvature`].
///
/// | field | default | range |
/// | --- | --- | --- |
/// | `step` | 5e-3 (smooth); 5e-5 for ReLU | above 0 |
/// | `tolerance` | 0.05 | above 0 |
/// | `iterations` | 20 | at least 1 |
/// | `zero` | 1e-3 | not negative |
#[derive(Config, Debug)]
pub struct CurvatureConfig {
    /// The length of a difference step as a share of the norm of all weights.
    #[config(default = 5e-3)]
    pub step: f64,
    /// By how much, relatively, the product at a step and at a third of it may differ. What differs by less than
    /// this share of `zero` is rounding and counts as equal.
    #[config(default = 0.05)]
    pub tolerance: f64,
    /// Lanczos steps; each costs four backward passes.
    #[config(default = 20)]
    pub iterations: usize,
    /// Eigenvalues within this of 0 count as neither positive nor negative, and so does a gradient norm.
    #[config(default = 1e-3)]
    pub zero: f64,
    /// The seed of the first direction.
    #[config(default = 0)]
    pub seed: u64,
}

impl CurvatureConfig {
    /// Checks the values and builds the probe.
    ///
    /// # Errors
    /// When a value is out of its range.
    pub fn init(&self) -> Result<Curvature, ConfigError> {
        check::positive("step", self.step)?;
        check::positive("tolerance", self.tolerance)?;
        check::at_least("iterations", self.iterations, 1)?;
        check::non_negative("zero", self.zero)?;
        Ok(Curvature { config: self.clone() })
    }
}

/// The kind of a point of the loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Critical {
    /// The gradient is not 0.
    NotCritical,
    /// All curvature is upward.
    Minimum,
    /// Some is upward and some downward: a way out exists.
    Saddle,
    /// All curvature is downward.
    Maximum,
    /// An edge of the spectrum is too near 0, or not known well enough.
    Undecided,
}

/// What Lanczos found.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Spectrum {
    /// The loss at the point.
    pub loss: f64,
    /// The norm of the gradient there.
    pub gradient_norm: f64,
    /// The smallest eigenvalue, from above.
    pub min: f64,
    /// The largest eigenvalue, from below.
    pub max: f64,
    /// All Ritz values, ascending, each with the bound of its error.
    pub ritz: Vec<(f64, f64)>,
    /// How many of the model's elements are trainable.
    pub dimensions: usize,
    zero: f64,
}

impl Spectrum {
    /// How many directions of downward curvature were found: a lower bound of the index of a critical point.
    #[must_use]
    pub fn index(&self) -> usize {
        self.ritz.iter().filter(|(value, _)| *value < -self.zero).count()
    }

    /// The kind of the point.
    ///
    /// A Ritz value is a curvature that some direction really has, so two signs prove a saddle; a minimum or a
    /// maximum also needs the edge to have converged.
    #[must_use]
    pub fn kind(&self) -> Critical {
        if self.gradient_norm > self.zero {
            return Critical::NotCritical;
        }
        let error = |edge: Option<&(f64, f64)>| edge.map_or(f64::INFINITY, |(_, error)| *error);
        let (low, high) = (error(self.ritz.first()), error(self.ritz.last()));
        match (self.min, self.max) {
            (min, max) if min < -self.zero && max > self.zero => Critical::Saddle,
            (min, _) if min - low > self.zero => Critical::Minimum,
            (_, max) if max + high < -self.zero => Critical::Maximum,
            _ => Critical::Undecided,
        }
    }

    /// The learning rate above which gradient descent is unstable here: `2 / max`; infinite without upward
    /// curvature.
    #[must_use]
    pub fn stable_rate(&self) -> f64 {
        if self.max > 0.0 { 2.0 / self.max } else { f64::INFINITY }
    }
}

/// Probes the curvature of a loss at a model's weights.
///
/// The loss must be the same function at each call: the same batch, no dropout, batch norm on its running
/// statistics (freeze it: a clone of a model shares them). Weights and gradients pass through the host, so this
/// is a probe between steps and not a part of one.
///
/// ```
/// use burn::{module::Param, tensor::{Device, Tensor}};
/// use firebrick_stabilize::{Critical, CurvatureConfig};
///
/// // x^2 - y^2 at the origin, as a module of two parameters.
/// let device = Device::flex().autodiff();
/// let origin = vec![
///     Param::from_tensor(Tensor::<1>::zeros([1], &device)),
///     Param::from_tensor(Tensor::<1>::zeros([1], &device)),
/// ];
/// let saddle = |w: &Vec<Param<Tensor<1>>>| w[0].val().square() - w[1].val().square();
/// let spectrum = CurvatureConfig::new().init()?.spectrum(&origin, saddle)?;
/// assert!((spectrum.min + 2.0).abs() < 1e-3 && (spectrum.max - 2.0).abs() < 1e-3);
/// assert_eq!((spectrum.kind(), spectrum.index()), (Critical::Saddle, 1));
/// # Ok::<(), firebrick_stabilize::StabilizeError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Curvature {
    config: CurvatureConfig,
}

impl Curvature {
    /// The product of the Hessian of `loss` at `model` with `direction`, over all trainable elements in the order
    /// in which burn visits them.
    ///
    /// # Errors
    /// When `direction` has another number of elements, is 0 or not finite; when a loss or gradient is not
    /// finite; when two difference steps disagree.
    pub fn product<M: Module>(
        &self,
        model: &M,
        loss: impl Fn(&M) -> Tensor<1>,
        direction: &[f64],
    ) -> Result<Vec<f64>, StabilizeError> {
        let weights = flatten(model);
        if direction.len() != weights.len() {
            let expected = format!("{}, the trainable elements", weights.len());
            return Err(ConfigError::new("length of direction", direction.len(), expected).into());
        }
        let length = check::positive("norm of direction", norm(direction))?;
        let unit: Vec<f64> = direction.iter().map(|value| value / length).collect();
        let product = self.unit_product(model, &loss, &unit, norm(&weights))?;
        Ok(product.into_iter().map(|value| value * length).collect())
    }

    fn unit_product<M: Module>(
        &self,
        model: &M,
        loss: &impl Fn(&M) -> Tensor<1>,
        unit: &[f64],
        weight_norm: f64,
    ) -> Result<Vec<f64>, StabilizeError> {
        // Weights of 0 have no size to measure a step by.
        let step = self.config.step * if weight_norm > 0.0 { weight_norm } else { 1.0 };
        let difference = |step: f64| -> Result<Vec<f64>, StabilizeError> {
            let (_, ahead) = gradient(&shifted(model, unit, step), loss)?;
            let (_, behind) = gradient(&shifted(model, unit, -step), loss)?;
            Ok(ahead.iter().zip(&behind).map(|(a, b)| (a - b) / (2.0 * step)).collect())
        };
        let (wide, narrow) = (difference(step)?, difference(step / 3.0)?);
        let apart: Vec<f64> = wide.iter().zip(&narrow).map(|(a, b)| a - b).collect();
        let size = norm(&wide).max(norm(&narrow));
        let difference = norm(&apart) / size.max(f64::MIN_POSITIVE);
        let rounding = norm(&apart) <= self.config.tolerance * self.config.zero;
        if difference > self.config.tolerance && !rounding {
            return Err(StabilizeError::Disagreement {
                step: self.config.step,
                difference,
                tolerance: self.config.tolerance,
            });
        }
        Ok(wide)
    }

    /// The edges of the spectrum of the Hessian of `loss` at `model`.
    ///
    /// With as many iterations as trainable elements it is the whole spectrum.
    ///
    /// # Errors
    /// When nothing is trainable, a loss or gradient is not finite, or two difference steps disagree.
    pub fn spectrum<M: Module>(
        &self,
        model: &M,
        loss: impl Fn(&M) -> Tensor<1>,
    ) -> Result<Spectrum, StabilizeError> {
        let weights = flatten(model);
        let dimensions = check::at_least("trainable elements", weights.len(), 1)?;
        let weight_norm = norm(&weights);
        let (value, slope) = gradient(model, &loss)?;
        let product = |unit: &[f64]| self.unit_product(model, &loss, unit, weight_norm);
        let ritz = lanczos(dimensions, self.config.iterations, Seed(self.config.seed), product)?;
        let edge = |pair: Option<&(f64, f64)>| pair.map_or(f64::NAN, |(value, _)| *value);
        Ok(Spectrum {
            loss: value,
            gradient_norm: norm(&slope),
            min: edge(ritz.first()),
            max: edge(ritz.last()),
            ritz,
            dimensions,
            zero: self.config.zero,
        })
    }
}

/// The loss at `model` and its gradient over all trainable elements; 0 where a parameter takes no part.
fn gradient<M: Module>(
    model: &M,
    loss: &impl Fn(&M) -> Tensor<1>,
) -> Result<(f64, Vec<f64>), StabilizeError> {
    let loss = loss(model);
    if !loss.device().is_autodiff() {
        return Err(StabilizeError::NotFinite {
            what: "the gradient of a loss that does not live on an autodiff device".into(),
            value: f64::NAN,
        });
    }
    let value = read(vec![loss.clone().inner()]).into_iter().sum::<f64>();
    let gradients = GradientsParams::from_grads(loss.sum().backward(), model);
    let mut flat = Flatten { gradients: Some(&gradients), found: Vec::new() };
    model.visit(&mut flat);
    let flat = read(flat.found);
    let broken = flat.iter().chain([&value]).find(|value| !value.is_finite());
    match broken {
        Some(&value) => Err(StabilizeError::NotFinite { what: "loss or gradient".into(), value }),
        None => Ok((value, flat)),
    }
}

fn flatten<M: Module>(model: &M) -> Vec<f64> {
    let mut flat = Flatten { gradients: None, found: Vec::new() };
    model.visit(&mut flat);
    read(flat.found)
}

/// Collects trainable weights, or their gradients where those are given.
struct Flatten<'a> {
    gradients: Option<&'a GradientsParams>,
    found: Vec<Tensor<1>>,
}

impl ModuleVisitor for Flatten<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if !param.is_require_grad() {
            return;
        }
        let value = param.base().inner();
        let elements = value.shape().num_elements();
        if elements == 0 {
            return;
        }
        let tensor = match self.gradients {
            None => value,
            Some(gradients) => match gradients.get::<D>(param.id) {
                Some(gradient) => gradient,
                None => value.zeros_like(),
            },
        };
        self.found.push(tensor.reshape([elements]));
    }
}

/// `model` with its trainable elements moved by `step` times `direction`.
pub(crate) fn shifted<M: Module>(model: &M, direction: &[f64], step: f64) -> M {
    struct Shift<'a> {
        rest: &'a [f64],
        step: f64,
    }
    impl ModuleMapper for Shift<'_> {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            if !param.is_require_grad() {
                return param;
            }
            let shape = param.val().shape();
            let (here, rest) = self.rest.split_at(shape.num_elements().min(self.rest.len()));
            self.rest = rest;
            if here.len() != shape.num_elements() || here.is_empty() {
                return param;
            }
            let moves: Vec<f64> = here.iter().map(|value| value * self.step).collect();
            param.map(|old| {
                let place = (&old.device(), old.dtype());
                // Flat at first: burn takes no data without an axis.
                let flat = TensorData::new(moves, [shape.num_elements()]);
                let moves = Tensor::<1>::from_data(flat, place).reshape(shape);
                (old.set_require_grad(false) + moves).set_require_grad(true)
            })
        }
    }
    model.clone().map(&mut Shift { rest: direction, step })
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::nn::LinearConfig;
    use burn::tensor::{Device, activation::relu};
    use firebrick_backend::testing::devices;

    type Point = Vec<Param<Tensor<1>>>;

    fn point(values: &[f32], device: &Device) -> Point {
        let device = device.clone().autodiff();
        vec![Param::from_tensor(Tensor::from_floats(values, &device))]
    }

    /// Sum of `scales_i x_i^2 / 2`.
    fn quadratic(scales: Vec<f32>) -> impl Fn(&Point) -> Tensor<1> {
        move |point: &Point| {
            let x = point[0].val();
            let scales = Tensor::<1>::from_floats(scales.as_slice(), &x.device());
            (x.square() * scales).sum().mul_scalar(0.5)
        }
    }

    fn probe() -> Curvature {
        CurvatureConfig::new().init().expect("valid")
    }

    #[test]
    fn kinds_of_critical_points() {
        for device in devices() {
            let origin = point(&[0.0; 4], &device);
            for (scales, kind, index) in [
                (vec![1.0, 2.0, 3.0, 4.0], Critical::Minimum, 0),
                (vec![1.0, -2.0, 3.0, -4.0], Critical::Saddle, 2),
                (vec![-1.0, -2.0, -3.0, -4.0], Critical::Maximum, 4),
                (vec![1.0, 0.0, 3.0, 4.0], Critical::Undecided, 0),
            ] {
                let spectrum =
                    probe().spectrum(&origin, quadratic(scales.clone())).expect("smooth");
                assert_eq!((spectrum.kind(), spectrum.index()), (kind, index), "{spectrum:?}");
                let largest = scales.iter().copied().fold(f32::MIN, f32::max);
                assert!((spectrum.max - f64::from(largest)).abs() < 1e-3);
            }
            let slope = point(&[1.0, 0.0, 0.0, 0.0], &device);
            let spectrum =
                probe().spectrum(&slope, quadratic(vec![1.0, 2.0, 3.0, 4.0])).expect("smooth");
            assert_eq!(spectrum.kind(), Critical::NotCritical);
            assert!((spectrum.stable_rate() - 0.5).abs() < 1e-3);
        }
    }

    #[test]
    fn a_parameter_without_axes_is_one_dimension() {
        for device in devices() {
            let two = Tensor::<1>::from_floats([2.0], &device.clone().autodiff());
            let point = vec![Param::from_tensor(two.reshape::<0, _>([] as [i32; 0]))];
            let loss = |point: &Vec<Param<Tensor<0>>>| {
                point[0].val().reshape::<1, _>([1]).square().mul_scalar(1.5)
            };
            let spectrum = probe().spectrum(&point, loss).expect("smooth");
            assert_eq!(spectrum.dimensions, 1);
            assert!((spectrum.max - 3.0).abs() < 1e-2, "{}", spectrum.max);
        }
    }

    #[test]
    fn products_match_a_dense_hessian() {
        // f = sum_ij a_ij tanh(x_i) tanh(x_j): at 0 the Hessian is a + a^T.
        let a = [[0.5f32, 1.0, -2.0], [0.0, 1.5, 0.25], [1.0, -1.0, -0.5]];
        for device in devices() {
            let origin = point(&[0.0; 3], &device);
            let loss = |point: &Point| {
                let x = point[0].val().tanh();
                let a = Tensor::<2>::from_floats(a, &x.device());
                let row = x.clone().unsqueeze::<2>();
                (row.clone().matmul(a) * row).sum()
            };
            let direction = [0.3, -1.2, 0.7];
            let product = probe().product(&origin, loss, &direction).expect("smooth");
            for (i, value) in product.iter().enumerate() {
                let expected: f64 =
                    (0..3).map(|j| f64::from(a[i][j] + a[j][i]) * direction[j]).sum();
                assert!((value - expected).abs() < 1e-3, "{value} {expected}");
            }
        }
    }

    #[test]
    fn kinks_are_refused_and_bad_input_is_named() {
        for device in devices() {
            let tracked = device.clone().autodiff();
            let mut stream = Seed(2).stream("inputs");
            let inputs: Vec<f64> = (0..64 * 8).map(|_| stream.normal()).collect();
            let inputs = Tensor::<2>::from_data(TensorData::new(inputs, [64, 8]), &tracked);
            let layers = vec![
                LinearConfig::new(8, 16).init(&tracked),
                LinearConfig::new(16, 1).init(&tracked),
            ];
            let layers = crate::initialize(layers, crate::Scheme::KaimingNormal, Seed(1));
            let loss = |layers: &Vec<burn::nn::Linear>| {
                let hidden = relu(layers[0].forward(inputs.clone()));
                layers[1].forward(hidden).square().mean()
            };
            let coarse = CurvatureConfig::new().with_step(0.3).init().expect("valid");
            let error = coarse.spectrum(&layers, loss).expect_err("refused");
            assert!(matches!(error, StabilizeError::Disagreement { .. }), "{error}");

            let origin = point(&[0.0; 2], &device);
            let refused = |direction: &[f64]| {
                probe()
                    .product(&origin, quadratic(vec![1.0, 1.0]), direction)
                    .expect_err("refused")
                    .to_string()
            };
            assert_eq!(
                refused(&[1.0]),
                "`length of direction` must be 2, the trainable elements, got 1"
            );
            assert!(refused(&[0.0, 0.0]).starts_with("`norm of direction` must be in (0, inf)"));
            let broken =
                probe().spectrum(&origin, quadratic(vec![f32::NAN, 1.0])).expect_err("refused");
            assert!(matches!(broken, StabilizeError::NotFinite { .. }));
            assert!(CurvatureConfig::new().with_step(0.0).init().is_err());
            assert!(CurvatureConfig::new().with_iterations(0).init().is_err());
            let nothing: Point = Vec::new();
            assert!(probe().spectrum(&nothing, |_| Tensor::zeros([1], &tracked)).is_err());
        }
    }
}
