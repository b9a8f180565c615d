//! MARS: AdamW on a gradient whose variance is reduced by the change since the last step. For language models.
//!
//! # Update
//! For matrices; biases and other vectors take AdamW's steps with betas, rate and decay of their own unless
//! `correct_vectors`:
//! ```text
//! c   = g_t + gamma b1 / (1 - b1) (g_t - g_{t-1}),  g_0 = 0    (1)
//! c   = c / max(1, |c|)                                        (2)
//! p_t = AdamW's step with c in place of g                      (3)
//! ```
//! # Reference
//! H. Yuan et al., "MARS: unleashing the power of variance reduction for training large models", 2024, arXiv 2411.10438,
//! in the approximate form of the authors' code. The usual rate is 3e-3.

use super::moments::{self, Moments};
use super::reduce::adam;
use crate::decay::Decay;
use crate::elementwise::Elementwise;
use crate::recurrence::Clock;
use crate::reducing::ReducingRule;
use crate::value::Value;
use burn::config::Config;
use firebrick_core::{ConfigError, check};

/// Configuration of [MARS](self).
#[derive(Config, Debug)]
pub struct MarsConfig {
    /// Decay rate of the first moment, in `[0, 1)`.
    #[config(default = 0.95)]
    pub beta_1: f64,
    /// Decay rate of the second moment, in `[0, 1)`.
    #[config(default = 0.99)]
    pub beta_2: f64,
    /// Keeps the denominator from zero, in `[0, inf)`.
    #[config(default = 1e-8)]
    pub epsilon: f64,
    /// Strength of the correction, in `[0, inf)`.
    #[config(default = 0.025)]
    pub gamma: f64,
    /// First decay rate of vectors, in `[0, 1)`.
    #[config(default = 0.9)]
    pub vector_beta_1: f64,
    /// Second decay rate of vectors, in `[0, 1)`.
    #[config(default = 0.95)]
    pub vector_beta_2: f64,
    /// Factor of the rate for vectors, in `[0, inf)`.
    #[config(default = 1.0)]
    pub vector_lr_factor: f64,
    /// Strength of decoupled weight decay for vectors that decay, in `[0, inf)`; none for that of matrices.
    pub vector_weight_decay: Option<f64>,
    /// Whether vectors take the corrected steps of matrices.
    #[config(default = false)]
    pub correct_vectors: bool,
    /// Strength of decoupled weight decay, in `[0, inf)`.
    #[config(default = 0.0)]
    pub weight_decay: f64,
}

impl MarsConfig {
    /// The validated optimizer.
    ///
    /// # Errors
    /// When a field lies outside its range.
    pub fn build(&self) -> Result<Elementwise, ConfigError> {
        let vector = Moments::new(self.vector_beta_1, self.vector_beta_2, self.epsilon)?;
        let moments = Moments::new(self.beta_1, self.beta_2, self.epsilon)?;
        let gamma = check::non_negative("gamma", self.gamma)?;
        let decay = self.vector_weight_decay.unwrap_or(self.weight_decay);
        let rule = Mars {
            moments,
            vector,
            gamma,
            factor: check::non_negative("vector_lr_factor", self.vector_lr_factor)?,
            decays: [
                check::non_negative("weight_decay", self.weight_decay)?,
                check::non_negative("vector_weight_decay", decay)?,
            ],
            corrects: self.correct_vectors,
        };
        Elementwise::reducing(rule).with_decay(Decay::Inner(self.weight_decay))
    }
}
super::doors!(MarsConfig);

#[derive(Debug)]
struct Mars {
    moments: Moments,
    vector: Moments,
    gamma: f64,
    /// Of the rate, for vectors.
    factor: f64,
    /// Weight decay of matrices and of vectors.
    decays: [f64; 2],
    corrects: bool,
}

impl Mars {
    /// Whether a parameter of `shape` takes AdamW's steps.
    fn is_plain(&self, shape: &[usize]) -> bool {
        shape.len() < 2 && !self.corrects
    }
}

#[derive(Clone, Copy)]
struct Step {
    moments: moments::Step,
    /// Strength of the correction; `None` for vectors, which take AdamW's step.
    correction: Option<f64>,
    /// What weight decay takes of the parameter.
    decay: f64,
}

impl Step {
    /// The gradient that the moments see, before clipping.
    #[inline(always)]
    fn corrected<V: Value>(&self, g: V, last: V) -> V {
        match self.correction {
            Some(k) => g.clone() + (g - last).scale(k), // (1)
            None => g,
        }
    }
}

impl ReducingRule<3, 1> for Mars {
    type Step = Step;
    const NAME: &'static str = "mars";
    const SLOTS: [&'static str; 3] = ["exp_avg", "exp_avg_sq", "previous_grad"];

    fn weight_decay(&self, shape: &[usize]) -> Option<f64> {
        Some(self.decays[usize::from(self.is_plain(shape))])
    }

    fn at(&self, clock: &Clock, shape: &[usize]) -> Step {
        let b1 = self.moments.beta_1;
        let plain = self.is_plain(shape);
        let (moments, factor, decay) = if plain {
            (&self.vector, self.factor, self.decays[1])
        } else {
            (&self.moments, 1.0, self.decays[0])
        };
        let lr = clock.lr * factor;
        Step {
            moments: moments.step(&Clock { lr, ..*clock }),
            correction: (!plain).then_some(self.gamma * b1 / (1.0 - b1)),
            decay: if clock.decays { lr * decay } else { 0.0 },
        }
    }

    #[inline(always)]
    fn begin<V: Value>(s: &Step, _: &V, g: &V, [m, v, last]: [V; 3]) -> ([V; 3], [V; 1]) {
        let square = s.corrected(g.clone(), last.clone()).square();
        ([m, v, last], [square])
    }

    fn factor<V: Value>(s: &Step, [square]: [V; 1]) -> V {
        match s.correction {
            Some(_) => square.sqrt().clamp(1.0, f64::INFINITY),
            None => square.constant(1.0),
        }
    }

    #[inline(always)]
    fn finish<V: Value>(s: &Step, norm: V, p: V, g: V, [m, v, last]: [V; 3]) -> (V, [V; 3]) {
        let c = s.corrected(g.clone(), last) / norm; // (2)
        let (m, v) = adam(&s.moments, c, m, v);
        let step = m.clone().scale(s.moments.lr) / s.moments.denominator(v.clone());
        (p.clone() - (p.scale(s.decay) + step), [m, v, g]) // (3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{golden, refused};
    use burn::tensor::Tensor;

    #[test]
    fn vectors_take_adamws_steps() {
        let mars = MarsConfig::new().with_vector_beta_2(0.999).build().expect("valid");
        golden(&mars, 0.1, [0.900000002, 0.873366299, 0.595822295, -0.911238019]);
    }

    #[test]
    fn a_matrix_by_hand() {
        // g = (0.3, 0.4): c = 1.475 g, norm 0.7375, not clipped; Adam's first step is the rate.
        // Then g = (3, 4): c = g + 0.475 (2.7, 3.6), a multiple of (0.6, 0.8), clipped to it.
        let device = burn::tensor::Device::default();
        let rule = MarsConfig::new().build().expect("valid");
        let matrix = |values: [f64; 2]| {
            Tensor::<2>::from_data([values], (&device, burn::tensor::DType::F64))
        };
        use burn::optim::Optimizer;
        let (p, state) = rule.step(0.1, matrix([1.0, 1.0]), matrix([0.3, 0.4]), None);
        let (p, _) = rule.step(0.1, p, matrix([3.0, 4.0]), state);
        let seen: Vec<f64> = p.into_data().try_into_vec().expect("f64");
        for (seen, (a, b)) in seen.iter().zip([(1.475 * 0.3, 0.6), (1.475 * 0.4, 0.8)]) {
            let m: f64 = (0.95 * 0.05 * a + 0.05 * b) / (1.0 - 0.95 * 0.95);
            let v: f64 = (0.99 * 0.01 * a * a + 0.01 * b * b) / (1.0 - 0.99 * 0.99);
            let expected = 1.0 - 0.1 - 0.1 * m / (v.sqrt() + 1e-8);
            assert!((seen - expected).abs() < 1e-8, "{seen} {expected}");
        }
    }

    #[test]
    fn bad_configurations_are_refused() {
        refused(MarsConfig::new().with_beta_1(1.0).build(), "`beta_1` must be in [0, 1), got 1");
        refused(
            MarsConfig::new().with_weight_decay(-1.0).build(),
            "`weight_decay` must be in [0, inf), got -1",
        );
        refused(
            MarsConfig::new().with_epsilon(f64::NAN).build(),
            "`epsilon` must be in [0, inf), got NaN",
        );
    }
}
