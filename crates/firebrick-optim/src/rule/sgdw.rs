//! SGDW: [stochastic gradient descent](super::sgd) whose weight decay stands apart from the gradient.
//!
//! # Update
//! ```text
//! b_t = mu b_{t-1} + (1 - damp) g_t
//! p_t = (1 - lr wd) p_{t-1} - lr b_t
//! ```
//! # Reference
//! I. Loshchilov, F. Hutter, "Decoupled weight decay regularization", ICLR 2019, arXiv 1711.05101.
//!
//! # Differences
//! The paper's schedule multiplies the decay, its rate does not; here both do, as in PyTorch's AdamW. Decay that is
//! independent of the rate is [`Decay::Independent`](crate::Decay::Independent).

use super::sgd::SgdConfig;
use crate::elementwise::Elementwise;
use burn::config::Config;
use firebrick_core::ConfigError;

/// Configuration of [SGDW](self).
///
/// | field | symbol | default | range |
/// | --- | --- | --- | --- |
/// | `momentum` | mu | 0 | `[0, 1)` |
/// | `dampening` | damp | 0 | `[0, 1]` |
/// | `nesterov` | | false | needs momentum > 0, dampening 0 |
/// | `weight_decay` | wd | 0 | `[0, inf)` |
#[derive(Config, Debug)]
pub struct SgdwConfig {
    /// Share of the buffer that is kept.
    #[config(default = 0.0)]
    pub momentum: f64,
    /// Share of the gradient that is left out of the buffer, from the second step on.
    #[config(default = 0.0)]
    pub dampening: f64,
    /// Whether to look ahead by one momentum step.
    #[config(default = false)]
    pub nesterov: bool,
    /// Strength of weight decay.
    #[config(default = 0.0)]
    pub weight_decay: f64,
}

impl SgdwConfig {
    /// The validated optimizer.
    ///
    /// # Errors
    /// As [`SgdConfig::build`].
    pub fn build(&self) -> Result<Elementwise, ConfigError> {
        SgdConfig::new()
            .with_momentum(self.momentum)
            .with_dampening(self.dampening)
            .with_nesterov(self.nesterov)
            .with_weight_decay(self.weight_decay)
            .with_decoupled(true)
            .build()
    }
}
super::doors!(SgdwConfig);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Decay;

    #[test]
    fn decay_is_decoupled_and_bad_values_are_named() {
        let rule = SgdwConfig::new().with_momentum(0.9).with_weight_decay(0.1).build();
        assert_eq!(rule.expect("valid").decay(), Decay::Decoupled(0.1));
        let refused = |config: SgdwConfig| config.build().expect_err("refused").to_string();
        assert!(refused(SgdwConfig::new().with_momentum(1.0)).contains("`momentum`"));
        assert!(refused(SgdwConfig::new().with_nesterov(true)).contains("`nesterov`"));
        assert!(refused(SgdwConfig::new().with_weight_decay(f64::NAN)).contains("weight"));
    }
}
