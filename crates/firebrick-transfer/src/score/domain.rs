//! Domain AUC: how well a linear probe tells source from target.

use crate::probe::{LogisticConfig, LogisticProbe};
use crate::score::{Features, Labels, ScoreError};
use firebrick_core::Seed;
use firebrick_split::{Rows, Splits, Splitter, StratifiedKFold};

/// The result of [`domain_auc`].
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct DomainAuc {
    /// Mean over the folds of the area under the ROC curve: 0.5 for samples that cannot be told apart, 1 for those
    /// that always can.
    pub auc: f64,
    /// Share of held-out rows on the wrong side, both samples weighing the same.
    pub error: f64,
    /// The proxy A-distance, `2 (1 - 2 error)`: 0 to 2.
    pub proxy_a: f64,
}

/// How well a logistic probe tells the rows of `source` from those of `target`, by stratified cross-validation.
///
/// Good for "cannot be told apart"; beyond, it is 1 for any visible shift, harmless or not. Features are
/// standardised by the training part.
///
/// # Errors
/// When the columns differ in number or a sample has fewer rows than there are folds.
///
/// # Source
/// D. Lopez-Paz, M. Oquab, "Revisiting Classifier Two-Sample Tests", ICLR 2017; S. Ben-David et al., "Analysis of
/// Representations for Domain Adaptation", NIPS 2006.
///
/// ```
/// use firebrick_core::Seed;
/// use firebrick_transfer::score::{Features, domain_auc};
///
/// let low = Features::new((0..20).map(f64::from).collect(), 1)?;
/// let high = Features::new((0..20).map(|i| f64::from(i) + 30.0).collect(), 1)?;
/// assert_eq!(domain_auc(&low, &high, 5, Seed(1))?.auc, 1.0);
/// # Ok::<(), firebrick_transfer::score::ScoreError>(())
/// ```
pub fn domain_auc(
    source: &Features,
    target: &Features,
    folds: usize,
    seed: Seed,
) -> Result<DomainAuc, ScoreError> {
    source.same_columns(target, "target")?;
    for (field, features) in [("source", source), ("target", target)] {
        if features.rows() < folds {
            return Err(ScoreError::FewRows {
                field: field.into(),
                found: features.rows(),
                needed: folds,
                why: "each fold holds out rows of both".into(),
            });
        }
    }
    let values = [source.values(), target.values()].concat();
    let both = Features::new(values, source.columns())?;
    let side = |row: usize| u32::from(row >= source.rows());
    let sides: Vec<u32> = (0..both.rows()).map(side).collect();
    let rows = Rows::new(both.rows()).with_labels(&sides);
    let splits = StratifiedKFold::new(folds).with_shuffle(seed).split(&rows)?;
    let (mut auc, mut wrong) = (0.0, [0.0; 2]);
    for split in splits.iter() {
        let train: Vec<u32> = split.train.into_vec();
        let held: Vec<u32> = split.valid.into_vec();
        let part = |rows: &[u32]| rows.iter().map(|&row| sides[row as usize]).collect::<Vec<_>>();
        let labels = Labels::new(&part(&train))?;
        let probe = LogisticProbe::fit(&both.select(&train)?, &labels, &LogisticConfig::default())?;
        let logits = probe.logits(&both.select(&held)?)?;
        let scores: Vec<f64> = logits.chunks_exact(2).map(|pair| pair[1] - pair[0]).collect();
        let truth = part(&held);
        auc += area(&scores, &truth) / folds as f64;
        for (score, &side) in scores.iter().zip(&truth) {
            if (*score > 0.0) != (side == 1) {
                wrong[side as usize] += 1.0;
            }
        }
    }
    let error = 0.5 * (wrong[0] / source.rows() as f64 + wrong[1] / target.rows() as f64);
    Ok(DomainAuc { auc, error, proxy_a: 2.0 * (1.0 - 2.0 * error) })
}

/// The share of pairs with the larger score on the side of 1; equal scores count half.
pub(super) fn area(scores: &[f64], truth: &[u32]) -> f64 {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_unstable_by(|a, b| scores[*a].total_cmp(&scores[*b]));
    let (mut ranks, mut at) = (0.0, 0);
    while at < order.len() {
        let end = at + order[at..].iter().take_while(|i| scores[**i] == scores[order[at]]).count();
        // Ranks from 1; tied scores share their mean.
        let rank = 0.5 * (at + 1 + end) as f64;
        ranks += order[at..end].iter().filter(|i| truth[**i] == 1).count() as f64 * rank;
        at = end;
    }
    let ones = truth.iter().filter(|side| **side == 1).count() as f64;
    let zeros = truth.len() as f64 - ones;
    (ranks - ones * (ones + 1.0) / 2.0) / (ones * zeros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_area_is_the_share_of_ordered_pairs() {
        assert_eq!(area(&[0.1, 0.4, 0.35, 0.8], &[0, 0, 1, 1]), 0.75);
        assert_eq!(area(&[0.5; 4], &[0, 1, 0, 1]), 0.5);
        assert_eq!(area(&[2.0, 1.0], &[0, 1]), 0.0);
    }
}
