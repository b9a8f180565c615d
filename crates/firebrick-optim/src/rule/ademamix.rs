//! AdEMAMix: Adam with a second, very slow momentum, which keeps old gradients useful. For long runs.
//!
//! # Update
//! With Adam's moments m, v:
//! ```text
//! w_t = b3_t w_{t-1} + (1 - b3_t) g_t                                                  (1)
//! p_t = p_{t-1} - lr (m_t / (1 - b1^t) + alpha_t w_t) / (sqrt(v_t / (1 - b2^t)) + eps)  (2)
//! ```
//! With `warmup` T: `alpha_t = alpha min(t / T, 1)`, and b3_t grows from b1 to b3 so that its half-life grows linearly.
//!
//! # Reference
//! M. Pagliardini, P. Ablin, D. Grangier, "The AdEMAMix optimizer", 2024, arXiv 2409.03137.
//!
//! # Differences
//! `alpha` is 5 as in optax; the paper's runs have 8, its code 2. `warmup` is to be most of the run.

use super::moments::{Moments, Step};
use crate::elementwise::Elementwise;
use crate::recurrence::{Clock, Rule};
use crate::value::Value;
use burn::config::Config;
use firebrick_core::{ConfigError, check};

/// Configuration of [AdEMAMix](self).
#[derive(Config, Debug)]
pub struct AdEmaMixConfig {
    /// Decay rate of the first moment, in `[0, 1)`.
    #[config(default = 0.9)]
    pub beta_1: f64,
    /// Decay rate of the second moment, in `[0, 1)`.
    #[config(default = 0.999)]
    pub beta_2: f64,
    /// Decay rate of the slow momentum, in `[0, 1)`.
    #[config(default = 0.9999)]
    pub beta_3: f64,
    /// Keeps the denominator from zero, in `[0, inf)`.
    #[config(default = 1e-8)]
    pub epsilon: f64,
    /// Strength of weight decay, in `[0, inf)`.
    #[config(default = 0.0)]
    pub weight_decay: f64,
    /// Whether weight decay is decoupled from the gradient.
    #[config(default = true)]
    pub decoupled: bool,
    /// Weight of the slow momentum, in `[0, inf)`.
    #[config(default = 5.0)]
    pub alpha: f64,
    /// Steps over which `alpha` and `beta_3` grow; none for their full values at once.
    pub warmup: Option<usize>,
}

impl AdEmaMixConfig {
    /// The validated optimizer.
    ///
    /// # Errors
    /// When a field lies outside its range.
    pub fn build(&self) -> Result<Elementwise, ConfigError> {
        let moments = Moments::new(self.beta_1, self.beta_2, self.epsilon)?;
        let beta_3 = check::range("beta_3", self.beta_3, 0.0..1.0)?;
        let alpha = check::non_negative("alpha", self.alpha)?;
        let warmup = self.warmup.map(|steps| check::at_least("warmup", steps, 1)).transpose()?;
        Elementwise::new(AdEmaMix { moments, beta_3, alpha, warmup })
            .with_decay(super::decay(self.weight_decay, self.decoupled))
    }
}
super::doors!(AdEmaMixConfig);

#[derive(Debug, Clone)]
struct AdEmaMix {
    moments: Moments,
    beta_3: f64,
    alpha: f64,
    warmup: Option<usize>,
}

#[derive(Clone, Copy)]
struct MixedStep {
    adam: Step,
    /// 1 - b3.
    fresh_3: f64,
    /// lr alpha.
    slow: f64,
}

impl Rule<3> for AdEmaMix {
    type Step = MixedStep;
    const NAME: &'static str = "ademamix";
    const SLOTS: [&'static str; 3] = ["exp_avg", "exp_avg_sq", "exp_avg_slow"];

    fn at(&self, clock: &Clock, _: &mut [f64]) -> MixedStep {
        let (mut alpha, mut beta_3) = (self.alpha, self.beta_3);
        if let Some(steps) = self.warmup {
            let share = (clock.t as f64 / steps as f64).min(1.0);
            alpha *= share;
            if share < 1.0 && self.beta_3 > 0.0 {
                // Half-life f(b) = ln 0.5 / ln b - 1, linear between those of b1 and b3.
                let half_life = |beta: f64| 0.5f64.ln() / beta.ln() - 1.0;
                let start =
                    if self.moments.beta_1 > 0.0 { half_life(self.moments.beta_1) } else { -1.0 };
                let life = (1.0 - share) * start + share * half_life(self.beta_3);
                beta_3 = 0.5f64.powf(1.0 / (life + 1.0)).min(self.beta_3);
            }
        }
        MixedStep { adam: self.moments.step(clock), fresh_3: 1.0 - beta_3, slow: clock.lr * alpha }
    }

    #[inline(always)]
    fn update<V: Value>(s: &MixedStep, p: V, g: V, [m, v, w]: [V; 3]) -> (V, [V; 3]) {
        let m = s.adam.first(m, g.clone());
        let v = s.adam.second(v, g.clone());
        let w = w.lerp(g, s.fresh_3); // (1)
        let u = m.clone().scale(s.adam.lr) + w.clone().scale(s.slow);
        (p - u / s.adam.denominator(v.clone()), [m, v, w]) // (2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{golden, refused};

    #[test]
    fn golden_trajectory() {
        let rule = AdEmaMixConfig::new().build().expect("valid");
        golden(&rule, 0.1, [0.899950002, 0.873284678, 0.594986544, -0.912018124]);
    }

    #[test]
    fn warm_up_ends_at_the_full_values() {
        let rule = |warmup| {
            let moments = Moments::new(0.9, 0.999, 1e-8).expect("valid");
            AdEmaMix { moments, beta_3: 0.9999, alpha: 5.0, warmup }
        };
        let at = |warmup, t| rule(warmup).at(&Clock::new(1.0, t), &mut []);
        let (full, end) = (at(None, 100), at(Some(100), 100));
        assert_eq!((full.fresh_3, full.slow), (end.fresh_3, end.slow));
        // Half way: half-lives of 0.9 and 0.9999 are 6.58 - 1 and 6931.1 - 1; their mean gives b3 = 0.9998002.
        let half = at(Some(100), 50);
        assert!(
            (half.slow - 2.5).abs() < 1e-12 && (half.fresh_3 - 1.998004e-4).abs() < 1e-9,
            "{}",
            half.fresh_3
        );
    }

    #[test]
    fn bad_configurations_are_refused() {
        refused(
            AdEmaMixConfig::new().with_beta_1(1.0).build(),
            "`beta_1` must be in [0, 1), got 1",
        );
        refused(
            AdEmaMixConfig::new().with_weight_decay(-1.0).build(),
            "`weight_decay` must be in [0, inf), got -1",
        );
        refused(
            AdEmaMixConfig::new().with_epsilon(f64::NAN).build(),
            "`epsilon` must be in [0, inf), got NaN",
        );
    }
}
