//! A task with few labels on features that were computed once: a ridge probe, over several draws of the labelled rows.

use firebrick::core::Seed;
use firebrick::transfer::probe::{RidgeProbe, default_lambdas};
use firebrick::transfer::score::{Features, Labels};

use super::failure::Failure;

/// How many rows are labelled, and how often they are drawn.
#[derive(Debug, Clone, Copy)]
pub struct FewLabels {
    /// Labelled rows of each class.
    pub per_class: usize,
    /// Draws, each with other labelled rows; all other rows are the test part.
    pub draws: u64,
    /// Seed of the draws.
    pub seed: Seed,
}

/// Accuracies on the rows that were not labelled.
#[derive(Debug, Clone, PartialEq)]
pub struct Few {
    /// One a draw.
    pub accuracies: Vec<f64>,
}

impl Few {
    /// Their mean.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.accuracies.iter().sum::<f64>() / self.accuracies.len() as f64
    }

    /// Half the width of the mean's 95 % interval by Student's t; infinite for one draw.
    ///
    /// The draws share their test rows, so it speaks of other labelled rows from this data and of nothing else.
    #[must_use]
    pub fn half_width(&self) -> f64 {
        // Two-sided 95 % points for 1, 2, ... degrees of freedom.
        const POINTS: [f64; 9] = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262];
        let n = self.accuracies.len() as f64;
        let Some(degrees) = self.accuracies.len().checked_sub(2) else { return f64::INFINITY };
        let point = POINTS.get(degrees).copied().unwrap_or(2.262);
        let mean = self.mean();
        let squares: f64 = self.accuracies.iter().map(|value| (value - mean).powi(2)).sum();
        point * (squares / (n - 1.0) / n).sqrt()
    }
}

/// Fits a head on the labelled rows of each draw and judges it on the others. The same draws for any features.
///
/// # Errors
///
/// When a class has no more rows than are labelled, or a head cannot be fitted.
pub fn few_labels(features: &Features, labels: &[u32], few: FewLabels) -> Result<Few, Failure> {
    let mut accuracies = Vec::new();
    for draw in 0..few.draws {
        let mut order: Vec<u32> = (0..labels.len() as u32).collect();
        few.seed.child(draw).stream("few labels").shuffle(&mut order);
        let mut taken = std::collections::BTreeMap::<u32, usize>::new();
        let (train, test): (Vec<u32>, Vec<u32>) = order.into_iter().partition(|row| {
            let count = taken.entry(labels[*row as usize]).or_default();
            *count += 1;
            *count <= few.per_class
        });
        let of =
            |rows: &[u32]| -> Vec<u32> { rows.iter().map(|row| labels[*row as usize]).collect() };
        let labelled = features.select(&train)?;
        let probe =
            RidgeProbe::fit(&labelled, &Labels::new(&of(&train))?, &default_lambdas(&labelled))?;
        accuracies.push(probe.head.accuracy(&features.select(&test)?, &of(&test))?);
    }
    Ok(Few { accuracies })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_separable_is_separated_and_noise_is_not() {
        let mut stream = Seed(5).stream("test");
        let labels: Vec<u32> = (0..60).map(|row| row % 3).collect();
        let good: Vec<f64> = labels
            .iter()
            .flat_map(|label| (0..3).map(move |class| f64::from(u8::from(class == *label))))
            .collect();
        let noise: Vec<f64> = (0..180).map(|_| stream.normal()).collect();
        let few = FewLabels { per_class: 5, draws: 4, seed: Seed(1) };
        let of = |values: Vec<f64>| {
            few_labels(&Features::new(values, 3).expect("features"), &labels, few).expect("fits")
        };
        assert_eq!(of(good).accuracies, [1.0; 4]);
        // 45 rows a draw at a third: seven standard deviations below 0.85.
        assert!(of(noise).mean() < 0.85);
    }

    #[test]
    fn the_interval_is_students() {
        let few = Few { accuracies: vec![0.8, 0.9] };
        assert!((few.mean() - 0.85).abs() < 1e-12);
        assert!((few.half_width() - 12.706 * 0.05).abs() < 1e-9);
        assert!(Few { accuracies: vec![0.8] }.half_width().is_infinite());
    }
}
