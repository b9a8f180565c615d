//! Augmentation of tables: noise, feature dropout, SMOTE. Training rows only.
//!
//! # Formula
//! ```text
//! noise            x_j + std_j * scale * N(0, 1)      std_j of the column over the training rows
//! feature dropout  a value becomes the column's mean with probability p
//! SMOTE            x_i + u (x_k - x_i),  u ~ U(0, 1),  k one of the nearest rows of the same class
//! ```
//!
//! # Reference
//! N. V. Chawla, K. W. Bowyer, L. O. Hall, W. P. Kegelmeyer, "SMOTE: synthetic minority over-sampling technique",
//! JAIR 2002.

use super::{Generators, LabelEffect, declared, preserved};
use crate::dropout::constant;
use crate::{MaskSource, RegularizeError, TrainingTable};
use burn::config::Config;
use burn::tensor::{Tensor, TensorData};
use firebrick_core::{ConfigError, Philox, check};
use rayon::prelude::*;

/// What both changes of rows have.
macro_rules! labelled {
    ($name:ident) => {
        impl $name {
            /// Changes rows whose labels are used afterwards.
            ///
            /// # Errors
            /// When it is declared to change labels, or the number of columns differs from the training rows'.
            pub fn labelled(&self, rows: Tensor<2>) -> Result<Tensor<2>, RegularizeError> {
                preserved(self.changes())?;
                self.rows(rows)
            }
        }
    };
}
declared!(TableNoise, FeatureDropout);
labelled!(TableNoise);
labelled!(FeatureDropout);

/// Configuration of [`TableNoise`].
#[derive(Config, Debug)]
pub struct TableNoiseConfig {
    /// Noise in units of each column's standard deviation, at least 0.
    #[config(default = 0.1)]
    pub scale: f64,
}

impl TableNoiseConfig {
    /// Takes the columns' deviations from the training rows `[n, f]`.
    ///
    /// # Errors
    /// When `scale` is negative or not finite, there is no row, or a value is not finite.
    pub fn fit(&self, rows: Tensor<2>, masks: &MaskSource) -> Result<TableNoise, RegularizeError> {
        let scale = check::non_negative("scale", self.scale)?;
        let (_, deviations) = columns(rows)?;
        let deviations = deviations.into_iter().map(|std| std * scale).collect();
        Ok(TableNoise { deviations, effect: LabelEffect::Preserves, masks: masks.clone() })
    }
}

/// Adds noise to rows of a table, each column by its own spread.
///
/// It is declared to preserve labels; [`with_effect`](Self::with_effect) declares otherwise.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebrick_core::Seed;
/// use firebrick_regularize::{MaskSource, TableNoiseConfig};
///
/// let rows = Tensor::<2>::from_floats([[1.0, 5.0], [3.0, 5.0]], &Device::flex());
/// let noise = TableNoiseConfig::new().fit(rows.clone(), &MaskSource::new(Seed(7)))?;
/// let noisy: Vec<f32> = noise.rows(rows)?.try_to_vec_as().unwrap();
/// assert_eq!((noisy[1], noisy[3]), (5.0, 5.0)); // a constant column has no spread
/// # Ok::<(), firebrick_regularize::RegularizeError>(())
/// ```
#[derive(Debug, Clone)]
pub struct TableNoise {
    deviations: Vec<f64>,
    effect: LabelEffect,
    masks: MaskSource,
}

impl TableNoise {
    /// The rows `[n, f]` with noise.
    ///
    /// # Errors
    /// When the number of columns differs from the training rows'.
    pub fn rows(&self, rows: Tensor<2>) -> Result<Tensor<2>, RegularizeError> {
        width(&rows, self.deviations.len())?;
        let noise = field(&rows, &self.masks, |row, generator| self.fill(row, generator));
        Ok(rows + noise)
    }

    fn fill(&self, row: &mut [f32], generator: &mut Philox) {
        for (value, std) in row.iter_mut().zip(&self.deviations) {
            *value = (std * generator.normal()) as f32;
        }
    }

    pub(super) fn width(&self) -> usize {
        self.deviations.len()
    }

    /// Changes one row.
    pub(super) fn sample(&self, row: &mut [f32], generator: &mut Philox) {
        let mut noise = vec![0.0; row.len()];
        self.fill(&mut noise, generator);
        row.iter_mut().zip(noise).for_each(|(value, noise)| *value += noise);
    }
}

/// Configuration of [`FeatureDropout`].
#[derive(Config, Debug)]
pub struct FeatureDropoutConfig {
    /// Probability that a value is replaced, in [0, 1).
    #[config(default = 0.1)]
    pub prob: f64,
}

impl FeatureDropoutConfig {
    /// Takes the columns' means from the training rows `[n, f]`.
    ///
    /// # Errors
    /// When `prob` is outside [0, 1), there is no row, or a value is not finite.
    pub fn fit(
        &self,
        rows: Tensor<2>,
        masks: &MaskSource,
    ) -> Result<FeatureDropout, RegularizeError> {
        let prob = check::range("prob", self.prob, 0.0..1.0)?;
        let (means, effect) = (columns(rows)?.0, LabelEffect::Preserves);
        Ok(FeatureDropout { prob, means, effect, masks: masks.clone() })
    }
}

/// Replaces values of a table by their column's mean.
///
/// It is declared to preserve labels; [`with_effect`](Self::with_effect) declares otherwise.
#[derive(Debug, Clone)]
pub struct FeatureDropout {
    prob: f64,
    means: Vec<f64>,
    effect: LabelEffect,
    masks: MaskSource,
}

impl FeatureDropout {
    /// The rows `[n, f]` with values replaced.
    ///
    /// # Errors
    /// When the number of columns differs from the training rows'.
    pub fn rows(&self, rows: Tensor<2>) -> Result<Tensor<2>, RegularizeError> {
        width(&rows, self.means.len())?;
        if rows.dims()[0] == 0 {
            return Ok(rows);
        }
        // 1 where a value is replaced.
        let gone = field(&rows, &self.masks, |row, generator| {
            row.iter_mut().for_each(|v| *v = f32::from(u8::from(generator.uniform() < self.prob)));
        });
        let means: Vec<f32> = self.means.iter().map(|&mean| mean as f32).collect();
        let means = TensorData::new(means, [1, self.means.len()]);
        let means = Tensor::<2>::from_data(means, (&gone.device(), rows.dtype()));
        let shape = rows.dims();
        Ok(rows.mask_where(gone.greater_scalar(0.5), means.expand(shape)))
    }

    pub(super) fn width(&self) -> usize {
        self.means.len()
    }

    /// Changes one row.
    pub(super) fn sample(&self, row: &mut [f32], generator: &mut Philox) {
        for (value, mean) in row.iter_mut().zip(&self.means) {
            if generator.uniform() < self.prob {
                *value = *mean as f32;
            }
        }
    }
}

/// Configuration of [`Smote`].
#[derive(Config, Debug)]
pub struct SmoteConfig {
    /// Neighbours to draw from, at least 1.
    #[config(default = 5)]
    pub neighbours: usize,
}

impl SmoteConfig {
    /// Checks the number of neighbours; draws come from `masks`.
    ///
    /// # Errors
    /// When it is 0.
    pub fn init(&self, masks: &MaskSource) -> Result<Smote, ConfigError> {
        let neighbours = check::at_least("neighbours", self.neighbours, 1)?;
        Ok(Smote { neighbours, masks: masks.clone() })
    }
}

/// Makes new rows of a rare class between its own rows.
///
/// It takes training rows alone, for a row made from a validation row leaks it. Features should be scaled, for
/// neighbours are found by Euclidean distance.
///
/// ```
/// use firebrick_core::Seed;
/// use firebrick_regularize::{MaskSource, SmoteConfig, TrainingTable};
///
/// let smote = SmoteConfig::new().init(&MaskSource::new(Seed(7)))?;
/// let all = [0.0, 0.0, 5.0, 3.0, 1.0, 1.0]; // three rows, of which 0 and 2 are of the rare class
/// let made = smote.rows(&TrainingTable::of(&all, 2, &[0, 2])?, 3)?;
/// assert!(made.iter().all(|row| row[0] == row[1] && (0.0..1.0).contains(&row[0])));
/// # Ok::<(), firebrick_regularize::RegularizeError>(())
/// ```
///
/// Held-out rows are of another type, which the compiler refuses:
///
/// ```compile_fail,E0308
/// use firebrick_core::Seed;
/// use firebrick_regularize::{MaskSource, SmoteConfig, TrainingTable};
///
/// let smote = SmoteConfig::new().init(&MaskSource::new(Seed(7)))?;
/// let train = TrainingTable::of(&[0.0, 1.0, 2.0, 3.0], 1, &[0, 1])?;
/// let held_out = train.held_out(&[0.0, 1.0, 2.0, 3.0], &[2, 3])?;
/// let made = smote.rows(&held_out, 3)?;
/// # Ok::<(), firebrick_regularize::RegularizeError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Smote {
    neighbours: usize,
    masks: MaskSource,
}

impl Smote {
    /// `count` new rows between those of `table`, which are all of one class.
    ///
    /// With fewer rows than neighbours all others are neighbours. The rows take turns in the order of a shuffle,
    /// so that each is used alike.
    ///
    /// # Errors
    /// When there are fewer than two rows.
    pub fn rows(
        &self,
        table: &TrainingTable,
        count: usize,
    ) -> Result<Vec<Vec<f64>>, RegularizeError> {
        let rows: Vec<&[f64]> = table.values().chunks(table.columns()).collect();
        if rows.len() < 2 {
            return Err(RegularizeError::Shape {
                what: "the rows of a class for SMOTE",
                expected: "at least 2".into(),
                found: vec![rows.len()],
            });
        }
        let mut generator = self.masks.reserve(4 * rows.len() + 8 * count);
        let mut order: Vec<usize> = (0..rows.len()).collect();
        generator.shuffle(&mut order);
        // Rows take turns, so the neighbours of each are needed many times and searched once.
        let used = &order[..count.min(order.len())];
        let near: Vec<Vec<usize>> =
            used.par_iter().map(|&own| nearest(&rows, own, self.neighbours)).collect();
        let made = (0..count).map(|index| {
            let turn = index % order.len();
            let (own, near) = (order[turn], &near[turn]);
            let other = rows[near[generator.below(near.len() as u64) as usize]];
            let share = generator.uniform();
            rows[own].iter().zip(other).map(|(a, b)| a + share * (b - a)).collect()
        });
        Ok(made.collect())
    }
}

/// The rows nearest to one, itself left out; ties by position.
fn nearest(rows: &[&[f64]], own: usize, count: usize) -> Vec<usize> {
    let distance = |other: usize| -> f64 {
        rows[own].iter().zip(rows[other]).map(|(a, b)| (a - b).powi(2)).sum()
    };
    let mut others: Vec<(f64, usize)> = (0..rows.len())
        .filter(|&other| other != own)
        .map(|other| (distance(other), other))
        .collect();
    others.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    others.into_iter().take(count).map(|(_, other)| other).collect()
}

/// Mean and standard deviation (over n) of every column.
fn columns(rows: Tensor<2>) -> Result<(Vec<f64>, Vec<f64>), RegularizeError> {
    let [n, f] = rows.dims();
    let values: Vec<f64> = rows.try_to_vec_as()?;
    if n == 0 || f == 0 {
        return Err(RegularizeError::Empty { what: "the training table" });
    }
    if let Some(position) = values.iter().position(|value| !value.is_finite()) {
        let value = values[position].to_string();
        return Err(RegularizeError::NotFinite { what: "the training table", value, position });
    }
    let mean = |j: usize| values.iter().skip(j).step_by(f).sum::<f64>() / n as f64;
    let means: Vec<f64> = (0..f).map(mean).collect();
    let deviation = |j: usize| {
        let square = |value: &f64| (value - means[j]).powi(2);
        (values.iter().skip(j).step_by(f).map(square).sum::<f64>() / n as f64).sqrt()
    };
    let deviations = (0..f).map(deviation).collect();
    Ok((means, deviations))
}

/// A number for each value of a table, drawn row by row, on the plain device.
fn field(
    rows: &Tensor<2>,
    masks: &MaskSource,
    fill: impl Fn(&mut [f32], &mut Philox) + Sync,
) -> Tensor<2> {
    let [n, f] = rows.dims();
    let generators = Generators::next(masks);
    let mut values = vec![0f32; n * f];
    let draw = |(index, row): (usize, &mut [f32])| fill(row, &mut generators.of(index));
    values.par_chunks_mut(f.max(1)).enumerate().for_each(draw);
    constant(values, [n, f], &rows.device(), rows.dtype())
}

fn width(rows: &Tensor<2>, columns: usize) -> Result<(), RegularizeError> {
    if rows.dims()[1] == columns {
        return Ok(());
    }
    let expected = format!("{columns} columns wide, as the training rows");
    Err(RegularizeError::Shape { what: "the table", expected, found: rows.dims().to_vec() })
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::tensor::Device;
    use firebrick_backend::testing::devices;
    use firebrick_core::Seed;

    fn table(n: usize, device: &Device) -> Tensor<2> {
        let values: Vec<f32> = (0..n).flat_map(|i| [(i % 2) as f32 * 4.0, 7.0]).collect();
        Tensor::from_data(TensorData::new(values, [n, 2]), device)
    }

    #[test]
    fn noise_is_in_units_of_the_column() {
        for device in devices() {
            let n = 1_000_000usize;
            let noise = TableNoiseConfig::new().with_scale(0.5);
            let noise = noise.fit(table(n, &device), &MaskSource::new(Seed(1))).expect("valid");
            let noisy = noise.rows(table(n, &device)).expect("same columns");
            let added: Vec<f64> = (noisy - table(n, &device)).try_to_vec_as().expect("reads");
            let variance = added.iter().step_by(2).map(|x| x * x).sum::<f64>() / n as f64;
            // The column's deviation is 2, so the noise's is 1.
            assert!((variance - 1.0).abs() < 5.0 * (2.0 / n as f64).sqrt(), "{variance}");
            assert!(added.iter().skip(1).step_by(2).all(|&x| x == 0.0));
            assert!(noise.rows(Tensor::zeros([2, 3], &device)).is_err());
        }
    }

    #[test]
    fn dropped_features_become_the_mean_with_their_probability() {
        let device = Device::flex();
        let n = 1_000_000usize;
        let drop = FeatureDropoutConfig::new().with_prob(0.3);
        let drop = drop.fit(table(n, &device), &MaskSource::new(Seed(2))).expect("valid");
        let rows: Vec<f64> =
            drop.rows(table(n, &device)).expect("runs").try_to_vec_as().expect("reads");
        let dropped = rows.iter().step_by(2).filter(|&&v| v == 2.0).count() as f64 / n as f64;
        assert!((dropped - 0.3).abs() < 5.0 * (0.21 / n as f64).sqrt(), "{dropped}");
        for prob in [1.0, -0.1, f64::NAN] {
            let refused = FeatureDropoutConfig::new().with_prob(prob);
            assert!(refused.fit(table(4, &device), &MaskSource::new(Seed(2))).is_err());
        }
        let bad = Tensor::<2>::from_floats([[f32::NAN]], &device);
        assert!(matches!(
            FeatureDropoutConfig::new().fit(bad, &MaskSource::new(Seed(2))),
            Err(RegularizeError::NotFinite { position: 0, .. })
        ));
        let none = Tensor::<2>::zeros([0, 2], &device);
        assert!(TableNoiseConfig::new().fit(none, &MaskSource::new(Seed(2))).is_err());
    }

    #[test]
    fn what_is_declared_to_change_labels_refuses_labelled_rows() {
        let device = Device::flex();
        let (masks, changes) = (MaskSource::new(Seed(2)), LabelEffect::Changes);
        let noise = TableNoiseConfig::new().fit(table(10, &device), &masks).expect("valid");
        let drop = FeatureDropoutConfig::new().fit(table(10, &device), &masks).expect("valid");
        assert!(noise.labelled(table(4, &device)).is_ok());
        assert!(drop.labelled(table(4, &device)).is_ok());
        let (noise, drop) = (noise.with_effect(changes), drop.with_effect(changes));
        for refused in [noise.labelled(table(4, &device)), drop.labelled(table(4, &device))] {
            assert!(matches!(refused, Err(RegularizeError::Refused(_))));
        }
        assert!(noise.rows(table(4, &device)).is_ok() && drop.rows(table(4, &device)).is_ok());
    }

    /// All of these values as training rows.
    fn training(values: &[f64], columns: usize) -> TrainingTable {
        let rows: Vec<usize> = (0..values.len() / columns).collect();
        TrainingTable::of(values, columns, &rows).expect("valid")
    }

    #[test]
    fn smote_stays_on_the_segments_to_neighbours() {
        // Two far clusters on the x axis: with one neighbour no row may appear between them.
        let rows = training(&[0.0, 2.0, 1.0, 2.0, 100.0, 2.0, 101.0, 2.0], 2);
        let smote =
            SmoteConfig::new().with_neighbours(1).init(&MaskSource::new(Seed(3))).expect("valid");
        let made = smote.rows(&rows, 1000).expect("valid");
        assert_eq!(made.len(), 1000);
        assert!(made.iter().all(|row| row[1] == 2.0));
        assert!(
            made.iter()
                .all(|row| (0.0..=1.0).contains(&row[0]) || (100.0..=101.0).contains(&row[0]))
        );
        // Each of the four rows is used 250 times.
        assert_eq!(made.iter().filter(|row| row[0] < 50.0).count(), 500);
        // The position along the segment is uniform: mean 1/2, variance 1/12.
        let mean = made.iter().map(|row| row[0] % 100.0).sum::<f64>() / 1000.0;
        assert!((mean - 0.5).abs() < 5.0 * (1.0 / 12.0 / 1000.0f64).sqrt(), "{mean}");
    }

    #[test]
    fn neighbours_that_are_searched_once_give_the_rows_of_a_search_for_each() {
        let mut stream = Seed(9).stream("rows");
        let values: Vec<f64> = (0..120).map(|_| stream.normal()).collect();
        let rows: Vec<&[f64]> = values.chunks(3).collect();
        for count in [0, 1, 7, 40, 95] {
            let masks = MaskSource::new(Seed(3));
            let smote = SmoteConfig::new().init(&masks).expect("valid");
            let found = smote.rows(&training(&values, 3), count).expect("valid");
            masks.seek(0);
            let mut generator = masks.reserve(4 * rows.len() + 8 * count);
            let mut order: Vec<usize> = (0..rows.len()).collect();
            generator.shuffle(&mut order);
            let mut expected: Vec<Vec<f64>> = Vec::new();
            for index in 0..count {
                let own = order[index % order.len()];
                let near = nearest(&rows, own, 5);
                let other = rows[near[generator.below(near.len() as u64) as usize]];
                let share = generator.uniform();
                let between = |(a, b): (&f64, &f64)| a + share * (b - a);
                expected.push(rows[own].iter().zip(other).map(between).collect());
            }
            assert_eq!(found, expected, "{count}");
        }
    }

    #[test]
    fn smote_refuses_what_it_cannot_use() {
        let smote = SmoteConfig::new().init(&MaskSource::new(Seed(3))).expect("valid");
        let alone = smote.rows(&training(&[1.0, 5.0], 2), 1).expect_err("one row").to_string();
        assert!(alone.contains("at least 2, got shape [1]"), "{alone}");
        let none = smote.rows(&training(&[1.0, 2.0], 1), 0).expect("nothing asked for");
        assert!(none.is_empty());
        // Two rows that are the same leave nothing between them.
        let same = smote.rows(&training(&[1.0, 2.0, 1.0, 2.0], 2), 3).expect("two rows");
        assert_eq!(same, vec![vec![1.0, 2.0]; 3]);
        assert!(SmoteConfig::new().with_neighbours(0).init(&MaskSource::new(Seed(3))).is_err());
    }

    #[test]
    fn other_widths_are_refused_and_empty_and_half_precision_tables_pass() {
        let device = Device::flex();
        let masks = MaskSource::new(Seed(4));
        let noise = TableNoiseConfig::new().fit(table(10, &device), &masks).expect("valid");
        let drop = FeatureDropoutConfig::new().with_prob(0.5);
        let drop = drop.fit(table(10, &device), &masks).expect("valid");
        let wrong = || Tensor::<2>::zeros([2, 3], &device);
        for refused in [noise.rows(wrong()), drop.rows(wrong())] {
            let message = refused.expect_err("width").to_string();
            assert!(message.contains("2 columns wide, as the training rows"), "{message}");
        }
        let none = || Tensor::<2>::zeros([0, 2], &device);
        for unchanged in [noise.rows(none()), drop.rows(none())] {
            assert_eq!(unchanged.expect("nothing to change").dims(), [0, 2]);
        }
        for dtype in [burn::tensor::DType::F16, burn::tensor::DType::BF16] {
            for rows in [
                noise.rows(table(50, &device).cast(dtype)),
                drop.rows(table(50, &device).cast(dtype)),
            ] {
                let rows = rows.expect("same columns");
                assert_eq!((rows.dtype(), rows.dims()), (dtype, [50, 2]));
                let values: Vec<f32> = rows.try_to_vec_as().expect("reads");
                assert!(values.iter().all(|v| v.is_finite()));
            }
        }
        for scale in [-1.0, f64::NAN] {
            let config = TableNoiseConfig::new().with_scale(scale);
            assert!(config.fit(table(10, &device), &masks).is_err());
        }
    }

    #[test]
    fn every_row_takes_its_turn_and_neighbours_alike() {
        // Four equal sides of a cross: from the middle each end is a neighbour with the same probability.
        let rows = training(&[0.0, 0.0, 1.0, 0.0, -1.0, 0.0, 0.0, 1.0, 0.0, -1.0], 2);
        let smote = SmoteConfig::new().with_neighbours(4).init(&MaskSource::new(Seed(5)));
        let made = smote.expect("valid").rows(&rows, 100_000).expect("valid");
        // On one side of an axis: 5000 from the middle to the end, 5000 back, and half of the 5000 from either end to the
        // other.
        let on_axis = |axis: usize, row: &[f64]| row[1 - axis] == 0.0 && row[axis] != 0.0;
        let count = |axis: usize, sign: f64| {
            let side = |row: &&Vec<f64>| on_axis(axis, row) && row[axis] * sign > 0.0;
            made.iter().filter(side).count() as f64
        };
        let counts = [count(0, 1.0), count(0, -1.0), count(1, 1.0), count(1, -1.0)];
        let bound = 5.0 * 15_000f64.sqrt();
        assert!(counts.iter().all(|c| (c - 15_000.0).abs() < bound), "{counts:?}");
    }
}
