//! NAdam and NAdamW: Adam that looks ahead as Nesterov's momentum does. NAdamW in the form of the AlgoPerf
//! benchmark is its baseline: as cheap as AdamW, a little better, with a longer warm-up.
//!
//! # Update
//! With Adam's moments m, v, `den = sqrt(v_t / (1 - b2^t)) + eps` and `mu_t = b1 (1 - 0.5 * 0.96^(t psi))`:
//! ```text
//! NAdam, Scheduled  p -= lr ((1 - mu_t) / (1 - prod mu_i) g_t + mu_{t+1} / (1 - mu_{t+1} prod mu_i) m_t) / den
//! NAdam, Constant   p -= lr (b1 m_t / (1 - b1^(t+1)) + (1 - b1) g_t / (1 - b1^t)) / den
//! NAdamW            p  = (1 - lr wd) p - lr (b1 m_t + (1 - b1) g_t) / (1 - b1^t) / den
//! ```
//! # Reference
//! T. Dozat, "Incorporating Nesterov momentum into Adam", 2016; G. Dahl et al., "Benchmarking neural network training
//! algorithms", 2023, arXiv 2306.07179, for NAdamW.
//!
//! # Differences
//! Three algorithms share the name: PyTorch's is `Scheduled`, optax's `Constant`, timm's `nadamw` the last. Their
//! first steps are 1.06, 1.47 and 1.90 times the rate. NAdam's usual rate is 2e-3.

use super::moments::Moments;
use crate::decay::Decay;
use crate::elementwise::Elementwise;
use crate::recurrence::{Clock, Rule};
use crate::value::Value;
use burn::config::Config;
use firebrick_core::{ConfigError, check};
use serde::{Deserialize, Serialize};

/// Which of the algorithms called NAdam.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub enum NAdamForm {
    /// Dozat's schedule of the momentum (PyTorch).
    #[default]
    Scheduled,
    /// Constant momentum (optax).
    Constant,
}

/// Configuration of [NAdam](self).
#[derive(Config, Debug)]
pub struct NAdamConfig {
    /// Decay rate of the first moment, in `[0, 1)`.
    #[config(default = 0.9)]
    pub beta_1: f64,
    /// Decay rate of the second moment, in `[0, 1)`.
    #[config(default = 0.999)]
    pub beta_2: f64,
    /// Keeps the denominator from zero, in `[0, inf)`.
    #[config(default = 1e-8)]
    pub epsilon: f64,
    /// Strength of weight decay, in `[0, inf)`.
    #[config(default = 0.0)]
    pub weight_decay: f64,
    /// Whether weight decay is decoupled from the gradient.
    #[config(default = false)]
    pub decoupled: bool,
    /// Speed of the momentum's schedule, psi, in `[0, inf)`.
    #[config(default = 4e-3)]
    pub momentum_decay: f64,
    /// Which of the algorithms called NAdam.
    #[config(default = "NAdamForm::Scheduled")]
    pub form: NAdamForm,
}

impl NAdamConfig {
    /// The validated optimizer.
    ///
    /// # Errors
    /// When a field lies outside its range.
    pub fn build(&self) -> Result<Elementwise, ConfigError> {
        let moments = Moments::new(self.beta_1, self.beta_2, self.epsilon)?;
        let psi = check::non_negative("momentum_decay", self.momentum_decay)?;
        let form = match self.form {
            NAdamForm::Scheduled => Form::Scheduled { psi },
            NAdamForm::Constant => Form::Constant,
        };
        Elementwise::new(NAdam { moments, form })
            .with_decay(super::decay(self.weight_decay, self.decoupled))
    }
}
super::doors!(NAdamConfig);

/// Configuration of [NAdamW](self).
#[derive(Config, Debug)]
pub struct NAdamWConfig {
    /// Decay rate of the first moment, in `[0, 1)`.
    #[config(default = 0.9)]
    pub beta_1: f64,
    /// Decay rate of the second moment, in `[0, 1)`.
    #[config(default = 0.999)]
    pub beta_2: f64,
    /// Keeps the denominator from zero, in `[0, inf)`.
    #[config(default = 1e-8)]
    pub epsilon: f64,
    /// Strength of decoupled weight decay, in `[0, inf)`.
    #[config(default = 0.01)]
    pub weight_decay: f64,
}

impl NAdamWConfig {
    /// The validated optimizer.
    ///
    /// # Errors
    /// When a field lies outside its range.
    pub fn build(&self) -> Result<Elementwise, ConfigError> {
        let moments = Moments::new(self.beta_1, self.beta_2, self.epsilon)?;
        Elementwise::new(NAdam { moments, form: Form::Simple })
            .with_decay(Decay::Decoupled(self.weight_decay))
    }
}
super::doors!(NAdamWConfig);

#[derive(Debug, Clone, Copy)]
enum Form {
    Scheduled { psi: f64 },
    Constant,
    Simple,
}

#[derive(Debug, Clone)]
struct NAdam {
    moments: Moments,
    form: Form,
}

#[derive(Clone, Copy)]
struct Step {
    adam: super::moments::Step,
    /// Factors of the gradient and of the first moment, the rate among them.
    grad: f64,
    momentum: f64,
}

impl Rule<2> for NAdam {
    type Step = Step;
    const NAME: &'static str = "nadam";
    const SLOTS: [&'static str; 2] = ["exp_avg", "exp_avg_sq"];

    /// The product of the momenta so far.
    fn memory(&self) -> Vec<f64> {
        vec![1.0]
    }

    fn at(&self, clock: &Clock, memory: &mut [f64]) -> Step {
        let adam = self.moments.step(clock);
        let (b1, t) = (self.moments.beta_1, clock.t as f64);
        let (grad, momentum) = match self.form {
            Form::Scheduled { psi } => {
                let mu = |t: f64| b1 * (1.0 - 0.5 * 0.96f64.powf(t * psi));
                let product = memory.first().copied().unwrap_or(1.0) * mu(t);
                if let Some(memory) = memory.first_mut() {
                    *memory = product;
                }
                let next = mu(t + 1.0);
                ((1.0 - mu(t)) / (1.0 - product), next / (1.0 - product * next))
            }
            Form::Constant => ((1.0 - b1) / (1.0 - b1.powf(t)), b1 / (1.0 - b1.powf(t + 1.0))),
            Form::Simple => ((1.0 - b1) / (1.0 - b1.powf(t)), b1 / (1.0 - b1.powf(t))),
        };
        Step { adam, grad: clock.lr * grad, momentum: clock.lr * momentum }
    }

    #[inline(always)]
    fn update<V: Value>(s: &Step, p: V, g: V, [m, v]: [V; 2]) -> (V, [V; 2]) {
        let m = s.adam.first(m, g.clone());
        let v = s.adam.second(v, g.clone());
        let d = g.scale(s.grad) + m.clone().scale(s.momentum);
        (p - d / s.adam.denominator(v.clone()), [m, v])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{golden, refused};

    #[test]
    fn golden_trajectories() {
        let torch = NAdamConfig::new();
        golden(
            &torch.build().expect("valid"),
            0.1,
            [0.894354824, 0.935465796, 0.746241889, -0.802293124],
        );
        let optax = torch.with_form(NAdamForm::Constant).build().expect("valid");
        golden(&optax, 0.1, [0.852631582, 0.869117943, 0.581008320, -0.962757257]);
        let algoperf = NAdamWConfig::new().with_weight_decay(0.1).build().expect("valid");
        golden(&algoperf, 0.1, [0.800000004, 0.801321800, 0.441848964, -0.989143904]);
    }

    #[test]
    fn bad_configurations_are_refused() {
        refused(NAdamConfig::new().with_beta_1(1.0).build(), "`beta_1` must be in [0, 1), got 1");
        refused(
            NAdamConfig::new().with_weight_decay(-1.0).build(),
            "`weight_decay` must be in [0, inf), got -1",
        );
        refused(
            NAdamConfig::new().with_epsilon(f64::NAN).build(),
            "`epsilon` must be in [0, inf), got NaN",
        );
    }
}
