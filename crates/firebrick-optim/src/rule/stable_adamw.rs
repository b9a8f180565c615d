//! StableAdamW: AdamW whose rate falls, tensor by tensor, while the second moment lags behind the gradient. Makes
//! clipping of gradients unnecessary.
//!
//! # Update
//! With `h_i = b_i (1 - b_i^(t-1)) / (1 - b_i^t)`:
//! ```text
//! m_t = h_1 m_{t-1} + (1 - h_1) g_t,   v_t = h_2 v_{t-1} + (1 - h_2) g_t^2    (1)
//! r   = sqrt(mean(g_t^2 / max(v_t, eps^2))),   lr' = lr / max(1, r)           (2)
//! p_t = (1 - lr' wd) p_{t-1} - lr' m_t / (sqrt(v_t) + eps)                    (3)
//! ```
//! # Reference
//! M. Wortsman et al., "Stable and low-precision training for large-scale vision-language models", 2023, arXiv 2304.13013.

use super::moments::Moments;
use crate::decay::Decay;
use crate::elementwise::Elementwise;
use crate::recurrence::Clock;
use crate::reducing::ReducingRule;
use crate::value::Value;
use burn::config::Config;
use firebrick_core::ConfigError;

/// Configuration of [StableAdamW](self).
#[derive(Config, Debug)]
pub struct StableAdamWConfig {
    /// Decay rate of the first moment, in `[0, 1)`.
    #[config(default = 0.9)]
    pub beta_1: f64,
    /// Decay rate of the second moment, in `[0, 1)`.
    #[config(default = 0.99)]
    pub beta_2: f64,
    /// Keeps the denominator from zero, in `[0, inf)`.
    #[config(default = 1e-8)]
    pub epsilon: f64,
    /// Strength of weight decay, in `[0, inf)`.
    #[config(default = 0.01)]
    pub weight_decay: f64,
}

impl StableAdamWConfig {
    /// The validated optimizer.
    ///
    /// # Errors
    /// When a field lies outside its range.
    pub fn build(&self) -> Result<Elementwise, ConfigError> {
        let moments = Moments::new(self.beta_1, self.beta_2, self.epsilon)?;
        Elementwise::reducing(StableAdamW { moments, weight_decay: self.weight_decay })
            .with_decay(Decay::Inner(self.weight_decay))
    }
}
super::doors!(StableAdamWConfig);

#[derive(Debug)]
struct StableAdamW {
    moments: Moments,
    weight_decay: f64,
}

#[derive(Clone, Copy)]
struct Step {
    lr: f64,
    fresh_1: f64,
    fresh_2: f64,
    epsilon: f64,
    /// The smallest square that is divided by.
    floor: f64,
    weight_decay: f64,
    /// One over the number of elements.
    share: f64,
}

impl ReducingRule<2, 1> for StableAdamW {
    type Step = Step;
    const NAME: &'static str = "stable_adamw";
    const SLOTS: [&'static str; 2] = ["exp_avg", "exp_avg_sq"];

    fn at(&self, clock: &Clock, shape: &[usize]) -> Step {
        let t = clock.t as f64;
        let Moments { beta_1, beta_2, epsilon } = self.moments;
        let fresh = |beta: f64| 1.0 - beta * (1.0 - beta.powf(t - 1.0)) / (1.0 - beta.powf(t));
        Step {
            lr: clock.lr,
            fresh_1: fresh(beta_1),
            fresh_2: fresh(beta_2),
            epsilon,
            // The smallest normal number stands in for a square that f32 would round to 0.
            floor: (epsilon * epsilon).max(f64::from(f32::MIN_POSITIVE)),
            weight_decay: if clock.decays { self.weight_decay } else { 0.0 },
            share: 1.0 / shape.iter().product::<usize>() as f64,
        }
    }

    #[inline(always)]
    fn begin<V: Value>(s: &Step, _: &V, g: &V, [m, v]: [V; 2]) -> ([V; 2], [V; 1]) {
        let square = g.clone().square();
        let m = m.scale(1.0 - s.fresh_1) + g.clone().scale(s.fresh_1);
        let v = v.scale(1.0 - s.fresh_2) + square.clone().scale(s.fresh_2); // (1)
        let over = square / v.clone().clamp(s.floor, f64::INFINITY);
        ([m, v], [over])
    }

    fn factor<V: Value>(s: &Step, [over]: [V; 1]) -> V {
        let r = over.scale(s.share).sqrt().clamp(1.0, f64::INFINITY);
        r.constant(s.lr) / r // (2)
    }

    #[inline(always)]
    fn finish<V: Value>(s: &Step, lr: V, p: V, _: V, [m, v]: [V; 2]) -> (V, [V; 2]) {
        let step = m.clone() / v.clone().sqrt().offset(s.epsilon);
        let step = step + p.clone().scale(s.weight_decay);
        (p - step * lr, [m, v]) // (3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{golden, refused};

    #[test]
    fn golden_trajectory() {
        let rule = StableAdamWConfig::new().build().expect("valid");
        golden(&rule, 0.1, [0.899000002, 0.872678144, 0.616350630, -0.884286108]);
    }

    #[test]
    fn bad_configurations_are_refused() {
        refused(
            StableAdamWConfig::new().with_beta_1(1.0).build(),
            "`beta_1` must be in [0, 1), got 1",
        );
        refused(
            StableAdamWConfig::new().with_weight_decay(-1.0).build(),
            "`weight_decay` must be in [0, inf), got -1",
        );
        refused(
            StableAdamWConfig::new().with_epsilon(f64::NAN).build(),
            "`epsilon` must be in [0, inf), got NaN",
        );
    }
}
