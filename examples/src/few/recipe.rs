//! What is compared: recipes for few labels, one line each.
//!
//! Of firebrick's regularizers all are here that a classifier of small images by dense layers can use. Spatial dropout,
//! zoneout, variational and embedding dropout, AR and TAR need feature maps, sequences or words. A regularizer that
//! needs another network than the plain one is compared with that network alone.

use serde::Serialize;
use std::fmt;

/// What a recipe adds to plain training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum Kind {
    Plain,
    Penalty,
    Constraint,
    Dropout,
    Noise,
    Target,
    Average,
    /// Another network, for what cannot do without it.
    Network,
    Augmentation,
    Unlabelled,
    Skewed,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Penalty => "penalty",
            Self::Constraint => "constraint",
            Self::Dropout => "dropout",
            Self::Noise => "noise",
            Self::Target => "target",
            Self::Average => "average",
            Self::Network => "network",
            Self::Augmentation => "augmentation",
            Self::Unlabelled => "semi-supervised",
            Self::Skewed => "skewed",
        }
    }

    /// Whether it is a regularizer: no other data, and no other network.
    pub(crate) fn regularizes(self) -> bool {
        matches!(
            self,
            Self::Penalty
                | Self::Constraint
                | Self::Dropout
                | Self::Noise
                | Self::Target
                | Self::Average
        )
    }
}

/// A method that learns from the rows without labels too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum Method {
    PseudoLabel,
    PiModel,
    MeanTeacher,
    Uda,
    FixMatch,
}

/// Which rows have labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum Sample {
    /// The same number of every class.
    Even,
    /// Ten times as many of the digits 0 to 4, as far as there are.
    Skewed,
    /// The skewed rows, left out at random until the classes follow the even distribution of the test rows.
    DownSampled,
}

/// What lies between the dense layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum Body {
    Relu,
    /// ReLU, and the second hidden layer is a branch around which the first one goes.
    Residual,
    /// Smooth, so that slopes can be penalized.
    Gelu,
    /// Keeps mean 0 and variance 1, which alpha dropout rests on.
    Selu,
}

/// One thing that a recipe does, with its strength.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) enum Piece {
    // Added to the loss.
    L2(f64),
    L1(f64),
    ElasticNet(f64),
    Orthogonal(f64),
    Spectral(f64),
    Activity(f64),
    Confidence(f64),
    Jacobian(f64),
    InputGradient(f64),
    // Done to the weights after a step.
    ProximalL1(f64),
    GroupLasso(f64),
    MaxNorm(f64),
    UnitNorm,
    NonNegative,
    // Layers, or weights of one.
    Dropout(f64),
    Curriculum(f64),
    EarlyDropout(f64),
    LateDropout(f64),
    Gaussian(f64),
    Alpha(f64),
    Concrete(f64),
    DropConnect(f64),
    WeightDrop(f64),
    DropBlock(f64),
    DropPath(f64),
    InputNoise(f64),
    WeightNoise(f64),
    // Done to gradients, labels and targets.
    GradientNoise(f64),
    LabelNoise(f64),
    Smoothing(f64),
    Mixup(f64),
    CutMix(f64),
    ManifoldMixup(f64),
    RDrop(f64),
    // What predicts at the end.
    Ema(f64),
    Swa,
    Snapshots,
    Soup,
    Ensemble(usize),
    Bagging(usize),
    // Data.
    Augment,
    RandAugment(usize),
    AugMix(usize),
    Without(Method),
    Rows(Sample),
    Network(Body),
}

impl fmt::Display for Piece {
    /// In words, for those who do not read the source.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::L2(strength) => write!(f, "L2 penalty {strength}"),
            Self::L1(strength) => write!(f, "L1 penalty {strength}"),
            Self::ElasticNet(strength) => write!(f, "elastic net {strength}, half of it L1"),
            Self::Orthogonal(strength) => write!(f, "orthogonal penalty {strength}"),
            Self::Spectral(strength) => write!(f, "penalty {strength} on largest singular values"),
            Self::Activity(strength) => {
                write!(f, "L2 penalty {strength} on the last hidden activities")
            }
            Self::Confidence(strength) => write!(f, "confidence penalty {strength}"),
            Self::Jacobian(strength) => write!(f, "penalty {strength} on the Jacobian"),
            Self::InputGradient(strength) => {
                write!(f, "penalty {strength} on the loss's gradient by the input")
            }
            Self::ProximalL1(strength) => write!(f, "proximal L1 {strength}"),
            Self::GroupLasso(strength) => write!(f, "proximal group lasso {strength} on units"),
            Self::MaxNorm(max) => write!(f, "largest norm of a unit {max}"),
            Self::UnitNorm => write!(f, "every unit has norm 1"),
            Self::NonNegative => write!(f, "no weight below 0"),
            Self::Dropout(prob) => write!(f, "dropout {prob}"),
            Self::Curriculum(prob) => write!(f, "dropout that rises to {prob}"),
            Self::EarlyDropout(prob) => write!(f, "dropout {prob} in the first half of the steps"),
            Self::LateDropout(prob) => write!(f, "dropout {prob} in the second half of the steps"),
            Self::Gaussian(prob) => write!(f, "Gaussian dropout {prob}"),
            Self::Alpha(prob) => write!(f, "alpha dropout {prob}"),
            Self::Concrete(prob) => write!(f, "dropout whose probability is learned, from {prob}"),
            Self::DropConnect(prob) => write!(f, "weights of the last layer dropped, {prob}"),
            Self::WeightDrop(prob) => write!(f, "weights of all layers dropped, {prob}"),
            Self::DropBlock(prob) => write!(f, "squares of 3 pixels dropped, {prob}"),
            Self::DropPath(prob) => write!(f, "the branch dropped, {prob}"),
            Self::InputNoise(std) => write!(f, "input noise of deviation {std}"),
            Self::WeightNoise(std) => write!(f, "weight noise of deviation {std}"),
            Self::GradientNoise(eta) => write!(f, "gradient noise of variance {eta} at first"),
            Self::LabelNoise(prob) => write!(f, "labels wrong with probability {prob}"),
            Self::Smoothing(share) => write!(f, "label smoothing {share}"),
            Self::Mixup(alpha) => write!(f, "mixup with alpha {alpha}"),
            Self::CutMix(alpha) => write!(f, "CutMix with alpha {alpha}"),
            Self::ManifoldMixup(alpha) => write!(f, "mixup at a random layer, alpha {alpha}"),
            Self::RDrop(alpha) => write!(f, "R-Drop with alpha {alpha}"),
            Self::Ema(decay) => write!(f, "weights averaged with decay {decay}"),
            Self::Swa => write!(f, "weights averaged over the last quarter of the steps"),
            Self::Snapshots => write!(f, "the models after the last 3 of 4 falls of the rate vote"),
            Self::Soup => write!(f, "the mean of the weights after the last 3 of 4 falls"),
            Self::Ensemble(members) => write!(f, "{members} trainings vote"),
            Self::Bagging(members) => write!(f, "{members} trainings on resampled rows vote"),
            Self::Augment => write!(f, "shift, rotation and scale of the labelled images"),
            Self::RandAugment(magnitude) => write!(f, "RandAugment, magnitude {magnitude}"),
            Self::AugMix(severity) => write!(f, "AugMix, severity {severity}, with its divergence"),
            Self::Without(method) => f.write_str(match method {
                Method::PseudoLabel => "predictions of at least 0.95 become labels",
                Method::PiModel => "two views of an unlabelled image agree",
                Method::MeanTeacher => "agreement with the averaged weights",
                Method::Uda => "a strong view agrees with the sharpened weak one",
                Method::FixMatch => "a strong view gets the confident label of the weak one",
            }),
            Self::Rows(sample) => f.write_str(match sample {
                Sample::Even => "as many labels of every digit",
                Sample::Skewed => "ten times as many labels of the digits 0 to 4",
                Sample::DownSampled => {
                    "the skewed rows, left out to the distribution of the test rows"
                }
            }),
            Self::Network(body) => f.write_str(match body {
                Body::Relu => "ReLU",
                Body::Residual => "a shortcut around the second hidden layer",
                Body::Gelu => "GELU in the place of ReLU",
                Body::Selu => "SELU in the place of ReLU",
            }),
        }
    }
}

/// One way to train.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Recipe {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// What it is compared with, pair by pair.
    pub(crate) against: &'static str,
    pub(crate) pieces: &'static [Piece],
}

pub(crate) const PLAIN: &str = "plain";
pub(crate) const AUGMENTED: &str = "augmentation";
pub(crate) const SKEWED: &str = "skewed";
const RESIDUAL: &str = "residual network";
const SMOOTH: &str = "GELU network";
const NORMAL: &str = "SELU network";

const fn one(
    kind: Kind,
    name: &'static str,
    against: &'static str,
    pieces: &'static [Piece],
) -> Recipe {
    Recipe { name, kind, against, pieces }
}

impl Recipe {
    /// All of them, the plain one first.
    pub(crate) fn all() -> Vec<Self> {
        use Kind::{Augmentation, Average, Constraint, Noise, Penalty, Skewed, Target, Unlabelled};
        use Piece::*;
        const DROPOUT: Kind = Kind::Dropout;
        vec![
            one(Kind::Plain, PLAIN, PLAIN, &[]),
            one(Penalty, "L2", PLAIN, &[L2(1e-2)]),
            one(Penalty, "L1", PLAIN, &[L1(3e-4)]),
            one(Penalty, "elastic net", PLAIN, &[ElasticNet(1e-3)]),
            one(Penalty, "orthogonal", PLAIN, &[Orthogonal(1e-3)]),
            one(Penalty, "spectral", PLAIN, &[Spectral(1e-2)]),
            one(Penalty, "activity", PLAIN, &[Activity(1e-3)]),
            one(Penalty, "confidence", PLAIN, &[Confidence(0.1)]),
            one(Penalty, "Jacobian", SMOOTH, &[Network(Body::Gelu), Jacobian(1e-2)]),
            one(Penalty, "input gradient", SMOOTH, &[Network(Body::Gelu), InputGradient(1.0)]),
            one(Constraint, "proximal L1", PLAIN, &[ProximalL1(5e-2)]),
            one(Constraint, "group lasso", PLAIN, &[GroupLasso(1e-2)]),
            one(Constraint, "max-norm", PLAIN, &[MaxNorm(1.0)]),
            one(Constraint, "unit norm", PLAIN, &[UnitNorm]),
            one(Constraint, "non-negative", PLAIN, &[NonNegative]),
            one(DROPOUT, "dropout", PLAIN, &[Dropout(0.5)]),
            one(DROPOUT, "curriculum dropout", PLAIN, &[Curriculum(0.5)]),
            one(DROPOUT, "early dropout", PLAIN, &[EarlyDropout(0.5)]),
            one(DROPOUT, "late dropout", PLAIN, &[LateDropout(0.5)]),
            one(DROPOUT, "Gaussian dropout", PLAIN, &[Gaussian(0.5)]),
            one(DROPOUT, "concrete dropout", PLAIN, &[Concrete(0.1)]),
            one(DROPOUT, "DropConnect", PLAIN, &[DropConnect(0.5)]),
            one(DROPOUT, "weight-drop", PLAIN, &[WeightDrop(0.3)]),
            one(DROPOUT, "DropBlock", PLAIN, &[DropBlock(0.1)]),
            one(DROPOUT, "DropPath", RESIDUAL, &[Network(Body::Residual), DropPath(0.3)]),
            one(DROPOUT, "alpha dropout", NORMAL, &[Network(Body::Selu), Alpha(0.1)]),
            one(Noise, "input noise", PLAIN, &[InputNoise(0.15)]),
            one(Noise, "weight noise", PLAIN, &[WeightNoise(0.03)]),
            one(Noise, "gradient noise", PLAIN, &[GradientNoise(1e-4)]),
            one(Noise, "label noise", PLAIN, &[LabelNoise(0.1)]),
            one(Target, "label smoothing", PLAIN, &[Smoothing(0.1)]),
            one(Target, "mixup", PLAIN, &[Mixup(0.4)]),
            one(Target, "CutMix", PLAIN, &[CutMix(1.0)]),
            one(Target, "manifold mixup", PLAIN, &[ManifoldMixup(2.0)]),
            one(Target, "R-Drop", PLAIN, &[Dropout(0.3), RDrop(1.0)]),
            one(Average, "EMA", PLAIN, &[Ema(0.99)]),
            one(Average, "SWA", PLAIN, &[Swa]),
            one(Average, "snapshot ensemble", PLAIN, &[Snapshots]),
            one(Average, "model soup", PLAIN, &[Soup]),
            one(Average, "deep ensemble", PLAIN, &[Ensemble(3)]),
            one(Average, "bagging", PLAIN, &[Bagging(3)]),
            one(Kind::Network, RESIDUAL, PLAIN, &[Network(Body::Residual)]),
            one(Kind::Network, SMOOTH, PLAIN, &[Network(Body::Gelu)]),
            one(Kind::Network, NORMAL, PLAIN, &[Network(Body::Selu)]),
            one(Augmentation, AUGMENTED, PLAIN, &[Augment]),
            one(Augmentation, "RandAugment", PLAIN, &[RandAugment(9)]),
            one(Augmentation, "AugMix", PLAIN, &[AugMix(3)]),
            one(
                Augmentation,
                "augmentation with dropout",
                PLAIN,
                &[Augment, Dropout(0.3), Smoothing(0.1)],
            ),
            one(Unlabelled, "pseudo-labels", AUGMENTED, &[Augment, Without(Method::PseudoLabel)]),
            one(Unlabelled, "Pi-model", AUGMENTED, &[Augment, Without(Method::PiModel)]),
            one(Unlabelled, "mean teacher", AUGMENTED, &[Augment, Without(Method::MeanTeacher)]),
            one(Unlabelled, "UDA", AUGMENTED, &[Augment, Without(Method::Uda)]),
            one(Unlabelled, "FixMatch", AUGMENTED, &[Augment, Without(Method::FixMatch)]),
            one(Skewed, SKEWED, PLAIN, &[Rows(Sample::Skewed)]),
            one(Skewed, "down-sampled", SKEWED, &[Rows(Sample::DownSampled)]),
        ]
    }

    /// What the first piece that `of` knows is to it.
    pub(crate) fn find<T>(&self, of: impl Fn(Piece) -> Option<T>) -> Option<T> {
        self.pieces.iter().copied().find_map(of)
    }

    pub(crate) fn has(&self, piece: Piece) -> bool {
        self.pieces.contains(&piece)
    }

    pub(crate) fn method(&self) -> Option<Method> {
        self.find(|piece| if let Piece::Without(method) = piece { Some(method) } else { None })
    }

    pub(crate) fn sample(&self) -> Sample {
        let of = |piece| if let Piece::Rows(sample) = piece { Some(sample) } else { None };
        self.find(of).unwrap_or(Sample::Even)
    }

    pub(crate) fn body(&self) -> Body {
        let of = |piece| if let Piece::Network(body) = piece { Some(body) } else { None };
        self.find(of).unwrap_or(Body::Relu)
    }

    /// In words, what the recipe is.
    pub(crate) fn description(&self) -> String {
        let parts: Vec<String> = self.pieces.iter().map(ToString::to_string).collect();
        if parts.is_empty() {
            "cross entropy and AdamW without decay".into()
        } else {
            parts.join("; ")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_what_is_compared_exists() {
        let all = Recipe::all();
        let names: HashSet<_> = all.iter().map(|recipe| recipe.name).collect();
        assert_eq!(names.len(), all.len());
        assert!(all.iter().all(|recipe| names.contains(recipe.against)));
        let described: HashSet<_> = all.iter().map(Recipe::description).collect();
        assert_eq!(described.len(), all.len(), "no two recipes are the same");
    }

    #[test]
    fn a_recipe_has_the_network_of_what_it_is_compared_with() {
        let all = Recipe::all();
        for recipe in all.iter().filter(|recipe| recipe.kind != Kind::Network) {
            let other = all.iter().find(|other| other.name == recipe.against).expect("exists");
            assert_eq!(recipe.body(), other.body(), "{}", recipe.name);
        }
    }
}
