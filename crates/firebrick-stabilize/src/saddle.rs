//! Leaving saddle points, and why high-dimensional critical points are saddles as a rule.
//!
//! # Rule
//! ```text
//! |gradient| <= threshold, and no kick for `wait` steps:   w <- w + u,  u uniform in the ball of `radius`
//! ```
//! # Reference
//! C. Jin, R. Ge, P. Netrapalli, S. Kakade, M. Jordan, "How to escape saddle points efficiently", ICML 2017
//! (arXiv 1703.00887); Y. Dauphin et al., NeurIPS 2014.

use crate::curvature::shifted;
use crate::guard::{alone, remembers};
use crate::{Guard, Measured, NormType, Verdict};
use burn::config::Config;
use burn::module::Module;
use burn::optim::GradientsParams;
use firebrick_backend::parameters;
use firebrick_core::{ConfigError, Philox, Record, Seed, check};
use serde::{Deserialize, Serialize};

/// Configuration of [`SaddleEscape`].
#[derive(Config, Debug)]
pub struct SaddleEscapeConfig {
    /// The norm of the gradient below which a point counts as stuck; above 0.
    pub threshold: f64,
    /// The length of a kick, at most; above 0.
    pub radius: f64,
    /// How many steps lie between two kicks at least.
    #[config(default = 50)]
    pub wait: u64,
    /// The seed of the kicks.
    #[config(default = 0)]
    pub seed: u64,
}

impl SaddleEscapeConfig {
    /// Checks the values and builds the rule.
    ///
    /// # Errors
    /// When `threshold` or `radius` is not above 0.
    pub fn init(&self) -> Result<SaddleEscape, ConfigError> {
        check::positive("threshold", self.threshold)?;
        check::positive("radius", self.radius)?;
        Ok(SaddleEscape { config: self.clone(), step: 0, last: None, kicks: 0, norm: f64::NAN })
    }
}

/// Kicks a model that is stuck: perturbed gradient descent.
///
/// ```
/// use burn::{module::Param, tensor::{Device, Tensor}};
/// use firebrick_stabilize::SaddleEscapeConfig;
///
/// let device = Device::flex().autodiff();
/// let stuck = vec![Param::from_tensor(Tensor::<1>::zeros([3], &device))];
/// let mut escape = SaddleEscapeConfig::new(1e-3, 0.1).init()?;
/// let moved = escape.after_step(stuck, 0.0); // after the optimizer's step, with its gradient's norm
/// assert!(escape.kicks() == 1 && moved[0].val().square().sum().into_scalar::<f32>() > 0.0);
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SaddleEscape {
    config: SaddleEscapeConfig,
    step: u64,
    last: Option<u64>,
    kicks: u64,
    /// The norm of the step that is being taken; NaN between steps.
    norm: f64,
}

impl SaddleEscape {
    /// The model, kicked if `gradient_norm` says it is stuck.
    ///
    /// The direction is drawn on the host for all trainable elements; nothing is drawn when there is no kick.
    #[must_use]
    pub fn after_step<M: Module>(&mut self, model: M, gradient_norm: f64) -> M {
        let step = self.step;
        self.step += 1;
        let waits = self.last.is_some_and(|last| step - last < self.config.wait);
        if waits || gradient_norm.is_nan() || gradient_norm > self.config.threshold {
            return model;
        }
        let elements = parameters(&model)
            .iter()
            .filter(|parameter| parameter.trainable)
            .map(|parameter| parameter.elements())
            .sum();
        let mut stream = Seed(self.config.seed).child(self.kicks).stream("saddle");
        let direction = in_ball(elements, &mut stream);
        self.last = Some(step);
        self.kicks += 1;
        shifted(&model, &direction, self.config.radius)
    }

    /// How many kicks there were.
    #[must_use]
    pub fn kicks(&self) -> u64 {
        self.kicks
    }
}

/// Kicks after the step, by the norm of the gradients as they are where it stands in the chain: put it first.
impl Guard for SaddleEscape {
    alone!();
    remembers!(SaddleEscape);

    fn before_step_sharing<M: Module>(
        &mut self,
        model: &M,
        gradients: &mut GradientsParams,
        _: f64,
        measured: &mut Measured,
    ) -> Verdict {
        self.norm = measured.global(model, gradients, NormType::Two);
        Verdict::Proceed
    }

    fn revise<M: Module>(&mut self, model: M) -> M {
        let norm = std::mem::replace(&mut self.norm, f64::NAN);
        self.after_step(model, norm)
    }

    fn record(&self, record: &mut Record) {
        record.values.insert("saddle_kicks".into(), self.kicks as f64);
    }
}

/// A uniform point of the unit ball.
fn in_ball(dimensions: usize, stream: &mut Philox) -> Vec<f64> {
    let mut point: Vec<f64> = (0..dimensions).map(|_| stream.normal()).collect();
    let length = point.iter().map(|value| value * value).sum::<f64>().sqrt();
    let radius = stream.uniform().powf(1.0 / dimensions.max(1) as f64);
    point.iter_mut().for_each(|value| *value *= radius / length.max(f64::MIN_POSITIVE));
    point
}

/// The share of random symmetric matrices of `size` rows that are positive definite, of `trials` drawn.
///
/// Diagonal entries are N(0, 2), all others N(0, 1). It falls faster than `2^-size`, which independent signs
/// would give: the eigenvalues repel one another (D. Dean, S. Majumdar, Phys. Rev. Lett. 2006: about
/// `exp(-0.2747 size^2)`). So at a random critical point in high dimensions some direction leads down.
///
/// # Errors
/// When `size` or `trials` is 0.
///
/// ```
/// use firebrick_core::Seed;
/// // Exact for two rows: (2 - sqrt 2) / 4 = 0.146, already below 1 / 4.
/// let share = firebrick_stabilize::positive_definite_share(2, 20_000, Seed(1))?;
/// assert!((share - 0.1464).abs() < 0.013);
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
pub fn positive_definite_share(size: usize, trials: usize, seed: Seed) -> Result<f64, ConfigError> {
    check::at_least("size", size, 1)?;
    check::at_least("trials", trials, 1)?;
    let mut stream = seed.stream("random symmetric matrices");
    let positive = (0..trials).filter(|_| {
        let mut matrix = vec![vec![0.0; size]; size];
        for (i, row) in matrix.iter_mut().enumerate() {
            for (j, entry) in row.iter_mut().enumerate().take(i + 1) {
                *entry = stream.normal() * if i == j { 2f64.sqrt() } else { 1.0 };
            }
        }
        is_positive_definite(&mut matrix)
    });
    Ok(positive.count() as f64 / trials as f64)
}

/// Whether Cholesky's factorization of the lower triangle goes through.
fn is_positive_definite(matrix: &mut [Vec<f64>]) -> bool {
    for j in 0..matrix.len() {
        let pivot = matrix[j][j] - matrix[j][..j].iter().map(|value| value * value).sum::<f64>();
        if pivot <= 0.0 {
            return false;
        }
        let root = pivot.sqrt();
        matrix[j][j] = root;
        for i in j + 1..matrix.len() {
            let dot: f64 = (0..j).map(|k| matrix[i][k] * matrix[j][k]).sum();
            matrix[i][j] = (matrix[i][j] - dot) / root;
        }
    }
    true
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::module::Param;
    use burn::optim::momentum::MomentumConfig;
    use burn::optim::{AdamConfig, GradientsParams, ModuleOptimizer, RmsPropConfig, SgdConfig};
    use burn::tensor::{Device, Tensor};
    use firebrick_backend::testing::devices;

    #[test]
    fn positive_definite_matrices_are_rarer_than_independent_signs() {
        let trials = 40_000;
        let pi = std::f64::consts::PI;
        let exact = [0.5, (2.0 - 2f64.sqrt()) / 4.0, (pi - 2.0 * 2f64.sqrt()) / (4.0 * pi)];
        for size in 1..=5 {
            let share = positive_definite_share(size, trials, Seed(1)).expect("valid");
            if let Some(exact) = exact.get(size - 1) {
                let error = (exact * (1.0 - exact) / trials as f64).sqrt();
                assert!((share - exact).abs() < 5.0 * error, "{size}: {share} {exact}");
            }
            if size > 1 {
                assert!(share < 0.5f64.powi(size as i32), "{size}: {share}");
            }
        }
        assert!(positive_definite_share(0, 1, Seed(1)).is_err());
        assert!(positive_definite_share(1, 0, Seed(1)).is_err());
    }

    type Point = Vec<Param<Tensor<1>>>;

    /// Steps until `(x^2 - y^2) / 2` from (1, 1e-4) has fallen below -1/2.
    fn steps_to_leave(mut optimizer: ModuleOptimizer, device: &Device) -> usize {
        let device = device.clone().autodiff();
        let start = |value: f32| Param::from_tensor(Tensor::<1>::from_floats([value], &device));
        let mut point: Point = vec![start(1.0), start(1e-4)];
        for step in 0..5000 {
            let loss = (point[0].val().square() - point[1].val().square()).mul_scalar(0.5);
            if loss.clone().into_scalar::<f32>() < -0.5 {
                return step;
            }
            let gradients = GradientsParams::from_grads(loss.backward(), &point);
            point = optimizer.step(0.01, point, gradients);
        }
        5000
    }

    #[test]
    fn momentum_rmsprop_and_adam_leave_a_saddle_sooner() {
        for device in devices() {
            let plain = steps_to_leave(SgdConfig::new().init(), &device);
            // (1 + 0.01)^t * 1e-4 = sqrt(1 + x^2): 926 steps.
            assert!((920..940).contains(&plain), "{plain}");
            let momentum = MomentumConfig::new().with_momentum(0.9).with_dampening(0.0);
            for (name, optimizer) in [
                ("momentum", SgdConfig::new().with_momentum(Some(momentum)).init()),
                ("rmsprop", RmsPropConfig::new().with_momentum(0.0).with_epsilon(1e-8).init()),
                ("adam", AdamConfig::new().with_epsilon(1e-8).init()),
            ] {
                let steps = steps_to_leave(optimizer, &device);
                assert!(steps * 4 < plain, "{name}: {steps} against {plain}");
            }
        }
    }

    #[test]
    fn plain_descent_stays_on_a_saddle_and_the_kick_leaves_it() {
        for device in devices() {
            let tracked = device.clone().autodiff();
            let descend = |escape: &mut Option<SaddleEscape>| {
                let mut point: Point = vec![
                    Param::from_tensor(Tensor::zeros([1], &tracked)),
                    Param::from_tensor(Tensor::zeros([1], &tracked)),
                ];
                let mut optimizer = SgdConfig::new().init();
                for _ in 0..200 {
                    let loss = point[0].val().square() - point[1].val().square();
                    let gradients = GradientsParams::from_grads(loss.backward(), &point);
                    let norm =
                        crate::gradient_norms(&point, &gradients, crate::NormType::Two).global;
                    point = optimizer.step(0.05, point, gradients);
                    if let Some(escape) = escape {
                        point = escape.after_step(point, norm);
                    }
                }
                point[1].val().abs().into_scalar::<f32>()
            };
            assert_eq!(descend(&mut None), 0.0);
            let mut escape = Some(SaddleEscapeConfig::new(1e-3, 0.01).init().expect("valid"));
            assert!(descend(&mut escape) > 1.0);
            assert_eq!(escape.map(|escape| escape.kicks()), Some(1));
        }
    }

    #[test]
    fn kicks_are_uniform_in_the_ball() {
        let mut stream = Seed(3).stream("ball");
        let n = 20_000;
        let inside = (0..n).filter(|_| {
            let point = in_ball(3, &mut stream);
            point.iter().map(|value| value * value).sum::<f64>().sqrt() < 0.5
        });
        // An eighth of the volume, within five standard errors.
        let share = inside.count() as f64 / f64::from(n);
        assert!((share - 0.125).abs() < 5.0 * (0.125 * 0.875 / f64::from(n)).sqrt());
        assert!(SaddleEscapeConfig::new(0.0, 1.0).init().is_err());
        assert!(SaddleEscapeConfig::new(1.0, f64::NAN).init().is_err());
    }
}
