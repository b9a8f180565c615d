//! Signum: the sign of the momentum; the core of Tiger. As much state as momentum, insensitive to the gradient's scale.
//!
//! # Update
//! ```text
//! m_t = b m_{t-1} + (1 - b) g_t                    (1)
//! p_t = (1 - lr wd) p_{t-1} - lr sign(m_t)         (2)
//! ```
//! # Reference
//! J. Bernstein et al., "signSGD: compressed optimisation for non-convex problems", 2018, arXiv 1802.04434; Tiger has
//! b = 0.965 and decoupled decay.

use crate::decay::Decay;
use crate::elementwise::Elementwise;
use crate::recurrence::{Clock, Rule};
use crate::value::Value;
use burn::config::Config;
use firebrick_core::{ConfigError, check};

/// Configuration of [Signum](self).
#[derive(Config, Debug)]
pub struct SignumConfig {
    /// Share of the momentum that is kept, b, in `[0, 1)`; 0 is sign descent.
    #[config(default = 0.9)]
    pub momentum: f64,
    /// Strength of decoupled weight decay, in `[0, inf)`.
    #[config(default = 0.0)]
    pub weight_decay: f64,
}

impl SignumConfig {
    /// The validated optimizer.
    ///
    /// # Errors
    /// When a field lies outside its range.
    pub fn build(&self) -> Result<Elementwise, ConfigError> {
        let momentum = check::range("momentum", self.momentum, 0.0..1.0)?;
        Elementwise::new(Signum { momentum }).with_decay(Decay::Decoupled(self.weight_decay))
    }
}
super::doors!(SignumConfig);

#[derive(Debug, Clone)]
struct Signum {
    momentum: f64,
}

#[derive(Clone, Copy)]
struct Step {
    fresh: f64,
    lr: f64,
}

impl Rule<1> for Signum {
    type Step = Step;
    const NAME: &'static str = "signum";
    const SLOTS: [&'static str; 1] = ["exp_avg"];

    fn at(&self, clock: &Clock, _: &mut [f64]) -> Step {
        Step { fresh: 1.0 - self.momentum, lr: clock.lr }
    }

    #[inline(always)]
    fn update<V: Value>(s: &Step, p: V, g: V, [m]: [V; 1]) -> (V, [V; 1]) {
        let m = m.lerp(g, s.fresh); // (1)
        (p - m.clone().sign().scale(s.lr), [m]) // (2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{golden, refused};

    #[test]
    fn golden_trajectory() {
        let rule = SignumConfig::new()
            .with_momentum(0.965)
            .with_weight_decay(0.01)
            .build()
            .expect("valid");
        golden(&rule, 0.01, [0.989900000, 0.979801010, 0.919228274, -0.579572146]);
    }

    #[test]
    fn bad_configurations_are_refused() {
        refused(
            SignumConfig::new().with_momentum(1.0).build(),
            "`momentum` must be in [0, 1), got 1",
        );
    }
}
