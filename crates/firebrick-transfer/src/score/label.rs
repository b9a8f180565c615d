//! LEEP and NCE: what the source head says about the target's labels.

use crate::score::{Features, Labels, ScoreError};

/// How far the sum of a row of probabilities may be from 1: softmax in f16 has that much rounding.
const SUM_TOLERANCE: f64 = 1e-2;

/// LEEP: log expected empirical prediction of the target's labels through the source head.
///
/// ```text
/// P(y, z) = 1/n sum_{i: y_i = y} theta(x_i)_z,   P(y | z) = P(y, z) / P(z)
/// LEEP = 1/n sum_i log sum_z P(y_i | z) theta(x_i)_z
/// ```
///
/// `probabilities` is `[n, source classes]`, the source head's softmax on the target's inputs. A source class that
/// is never predicted has P(z) = 0 and takes no part, where the published code divides 0 by 0. At most 0, larger
/// is better.
///
/// # Errors
/// When rows and labels differ in number, or a row is negative somewhere or does not sum to 1.
///
/// # Source
/// C. Nguyen, T. Hassner, M. Seeger, C. Archambeau, "LEEP: A New Measure to Evaluate Transferability of Learned
/// Representations", ICML 2020.
///
/// ```
/// use firebrick_transfer::score::{Features, Labels, leep};
///
/// // The source head is sure, and its classes are the target's: the best that can be. The third is never predicted.
/// let sure = Features::new(vec![1.0, 0.0, 0.0, 0.0, 1.0, 0.0], 3)?;
/// assert_eq!(leep(&sure, &Labels::new(&[5, 2])?)?, 0.0);
/// # Ok::<(), firebrick_transfer::score::ScoreError>(())
/// ```
pub fn leep(probabilities: &Features, labels: &Labels) -> Result<f64, ScoreError> {
    probabilities.fit(labels)?;
    let (n, width) = (probabilities.rows(), probabilities.columns());
    let mut joint = vec![0.0; labels.classes() * width];
    for (row, &class) in labels.index().iter().enumerate() {
        let theta = probabilities.row(row);
        let sum: f64 = theta.iter().sum();
        let smallest = theta.iter().copied().fold(f64::INFINITY, f64::min);
        if smallest < 0.0 || (sum - 1.0).abs() > SUM_TOLERANCE {
            return Err(ScoreError::NotProbabilities { row, sum, smallest });
        }
        let cells = &mut joint[class as usize * width..][..width];
        cells.iter_mut().zip(theta).for_each(|(cell, p)| *cell += p);
    }
    let mut given = joint;
    for z in 0..width {
        let total: f64 = (0..labels.classes()).map(|class| given[class * width + z]).sum();
        if total > 0.0 {
            (0..labels.classes()).for_each(|class| given[class * width + z] /= total);
        }
    }
    let mut sum = 0.0;
    for (row, &class) in labels.index().iter().enumerate() {
        let given = &given[class as usize * width..][..width];
        let expected: f64 = given.iter().zip(probabilities.row(row)).map(|(p, q)| p * q).sum();
        // The row's own share is in P(y | z), so the expectation is above 0.
        sum += expected.ln();
    }
    Ok(sum / n as f64)
}

/// NCE: the negative conditional entropy of the target's label given the source head's label, in nats.
///
/// ```text
/// NCE = sum_{y, z} P(y, z) log(P(y, z) / P(z))
/// ```
///
/// `predicted` is the source class of each sample, the largest logit. Between -log(classes) and 0, larger is better.
///
/// # Errors
/// When the two differ in number.
///
/// # Source
/// A. Tran, C. Nguyen, T. Hassner, "Transferability and Hardness of Supervised Classification Tasks", ICCV 2019.
///
/// ```
/// use firebrick_transfer::score::{Labels, nce};
///
/// let labels = Labels::new(&[0, 0, 1, 1])?;
/// assert_eq!(nce(&[4, 4, 2, 2], &labels)?, 0.0); // a relabelling loses nothing
/// assert!((nce(&[4, 2, 4, 2], &labels)? + 2f64.ln()).abs() < 1e-15); // independent
/// # Ok::<(), firebrick_transfer::score::ScoreError>(())
/// ```
pub fn nce(predicted: &[u32], labels: &Labels) -> Result<f64, ScoreError> {
    if predicted.len() != labels.len() {
        return Err(ScoreError::Shape {
            field: "predicted".into(),
            expected: format!("one entry a label, {}", labels.len()),
            found: predicted.len(),
        });
    }
    let mut joint = std::collections::BTreeMap::<u32, Vec<f64>>::new();
    for (&z, &class) in predicted.iter().zip(labels.index()) {
        let row = joint.entry(z).or_insert_with(|| vec![0.0; labels.classes()]);
        row[class as usize] += 1.0;
    }
    let mut sum = 0.0;
    for row in joint.values() {
        let total: f64 = row.iter().sum();
        sum += row.iter().filter(|n| **n > 0.0).map(|n| n * (n / total).ln()).sum::<f64>();
    }
    Ok(sum / labels.len() as f64)
}
