//! Fine-tuning recipes: what is trained when, at which rate. A recipe is a value; its phases are a pure function of it.

mod carried;
mod features;
mod greedy;
mod phases;
mod redraw;
mod run;
mod saved;
mod search;
mod shape;
#[cfg(all(test, feature = "flex"))]
mod tests;
mod tune;

pub use features::{Headed, features, fit_head};
pub use greedy::{Greedy, Stacked};
pub use phases::{OptimizerState, Phase, layer_decay, spread};
pub use redraw::{TORCH_DEFAULT, redraw};
pub use search::{Searched, Trial};
pub use shape::Shape;
pub use tune::{PhaseReport, Tune, Tuned};

use serde::{Deserialize, Serialize};

/// How to fine-tune a pre-trained model.
///
/// | recipe | trains | its default rate, for AdamW, and the rates of a small search |
/// | --- | --- | --- |
/// | `HeadOnly` | the last group on frozen features | 1e-2; 3e-3, 1e-2, 3e-2 |
/// | `LastK` | the last k groups | 1e-3; 3e-4, 1e-3, 3e-3 |
/// | `FreezeFirst` | all but the first k groups, which may be drawn anew | 1e-3; as above |
/// | `OneGroup` | one group, the old head kept (Lee et al., ICLR 2023) | 1e-3; as above |
/// | `Full` | everything, the head at a larger rate | 1e-3; as above |
/// | `LpFt` | the head, then everything (Kumar et al., ICLR 2022) | 1e-3; as above |
/// | `Scratch` | everything, drawn anew (He et al., ICCV 2019) | 3e-3; 1e-3, 3e-3, 1e-2 |
/// | `FineTune` | fastai's `fine_tune` | 2e-3; 1e-3, 2e-3, 5e-3 |
/// | `Gradual` | one group more each epoch, from the head (ULMFiT) | 1e-2; 3e-3, 1e-2, 3e-2 |
/// | `ChainThaw` | the head, each other group alone, everything (Felbo et al., EMNLP 2017) | 1e-3; 3e-4, 1e-3, 3e-3 |
/// | `Discriminative` | everything, each group at a smaller rate than the next (ULMFiT) | 3e-3; 1e-3, 3e-3, 1e-2 |
/// | `LayerDecay` | everything, at `decay^depth` (ELECTRA, BEiT, timm) | 1e-3; 3e-4, 1e-3, 3e-3 |
/// | `BitFit` | biases and the head (Ben Zaken et al., ACL 2022) | 1e-3; 3e-4, 1e-3, 1e-2 |
/// | `Rifle` | everything, the head drawn anew at each cycle (Li et al., ICML 2020) | 1e-3; 3e-4, 1e-3, 3e-3 |
/// | `Adapters` | what [`AdaptConfig`](crate::AdaptConfig) put on the weights, and the head | 1e-3; 3e-4, 1e-3, 3e-3 |
/// | `LoraPlus` | the same, B at 16 times the rate of A (LoRA+: Hayou et al., ICML 2024) | 3e-4; 1e-4, 3e-4, 1e-3 |
///
/// Compare recipes at their own best rates only: at one common rate, half of the difference between freezing and full
/// fine-tuning is that the others were trained too little.
///
/// ```
/// use burn::nn::LinearConfig;
/// use firebrick_transfer::{Groups, Mode, Recipe};
///
/// let device = burn::tensor::Device::flex().autodiff();
/// let model: Vec<_> = (0..3).map(|_| LinearConfig::new(4, 4).init(&device)).collect();
/// let recipe = Recipe::lp_ft();
/// let phases = recipe.phases(&Groups::propose(&model)?, &model, 5, recipe.rate())?;
/// assert_eq!(phases.len(), 2);
/// assert_eq!(phases[0].plan.in_mode(Mode::Frozen), ["0", "1"]);
/// assert_eq!(phases[1].plan.in_mode(Mode::Trainable), ["0", "1", "2"]);
/// # Ok::<(), firebrick_transfer::TransferError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Recipe {
    /// The last group alone.
    HeadOnly,
    /// The last groups.
    LastK {
        /// How many, at least 1.
        k: usize,
    },
    /// All but the first groups.
    FreezeFirst {
        /// How many are frozen.
        k: usize,
        /// Whether the others are drawn anew instead of going on from their weights.
        redraw: bool,
    },
    /// One group alone.
    OneGroup {
        /// Its name; the first group where none is given.
        group: Option<String>,
    },
    /// Everything.
    Full {
        /// The factor on the head's rate.
        head_rate: f64,
    },
    /// The head to convergence, then everything from there.
    LpFt {
        /// Epochs of the first phase; as many as of the second where none are given.
        probe_epochs: Option<usize>,
        /// Rate of the first phase.
        probe_rate: f64,
    },
    /// Everything from new weights.
    Scratch,
    /// fastai's `fine_tune`: one cycle for the head, then one for all at half the rate and geometric factors.
    ///
    /// Phase 1: the groups below the head at `rate / 10` (only their norms train), the head at `rate`; 99 % of the
    /// steps rise. Phase 2: `rate / 2` for the head, `rate / 2 / mult` for the first group, geometric between.
    FineTune {
        /// Epochs of the first phase; 1 in fastai.
        freeze_epochs: usize,
        /// Ratio of the head's rate to the first group's in the second phase; 100 in fastai.
        mult: f64,
        /// The second phase starts at its peak divided by this; 5 in fastai.
        div: f64,
        /// Share of the second phase in which the rate rises; 0.3 in fastai.
        start: f64,
        /// Whether norms train in frozen groups, their statistics included; true in fastai.
        train_norms: bool,
    },
    /// The last group in the first epoch, one more in each that follows, all of them in the last.
    Gradual {
        /// How many stages; one for each group where none are given, and never more than epochs.
        stages: Option<usize>,
        /// Each group's rate is the next one's divided by this; 2.6 in the paper.
        ratio: f64,
    },
    /// The head, then each other group alone from the input on, then everything; `epochs` for each, and an optimizer
    /// that begins anew.
    ChainThaw {
        /// Factor on the rate of all phases after the first; 0.1 in the paper.
        later: f64,
    },
    /// Everything, each group's rate the next one's divided by `ratio`.
    Discriminative {
        /// 2.6 in the paper.
        ratio: f64,
    },
    /// Everything, group i of L at `max(min_scale, decay^(L - 1 - i))`.
    LayerDecay {
        /// 0.75 in timm, 0.65 in BEiT, 0.8 to 0.9 in ELECTRA.
        decay: f64,
        /// The smallest factor; 0 in timm.
        min_scale: f64,
        /// Groups whose factor is below are frozen; 0 in timm.
        no_opt_scale: f64,
    },
    /// Biases and the head.
    BitFit {
        /// Whether scales and offsets of norms train too.
        norms: bool,
    },
    /// Everything, in cycles at whose start the head is drawn anew.
    Rifle {
        /// 3 or 4 in the paper.
        cycles: usize,
    },
    /// The adapters that hang on the weights, and the head; of a head that has adapters itself, those alone.
    Adapters,
    /// As [`Adapters`](Self::Adapters), for low-rank ones: the factor B, which starts at 0, at a larger rate than A.
    LoraPlus {
        /// The factor on the rate of B; 16 in the paper.
        ratio: f64,
    },
}

impl Recipe {
    /// [`HeadOnly`](Self::HeadOnly).
    #[must_use]
    pub fn head_only() -> Self {
        Self::HeadOnly
    }

    /// [`FreezeFirst`](Self::FreezeFirst), the others going on from their weights.
    #[must_use]
    pub fn freeze_first(k: usize) -> Self {
        Self::FreezeFirst { k, redraw: false }
    }

    /// [`Full`](Self::Full) with the head at 10 times the rate.
    #[must_use]
    pub fn full() -> Self {
        Self::Full { head_rate: 10.0 }
    }

    /// [`LpFt`](Self::LpFt) with a first phase as long as the second, at rate 1e-2.
    #[must_use]
    pub fn lp_ft() -> Self {
        Self::LpFt { probe_epochs: None, probe_rate: 1e-2 }
    }

    /// [`FineTune`](Self::FineTune) with fastai's numbers.
    #[must_use]
    pub fn fine_tune() -> Self {
        Self::FineTune { freeze_epochs: 1, mult: 100.0, div: 5.0, start: 0.3, train_norms: true }
    }

    /// [`Gradual`](Self::Gradual) with ULMFiT's numbers.
    #[must_use]
    pub fn gradual() -> Self {
        Self::Gradual { stages: None, ratio: 2.6 }
    }

    /// [`LayerDecay`](Self::LayerDecay) with timm's numbers.
    #[must_use]
    pub fn layer_decay() -> Self {
        Self::LayerDecay { decay: 0.75, min_scale: 0.0, no_opt_scale: 0.0 }
    }

    /// [`LoraPlus`](Self::LoraPlus) with the paper's number.
    #[must_use]
    pub fn lora_plus() -> Self {
        Self::LoraPlus { ratio: 16.0 }
    }

    /// Its name: `lp-ft`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::HeadOnly => "head-only",
            Self::LastK { .. } => "last-k",
            Self::FreezeFirst { redraw: false, .. } => "freeze-first",
            Self::FreezeFirst { redraw: true, .. } => "freeze-first-redraw",
            Self::OneGroup { .. } => "one-group",
            Self::Full { .. } => "full",
            Self::LpFt { .. } => "lp-ft",
            Self::Scratch => "scratch",
            Self::FineTune { .. } => "fine-tune",
            Self::Gradual { .. } => "gradual",
            Self::ChainThaw { .. } => "chain-thaw",
            Self::Discriminative { .. } => "discriminative",
            Self::LayerDecay { .. } => "layer-decay",
            Self::BitFit { .. } => "bitfit",
            Self::Rifle { .. } => "rifle",
            Self::Adapters => "adapters",
            Self::LoraPlus { .. } => "lora-plus",
        }
    }

    /// The learning rate to begin with, for AdamW; see the table above.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.rates()[1]
    }

    /// The rates of a small search, for AdamW, the default one in the middle.
    #[must_use]
    pub fn rates(&self) -> [f64; 3] {
        match self {
            Self::HeadOnly | Self::Gradual { .. } => [3e-3, 1e-2, 3e-2],
            Self::Scratch | Self::Discriminative { .. } => [1e-3, 3e-3, 1e-2],
            Self::FineTune { .. } => [1e-3, 2e-3, 5e-3],
            Self::BitFit { .. } => [3e-4, 1e-3, 1e-2],
            Self::LoraPlus { .. } => [1e-4, 3e-4, 1e-3],
            _ => [3e-4, 1e-3, 3e-3],
        }
    }

    /// The course of the rate within a phase, where the caller sets none.
    pub(crate) fn shape(&self) -> Shape {
        match self {
            Self::Gradual { .. } => Shape::Triangle { cut: 0.1, ratio: 32.0 },
            _ => Shape::Cosine,
        }
    }
}

impl std::fmt::Display for Recipe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}
