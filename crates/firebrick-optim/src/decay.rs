//! Weight decay: its forms, and which parameters it applies to.

use crate::recurrence::Around;
use firebrick_backend::Role;
use firebrick_core::{ConfigError, check};
use serde::{Deserialize, Serialize};

/// How a parameter is drawn towards zero, besides its gradient.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Decay {
    /// Not at all.
    #[default]
    None,
    /// L2: `g += wd p` before anything else, so that it passes through the moments (PyTorch's Adam, SGD).
    Coupled(f64),
    /// `p *= 1 - lr wd` before the step (Loshchilov and Hutter, 1711.05101, as in PyTorch's AdamW).
    Decoupled(f64),
    /// `p *= 1 - (lr / base_lr) wd`: the schedule's multiplier scales it, the base rate does not (the form of
    /// 1711.05101 itself).
    Independent {
        /// Decay per step at the full rate.
        weight_decay: f64,
        /// The rate at which a schedule stands at its maximum.
        base_lr: f64,
    },
    /// `p -= lr wd p` only where the step does not oppose the parameter's sign (Chen et al., 2510.12402).
    Cautious(f64),
    /// `p /= 1 + lr wd` after the step (Adan, 2208.06677).
    Proximal(f64),
    /// `p *= 1 - lr wd` after the step (LaProp, SOAP).
    Late(f64),
    /// The rule applies this strength in its own formula.
    Inner(f64),
}

impl Decay {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        match *self {
            Self::None => Ok(()),
            Self::Coupled(strength)
            | Self::Decoupled(strength)
            | Self::Cautious(strength)
            | Self::Proximal(strength)
            | Self::Late(strength)
            | Self::Inner(strength) => check::non_negative("weight_decay", strength).map(drop),
            Self::Independent { weight_decay, base_lr } => {
                check::non_negative("weight_decay", weight_decay)?;
                check::positive("base_lr", base_lr).map(drop)
            }
        }
    }

    /// The number called weight decay.
    #[must_use]
    pub fn strength(&self) -> f64 {
        match *self {
            Self::None => 0.0,
            Self::Coupled(strength)
            | Self::Decoupled(strength)
            | Self::Cautious(strength)
            | Self::Proximal(strength)
            | Self::Late(strength)
            | Self::Inner(strength) => strength,
            Self::Independent { weight_decay, .. } => weight_decay,
        }
    }

    pub(crate) fn around(&self, lr: f64, around: Around) -> Around {
        match *self {
            Self::None | Self::Inner(_) => around,
            Self::Proximal(strength) => Around { after: 1.0 / (1.0 + lr * strength), ..around },
            Self::Late(strength) => Around { after: 1.0 - lr * strength, ..around },
            Self::Coupled(strength) => Around { l2: strength, ..around },
            Self::Decoupled(strength) => Around { keep: 1.0 - lr * strength, ..around },
            Self::Independent { weight_decay, base_lr } => {
                Around { keep: 1.0 - lr / base_lr * weight_decay, ..around }
            }
            Self::Cautious(strength) => Around { cautious: Some(lr * strength), ..around },
        }
    }
}

/// Which parameters weight decay applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub enum DecayOn {
    /// Weights of linear layers and convolutions alone: not biases, norm scales, embeddings, or other vectors.
    #[default]
    Weights,
    /// Weights and embeddings: everything with two axes or more.
    Matrices,
    /// Every parameter, as PyTorch does with a single parameter group.
    All,
    /// None.
    Nothing,
}

impl DecayOn {
    /// Whether a parameter of `role` decays.
    #[must_use]
    pub fn applies(self, role: Role) -> bool {
        match self {
            Self::Weights => role == Role::Weight,
            Self::Matrices => matches!(role, Role::Weight | Role::Embedding),
            Self::All => role != Role::Buffer,
            Self::Nothing => false,
        }
    }

    /// The same where only the rank is known.
    #[must_use]
    pub fn by_rank(self, rank: usize) -> bool {
        match self {
            Self::Weights | Self::Matrices => rank >= 2,
            Self::All => true,
            Self::Nothing => false,
        }
    }
}
