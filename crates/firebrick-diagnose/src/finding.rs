//! What a diagnosis says: a finding, how sure it is, on what grounds, and what to do.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The kinds of findings, most urgent first: what stands earlier is usually the cause of what follows.
///
/// In JSON and in print a kind is its name in lower case with hyphens, `over-fitting` for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum FindingKind {
    /// The loss became NaN or infinite, or rose and stayed up.
    Divergence,
    /// Gradients grow towards a layer, or over time, beyond measure.
    ExplodingGradients,
    /// Gradients shrink towards a layer to next to nothing.
    VanishingGradients,
    /// A guard skipped more than a few steps.
    SkippedSteps,
    /// The model never beat the prediction of class frequencies.
    NeverBetterThanPrior,
    /// The loss stopped falling at a poor level.
    Plateau,
    /// The loss was still falling when training ended.
    NotConverged,
    /// The training error stayed high.
    UnderFitting,
    /// The validation error or loss is far above that of training.
    OverFitting,
    /// Too few epochs or numbers to judge.
    TooShort,
    /// None of the above.
    Healthy,
}

impl FindingKind {
    /// The name in lower case with hyphens.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Divergence => "divergence",
            Self::ExplodingGradients => "exploding-gradients",
            Self::VanishingGradients => "vanishing-gradients",
            Self::SkippedSteps => "skipped-steps",
            Self::NeverBetterThanPrior => "never-better-than-prior",
            Self::Plateau => "plateau",
            Self::NotConverged => "not-converged",
            Self::UnderFitting => "under-fitting",
            Self::OverFitting => "over-fitting",
            Self::TooShort => "too-short",
            Self::Healthy => "healthy",
        }
    }
}

impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One thing that the history shows.
///
/// ```
/// use firebrick_diagnose::{Finding, FindingKind};
///
/// let finding = Finding::new(FindingKind::OverFitting, 0.8, "the gap is 0.20", "regularize");
/// assert_eq!(finding.to_string(), "over-fitting (confidence 0.80): the gap is 0.20; regularize");
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Finding {
    /// What it is.
    pub finding: FindingKind,
    /// How sure, from 0 to 1: `1 - (1 - base) / r`, where `r >= 1` says how far the measured number lies
    /// beyond its threshold and `base` is the trust in the rule at the threshold itself.
    pub confidence: f64,
    /// The numbers behind it, in words.
    pub evidence: String,
    /// What to do, the first thing to try first.
    pub remedy: String,
}

impl Finding {
    /// A finding; the confidence is brought into [0, 1], NaN to 0.
    pub fn new(
        finding: FindingKind,
        confidence: f64,
        evidence: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let confidence = if confidence.is_nan() { 0.0 } else { confidence.clamp(0.0, 1.0) };
        Self { finding, confidence, evidence: evidence.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { finding, confidence, evidence, remedy } = self;
        write!(f, "{finding} (confidence {confidence:.2}): {evidence}; {remedy}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_and_print_use_the_same_name() {
        for kind in [
            FindingKind::Divergence,
            FindingKind::ExplodingGradients,
            FindingKind::VanishingGradients,
            FindingKind::SkippedSteps,
            FindingKind::NeverBetterThanPrior,
            FindingKind::Plateau,
            FindingKind::NotConverged,
            FindingKind::UnderFitting,
            FindingKind::OverFitting,
            FindingKind::TooShort,
            FindingKind::Healthy,
        ] {
            let json = serde_json::to_string(&kind).expect("serializes");
            assert_eq!(json, format!("\"{kind}\""));
        }
        let finding = Finding::new(FindingKind::Healthy, f64::NAN, "", "");
        let json = serde_json::to_string(&finding).expect("serializes");
        assert_eq!(serde_json::from_str::<Finding>(&json).expect("reads"), finding);
        assert_eq!(finding.confidence, 0.0);
    }
}
