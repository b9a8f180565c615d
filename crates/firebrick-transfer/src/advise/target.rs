//! What the adviser is shown.

use crate::advise::Tuning;
use crate::score::Features;

/// Accuracy of full fine-tuning on half and on all of the labelled data.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LearningCurve {
    /// Held-out accuracy with half the samples.
    pub half: f64,
    /// With all.
    pub whole: f64,
    /// Standard error of the difference.
    pub standard_error: f64,
}

/// What the adviser is shown: the labelled target data.
///
/// ```
/// use firebrick_transfer::advise::{Adviser, AdviserConfig, Target};
/// use firebrick_transfer::score::Features;
///
/// // Ten samples a class that the source features tell apart and the raw inputs do not.
/// let labels: Vec<u32> = (0..20).map(|i| i % 2).collect();
/// let raw = (0..20).map(|i| f64::from(i * 7 % 20)).collect();
/// let seen = (0..20).map(|i| f64::from(i % 2) + 0.01 * f64::from(i)).collect();
/// let (features, raw) = (Features::new(seen, 1)?, Features::new(raw, 1)?);
/// let target = Target::new(&features, &labels, 2).raw(&raw);
/// let advice = Adviser::new(AdviserConfig::default())?.look(&target)?;
/// assert!(advice.lift.is_some_and(|lift| lift.value > 0.9));
/// # Ok::<(), firebrick_transfer::advise::AdviseError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Target<'a> {
    pub(super) features: &'a Features,
    pub(super) labels: &'a [u32],
    pub(super) classes: usize,
    pub(super) raw: Option<&'a Features>,
    pub(super) fresh: Option<&'a Features>,
    pub(super) trainable: Vec<(Tuning, usize)>,
    pub(super) curve: Option<LearningCurve>,
    pub(super) source: Option<&'a Features>,
    pub(super) probabilities: Option<&'a Features>,
}

impl<'a> Target<'a> {
    /// The features of the labelled samples under the source model, and the classes of the new head.
    #[must_use]
    pub fn new(features: &'a Features, labels: &'a [u32], classes: usize) -> Self {
        Self {
            features,
            labels,
            classes,
            raw: None,
            fresh: None,
            trainable: Vec::new(),
            curve: None,
            source: None,
            probabilities: None,
        }
    }

    /// The inputs themselves, flat; they are standardised here.
    #[must_use]
    pub fn raw(mut self, raw: &'a Features) -> Self {
        self.raw = Some(raw);
        self
    }

    /// The features under a copy of the model with fresh weights; how alike they are to its own (CKA) is told beside.
    #[must_use]
    pub fn fresh(mut self, fresh: &'a Features) -> Self {
        self.fresh = Some(fresh);
        self
    }

    /// How many parameters each recipe trains, running statistics not counted.
    #[must_use]
    pub fn trainable(mut self, trainable: impl Into<Vec<(Tuning, usize)>>) -> Self {
        self.trainable = trainable.into();
        self
    }

    /// Where full fine-tuning stands with half and with all samples: many are many only once that is flat.
    #[must_use]
    pub fn curve(mut self, curve: LearningCurve) -> Self {
        self.curve = Some(curve);
        self
    }

    /// Features of source samples under the source model, for the distances between data sets.
    #[must_use]
    pub fn source(mut self, source: &'a Features) -> Self {
        self.source = Some(source);
        self
    }

    /// The source head's probabilities on the target's inputs, for LEEP and NCE.
    #[must_use]
    pub fn probabilities(mut self, probabilities: &'a Features) -> Self {
        self.probabilities = Some(probabilities);
        self
    }
}
