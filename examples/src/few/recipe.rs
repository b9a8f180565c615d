//! What is compared: recipes for few labels.

use serde::Serialize;

/// What a recipe adds to plain training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum Kind {
    Plain,
    Regularizer,
    Augmentation,
    Unlabelled,
    Skewed,
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

/// One way to train; 0 is off.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Recipe {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// What it is compared with, pair by pair.
    pub(crate) against: &'static str,
    pub(crate) l2: f64,
    pub(crate) proximal_l1: f64,
    pub(crate) max_norm: f64,
    pub(crate) dropout: f64,
    pub(crate) gaussian: f64,
    pub(crate) noise: f64,
    pub(crate) smoothing: f64,
    pub(crate) confidence: f64,
    pub(crate) mixup: f64,
    pub(crate) r_drop: f64,
    pub(crate) augment: bool,
    pub(crate) method: Option<Method>,
    pub(crate) sample: Sample,
}

pub(crate) const PLAIN: &str = "plain";
const AUGMENTED: &str = "augmentation";
const SKEWED: &str = "skewed";

impl Recipe {
    const fn new(name: &'static str, kind: Kind) -> Self {
        Self {
            name,
            kind,
            against: PLAIN,
            l2: 0.0,
            proximal_l1: 0.0,
            max_norm: 0.0,
            dropout: 0.0,
            gaussian: 0.0,
            noise: 0.0,
            smoothing: 0.0,
            confidence: 0.0,
            mixup: 0.0,
            r_drop: 0.0,
            augment: false,
            method: None,
            sample: Sample::Even,
        }
    }

    /// All of them, the plain one first.
    pub(crate) fn all() -> Vec<Self> {
        let one = |name| Self::new(name, Kind::Regularizer);
        let unlabelled = |name, method| Self {
            augment: true,
            method: Some(method),
            against: AUGMENTED,
            ..Self::new(name, Kind::Unlabelled)
        };
        vec![
            Self::new(PLAIN, Kind::Plain),
            Self { l2: 1e-2, ..one("L2") },
            Self { proximal_l1: 5e-2, ..one("proximal L1") },
            Self { max_norm: 1.0, ..one("max-norm") },
            Self { dropout: 0.5, ..one("dropout") },
            Self { gaussian: 0.5, ..one("Gaussian dropout") },
            Self { noise: 0.15, ..one("input noise") },
            Self { smoothing: 0.1, ..one("label smoothing") },
            Self { confidence: 0.1, ..one("confidence penalty") },
            Self { mixup: 0.4, ..one("mixup") },
            Self { r_drop: 1.0, dropout: 0.3, ..one("R-Drop") },
            Self { augment: true, ..Self::new(AUGMENTED, Kind::Augmentation) },
            Self {
                augment: true,
                dropout: 0.3,
                smoothing: 0.1,
                ..Self::new("augmentation with dropout", Kind::Augmentation)
            },
            unlabelled("pseudo-labels", Method::PseudoLabel),
            unlabelled("Pi-model", Method::PiModel),
            unlabelled("mean teacher", Method::MeanTeacher),
            unlabelled("UDA", Method::Uda),
            unlabelled("FixMatch", Method::FixMatch),
            Self { sample: Sample::Skewed, ..Self::new(SKEWED, Kind::Skewed) },
            Self {
                sample: Sample::DownSampled,
                against: SKEWED,
                ..Self::new("down-sampled", Kind::Skewed)
            },
        ]
    }

    /// In words, what the recipe is, for those who do not read the source.
    pub(crate) fn description(&self) -> String {
        let number = |name: &str, value: f64| (value > 0.0).then(|| format!("{name} {value}"));
        let mut parts: Vec<String> = [
            number("L2 penalty", self.l2),
            number("proximal L1", self.proximal_l1),
            number("largest norm of a unit", self.max_norm),
            number("dropout", self.dropout),
            number("Gaussian dropout", self.gaussian),
            number("input noise of deviation", self.noise),
            number("label smoothing", self.smoothing),
            number("confidence penalty", self.confidence),
            number("mixup with alpha", self.mixup),
            number("R-Drop with alpha", self.r_drop),
        ]
        .into_iter()
        .flatten()
        .collect();
        if self.augment {
            parts.push("shift, rotation and scale of the labelled images".into());
        }
        parts.extend(self.method.map(|method| {
            match method {
                Method::PseudoLabel => "predictions of at least 0.95 become labels",
                Method::PiModel => "two views of an unlabelled image agree",
                Method::MeanTeacher => "agreement with the averaged weights",
                Method::Uda => "a strong view agrees with the sharpened weak one",
                Method::FixMatch => "a strong view gets the confident label of the weak one",
            }
            .to_owned()
        }));
        match self.sample {
            Sample::Even => {}
            Sample::Skewed => parts.push("ten times as many labels of the digits 0 to 4".into()),
            Sample::DownSampled => {
                parts.push("the skewed rows, left out to the distribution of the test rows".into());
            }
        }
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

    #[test]
    fn names_are_unique_and_what_is_compared_exists() {
        let all = Recipe::all();
        let names: std::collections::HashSet<_> = all.iter().map(|recipe| recipe.name).collect();
        assert_eq!(names.len(), all.len());
        assert!(all.iter().all(|recipe| names.contains(recipe.against)));
        let described: std::collections::HashSet<_> = all.iter().map(Recipe::description).collect();
        assert_eq!(described.len(), all.len(), "no two recipes are the same");
    }
}
