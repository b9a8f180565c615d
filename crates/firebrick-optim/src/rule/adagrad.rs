//! AdaGrad: each parameter's rate falls with the root of the sum of its squared gradients. For sparse features.
//!
//! # Update
//! ```text
//! s_t = s_{t-1} + g_t^2                                            (1)
//! p_t = p_{t-1} - lr / (1 + (t - 1) ld) g_t / (sqrt(s_t) + eps)    (2)
//! ```
//! With [`Epsilon::Inside`](super::Epsilon) the denominator is `sqrt(s_t + eps)`.
//!
//! # Reference
//! J. Duchi, E. Hazan, Y. Singer, "Adaptive subgradient methods", JMLR 2011.
//!
//! # Differences
//! Defaults are PyTorch's; burn's epsilon is 1e-5. The usual rate is 1e-2.

use super::Epsilon;
use crate::decay::Decay;
use crate::elementwise::Elementwise;
use crate::recurrence::{Clock, Rule};
use crate::value::Value;
use burn::config::Config;
use firebrick_core::{ConfigError, check};

/// Configuration of [AdaGrad](self).
#[derive(Config, Debug)]
pub struct AdaGradConfig {
    /// Fall of the rate with the steps, ld, in `[0, inf)`.
    #[config(default = 0.0)]
    pub lr_decay: f64,
    /// What the sum starts from, in `[0, inf)`.
    #[config(default = 0.0)]
    pub initial: f64,
    /// Keeps the denominator from zero, in `[0, inf)`.
    #[config(default = 1e-10)]
    pub epsilon: f64,
    /// Where epsilon stands.
    #[config(default = "Epsilon::Outside")]
    pub epsilon_at: Epsilon,
    /// Strength of coupled weight decay, in `[0, inf)`.
    #[config(default = 0.0)]
    pub weight_decay: f64,
}

impl AdaGradConfig {
    /// The validated optimizer.
    ///
    /// # Errors
    /// When a field lies outside its range.
    pub fn build(&self) -> Result<Elementwise, ConfigError> {
        let (outside, inside) =
            self.epsilon_at.split(check::non_negative("epsilon", self.epsilon)?);
        let rule = AdaGrad {
            lr_decay: check::non_negative("lr_decay", self.lr_decay)?,
            initial: check::non_negative("initial", self.initial)?,
            outside,
            inside,
        };
        Elementwise::new(rule).with_decay(Decay::Coupled(self.weight_decay))
    }
}
super::doors!(AdaGradConfig);

#[derive(Debug, Clone)]
struct AdaGrad {
    lr_decay: f64,
    initial: f64,
    outside: f64,
    inside: f64,
}

#[derive(Clone, Copy)]
struct Step {
    lr: f64,
    outside: f64,
    inside: f64,
}

impl Rule<1> for AdaGrad {
    type Step = Step;
    const NAME: &'static str = "adagrad";
    const SLOTS: [&'static str; 1] = ["sum"];

    fn start(&self, _: f64) -> [f64; 1] {
        [self.initial]
    }

    fn at(&self, clock: &Clock, _: &mut [f64]) -> Step {
        let lr = clock.lr / (1.0 + (clock.t - 1) as f64 * self.lr_decay);
        Step { lr, outside: self.outside, inside: self.inside }
    }

    #[inline(always)]
    fn update<V: Value>(s: &Step, p: V, g: V, [sum]: [V; 1]) -> (V, [V; 1]) {
        let sum = sum + g.clone().square(); // (1)
        let d = sum.clone().offset(s.inside).sqrt().offset(s.outside);
        (p - (g / d).scale(s.lr), [sum]) // (2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{golden, refused};

    #[test]
    fn golden_trajectory() {
        let rule =
            AdaGradConfig::new().with_lr_decay(0.01).with_initial(0.1).build().expect("valid");
        golden(&rule, 0.1, [0.915484575, 0.954024126, 0.842556035, -0.627306942]);
    }

    #[test]
    fn epsilon_inside_the_root() {
        // p = 1 - 0.1 * 0.5 / sqrt(0.25 + 0.11) = 1 - 0.05 / 0.6.
        let config = AdaGradConfig::new().with_epsilon(0.11).with_epsilon_at(Epsilon::Inside);
        let mut walk = crate::Walk::new(&config.build().expect("valid"), &[1.0]);
        assert!((walk.step(0.1, &[0.5])[0] - (1.0 - 0.05 / 0.6)).abs() < 1e-15);
    }

    #[test]
    fn bad_configurations_are_refused() {
        refused(
            AdaGradConfig::new().with_lr_decay(-1.0).build(),
            "`lr_decay` must be in [0, inf), got -1",
        );
        refused(
            AdaGradConfig::new().with_initial(-1.0).build(),
            "`initial` must be in [0, inf), got -1",
        );
        refused(
            AdaGradConfig::new().with_epsilon(f64::INFINITY).build(),
            "`epsilon` must be in [0, inf), got inf",
        );
    }
}
