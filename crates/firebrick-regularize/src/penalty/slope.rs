//! Penalties on the slope of the function with respect to its input, without second derivatives.
//!
//! # Formula
//! ```text
//! Jacobian    strength * mean_n ||df/dx||_F^2 = strength * mean_n d E_u ||J u||^2       u on the unit sphere
//!             J u = (f(x + e u) - f(x - e u)) / 2e + O(e^2)
//! gradient    strength * mean_n (||g|| - 1)^2   or   strength / 2 * mean_n ||g||^2 (R1)     g = dD/dx
//!             its derivative: mean_n c_n d/dtheta (D(x + e v) - D(x - e v)) / 2e,   v = g / ||g||,
//!             c = 2 strength (||g|| - 1)   or   strength * ||g||
//! ```
//! burn differentiates once only. The value of the gradient penalty is exact and its derivative exact to
//! O(e^2), for the derivative of a norm is the derivative along its direction. Both need smooth activations: at a
//! kink a difference quotient is not the derivative.
//!
//! Half precision is refused: its rounding over the step would outweigh the slope.
//!
//! Layers that couple the samples of a batch (batch norm) must be in evaluation, and noise layers off.
//!
//! # Reference
//! H. Drucker, Y. LeCun, "Improving generalization performance using double backpropagation", 1992; J. Hoffman,
//! D. A. Roberts, S. Yaida, "Robust learning with Jacobian regularization", 2019; I. Gulrajani et al., "Improved
//! training of Wasserstein GANs", NIPS 2017; L. Mescheder, A. Geiger, S. Nowozin, ICML 2018 (R1).

use crate::{MaskSource, RegularizeError};
use burn::config::Config;
use burn::tensor::{DType, Tensor, TensorData};
use firebrick_backend::checkpointing::rejoin;
use firebrick_core::check;
use serde::{Deserialize, Serialize};

const KINKS: &str = "a slope penalty by differences needs smooth activations (tanh, gelu, silu, softplus): with relu and its kin the result is wrong near every kink; set `allow_kinks` to use it all the same";

const HALF: &str = "a slope penalty by differences needs single or double precision: in f16 and bf16 the rounding of the function outweighs its change over the step; cast the input, and the weights that it meets";

/// Configuration of [`JacobianPenalty`].
#[derive(Config, Debug)]
pub struct JacobianPenaltyConfig {
    /// Factor, at least 0; 0.01 is usual.
    pub strength: f64,
    /// Whether every activation of the function is smooth: the caller's declaration.
    pub smooth: bool,
    /// Random directions a call, at least 1; from the number of inputs on, all axes are taken, exactly.
    #[config(default = 1)]
    pub projections: usize,
    /// Step of the difference quotient, above 0. In single precision a longer one errs by its square, a shorter one by
    /// the rounding of the function, for inputs and slopes of about 1.
    #[config(default = 3e-3)]
    pub step: f64,
    /// Whether to go on without smooth activations.
    #[config(default = false)]
    pub allow_kinks: bool,
}

impl JacobianPenaltyConfig {
    /// Checks the values; directions are drawn from `masks`.
    ///
    /// # Errors
    /// When a value is out of range, or the function is not smooth and `allow_kinks` is off.
    pub fn init(&self, masks: &MaskSource) -> Result<JacobianPenalty, RegularizeError> {
        if !self.smooth && !self.allow_kinks {
            return Err(RegularizeError::Refused(KINKS));
        }
        Ok(JacobianPenalty {
            strength: check::non_negative("strength", self.strength)?,
            projections: check::at_least("projections", self.projections, 1)?,
            step: check::positive("step", self.step)?,
            masks: masks.clone(),
        })
    }
}

/// The squared Frobenius norm of the Jacobian, averaged over the batch.
///
/// ```
/// use burn::nn::{Initializer, LinearConfig};
/// use burn::tensor::{Device, Tensor};
/// use firebrick_core::Seed;
/// use firebrick_regularize::{JacobianPenaltyConfig, MaskSource};
///
/// let device = Device::flex().autodiff();
/// let layer = LinearConfig::new(3, 2).with_initializer(Initializer::Ones).init(&device);
/// let penalty = JacobianPenaltyConfig::new(1.0, true).with_projections(3).init(&MaskSource::new(Seed(7)))?;
/// let term = penalty.term(Tensor::<2>::ones([4, 3], &device), |x| layer.forward(x))?;
/// assert!((term.into_scalar::<f32>() - 6.0).abs() < 1e-3); // six weights of 1
/// # Ok::<(), firebrick_regularize::RegularizeError>(())
/// ```
#[derive(Debug, Clone)]
pub struct JacobianPenalty {
    strength: f64,
    projections: usize,
    step: f64,
    masks: MaskSource,
}

impl JacobianPenalty {
    /// The term, of shape `[1]`, for inputs `[n, ...]` and a function to `[n, ...]`; two passes a direction.
    ///
    /// # Errors
    /// When the batch is empty or has no batch axis, or input or output is in half precision.
    pub fn term<const D: usize, const E: usize>(
        &self,
        input: Tensor<D>,
        forward: impl Fn(Tensor<D>) -> Tensor<E>,
    ) -> Result<Tensor<1>, RegularizeError> {
        let (n, d) = rows("the input of a Jacobian penalty", &input.dims())?;
        precise(input.dtype())?;
        let exact = self.projections >= d;
        let directions = if exact { d } else { self.projections };
        // Over all axes the sum is the norm itself; over random ones the mean times d.
        let weight = if exact { 1.0 } else { d as f64 / directions as f64 };
        let mut total: Option<Tensor<1>> = None;
        for index in 0..directions {
            let direction = if exact { axis(n, d, index) } else { self.sphere(n, d) };
            let direction: Tensor<D> = like(direction, &input).mul_scalar(self.step);
            let up = forward(input.clone() + direction.clone());
            precise(up.dtype())?;
            let down = forward(input.clone() - direction);
            let square = (up - down).div_scalar(2.0 * self.step).square().sum();
            total = Some(match total {
                Some(total) => total + square,
                None => square,
            });
        }
        let total = total.ok_or(RegularizeError::Empty { what: "the list of directions" })?;
        Ok(total.mul_scalar(self.strength * weight / n as f64))
    }

    /// One direction of length 1 for each sample.
    fn sphere(&self, n: usize, d: usize) -> Vec<f32> {
        let mut draws = self.masks.normals(n * d);
        for direction in draws.chunks_mut(d) {
            let square: f64 = direction.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
            let norm = square.sqrt().max(f64::MIN_POSITIVE);
            direction.iter_mut().for_each(|x| *x = (f64::from(*x) / norm) as f32);
        }
        draws
    }
}

/// What the norm of the gradient is drawn to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum GradientTarget {
    /// Norm 1: `strength * mean (||g|| - 1)^2`, of WGAN-GP; strength 10.
    One,
    /// Norm 0: `strength / 2 * mean ||g||^2`, R1; strength 10.
    Zero,
}

/// Configuration of [`GradientPenalty`].
#[derive(Config, Debug)]
pub struct GradientPenaltyConfig {
    /// Whether every activation of the function is smooth: the caller's declaration.
    pub smooth: bool,
    /// Factor, at least 0.
    #[config(default = 10.0)]
    pub strength: f64,
    /// What the norm is drawn to.
    #[config(default = "GradientTarget::One")]
    pub target: GradientTarget,
    /// Step of the difference quotient, above 0. In single precision a longer one errs by its square, a shorter one by
    /// the rounding of the function, for inputs and slopes of about 1.
    #[config(default = 3e-3)]
    pub step: f64,
    /// Whether to go on without smooth activations.
    #[config(default = false)]
    pub allow_kinks: bool,
}

impl GradientPenaltyConfig {
    /// Checks the values.
    ///
    /// # Errors
    /// When a value is out of range, or the function is not smooth and `allow_kinks` is off.
    pub fn init(&self) -> Result<GradientPenalty, RegularizeError> {
        if !self.smooth && !self.allow_kinks {
            return Err(RegularizeError::Refused(KINKS));
        }
        Ok(GradientPenalty {
            strength: check::non_negative("strength", self.strength)?,
            step: check::positive("step", self.step)?,
            target: self.target,
        })
    }
}

/// A penalty on the norm of the gradient of a scalar function with respect to its input.
///
/// ```
/// use burn::nn::{Initializer, LinearConfig};
/// use burn::tensor::{Device, Tensor};
/// use firebrick_regularize::GradientPenaltyConfig;
///
/// let device = Device::flex().autodiff();
/// let critic = LinearConfig::new(4, 1).with_initializer(Initializer::Ones).init(&device);
/// let penalty = GradientPenaltyConfig::new(true).with_strength(1.0).init()?;
/// let term = penalty.term(Tensor::<2>::ones([8, 4], &device), |x| critic.forward(x))?;
/// assert!((term.into_scalar::<f32>() - 1.0).abs() < 1e-5); // (2 - 1)^2
/// # Ok::<(), firebrick_regularize::RegularizeError>(())
/// ```
#[derive(Debug, Clone)]
pub struct GradientPenalty {
    strength: f64,
    step: f64,
    target: GradientTarget,
}

impl GradientPenalty {
    /// The term, of shape `[1]`, for inputs `[n, ...]` and a function to one number a sample; three passes and one
    /// backward.
    ///
    /// Where the gradient of a sample is exactly 0 the direction is undefined, and its derivative counts as 0.
    ///
    /// # Errors
    /// When the batch is empty, the output is not one number a sample, input or output is in half precision, or the
    /// function does not depend on its input through an autodiff device.
    pub fn term<const D: usize, const E: usize>(
        &self,
        input: Tensor<D>,
        critic: impl Fn(Tensor<D>) -> Tensor<E>,
    ) -> Result<Tensor<1>, RegularizeError> {
        let (n, d) = rows("the input of a gradient penalty", &input.dims())?;
        precise(input.dtype())?;
        let untracked = RegularizeError::Refused(
            "the gradient penalty needs an input on an autodiff device and a function that depends on it",
        );
        if !input.device().is_autodiff() {
            return Err(untracked);
        }
        let input = input.detach().require_grad();
        let output = critic(input.clone());
        precise(output.dtype())?;
        if output.shape().num_elements() != n {
            return Err(RegularizeError::Shape {
                what: "the output of the function under a gradient penalty",
                expected: format!("one number for each of the {n} samples"),
                found: output.dims().to_vec(),
            });
        }
        let gradients = output.sum().backward();
        let Some(gradient) = input.grad(&gradients) else { return Err(untracked) };
        let gradient = gradient.reshape([n, d]);
        let norm = gradient.clone().square().sum_dim(1).sqrt();
        let zero = norm.clone().equal_scalar(0.0);
        let direction = gradient / norm.clone().mask_fill(zero, 1.0);
        let strength = self.strength;
        let (value, slope) = match self.target {
            GradientTarget::One => {
                let excess = norm - 1.0;
                (
                    excess.clone().square().mean().mul_scalar(strength),
                    excess.mul_scalar(2.0 * strength),
                )
            }
            GradientTarget::Zero => {
                (norm.clone().square().mean().mul_scalar(strength / 2.0), norm.mul_scalar(strength))
            }
        };
        let strategy = input.gradient_checkpointing_strategy();
        let input = input.inner();
        let step = direction.reshape(input.dims()).mul_scalar(self.step);
        let at = |point: Tensor<D>| critic(rejoin(point, strategy)).reshape([n, 1]);
        let along =
            (at(input.clone() + step.clone()) - at(input - step)).div_scalar(2.0 * self.step);
        let carrier = (along * slope).mean();
        let offset = value - carrier.clone().inner();
        Ok(carrier + offset)
    }
}

/// An error for half precision.
fn precise(dtype: DType) -> Result<(), RegularizeError> {
    match dtype {
        DType::F16 | DType::BF16 => Err(RegularizeError::Refused(HALF)),
        _ => Ok(()),
    }
}

/// Samples and elements a sample.
fn rows(what: &'static str, dims: &[usize]) -> Result<(usize, usize), RegularizeError> {
    let elements = dims.iter().product::<usize>();
    match dims.first() {
        Some(&n) if elements > 0 => Ok((n, elements / n)),
        _ => Err(RegularizeError::Empty { what }),
    }
}

fn axis(n: usize, d: usize, index: usize) -> Vec<f32> {
    (0..n * d).map(|at| if at % d == index { 1.0 } else { 0.0 }).collect()
}

fn like<const D: usize>(values: Vec<f32>, other: &Tensor<D>) -> Tensor<D> {
    let data = TensorData::new(values, other.dims());
    Tensor::from_data(data, (&other.device().inner(), other.dtype()))
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::tensor::Device;
    use firebrick_backend::testing::devices;
    use firebrick_core::Seed;

    /// D(x) = sum_j b_j tanh(sum_i x_i a_ij), two inputs, two hidden units; its input gradient in closed form.
    fn gradient(a: [f64; 4], b: [f64; 2], x: [f64; 2]) -> [f64; 2] {
        let slope = |j: usize| {
            let t = (x[0] * a[j] + x[1] * a[2 + j]).tanh();
            b[j] * (1.0 - t * t)
        };
        [a[0] * slope(0) + a[1] * slope(1), a[2] * slope(0) + a[3] * slope(1)]
    }

    const A: [f64; 4] = [0.7, -0.4, 0.3, 0.9];
    const B: [f64; 2] = [1.1, -0.8];
    const X: [[f64; 2]; 3] = [[0.5, -0.2], [1.0, 0.4], [-0.3, 0.8]];

    fn penalty(a: [f64; 4], target: GradientTarget) -> f64 {
        let each = |x: &[f64; 2]| {
            let g = gradient(a, B, *x);
            let norm = (g[0] * g[0] + g[1] * g[1]).sqrt();
            match target {
                GradientTarget::One => 10.0 * (norm - 1.0).powi(2),
                GradientTarget::Zero => 5.0 * norm * norm,
            }
        };
        X.iter().map(each).sum::<f64>() / 3.0
    }

    fn tensors(device: &Device) -> (Tensor<2>, Tensor<2>, Tensor<2>) {
        let make = |values: &[f64], shape: [usize; 2]| {
            let values = values.iter().map(|&v| v as f32).collect();
            Tensor::<2>::from_data(TensorData::new::<f32, _>(values, shape), device)
        };
        (make(&A, [2, 2]).require_grad(), make(&B, [2, 1]), make(X.as_flattened(), [3, 2]))
    }

    #[test]
    fn the_gradient_penalty_and_its_derivative_are_those_of_the_closed_form() {
        for device in devices() {
            for target in [GradientTarget::One, GradientTarget::Zero] {
                let (a, b, x) = tensors(&device.clone().autodiff());
                let config = GradientPenaltyConfig::new(true).with_target(target);
                let term = config
                    .init()
                    .expect("smooth")
                    .term(x, |x| x.matmul(a.clone()).tanh().matmul(b.clone()));
                let term = term.expect("valid");
                let value: f64 = term.clone().into_scalar();
                assert!((value - penalty(A, target)).abs() < 1e-5, "{value}");
                let found = a.grad(&term.backward()).expect("has one");
                let found: Vec<f64> = found.try_to_vec_as().expect("reads");
                for (k, found) in found.into_iter().enumerate() {
                    let (mut up, mut down) = (A, A);
                    up[k] += 1e-5;
                    down[k] -= 1e-5;
                    let expected = (penalty(up, target) - penalty(down, target)) / 2e-5;
                    assert!(
                        (found - expected).abs() < 5e-4 * (1.0 + expected.abs()),
                        "{found} {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_jacobian_penalty_is_exact_over_all_axes_and_unbiased_over_random_ones() {
        for device in devices() {
            let device = device.autodiff();
            let (a, b, x) = tensors(&device);
            let forward = |x: Tensor<2>| x.matmul(a.clone()).tanh().matmul(b.clone());
            let expected = X
                .iter()
                .map(|&x| gradient(A, B, x))
                .map(|g| g[0] * g[0] + g[1] * g[1])
                .sum::<f64>()
                / 3.0;
            let config = JacobianPenaltyConfig::new(1.0, true).with_projections(2);
            let exact = config.init(&MaskSource::new(Seed(1))).expect("smooth");
            let found: f64 = exact.term(x.clone(), forward).expect("valid").into_scalar();
            assert!((found - expected).abs() < 2e-4 * expected, "{found} {expected}");
            // One random direction each: d (g.u)^2 = 2 |g|^2 cos^2, of variance |g|^4 / 2.
            let config = JacobianPenaltyConfig::new(1.0, true);
            let random = config.init(&MaskSource::new(Seed(1))).expect("smooth");
            let many = x.repeat_dim(0, 5000);
            let found: f64 = random.term(many, forward).expect("valid").into_scalar();
            let bound = 5.0
                * X.iter()
                    .map(|&x| gradient(A, B, x))
                    .map(|g| (g[0] * g[0] + g[1] * g[1]).powi(2) / 2.0)
                    .sum::<f64>()
                    .sqrt()
                / (3.0 * (5000f64).sqrt());
            assert!((found - expected).abs() < bound + 1e-3 * expected, "{found} {expected}");
        }
    }

    #[test]
    fn half_precision_is_refused() {
        let device = Device::flex().autodiff();
        let jacobian = JacobianPenaltyConfig::new(0.1, true).init(&MaskSource::new(Seed(1)));
        let jacobian = jacobian.expect("smooth");
        let gradient = GradientPenaltyConfig::new(true).init().expect("smooth");
        let single = || Tensor::<2>::ones([3, 2], (&device, DType::F32));
        for dtype in [DType::F16, DType::BF16] {
            let half = || Tensor::<2>::ones([3, 2], (&device, dtype));
            for refused in [
                jacobian.term(half(), |x| x.tanh()),
                gradient.term(half(), |x| x.sum_dim(1)),
                jacobian.term(single(), |x| x.tanh().cast(dtype)),
                gradient.term(single(), |x| x.sum_dim(1).cast(dtype)),
            ] {
                let message = refused.expect_err("half precision").to_string();
                assert!(message.contains("single or double precision"), "{message}");
            }
        }
        let double = Tensor::<2>::ones([3, 2], (&device, DType::F64));
        assert!(gradient.term(double, |x| x.sum_dim(1)).is_ok());
    }

    #[test]
    fn kinks_plain_devices_and_wrong_shapes_are_refused() {
        let masks = MaskSource::new(Seed(1));
        let refused = JacobianPenaltyConfig::new(0.1, false).init(&masks).expect_err("relu");
        assert!(refused.to_string().contains("smooth activations"));
        assert!(JacobianPenaltyConfig::new(0.1, false).with_allow_kinks(true).init(&masks).is_ok());
        assert!(GradientPenaltyConfig::new(false).init().is_err());
        assert!(GradientPenaltyConfig::new(true).with_step(0.0).init().is_err());
        let penalty = GradientPenaltyConfig::new(true).init().expect("smooth");
        let plain = Tensor::<2>::ones([3, 2], &Device::flex());
        assert!(penalty.term(plain.clone(), |x| x.sum_dim(1)).is_err());
        let tracked = Tensor::<2>::ones([3, 2], &Device::flex().autodiff());
        let wide = penalty.term(tracked.clone(), |x| x).expect_err("two numbers a sample");
        assert!(wide.to_string().contains("one number for each of the 3 samples"), "{wide}");
        let empty = Tensor::<2>::ones([0, 2], &Device::flex().autodiff());
        assert!(penalty.term(empty, |x| x.sum_dim(1)).is_err());
        let constant = penalty.term(tracked, |x| (x * 0.0).sum_dim(1)).expect("slope 0 is defined");
        assert_eq!(constant.into_scalar::<f32>(), 10.0);
    }

    #[test]
    fn what_is_empty_or_out_of_range_is_refused_and_kinks_may_be_asked_for() {
        let masks = MaskSource::new(Seed(1));
        let device = Device::flex().autodiff();
        let jacobian = |strength| JacobianPenaltyConfig::new(strength, true);
        for strength in [-1.0, f64::NAN, f64::INFINITY] {
            assert!(jacobian(strength).init(&masks).is_err());
            assert!(GradientPenaltyConfig::new(true).with_strength(strength).init().is_err());
        }
        assert!(jacobian(0.1).with_projections(0).init(&masks).is_err());
        assert!(jacobian(0.1).with_step(f64::NAN).init(&masks).is_err());
        let penalty = jacobian(0.1).init(&masks).expect("smooth");
        for shape in [[0usize, 2], [3, 0]] {
            let refused = penalty.term(Tensor::<2>::ones(shape, &device), |x| x.tanh());
            assert!(matches!(refused, Err(RegularizeError::Empty { .. })), "{shape:?}");
        }
        // A leaky unit away from its kink: slope 1 for each of two inputs, so the norm is sqrt(2).
        let asked = GradientPenaltyConfig::new(false).with_allow_kinks(true).with_strength(1.0);
        let asked = asked.init().expect("asked for");
        let term = asked.term(Tensor::<2>::ones([3, 2], &device), |x| {
            burn::tensor::activation::relu(x).sum_dim(1)
        });
        let found = term.expect("valid").into_scalar::<f64>();
        assert!((found - (2f64.sqrt() - 1.0).powi(2)).abs() < 1e-5, "{found}");
    }
}
