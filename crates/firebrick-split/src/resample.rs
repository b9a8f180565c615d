//! Re-sampling for few or skewed data: to a target distribution, in nested sub-samples, with weights.
//!
//! Every function takes a [`Train`] part, so validation and test rows cannot be re-sampled: there is no function for
//! them.

use crate::apportion::largest_remainder;
use crate::classes::Dense;
use crate::fair::fair_order;
use crate::shuffle::Words;
use crate::{SplitError, Train};
use firebrick_core::{ConfigError, Seed, check};
use serde::{Deserialize, Serialize};

/// The class distribution to draw to.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Target {
    /// The same number of rows of every class.
    Uniform,
    /// Shares by label; they are divided by their sum. Classes that are not named get no row.
    Shares(Vec<(u32, f64)>),
    /// Rows by label; classes that are not named get no row.
    Counts(Vec<(u32, usize)>),
    /// The distribution of another data set, by its labels.
    Like(Vec<u32>),
}

/// What re-sampling did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResampleReport {
    /// The method.
    pub method: String,
    /// Label, rows before, rows after.
    pub classes: Vec<(u32, usize, usize)>,
    /// The share of each class that was aimed at, in the order of `classes`.
    pub target: Vec<f64>,
    /// Total variation distance to the target before: half the sum of absolute differences of shares.
    pub distance_before: f64,
    /// The same after.
    pub distance_after: f64,
    /// Rows that were left out.
    pub dropped: usize,
    /// Draws that repeat a row already drawn.
    pub repeated: usize,
    /// `(sum w)^2 / sum w^2` of how often each row was drawn.
    pub effective_rows: f64,
    /// The seed.
    pub seed: Seed,
}

/// Rows of a training part, drawn anew.
#[derive(Debug, Clone, PartialEq)]
pub struct Resampled {
    /// Places in the training part, ascending; repeated where a row was drawn repeatedly.
    pub places: Vec<u32>,
    /// The same as row numbers of the whole data set.
    pub rows: Vec<u32>,
    /// What was done.
    pub report: ResampleReport,
}

pub(crate) fn check_labels<D>(train: &Train<D>, labels: &[u32]) -> Result<(), SplitError> {
    if train.rows().is_empty() {
        return Err(SplitError::NoRows);
    }
    if labels.len() != train.rows().len() {
        let n = train.rows().len();
        return Err(SplitError::LengthMismatch { column: "labels", len: labels.len(), n });
    }
    Ok(())
}

/// Half the sum of the absolute differences of two distributions.
fn variation(counts: &[usize], shares: &[f64]) -> f64 {
    let total = counts.iter().sum::<usize>().max(1) as f64;
    counts
        .iter()
        .zip(shares)
        .map(|(&count, share)| (count as f64 / total - share).abs())
        .sum::<f64>()
        / 2.0
}

/// The shares of `target` by class number.
pub(crate) fn shares(target: &Target, classes: &Dense) -> Result<Vec<f64>, SplitError> {
    let mut shares = vec![0.0; classes.len()];
    let known: std::collections::HashMap<u32, usize> =
        classes.codes.iter().enumerate().map(|(number, &code)| (code, number)).collect();
    let mut give = |label: u32, share: f64| -> Result<(), SplitError> {
        check::non_negative("share", share)?;
        match known.get(&label) {
            Some(&number) => shares[number] += share,
            None if share > 0.0 => {
                let expected = "a label that occurs in the training part";
                return Err(ConfigError::new("target label", label, expected).into());
            }
            None => {}
        }
        Ok(())
    };
    match target {
        Target::Uniform => shares.fill(1.0),
        Target::Shares(list) => list.iter().try_for_each(|&(label, share)| give(label, share))?,
        Target::Counts(list) => {
            list.iter().try_for_each(|&(label, count)| give(label, count as f64))?
        }
        Target::Like(labels) => {
            let other = Dense::by_appearance(labels);
            for (&code, &count) in other.codes.iter().zip(&other.counts) {
                give(code, count as f64)?;
            }
        }
    }
    let sum: f64 = shares.iter().sum();
    check::positive("sum of the shares", sum)?;
    Ok(shares.into_iter().map(|share| share / sum).collect())
}

/// Rows of each class when as many as possible are kept.
fn keep(classes: &Dense, target: &Target, shares: &[f64]) -> Result<Vec<usize>, SplitError> {
    if let Target::Counts(list) = target {
        let mut counts = vec![0; classes.len()];
        for &(label, wanted) in list {
            let number = classes.codes.iter().position(|&code| code == label);
            if let Some(number) = number.filter(|_| wanted > 0) {
                counts[number] += wanted;
            }
        }
        for (number, &wanted) in counts.iter().enumerate() {
            if wanted > classes.counts[number] {
                let expected = format!(
                    "at most the {} rows of class {}",
                    classes.counts[number], classes.codes[number]
                );
                return Err(ConfigError::new("target count", wanted, expected).into());
            }
        }
        return Ok(counts);
    }
    if *target == Target::Uniform {
        let least = classes.counts.iter().copied().min().unwrap_or(0);
        return Ok(vec![least; classes.len()]);
    }
    // The largest total of which no class is asked for more rows than it has: no quota exceeds a whole number of rows,
    // so no rounded one does. The slack takes back what the division lost.
    let limit = |number: usize| classes.counts[number] as f64 / shares[number];
    let wanted: Vec<usize> = (0..classes.len()).filter(|&number| shares[number] > 0.0).collect();
    let most = wanted.iter().map(|&number| limit(number)).fold(f64::INFINITY, f64::min);
    // Integer weights from the shares: 2^40 parts.
    let weights: Vec<usize> =
        shares.iter().map(|share| (share * (1u64 << 40) as f64).round() as usize).collect();
    let unbounded = vec![usize::MAX; classes.len()];
    let mut total = (most + 1e-9).floor() as usize;
    while total > 0 {
        let counts = largest_remainder(&weights, total, 0, &unbounded);
        if counts.iter().zip(&classes.counts).all(|(wanted, there)| wanted <= there) {
            return Ok(counts);
        }
        total -= 1;
    }
    Ok(vec![0; classes.len()])
}

/// Leaves out training rows until the classes follow `target`, as many rows kept as that allows.
///
/// Within a class rows are drawn at random without replacement. `Uniform` keeps as many of each class as the
/// rarest has. After leaving out negatives at rate `b`, correct probabilities with [`crate::corrected_probability`].
///
/// # Errors
/// [`SplitError::LengthMismatch`], [`SplitError::NoRows`] (also when the target leaves none), a `ConfigError` for a label
/// that does not occur, a share that is negative or not finite, or a count beyond the rows of its class.
///
/// ```
/// use firebrick_core::Seed;
/// use firebrick_split::{Target, Train, down_sample};
///
/// let labels = [0, 0, 0, 0, 0, 0, 1, 1];
/// let train = Train::new((), (10..18).collect());
/// let even = down_sample(&train, &labels, &Target::Uniform, Seed(1))?;
/// assert_eq!(even.report.classes, [(0, 6, 2), (1, 2, 2)]);
/// assert_eq!(even.report.distance_after, 0.0);
/// assert_eq!(even.rows[2..], [16, 17]);
/// # Ok::<(), firebrick_split::SplitError>(())
/// ```
///
/// Rows to choose by keep their distribution:
///
/// ```compile_fail,E0308
/// # use firebrick_split::*;
/// # fn f(valid: Validation<Vec<f32>>, labels: &[u32], seed: firebrick_core::Seed) {
/// let even = down_sample(&valid, labels, &Target::Uniform, seed);
/// # }
/// ```
pub fn down_sample<D>(
    train: &Train<D>,
    labels: &[u32],
    target: &Target,
    seed: Seed,
) -> Result<Resampled, SplitError> {
    check_labels(train, labels)?;
    let classes = Dense::by_appearance(labels);
    let shares = shares(target, &classes)?;
    let counts = keep(&classes, target, &shares)?;
    if counts.iter().all(|&count| count == 0) {
        return Err(SplitError::NoRows);
    }
    // 1 for kept, 0 for dropped, shuffled within each class.
    let part = |number: usize, part: usize| {
        if part == 0 { classes.counts[number] - counts[number] } else { counts[number] }
    };
    let kept =
        crate::stratified::deal(labels, &classes, 2, part, |part| part as u8, Some(seed.child(0)));
    let places: Vec<u32> =
        (0..labels.len()).filter(|&place| kept[place] == 1).map(|place| place as u32).collect();
    Ok(finish("down_sample", train.rows(), &classes, &shares, &counts, places, seed))
}

/// The result with its report; `rows` is the row number of each place of the training part.
pub(crate) fn finish(
    method: &str,
    rows: &[u32],
    classes: &Dense,
    shares: &[f64],
    after: &[usize],
    places: Vec<u32>,
    seed: Seed,
) -> Resampled {
    let (mut distinct, mut squares) = (0, 0.0);
    for run in places.chunk_by(|a, b| a == b) {
        distinct += 1;
        squares += (run.len() as f64).powi(2);
    }
    let report = ResampleReport {
        method: method.into(),
        classes: (0..classes.len())
            .map(|c| (classes.codes[c], classes.counts[c], after[c]))
            .collect(),
        target: shares.to_vec(),
        distance_before: variation(&classes.counts, shares),
        distance_after: variation(after, shares),
        dropped: rows.len() - distinct,
        repeated: places.len() - distinct,
        effective_rows: (places.len() as f64).powi(2) / squares.max(1.0),
        seed,
    };
    let rows = places.iter().map(|&place| rows[place as usize]).collect();
    Resampled { places, rows, report }
}

/// Nested, stratified sub-samples for a learning curve: each size contains the smaller ones, and each class is within
/// one row of its share in every one of them.
///
/// # Errors
/// [`SplitError::LengthMismatch`], [`SplitError::NoRows`], a `ConfigError` for a size of 0 or beyond the training rows.
///
/// ```
/// use firebrick_core::Seed;
/// use firebrick_split::{Train, learning_curve};
///
/// let labels: Vec<u32> = (0..80).map(|row| u32::from(row >= 60)).collect();
/// let train = Train::new((), (0..80).collect());
/// let samples = learning_curve(&train, &labels, &[20, 40], Seed(3))?;
/// assert_eq!(samples[0].report.classes, [(0, 60, 15), (1, 20, 5)]);
/// assert!(samples[0].places.iter().all(|place| samples[1].places.contains(place)));
/// # Ok::<(), firebrick_split::SplitError>(())
/// ```
pub fn learning_curve<D>(
    train: &Train<D>,
    labels: &[u32],
    sizes: &[usize],
    seed: Seed,
) -> Result<Vec<Resampled>, SplitError> {
    check_labels(train, labels)?;
    let n = labels.len();
    if let Some(&size) = sizes.iter().find(|&&size| size == 0 || size > n) {
        return Err(ConfigError::new("size", size, format_args!("in [1, {n}]")).into());
    }
    let classes = Dense::by_appearance(labels);
    let mut members = vec![Vec::new(); classes.len()];
    for (place, &label) in labels.iter().enumerate() {
        members[classes.number(label)].push(place as u32);
    }
    for (number, rows) in members.iter_mut().enumerate() {
        Words::new(seed.child(number as u64).stream("split/learning_curve")).shuffle(rows);
    }
    let order = fair_order(&classes.counts);
    let shares: Vec<f64> = classes.counts.iter().map(|&count| count as f64 / n as f64).collect();
    let sample = |size: usize| {
        let mut after = vec![0; classes.len()];
        let mut places: Vec<u32> = Vec::with_capacity(size);
        for &number in &order[..size] {
            let number = number as usize;
            places.push(members[number][after[number]]);
            after[number] += 1;
        }
        places.sort_unstable();
        finish("learning_curve", train.rows(), &classes, &shares, &after, places, seed)
    };
    Ok(sizes.iter().map(|&size| sample(size)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(n: u32) -> Train<()> {
        Train::new((), (100..100 + n).collect())
    }

    #[test]
    fn targets_are_met_exactly_where_they_can_be() {
        let labels: Vec<u32> = [vec![0; 60], vec![1; 30], vec![2; 10]].concat();
        let train = part(100);
        let of =
            |target: Target| down_sample(&train, &labels, &target, Seed(1)).expect("draws").report;
        let after =
            |report: &ResampleReport| report.classes.iter().map(|c| c.2).collect::<Vec<_>>();
        assert_eq!(after(&of(Target::Uniform)), [10, 10, 10]);
        let shares = of(Target::Shares(vec![(0, 0.5), (1, 0.25), (2, 0.25)]));
        assert_eq!(
            (after(&shares), shares.distance_after, shares.dropped),
            (vec![20, 10, 10], 0.0, 60)
        );
        assert_eq!(after(&of(Target::Counts(vec![(2, 7), (0, 3)]))), [3, 0, 7]);
        let like = of(Target::Like(vec![1, 1, 1, 0]));
        assert_eq!(after(&like), [10, 30, 0]);
        assert!((like.distance_before - 0.5).abs() < 0.06 && like.distance_after < 1e-12);
        assert_eq!(like.effective_rows, 40.0);
    }

    #[test]
    fn targets_that_cannot_be_met_are_refused() {
        let labels = [0, 0, 1];
        let train = part(3);
        let of = |target: Target| {
            down_sample(&train, &labels, &target, Seed(1)).expect_err("refused").to_string()
        };
        assert!(
            of(Target::Shares(vec![(5, 1.0)]))
                .contains("`target label` must be a label that occurs")
        );
        assert!(of(Target::Shares(vec![(0, -1.0)])).contains("`share`"));
        assert!(of(Target::Shares(vec![(0, f64::NAN)])).contains("NaN"));
        assert!(of(Target::Shares(vec![(0, 0.0)])).contains("sum of the shares"));
        assert!(of(Target::Counts(vec![(1, 2)])).contains("at most the 1 rows of class 1"));
        assert!(of(Target::Like(vec![])).contains("sum of the shares"));
        assert!(down_sample(&train, &labels[..2], &Target::Uniform, Seed(1)).is_err());
        assert!(down_sample(&part(0), &[], &Target::Uniform, Seed(1)).is_err());
    }

    #[test]
    fn learning_curves_are_nested_and_stratified() {
        let labels: Vec<u32> = (0..211u32).map(|row| row * row % 7 % 4).collect();
        let train = part(211);
        let sizes: Vec<usize> = (1..=211).collect();
        let samples = learning_curve(&train, &labels, &sizes, Seed(2)).expect("draws");
        for (size, sample) in sizes.iter().zip(&samples) {
            assert_eq!(sample.places.len(), *size);
            for &(label, before, after) in &sample.report.classes {
                let share = before as f64 * *size as f64 / 211.0;
                assert!((after as f64 - share).abs() <= 1.0, "label {label}: {after} for {share}");
            }
        }
        for pair in samples.windows(2) {
            assert!(pair[0].places.iter().all(|place| pair[1].places.binary_search(place).is_ok()));
        }
        assert!(learning_curve(&train, &labels, &[212], Seed(2)).is_err());
        assert!(learning_curve(&train, &labels, &[0], Seed(2)).is_err());
    }
}
