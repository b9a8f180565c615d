//! Adan: Nesterov's momentum for adaptive methods, from the difference of consecutive gradients. For vision
//! transformers and large batches.
//!
//! # Update
//! With `d_t = g_t - g_{t-1}` (0 at the first step):
//! ```text
//! m_t = b1 m_{t-1} + (1 - b1) g_t                        (1)
//! w_t = b2 w_{t-1} + (1 - b2) d_t                        (2)
//! n_t = b3 n_{t-1} + (1 - b3) (g_t + b2 d_t)^2           (3)
//! u_t = (m_t / (1 - b1^t) + b2 w_t / (1 - b2^t)) / (sqrt(n_t / (1 - b3^t)) + eps)   (4)
//! p_t = (p_{t-1} - lr u_t) / (1 + lr wd)                 (5)
//! ```
//! With `proximal` off, (5) is `p_t = (1 - lr wd) p_{t-1} - lr u_t`.
//!
//! # Reference
//! X. Xie et al., "Adan: adaptive Nesterov momentum algorithm", 2022, arXiv 2208.06677.
//!
//! # Differences
//! The betas are those of the authors' code; the paper's are 1 minus these.

use crate::decay::Decay;
use crate::elementwise::Elementwise;
use crate::recurrence::{Clock, Rule};
use crate::value::Value;
use burn::config::Config;
use firebrick_core::{ConfigError, check};

/// Configuration of [Adan](self).
#[derive(Config, Debug)]
pub struct AdanConfig {
    /// Decay rate of the first moment, in `[0, 1)`.
    #[config(default = 0.98)]
    pub beta_1: f64,
    /// Decay rate of the differences, in `[0, 1)`.
    #[config(default = 0.92)]
    pub beta_2: f64,
    /// Decay rate of the second moment, in `[0, 1)`.
    #[config(default = 0.99)]
    pub beta_3: f64,
    /// Keeps the denominator from zero, in `[0, inf)`.
    #[config(default = 1e-8)]
    pub epsilon: f64,
    /// Strength of weight decay, in `[0, inf)`.
    #[config(default = 0.0)]
    pub weight_decay: f64,
    /// Whether decay divides after the step instead of multiplying before it.
    #[config(default = true)]
    pub proximal: bool,
}

impl AdanConfig {
    /// The validated optimizer.
    ///
    /// # Errors
    /// When a field lies outside its range.
    pub fn build(&self) -> Result<Elementwise, ConfigError> {
        let rule = Adan {
            beta_1: check::range("beta_1", self.beta_1, 0.0..1.0)?,
            beta_2: check::range("beta_2", self.beta_2, 0.0..1.0)?,
            beta_3: check::range("beta_3", self.beta_3, 0.0..1.0)?,
            epsilon: check::non_negative("epsilon", self.epsilon)?,
        };
        Elementwise::new(rule).with_decay(if self.proximal {
            Decay::Proximal(self.weight_decay)
        } else {
            Decay::Decoupled(self.weight_decay)
        })
    }
}
super::doors!(AdanConfig);

#[derive(Debug, Clone)]
struct Adan {
    beta_1: f64,
    beta_2: f64,
    beta_3: f64,
    epsilon: f64,
}

#[derive(Clone, Copy)]
struct Step {
    /// 1 - b1.
    fresh_1: f64,
    beta_2: f64,
    /// 1 - b2.
    fresh_2: f64,
    beta_3: f64,
    /// 1 - b3.
    fresh_3: f64,
    /// lr / (1 - b1^t).
    momentum: f64,
    /// lr b2 / (1 - b2^t).
    ahead: f64,
    /// 1 / sqrt(1 - b3^t).
    root: f64,
    epsilon: f64,
    first: bool,
}

impl Rule<4> for Adan {
    type Step = Step;
    const NAME: &'static str = "adan";
    const SLOTS: [&'static str; 4] = ["exp_avg", "exp_avg_diff", "exp_avg_sq", "previous_grad"];

    fn at(&self, clock: &Clock, _: &mut [f64]) -> Step {
        let t = clock.t as f64;
        let Self { beta_1, beta_2, beta_3, epsilon } = *self;
        Step {
            fresh_1: 1.0 - beta_1,
            beta_2,
            fresh_2: 1.0 - beta_2,
            beta_3,
            fresh_3: 1.0 - beta_3,
            momentum: clock.lr / (1.0 - beta_1.powf(t)),
            ahead: clock.lr * beta_2 / (1.0 - beta_2.powf(t)),
            root: 1.0 / (1.0 - beta_3.powf(t)).sqrt(),
            epsilon,
            first: clock.t == 1,
        }
    }

    #[inline(always)]
    fn update<V: Value>(s: &Step, p: V, g: V, [m, w, n, last]: [V; 4]) -> (V, [V; 4]) {
        let last = if s.first { g.clone() } else { last };
        let d = g.clone() - last;
        let m = m.lerp(g.clone(), s.fresh_1); // (1)
        let w = w.lerp(d.clone(), s.fresh_2); // (2)
        let ahead = g.clone() + d.scale(s.beta_2);
        let n = n.scale(s.beta_3) + ahead.square().scale(s.fresh_3); // (3)
        let u = m.clone().scale(s.momentum) + w.clone().scale(s.ahead);
        let u = u / n.clone().sqrt().scale(s.root).offset(s.epsilon); // (4)
        (p - u, [m, w, n, g])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{golden, refused};

    #[test]
    fn golden_trajectory() {
        let rule = AdanConfig::new().with_weight_decay(0.02).build().expect("valid");
        golden(&rule, 0.1, [0.898203595, 0.927937754, 0.804995904, -0.759498801]);
    }

    #[test]
    fn decay_before_or_after() {
        let walk = |proximal: bool| {
            let config = AdanConfig::new().with_weight_decay(0.5).with_proximal(proximal);
            crate::Walk::new(&config.build().expect("valid"), &[2.0]).step(0.1, &[0.0])[0]
        };
        assert!((walk(true) - 2.0 / 1.05).abs() < 1e-15);
        assert!((walk(false) - 2.0 * 0.95).abs() < 1e-15);
    }

    #[test]
    fn bad_configurations_are_refused() {
        refused(AdanConfig::new().with_beta_3(1.0).build(), "`beta_3` must be in [0, 1), got 1");
    }
}
