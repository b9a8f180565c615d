//! Shampoo with grafting: the gradient is whitened along each axis of a weight; the length of the step is another method's.
//! Won the AlgoPerf benchmark of training algorithms in 2024.
//!
//! # Update
//! For a weight with k axes, G along its k-th axis unrolled into the rows of G_k:
//! ```text
//! L_k = b2 L_k + (1 - b2) G_k G_k^T;   b2 = 1: L_k + G_k G_k^T           (1)
//! P_k = (L_k / (1 - b2^t) + eps I)^(-1 / 2k)   every `frequency` steps   (2)
//! M   = b1 M + (1 - b1) G, corrected by 1 - b1^t                         (3)
//! S   = M, multiplied by P_k along each axis                             (4)
//! D   = the grafted method's step from M                                 (5)
//! U   = S |D| / |S|;  D before step `start`                              (6)
//! B   = mu B + U;  d = B, or U + mu B (Nesterov)                         (7)
//! p   = (1 - lr wd) p - lr d                                             (8)
//! ```
//! Vectors, and weights all of whose axes are longer than `max_size`, take the grafted method's steps; k counts the axes
//! that have a matrix.
//!
//! # Reference
//! V. Gupta, T. Koren, Y. Singer, "Shampoo: preconditioned stochastic tensor optimization", 2018, arXiv 1802.09568; with
//! grafting: H. Shi et al., "A distributed data-parallel PyTorch implementation of the distributed Shampoo optimizer", 2023,
//! arXiv 2309.06497.

use super::axes::{along, area, axes, device_matrix, function, gram, host, join, split};
use super::reduce::{norm, take};
use crate::elementwise::Elementwise;
use crate::recurrence::Clock;
use crate::tensor_rule::TensorRule;
use crate::value::Value;
use burn::config::Config;
use burn::tensor::Tensor;
use firebrick_core::{ConfigError, check};
use serde::{Deserialize, Serialize};

/// The method whose steps Shampoo's are as long as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Graft {
    /// Shampoo's own length.
    None,
    /// The gradient's: `D = M`.
    Sgd,
    /// `v += g^2; D = M / (sqrt(v) + eps)`.
    AdaGrad,
    /// `v = b v + (1 - b) g^2; D = M / (sqrt(v) + eps)`.
    RmsProp,
    /// RMSProp's with v corrected by `1 - b^t`: Adam's rates carry over.
    #[default]
    Adam,
}

/// Configuration of [Shampoo](self).
#[derive(Config, Debug)]
pub struct ShampooConfig {
    /// Decay rate of the filtered gradient, in `[0, 1)`.
    #[config(default = 0.9)]
    pub beta_1: f64,
    /// Decay rate of the matrices, in `[0, 1]`; 1 sums them.
    #[config(default = 0.999)]
    pub beta_2: f64,
    /// Added to the eigenvalues, above 0.
    #[config(default = 1e-12)]
    pub epsilon: f64,
    /// The method that gives the length.
    #[config(default = "Graft::Adam")]
    pub graft: Graft,
    /// Decay rate of the grafted method's second moment, in `[0, 1)`.
    #[config(default = 0.999)]
    pub graft_beta_2: f64,
    /// Keeps the grafted method's denominator from zero, in `[0, inf)`.
    #[config(default = 1e-8)]
    pub graft_epsilon: f64,
    /// Share of the momentum that is kept, mu, in `[0, 1)`.
    #[config(default = 0.0)]
    pub momentum: f64,
    /// Whether to look ahead by one momentum step.
    #[config(default = false)]
    pub nesterov: bool,
    /// Steps between two updates of the roots, at least 1.
    #[config(default = 10)]
    pub frequency: usize,
    /// First step that Shampoo takes itself, at least 1.
    #[config(default = 1)]
    pub start: usize,
    /// Longest axis that has a matrix.
    #[config(default = 1024)]
    pub max_size: usize,
    /// Whether vectors have a matrix too.
    #[config(default = false)]
    pub precondition_vectors: bool,
    /// Strength of weight decay, in `[0, inf)`.
    #[config(default = 0.0)]
    pub weight_decay: f64,
    /// Whether weight decay is decoupled from the gradient.
    #[config(default = true)]
    pub decoupled: bool,
}

impl ShampooConfig {
    /// The validated optimizer.
    ///
    /// # Errors
    /// When a field lies outside its range, or Nesterov's form is asked for without momentum.
    pub fn build(&self) -> Result<Elementwise, ConfigError> {
        let momentum = check::range("momentum", self.momentum, 0.0..1.0)?;
        if self.nesterov && momentum == 0.0 {
            return Err(ConfigError::new("nesterov", true, "false unless momentum > 0"));
        }
        let rule = Shampoo {
            beta_1: check::range("beta_1", self.beta_1, 0.0..1.0)?,
            beta_2: check::range("beta_2", self.beta_2, 0.0..=1.0)?,
            epsilon: check::positive("epsilon", self.epsilon)?,
            graft: self.graft,
            graft_beta: check::range("graft_beta_2", self.graft_beta_2, 0.0..1.0)?,
            graft_epsilon: check::non_negative("graft_epsilon", self.graft_epsilon)?,
            momentum,
            nesterov: self.nesterov,
            frequency: check::at_least("frequency", self.frequency, 1)? as u64,
            start: check::at_least("start", self.start, 1)? as u64,
            largest: check::at_least("max_size", self.max_size, 1)?,
            vectors: self.precondition_vectors,
        };
        Elementwise::of_tensor(rule).with_decay(super::decay(self.weight_decay, self.decoupled))
    }
}
super::doors!(ShampooConfig);

#[derive(Debug)]
struct Shampoo {
    beta_1: f64,
    beta_2: f64,
    epsilon: f64,
    graft: Graft,
    graft_beta: f64,
    graft_epsilon: f64,
    momentum: f64,
    nesterov: bool,
    frequency: u64,
    start: u64,
    largest: usize,
    vectors: bool,
}

impl Shampoo {
    fn axes(&self, shape: &[usize]) -> Vec<[usize; 3]> {
        axes(shape, self.largest, self.vectors)
    }

    /// (2); nothing where the matrix is not finite.
    fn root(&self, gram: &Tensor<2>, t: u64, axes: usize) -> Option<Tensor<2>> {
        let [size, _] = gram.dims();
        let correct = if self.beta_2 < 1.0 { 1.0 - self.beta_2.powf(t as f64) } else { 1.0 };
        let power = -1.0 / (2.0 * axes as f64);
        // Rounding may leave an eigenvalue below 0.
        let inverse = |s: f64| (s.max(0.0) / correct + self.epsilon).powf(power);
        let values = function(&host(gram.clone()), size, inverse)?;
        Some(device_matrix(values, size, (&gram.device(), gram.dtype())))
    }

    /// (5), and the second moment after this step.
    fn grafted(
        &self,
        t: u64,
        m: &Tensor<1>,
        g: &Tensor<1>,
        v: Tensor<1>,
    ) -> (Tensor<1>, Tensor<1>) {
        let square = g.clone().square();
        let (v, correct) = match self.graft {
            Graft::None | Graft::Sgd => return (m.clone(), v),
            Graft::AdaGrad => (v + square, 1.0),
            Graft::RmsProp => (v.lerp(square, 1.0 - self.graft_beta), 1.0),
            Graft::Adam => {
                let correct = 1.0 - self.graft_beta.powf(t as f64);
                (v.lerp(square, 1.0 - self.graft_beta), correct)
            }
        };
        let root = v.clone().div_scalar(correct).sqrt().add_scalar(self.graft_epsilon);
        (m.clone() / root, v)
    }
}

impl TensorRule for Shampoo {
    fn name(&self) -> &'static str {
        match self.graft {
            Graft::None => "shampoo",
            Graft::Sgd => "shampoo_sgd",
            Graft::AdaGrad => "shampoo_adagrad",
            Graft::RmsProp => "shampoo_rmsprop",
            Graft::Adam => "shampoo_adam",
        }
    }

    fn slots(&self) -> &'static [&'static str] {
        &["filtered_grad", "graft_sq", "momentum_buffer", "gram", "root"]
    }

    fn lengths(&self, shape: &[usize]) -> Vec<usize> {
        let n = shape.iter().product();
        let area = area(&self.axes(shape));
        let only = |wanted: bool| if wanted { n } else { 0 };
        let second = !matches!(self.graft, Graft::None | Graft::Sgd);
        vec![only(self.beta_1 > 0.0), only(second), only(self.momentum > 0.0), area, area]
    }

    fn step(
        &self,
        clock: &Clock,
        shape: &[usize],
        _: &mut [f64],
        p: Tensor<1>,
        g: Tensor<1>,
        state: Vec<Tensor<1>>,
    ) -> (Tensor<1>, Vec<Tensor<1>>) {
        let [mut m, v, mut b, grams, roots] = take(state, &p);
        let (axes, t) = (self.axes(shape), clock.t);
        let mixed: Vec<Tensor<2>> = axes
            .iter()
            .zip(split(&grams, &axes))
            .map(|(&axis, old)| {
                let new = gram(&g, axis);
                if self.beta_2 < 1.0 { old.lerp(new, 1.0 - self.beta_2) } else { old + new } // (1)
            })
            .collect();
        let mut powers = split(&roots, &axes);
        if t == self.start || t > self.start && t.is_multiple_of(self.frequency) {
            for (power, gram) in powers.iter_mut().zip(&mixed) {
                if let Some(root) = self.root(gram, t, axes.len()) {
                    *power = root; // (2)
                }
            }
        }
        let filtered = if self.beta_1 > 0.0 {
            m = m.lerp(g.clone(), 1.0 - self.beta_1);
            m.clone().div_scalar(1.0 - self.beta_1.powf(t as f64)) // (3)
        } else {
            g.clone()
        };
        let (target, v) = self.grafted(t, &filtered, &g, v); // (5)
        let update = if axes.is_empty() || t < self.start {
            target
        } else {
            let whiten = |x, (&axis, root): (&[usize; 3], &Tensor<2>)| along(x, axis, root.clone());
            let whitened = axes.iter().zip(&powers).fold(filtered, whiten); // (4)
            if self.graft == Graft::None {
                whitened
            } else {
                let (length, own) = (norm(target), norm(whitened.clone()));
                let zero = own.zeros_like();
                whitened * own.clone().where_positive(length / own, zero) // (6)
            }
        };
        let direction = if self.momentum > 0.0 {
            b = b.mul_scalar(self.momentum) + update.clone(); // (7)
            if self.nesterov { update + b.clone().mul_scalar(self.momentum) } else { b.clone() }
        } else {
            update
        };
        let new = p - direction.mul_scalar(clock.lr); // (8)
        (new, vec![m, v, b, join(mixed, grams), join(powers, roots)])
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::testing::refused;
    use burn::optim::Optimizer;
    use burn::tensor::{DType, Device, TensorData};

    fn matrix(values: [f64; 4]) -> Tensor<2> {
        Tensor::from_data(TensorData::new(values.to_vec(), [2, 2]), (&Device::flex(), DType::F64))
    }

    fn values(tensor: Tensor<2>) -> Vec<f64> {
        tensor.into_data().try_into_vec().expect("f64")
    }

    fn plain() -> ShampooConfig {
        ShampooConfig::new().with_beta_1(0.0).with_beta_2(1.0).with_frequency(1)
    }

    /// For diag(a, b), L = R = diag(a^2, b^2), so the whitened gradient is diag(sign a, sign b).
    #[test]
    fn a_diagonal_gradient_is_whitened() {
        let rule = plain().with_graft(Graft::None).build().expect("valid");
        let g = matrix([4.0, 0.0, 0.0, -0.25]);
        let (p, state) = rule.step(0.1, matrix([1.0; 4]), g.clone(), None);
        for (seen, expected) in values(p.clone()).iter().zip([0.9, 1.0, 1.0, 1.1]) {
            assert!((seen - expected).abs() < 1e-9, "{seen}");
        }
        // The sums have doubled: the second step is 1 / sqrt(2) as long.
        let (q, _) = rule.step(0.1, p.clone(), g, state);
        let moved = values(p - q);
        assert!((moved[0] - 0.1 / 2f64.sqrt()).abs() < 1e-9, "{moved:?}");
    }

    #[test]
    fn grafting_gives_the_length_of_the_other_method() {
        let g = matrix([1.0, 2.0, -0.5, 0.3]);
        let length = |graft: Graft| {
            let rule = plain().with_graft(graft).build().expect("valid");
            let (p, _) = rule.step(1.0, matrix([0.0; 4]), g.clone(), None);
            values(p).iter().map(|x| x * x).sum::<f64>().sqrt()
        };
        let own = values(g.clone()).iter().map(|x| x * x).sum::<f64>().sqrt();
        assert!((length(Graft::Sgd) - own).abs() < 1e-9);
        // Every element of these steps is 1, or 1 / sqrt(1 - b).
        assert!((length(Graft::Adam) - 2.0).abs() < 1e-6);
        assert!((length(Graft::AdaGrad) - 2.0).abs() < 1e-6);
        assert!((length(Graft::RmsProp) - 2.0 / 0.001f64.sqrt()).abs() < 1e-3);
    }

    #[test]
    fn before_the_start_the_steps_are_the_grafted_methods() {
        let rule = ShampooConfig::new().with_start(3).build().expect("valid");
        let adam = crate::AdamConfig::new().build().expect("valid");
        let (mut a, mut b) = (matrix([1.0; 4]), matrix([1.0; 4]));
        let (mut left, mut right) = (None, None);
        for k in 0..3 {
            let g = matrix([0.5, -1.0 + f64::from(k), 0.25, 2.0]);
            (a, left) = rule.step(0.1, a, g.clone(), left);
            (b, right) = adam.step(0.1, b, g, right);
            let off = (a.clone() - b.clone()).abs().max().into_scalar::<f64>();
            assert_eq!(off < 1e-12, k < 2, "step {k}: {off}");
        }
    }

    #[test]
    fn bad_configurations_are_refused() {
        refused(
            ShampooConfig::new().with_beta_2(1.5).build(),
            "`beta_2` must be in [0, 1], got 1.5",
        );
        refused(
            ShampooConfig::new().with_epsilon(0.0).build(),
            "`epsilon` must be in (0, inf), got 0",
        );
        refused(
            ShampooConfig::new().with_nesterov(true).build(),
            "`nesterov` must be false unless momentum > 0, got true",
        );
        refused(ShampooConfig::new().with_start(0).build(), "`start` must be at least 1, got 0");
    }
}
