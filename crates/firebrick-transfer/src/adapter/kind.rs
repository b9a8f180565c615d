//! The kinds of adapters and their numbers.

use firebrick_core::{ConfigError, check};
use serde::{Deserialize, Serialize};

/// What the product `A B` is multiplied by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Scaling {
    /// `alpha / r`.
    #[default]
    ByRank,
    /// `alpha / sqrt(r)` (rsLoRA): for ranks of 32 and more.
    ByRoot,
}

/// What the factor A starts with; B starts at 0, but under PiSSA.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub enum LoraInit {
    /// Uniform with deviation `1 / sqrt(3 inputs)`, as in peft.
    #[default]
    Uniform,
    /// Normal with this deviation; burn's own LoRA has `1 / r`, which is 6 times larger for r 8 and 768 inputs.
    Normal {
        /// The standard deviation, above 0.
        deviation: f64,
    },
    /// The largest singular triplets of the weight, which is reduced by them: the output does not change (PiSSA:
    /// F. Meng et al., NeurIPS 2024).
    Pissa,
}

/// Which adapter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum AdapterKind {
    /// A low-rank change: LoRA, rsLoRA, PiSSA.
    Lora {
        /// Rank; 8 as a rule.
        rank: usize,
        /// Numerator of the scale; the rank, or twice it.
        alpha: f64,
        /// The scale.
        scaling: Scaling,
        /// How A starts.
        init: LoraInit,
    },
    /// A low-rank change of the direction of each output's weights, and a learned length (DoRA).
    Dora {
        /// Rank.
        rank: usize,
        /// Numerator of the scale.
        alpha: f64,
        /// The scale.
        scaling: Scaling,
    },
    /// Two learned vectors around random matrices that all layers share (VeRA).
    Vera {
        /// Rank; 256 in the paper.
        rank: usize,
        /// What the inner vector starts at, other than 0; 0.1 in the paper.
        start: f64,
    },
    /// A learned factor for each output, or input (IA3).
    Ia3 {
        /// Whether inputs are rescaled instead of outputs.
        by_input: bool,
    },
}

impl AdapterKind {
    /// LoRA with `alpha = rank`, peft's start.
    #[must_use]
    pub fn lora(rank: usize) -> Self {
        let (scaling, init) = (Scaling::ByRank, LoraInit::Uniform);
        Self::Lora { rank, alpha: rank as f64, scaling, init }
    }

    /// PiSSA with `alpha = rank`.
    #[must_use]
    pub fn pissa(rank: usize) -> Self {
        let (scaling, init) = (Scaling::ByRank, LoraInit::Pissa);
        Self::Lora { rank, alpha: rank as f64, scaling, init }
    }

    /// DoRA with `alpha = rank`.
    #[must_use]
    pub fn dora(rank: usize) -> Self {
        Self::Dora { rank, alpha: rank as f64, scaling: Scaling::ByRank }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        match *self {
            Self::Lora { rank, alpha, init, .. } => {
                check::at_least("rank", rank, 1)?;
                check::positive("alpha", alpha)?;
                if let LoraInit::Normal { deviation } = init {
                    // B starts at 0; with A there too neither would ever get a gradient.
                    check::positive("deviation", deviation)?;
                }
            }
            Self::Dora { rank, alpha, .. } => {
                check::at_least("rank", rank, 1)?;
                check::positive("alpha", alpha)?;
            }
            Self::Vera { rank, start } => {
                check::at_least("rank", rank, 1)?;
                // As b starts at 0, a d of 0 would keep both there.
                if check::finite("start", start)? == 0.0 {
                    return Err(ConfigError::new("start", start, "other than 0"));
                }
            }
            Self::Ia3 { .. } => {}
        }
        Ok(())
    }

    /// What `A B` is multiplied by.
    #[must_use]
    pub fn scale(&self) -> f64 {
        let scale = |rank: usize, alpha: f64, scaling: Scaling| match scaling {
            Scaling::ByRank => alpha / rank as f64,
            Scaling::ByRoot => alpha / (rank as f64).sqrt(),
        };
        match *self {
            Self::Lora { rank, alpha, scaling, .. } | Self::Dora { rank, alpha, scaling } => {
                scale(rank, alpha, scaling)
            }
            Self::Vera { .. } | Self::Ia3 { .. } => 1.0,
        }
    }
}
