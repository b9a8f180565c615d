//! Which optimizer walks where, with which rate.

use crate::surface::Surface;
use crate::trajectory::{Trajectory, follow};
use firebrick::core::ConfigError;
use firebrick::optim::{
    AdaDeltaConfig, AdaGradConfig, AdamConfig, Elementwise, Epsilon, RmsPropConfig, SgdConfig,
};

/// A walk with its name.
#[derive(Debug)]
pub(crate) struct Walked {
    pub(crate) label: String,
    /// Number of its colour, the same for an optimizer on every surface.
    pub(crate) color: usize,
    pub(crate) trajectory: Trajectory,
}

pub(crate) fn descent() -> Result<Elementwise, ConfigError> {
    SgdConfig::new().build()
}

pub(crate) fn momentum(momentum: f64) -> Result<Elementwise, ConfigError> {
    SgdConfig::new().with_momentum(momentum).build()
}

/// With the survey's epsilon, inside the root.
pub(crate) fn ada_grad() -> Result<Elementwise, ConfigError> {
    AdaGradConfig::new().with_epsilon(1e-6).with_epsilon_at(Epsilon::Inside).build()
}

/// With the survey's epsilon and a memory of about ten steps.
pub(crate) fn rms_prop() -> Result<Elementwise, ConfigError> {
    let config = RmsPropConfig::new().with_alpha(0.9);
    config.with_epsilon(1e-6).with_epsilon_at(Epsilon::Inside).build()
}

pub(crate) fn ada_delta() -> Result<Elementwise, ConfigError> {
    AdaDeltaConfig::new().with_use_rate(false).build()
}

pub(crate) fn adam() -> Result<Elementwise, ConfigError> {
    AdamConfig::new().build()
}

/// Every walk on a surface.
pub(crate) fn walk_all(surface: &Surface) -> Result<Vec<Walked>, ConfigError> {
    let plans: Vec<(usize, &str, Elementwise, f64)> = match surface.id {
        "valley" => vec![
            (0, "Gradient descent, rate 0.4", descent()?, 0.4),
            (1, "Gradient descent, rate 0.6", descent()?, 0.6),
            (2, "Momentum 0.5, rate 0.4", momentum(0.5)?, 0.4),
            (3, "Momentum 0.5, rate 0.6", momentum(0.5)?, 0.6),
            (4, "AdaGrad, rate 0.4", ada_grad()?, 0.4),
            (5, "RMSProp, rate 0.4", rms_prop()?, 0.4),
            (6, "AdaDelta, no rate", ada_delta()?, 0.0),
            (7, "Adam, rate 0.4", adam()?, 0.4),
        ],
        "rosenbrock" => vec![
            (0, "Gradient descent, rate 0.001", descent()?, 0.001),
            (2, "Momentum 0.9, rate 0.001", momentum(0.9)?, 0.001),
            (4, "AdaGrad, rate 0.5", ada_grad()?, 0.5),
            (5, "RMSProp, rate 0.001", rms_prop()?, 0.001),
            (6, "AdaDelta, no rate", ada_delta()?, 0.0),
            (7, "Adam, rate 0.02", adam()?, 0.02),
        ],
        "beale" => vec![
            (0, "Gradient descent, rate 0.01", descent()?, 0.01),
            (2, "Momentum 0.9, rate 0.003", momentum(0.9)?, 0.003),
            (4, "AdaGrad, rate 0.5", ada_grad()?, 0.5),
            (5, "RMSProp, rate 0.01", rms_prop()?, 0.01),
            (6, "AdaDelta, no rate", ada_delta()?, 0.0),
            (7, "Adam, rate 0.05", adam()?, 0.05),
        ],
        _ => vec![
            (0, "Gradient descent, rate 0.05", descent()?, 0.05),
            (2, "Momentum 0.9, rate 0.05", momentum(0.9)?, 0.05),
            (4, "AdaGrad, rate 0.05", ada_grad()?, 0.05),
            (5, "RMSProp, rate 0.05", rms_prop()?, 0.05),
            (6, "AdaDelta, no rate", ada_delta()?, 0.0),
            (7, "Adam, rate 0.05", adam()?, 0.05),
        ],
    };
    let walk = |(color, label, rule, lr): (usize, &str, Elementwise, f64)| Walked {
        label: label.into(),
        color,
        trajectory: follow(surface, &rule, lr),
    };
    Ok(plans.into_iter().map(walk).collect())
}
