//! The survey's table of four cells, and its revision.

use crate::{Groups, Recipe};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A way to fine-tune, as the rules know them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tuning {
    /// A new head on frozen features.
    HeadOnly,
    /// The first layers frozen, the rest trained on.
    FreezeFirst,
    /// All layers from the source weights.
    Full,
    /// The head first, then all layers from there.
    LpFt,
    /// All layers from fresh weights.
    Scratch,
}

impl Tuning {
    /// All, the cheaper first.
    pub const ALL: [Self; 5] =
        [Self::HeadOnly, Self::FreezeFirst, Self::Full, Self::LpFt, Self::Scratch];

    /// The recipe that does it to a model in these groups.
    ///
    /// Frozen first are a third of the groups, at least one and never all. How many is best is to be measured: give
    /// other recipes their own contenders.
    ///
    /// ```
    /// use firebrick_transfer::{Groups, Recipe, advise::Tuning};
    ///
    /// let groups = Groups::new((0..7).map(|i| (format!("block {i}"), vec![format!("blocks.{i}")])))?;
    /// assert_eq!(Tuning::FreezeFirst.recipe(&groups), Recipe::freeze_first(2));
    /// assert_eq!(Tuning::LpFt.recipe(&groups), Recipe::lp_ft());
    /// # Ok::<(), firebrick_transfer::TransferError>(())
    /// ```
    #[must_use]
    pub fn recipe(self, groups: &Groups) -> Recipe {
        match self {
            Self::HeadOnly => Recipe::HeadOnly,
            Self::FreezeFirst => {
                let most = groups.len().saturating_sub(1);
                Recipe::freeze_first((groups.len() / 3).max(1).min(most))
            }
            Self::Full => Recipe::full(),
            Self::LpFt => Recipe::lp_ft(),
            Self::Scratch => Recipe::Scratch,
        }
    }
}

impl fmt::Display for Tuning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::HeadOnly => "head only",
            Self::FreezeFirst => "freeze first",
            Self::Full => "full",
            Self::LpFt => "probe, then all",
            Self::Scratch => "scratch",
        })
    }
}

/// A cell of the survey's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cell {
    /// Few samples, similar data.
    FewSimilar,
    /// Few samples, other data.
    FewDifferent,
    /// Many samples, other data.
    ManyDifferent,
    /// Many samples, similar data.
    ManySimilar,
}

impl Cell {
    /// The four, few before many.
    pub const ALL: [Self; 4] =
        [Self::FewSimilar, Self::FewDifferent, Self::ManyDifferent, Self::ManySimilar];

    /// The cell of two answers.
    #[must_use]
    pub fn of(few: bool, similar: bool) -> Self {
        match (few, similar) {
            (true, true) => Self::FewSimilar,
            (true, false) => Self::FewDifferent,
            (false, false) => Self::ManyDifferent,
            (false, true) => Self::ManySimilar,
        }
    }

    /// What the table says: the head alone; freeze the first layers; from scratch; all from the source weights.
    #[must_use]
    pub fn survey(self) -> Tuning {
        match self {
            Self::FewSimilar => Tuning::HeadOnly,
            Self::FewDifferent => Tuning::FreezeFirst,
            Self::ManyDifferent => Tuning::Scratch,
            Self::ManySimilar => Tuning::Full,
        }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::FewSimilar => "few and similar",
            Self::FewDifferent => "few and not similar",
            Self::ManyDifferent => "many and not similar",
            Self::ManySimilar => "many and similar",
        })
    }
}

/// The survey's table as it stands: two borders, four cells, one recipe each, never in doubt.
///
/// ```
/// use firebrick_transfer::advise::{QuadrantRule, Tuning};
///
/// let rule = QuadrantRule::default();
/// assert_eq!(rule.choose(5.0, 0.6), Tuning::HeadOnly);
/// assert_eq!(rule.choose(150.0, 0.0), Tuning::Scratch);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct QuadrantRule {
    /// Samples per class up to which they are few.
    pub few_per_class: f64,
    /// Lift of the source features above which the data are similar.
    pub similar_above: f64,
}

impl Default for QuadrantRule {
    fn default() -> Self {
        Self { few_per_class: 20.0, similar_above: 0.25 }
    }
}

impl QuadrantRule {
    /// The cell of these data.
    #[must_use]
    pub fn cell(&self, per_class: f64, lift: f64) -> Cell {
        Cell::of(per_class <= self.few_per_class, lift > self.similar_above)
    }

    /// The recipe of that cell.
    #[must_use]
    pub fn choose(&self, per_class: f64, lift: f64) -> Tuning {
        self.cell(per_class, lift).survey()
    }
}

/// The rule that measurements left of the table: the head alone where few samples meet a source that helps, from
/// scratch where many meet one that does not, all from the source weights where many meet one that does, and probe, then
/// all ([`Tuning::LpFt`]) everywhere else.
///
/// One cell of the table is another one, few and not similar: freezing the first layers came out level with training
/// all in the runs that this rule comes from (`cargo run --bin transfer`), and behind probe, then all.
///
/// ```
/// use firebrick_transfer::advise::{RevisedRule, Tuning};
///
/// let rule = RevisedRule::default();
/// assert_eq!(rule.choose(5.0, 0.6), Tuning::HeadOnly);
/// assert_eq!(rule.choose(5.0, 0.0), Tuning::LpFt);
/// assert_eq!(rule.choose(150.0, 0.1), Tuning::Scratch);
/// assert_eq!(rule.choose(150.0, 0.6), Tuning::Full);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RevisedRule {
    /// Samples per class up to which they are few.
    pub few_per_class: f64,
    /// Samples per class from which they are many.
    pub many_per_class: f64,
    /// With few: lift above which the head is enough.
    pub head_above: f64,
    /// With many: lift below which the source is left, and from which all is trained from its weights.
    pub scratch_below: f64,
    /// What is done with few and no such lift, and between few and many.
    pub otherwise: Tuning,
}

impl Default for RevisedRule {
    fn default() -> Self {
        Self {
            few_per_class: 20.0,
            many_per_class: 150.0,
            head_above: 0.25,
            scratch_below: 0.2,
            otherwise: Tuning::LpFt,
        }
    }
}

impl RevisedRule {
    /// The recipe for these data.
    #[must_use]
    pub fn choose(&self, per_class: f64, lift: f64) -> Tuning {
        if per_class >= self.many_per_class {
            if lift < self.scratch_below { Tuning::Scratch } else { Tuning::Full }
        } else if per_class <= self.few_per_class && lift > self.head_above {
            Tuning::HeadOnly
        } else {
            self.otherwise
        }
    }
}
