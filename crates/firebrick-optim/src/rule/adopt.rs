//! ADOPT: Adam that converges for any b2, by scaling with the second moment of the steps before.
//!
//! # Update
//! The first step only sets `v_1 = g_1^2`. Then, with `c_t = (t - 1)^clip`:
//! ```text
//! u_t = clamp(g_t / max(sqrt(v_{t-1}), eps), -c_t, c_t)    (1)
//! m_t = b1 m_{t-1} + (1 - b1) u_t                          (2)
//! p_t = p_{t-1} - lr m_t                                   (3)
//! v_t = b2 v_{t-1} + (1 - b2) g_t^2                        (4)
//! ```
//! # Reference
//! S. Taniguchi et al., "ADOPT: modified Adam can converge with any b2 with the optimal rate", 2024, arXiv 2411.02853.
//!
//! # Differences
//! `clip` is 1/4 as in the paper, where timm has 1/3; none switches the clamp off. Nothing moves at the first step,
//! decay included, as in the authors' code; with `early` `c_t = t^clip`, and decoupled decay begins at the first step, as
//! in pytorch_optimizer.

use super::moments::{Moments, Step};
use crate::elementwise::Elementwise;
use crate::recurrence::{Clock, Rule};
use crate::value::Value;
use burn::config::Config;
use firebrick_core::{ConfigError, check};

/// Configuration of [ADOPT](self).
#[derive(Config, Debug)]
pub struct AdoptConfig {
    /// Decay rate of the first moment, in `[0, 1)`.
    #[config(default = 0.9)]
    pub beta_1: f64,
    /// Decay rate of the second moment, in `[0, 1)`.
    #[config(default = 0.9999)]
    pub beta_2: f64,
    /// Keeps the denominator from zero, in `[0, inf)`.
    #[config(default = 1e-6)]
    pub epsilon: f64,
    /// Strength of weight decay, in `[0, inf)`.
    #[config(default = 0.0)]
    pub weight_decay: f64,
    /// Whether weight decay is decoupled from the gradient.
    #[config(default = false)]
    pub decoupled: bool,
    /// Exponent of the clamp's growth, in `[0, inf)`; none for no clamp.
    #[config(default = "Some(0.25)")]
    pub clip: Option<f64>,
    /// Whether the clamp grows, and decoupled weight decay begins, a step earlier.
    #[config(default = false)]
    pub early: bool,
}

impl AdoptConfig {
    /// The validated optimizer.
    ///
    /// # Errors
    /// When a field lies outside its range.
    pub fn build(&self) -> Result<Elementwise, ConfigError> {
        let moments = Moments::new(self.beta_1, self.beta_2, self.epsilon)?;
        let clip = self.clip.map(|clip| check::non_negative("clip", clip)).transpose()?;
        Elementwise::new(Adopt { moments, clip, early: self.early })
            .with_decay(super::decay(self.weight_decay, self.decoupled))
    }
}
super::doors!(AdoptConfig);

#[derive(Debug, Clone)]
struct Adopt {
    moments: Moments,
    clip: Option<f64>,
    early: bool,
}

#[derive(Clone, Copy)]
struct LateStep {
    adam: Step,
    lr: f64,
    limit: f64,
    first: bool,
}

impl Rule<2> for Adopt {
    type Step = LateStep;
    const NAME: &'static str = "adopt";
    const SLOTS: [&'static str; 2] = ["exp_avg", "exp_avg_sq"];

    fn moves(&self, t: u64) -> bool {
        self.early || t > 1
    }

    fn at(&self, clock: &Clock, _: &mut [f64]) -> LateStep {
        let count = (clock.t - u64::from(!self.early)) as f64;
        let limit = self.clip.map_or(f64::INFINITY, |clip| count.powf(clip));
        LateStep { adam: self.moments.step(clock), lr: clock.lr, limit, first: clock.t == 1 }
    }

    #[inline(always)]
    fn update<V: Value>(s: &LateStep, p: V, g: V, [m, v]: [V; 2]) -> (V, [V; 2]) {
        if s.first {
            return (p, [m, g.square()]);
        }
        let floor = v.clone().sqrt().clamp(s.adam.epsilon, f64::INFINITY);
        let u = (g.clone() / floor).clamp(-s.limit, s.limit); // (1)
        let m = m.lerp(u, s.adam.fresh_1); // (2)
        (p - m.clone().scale(s.lr), [m, s.adam.second(v, g)]) // (3), (4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{golden, refused};

    #[test]
    fn golden_trajectory() {
        let rule = AdoptConfig::new().with_clip(Some(0.333)).build().expect("valid");
        golden(&rule, 0.1, [1.0, 1.005000000, 0.950282514, -0.579857050]);
    }

    #[test]
    fn nothing_moves_at_the_first_step() {
        let config = AdoptConfig::new().with_weight_decay(0.5).with_decoupled(true);
        let mut walk = crate::Walk::new(&config.build().expect("valid"), &[2.0]);
        assert_eq!(walk.step(0.1, &[1.0]), [2.0]);
        assert!(walk.step(0.1, &[0.0])[0] < 2.0);
    }

    /// p = 2, g = 1 and then 3: u is 3 before the clamp, 2^(1/4) after it, m a tenth of that.
    #[test]
    fn early_is_a_step_ahead() {
        let config = AdoptConfig::new().with_weight_decay(0.5).with_decoupled(true);
        let rule = config.with_early(true).build().expect("valid");
        let mut walk = crate::Walk::new(&rule, &[2.0]);
        assert!((walk.step(0.1, &[1.0])[0] - 1.9).abs() < 1e-15);
        let expected = 1.9 * 0.95 - 0.01 * 2f64.powf(0.25);
        assert!((walk.step(0.1, &[3.0])[0] - expected).abs() < 1e-15);
    }

    #[test]
    fn bad_configurations_are_refused() {
        refused(AdoptConfig::new().with_beta_1(1.0).build(), "`beta_1` must be in [0, 1), got 1");
        refused(
            AdoptConfig::new().with_weight_decay(-1.0).build(),
            "`weight_decay` must be in [0, inf), got -1",
        );
        refused(
            AdoptConfig::new().with_epsilon(f64::NAN).build(),
            "`epsilon` must be in [0, inf), got NaN",
        );
    }
}
