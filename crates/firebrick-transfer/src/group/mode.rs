//! What a layer group does in a training.

use firebrick_backend::Role;
use serde::{Deserialize, Serialize};

/// What a group does in a training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Mode {
    /// It trains from the weights that it has.
    #[default]
    Trainable,
    /// It stays as it is to the last bit: no gradient, no step, no decay, no update of running statistics, no dropout.
    Frozen,
    /// Its weights are frozen and the adapters on them train; dropout stays on, statistics stay as they are.
    Adapted,
    /// It is drawn anew when the phase begins, and trains.
    Reinitialised,
    /// Its biases train and nothing else; dropout stays on, statistics stay as they are (BitFit).
    Biases {
        /// Whether scales and offsets of normalization layers train too.
        norms: bool,
    },
}

/// What the normalization layers of a group do, where that differs from the group's own mode.
///
/// | mode | normalizes by | statistics move | scale and offset train |
/// | --- | --- | --- | --- |
/// | `Frozen` | the source's statistics | no | no |
/// | `StatsFrozen` | the source's statistics | no | yes |
/// | `Adaptive` | the batch's | yes | yes |
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum NormMode {
    /// Statistics, scale and offset stay: for few data, small batches and frozen prefixes.
    Frozen,
    /// Statistics stay, scale and offset train: for fine-tuning with small batches.
    StatsFrozen,
    /// All of it adapts: for many data and batches of 32 and more. In a frozen group this is fastai's `train_bn`.
    Adaptive,
}

/// Mode, rate factor and norm mode of one group.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Treatment {
    /// What the group does.
    pub mode: Mode,
    /// What the learning rate is multiplied by.
    pub rate: f64,
    /// What its normalization layers do; as the mode says where none is given.
    pub norm: Option<NormMode>,
}

impl Default for Treatment {
    fn default() -> Self {
        Self { mode: Mode::Trainable, rate: 1.0, norm: None }
    }
}

/// Whether a parameter of a group that is treated so trains.
pub(super) fn trains(treatment: &Treatment, role: Role, in_adapter: bool) -> bool {
    if role == Role::Norm
        && let Some(norm) = treatment.norm
    {
        return norm != NormMode::Frozen;
    }
    match treatment.mode {
        Mode::Frozen => false,
        Mode::Trainable | Mode::Reinitialised => true,
        Mode::Adapted => in_adapter,
        Mode::Biases { norms } => role == Role::Bias || norms && role == Role::Norm,
    }
}

/// Whether a switch of a group that is treated so is live: dropout, or the statistics of batch norm.
pub(super) fn live(treatment: &Treatment, of_norm: bool) -> bool {
    if of_norm && let Some(norm) = treatment.norm {
        return norm == NormMode::Adaptive;
    }
    match treatment.mode {
        Mode::Frozen => false,
        Mode::Trainable | Mode::Reinitialised => true,
        Mode::Adapted | Mode::Biases { .. } => !of_norm,
    }
}
