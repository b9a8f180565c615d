//! Mixing samples and their targets: mixup, CutMix, manifold mixup.
//!
//! # Formula
//! ```text
//! mixup       x' = l x_i + (1 - l) x_j      y' = l y_i + (1 - l) y_j      l ~ Beta(alpha, alpha)
//! CutMix      a box of the share 1 - l of the image comes from x_j;  l := 1 - box / (H W) after cutting the
//!             box at the border;  y' as above
//! manifold    mixup of the hidden state at a random layer
//! ```
//! The partner `j` is a random permutation of the batch, so an odd batch is fine, and a batch of one is mixed
//! with itself, that is, unchanged. Train on it alone: no mixing in validation, and accuracy against hard labels
//! means nothing while mixing.
//!
//! # Reference
//! H. Zhang, M. Cisse, Y. N. Dauphin, D. Lopez-Paz, "mixup: beyond empirical risk minimization", ICLR 2018; S.
//! Yun et al., "CutMix", ICCV 2019; V. Verma et al., "Manifold mixup", ICML 2019.
//!
//! # Differences
//! timm pairs a batch with its reverse and needs an even size; torchvision rolls it by one. timm's boxes may have an
//! odd number of rows and columns.

mod cut;

pub use cut::{CutBox, CutMix, CutMixConfig, CutPlan};

use crate::dropout::constant;
use crate::sample::beta;
use crate::{MaskSource, RegularizeError};
use burn::config::Config;
use burn::tensor::{DType, Int, Tensor, TensorData};
use firebrick_backend::host::HostTensor;
use firebrick_core::{ConfigError, check};
use rayon::prelude::*;

/// A mixed batch.
#[derive(Debug, Clone)]
pub struct Mixed<const D: usize> {
    /// The inputs.
    pub input: Tensor<D>,
    /// The target distributions `[n, k]`.
    pub targets: Tensor<2>,
    /// Who was mixed with whom, and how much.
    pub plan: MixPlan,
}

/// Who is mixed with whom, and how much of each remains.
#[derive(Debug, Clone, PartialEq)]
pub struct MixPlan {
    /// For each row its partner.
    pub partners: Vec<usize>,
    /// For each row the share of its own that remains.
    pub lambda: Vec<f64>,
}

impl MixPlan {
    /// `l x_i + (1 - l) x_j` on any tensor whose axis 0 is the batch: inputs, hidden states or targets.
    ///
    /// # Errors
    /// When the batch has another size than the plan, a row has no share or one outside [0, 1], or a partner is no row.
    pub fn apply<const D: usize>(&self, input: Tensor<D>) -> Result<Tensor<D>, RegularizeError> {
        self.check("the tensor to mix", &input.dims())?;
        if input.dims().contains(&0) {
            return Ok(input);
        }
        let input = match each_row(input, |row, rows, to| self.blend(row, rows, to)) {
            Ok(mixed) => return Ok(mixed),
            Err(elsewhere) => elsewhere,
        };
        let mut shape = [1; D];
        shape[0] = self.lambda.len();
        let lambda = self.lambda.iter().map(|&l| l as f32).collect();
        let lambda = constant::<D>(lambda, shape, &input.device(), input.dtype());
        let partners = input.clone().select(0, self.indices(&input));
        Ok(input * lambda.clone() + partners * (lambda.neg() + 1.0))
    }

    /// One mixed row in host memory.
    fn blend(&self, row: usize, rows: &[&[f32]], to: &mut [f32]) {
        let own = self.lambda[row] as f32;
        let rest = 1.0 - own;
        for ((to, x), y) in to.iter_mut().zip(rows[row]).zip(rows[self.partners[row]]) {
            *to = own * x + rest * y;
        }
    }

    fn indices<const D: usize>(&self, like: &Tensor<D>) -> Tensor<1, Int> {
        let indices: Vec<i64> = self.partners.iter().map(|&partner| partner as i64).collect();
        let count = indices.len();
        Tensor::from_data(TensorData::new(indices, [count]), &like.device().inner())
    }

    /// Whether the plan is one, for its fields are the user's, and of the size of this batch.
    fn check(&self, what: &'static str, dims: &[usize]) -> Result<(), RegularizeError> {
        let n = self.partners.len();
        let refuse = |what, expected, found: &[usize]| {
            Err(RegularizeError::Shape { what, expected, found: found.to_vec() })
        };
        if dims.first() != Some(&n) {
            return refuse(what, format!("of {n} rows, as the plan"), dims);
        }
        if self.lambda.len() != n {
            let expected = format!("one for each of the {n} partners");
            return refuse("the shares of a plan", expected, &[self.lambda.len()]);
        }
        if let Some(&partner) = self.partners.iter().find(|&&partner| partner >= n) {
            return refuse("a partner in a plan", format!("a row below {n}"), &[partner]);
        }
        for &lambda in &self.lambda {
            check::range("lambda", lambda, 0.0..=1.0)?;
        }
        Ok(())
    }
}

/// Fills each row of a new tensor from all rows of `input`, in parallel and in one pass. The error is a tensor that is
/// empty, not f32, tracked or not in host memory: it is left to tensor operations.
#[allow(clippy::result_large_err)] // the error is the argument itself
fn each_row<const D: usize>(
    input: Tensor<D>,
    fill: impl Fn(usize, &[&[f32]], &mut [f32]) + Sync,
) -> Result<Tensor<D>, Tensor<D>> {
    let (device, shape) = (input.device(), input.dims());
    let elements: usize = shape.iter().product();
    if elements == 0 {
        return Err(input);
    }
    let host = HostTensor::take(input)?;
    let size = elements / shape[0];
    let rows: Vec<&[f32]> = host.as_slice().chunks(size).collect();
    let mut values = vec![0f32; elements];
    let each = |(row, to): (usize, &mut [f32])| fill(row, &rows, to);
    values.par_chunks_mut(size).enumerate().for_each(each);
    Ok(constant(values, shape, &device, DType::F32))
}

/// Draws partners and shares for `n` rows.
fn plan(masks: &MaskSource, n: usize, alpha: f64, per_sample: bool) -> MixPlan {
    let shares = if per_sample { n } else { 1 };
    let mut generator = masks.reserve(4 * n + 256 * shares);
    let mut partners: Vec<usize> = (0..n).collect();
    generator.shuffle(&mut partners);
    let mut share = || if alpha == 0.0 { 1.0 } else { beta(&mut generator, alpha, alpha) };
    let lambda = if per_sample { (0..n).map(|_| share()).collect() } else { vec![share(); n] };
    MixPlan { partners, lambda }
}

/// Configuration of [`Mixup`].
#[derive(Config, Debug)]
pub struct MixupConfig {
    /// Parameter of the Beta distribution, at least 0; 0 mixes nothing. 0.2 on large image sets, up to 1 on small.
    #[config(default = 0.2)]
    pub alpha: f64,
    /// Whether each row draws a share of its own, rather than one for the batch.
    #[config(default = false)]
    pub per_sample: bool,
}

impl MixupConfig {
    /// Checks the values; draws come from `masks`.
    ///
    /// # Errors
    /// When `alpha` is negative, NaN or infinite.
    pub fn init(&self, masks: &MaskSource) -> Result<Mixup, ConfigError> {
        let alpha = check::non_negative("alpha", self.alpha)?;
        Ok(Mixup { alpha, per_sample: self.per_sample, masks: masks.clone() })
    }
}

/// Mixes every sample with another one, inputs and targets alike.
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use firebrick_core::Seed;
/// use firebrick_regularize::{MaskSource, MixupConfig, one_hot, soft_cross_entropy};
///
/// let device = Device::flex();
/// let mixup = MixupConfig::new().init(&MaskSource::new(Seed(7)))?;
/// let targets = one_hot(Tensor::<1, Int>::from_ints([0, 1, 2], &device), 3)?;
/// let batch = mixup.mix(Tensor::<4>::ones([3, 1, 8, 8], &device), targets)?;
/// let sums: Vec<f32> = batch.targets.clone().sum_dim(1).try_to_vec_as().unwrap();
/// assert!(sums.iter().all(|sum| (sum - 1.0).abs() < 1e-6));
/// # Ok::<(), firebrick_regularize::RegularizeError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Mixup {
    alpha: f64,
    per_sample: bool,
    masks: MaskSource,
}

impl Mixup {
    /// Partners and shares for a batch of `n`.
    #[must_use]
    pub fn plan(&self, n: usize) -> MixPlan {
        plan(&self.masks, n, self.alpha, self.per_sample)
    }

    /// Mixes inputs `[n, ...]` and target distributions `[n, k]`.
    ///
    /// # Errors
    /// When the two have different numbers of rows.
    pub fn mix<const D: usize>(
        &self,
        input: Tensor<D>,
        targets: Tensor<2>,
    ) -> Result<Mixed<D>, RegularizeError> {
        let plan = self.plan(batch_of(&input.dims(), &targets)?);
        Ok(Mixed { input: plan.apply(input)?, targets: plan.apply(targets)?, plan })
    }
}

fn batch_of(input: &[usize], targets: &Tensor<2>) -> Result<usize, RegularizeError> {
    let n = targets.dims()[0];
    if input.first() == Some(&n) {
        return Ok(n);
    }
    let expected = format!("of {n} rows, as the targets");
    Err(RegularizeError::Shape { what: "the input", expected, found: input.to_vec() })
}

/// Configuration of [`ManifoldMixup`].
#[derive(Config, Debug)]
pub struct ManifoldMixupConfig {
    /// Number of places where the model calls [`ManifoldPlan::at`], at least 1; place 0 is the input.
    pub places: usize,
    /// Parameter of the Beta distribution, at least 0.
    #[config(default = 2.0)]
    pub alpha: f64,
}

impl ManifoldMixupConfig {
    /// Checks the values; draws come from `masks`.
    ///
    /// # Errors
    /// When `places` is 0 or `alpha` negative or not finite.
    pub fn init(&self, masks: &MaskSource) -> Result<ManifoldMixup, ConfigError> {
        let places = check::at_least("places", self.places, 1)?;
        Ok(ManifoldMixup { places, mixup: MixupConfig::new().with_alpha(self.alpha).init(masks)? })
    }
}

/// Mixup of the hidden states at one place that changes from batch to batch.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebrick_core::Seed;
/// use firebrick_regularize::{ManifoldMixupConfig, MaskSource};
///
/// let mixup = ManifoldMixupConfig::new(2).init(&MaskSource::new(Seed(7)))?;
/// let plan = mixup.plan(4);
/// let x = Tensor::<2>::ones([4, 3], &Device::flex());
/// let hidden = plan.at(0, x)?.tanh();      // in the model's forward
/// let output = plan.at(1, hidden)?;
/// let targets = plan.mix.apply(Tensor::<2>::ones([4, 2], &output.device()))?;
/// assert_eq!(targets.dims(), [4, 2]);
/// # Ok::<(), firebrick_regularize::RegularizeError>(())
/// ```
#[derive(Debug, Clone)]
pub struct ManifoldMixup {
    places: usize,
    mixup: Mixup,
}

/// Where one batch is mixed, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct ManifoldPlan {
    /// The place that mixes.
    pub place: usize,
    /// Partners and shares, for the targets too.
    pub mix: MixPlan,
}

impl ManifoldMixup {
    /// Draws place, partners and share for a batch of `n`.
    #[must_use]
    pub fn plan(&self, n: usize) -> ManifoldPlan {
        let place = self.mixup.masks.reserve(8).below(self.places as u64) as usize;
        ManifoldPlan { place, mix: self.mixup.plan(n) }
    }
}

impl ManifoldPlan {
    /// Mixes where `place` is the chosen one; elsewhere `hidden` as it is.
    ///
    /// # Errors
    /// When it mixes and the batch has another size than the plan.
    pub fn at<const D: usize>(
        &self,
        place: usize,
        hidden: Tensor<D>,
    ) -> Result<Tensor<D>, RegularizeError> {
        if place == self.place { self.mix.apply(hidden) } else { Ok(hidden) }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::tensor::Device;
    use firebrick_backend::testing::devices;
    use firebrick_core::Seed;

    fn read<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
        tensor.try_to_vec_as().expect("reads")
    }

    fn targets(n: usize, device: &Device) -> Tensor<2> {
        Tensor::eye(n, device)
    }

    #[test]
    fn mixup_is_its_formula_for_every_row() {
        for device in devices() {
            for (n, per_sample) in [(5usize, false), (5, true), (4, false), (1, true)] {
                let masks = MaskSource::new(Seed(3));
                let config = MixupConfig::new().with_alpha(0.4).with_per_sample(per_sample);
                let mixup = config.init(&masks).expect("valid");
                let values: Vec<f32> = (0..n * 3).map(|i| i as f32).collect();
                let input =
                    Tensor::<2>::from_data(TensorData::new(values.clone(), [n, 3]), &device);
                let mixed = mixup.mix(input, targets(n, &device)).expect("same rows");
                let (x, y) = (read(mixed.input), read(mixed.targets));
                for (row, (&partner, &l)) in
                    mixed.plan.partners.iter().zip(&mixed.plan.lambda).enumerate()
                {
                    for k in 0..3 {
                        let own = f64::from(values[row * 3 + k]);
                        let other = f64::from(values[partner * 3 + k]);
                        assert!((x[row * 3 + k] - (l * own + (1.0 - l) * other)).abs() < 1e-5);
                    }
                    let hot = |class: usize| {
                        f64::from(u8::from(class == row)) * l
                            + f64::from(u8::from(class == partner)) * (1.0 - l)
                    };
                    assert!((0..n).all(|class| (y[row * n + class] - hot(class)).abs() < 1e-6));
                }
                let mut sorted = mixed.plan.partners.clone();
                sorted.sort_unstable();
                assert_eq!(sorted, (0..n).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn cutmix_pastes_a_box_and_its_share_is_the_area() {
        for device in devices() {
            for per_sample in [false, true] {
                let masks = MaskSource::new(Seed(4));
                let config = CutMixConfig::new().with_per_sample(per_sample);
                let cutmix = config.init(&masks).expect("valid");
                let (n, h, w) = (7usize, 5usize, 8usize);
                for _ in 0..20 {
                    // Every image is filled with its own number.
                    let values = (0..n).flat_map(|i| vec![i as f32; 2 * h * w]).collect();
                    let data = TensorData::new::<f32, _>(values, [n, 2, h, w]);
                    let input = Tensor::<4>::from_data(data, &device);
                    let mixed = cutmix.mix(input, targets(n, &device)).expect("same rows");
                    let x = read(mixed.input);
                    for (row, image) in x.chunks(2 * h * w).enumerate() {
                        let (partner, l) = (mixed.plan.partners[row], mixed.plan.lambda[row]);
                        assert_eq!(image[..h * w], image[h * w..], "the same box in all channels");
                        if partner == row {
                            continue;
                        }
                        let inside: Vec<usize> =
                            (0..h * w).filter(|&at| image[at] == partner as f64).collect();
                        let outside = image[..h * w].iter().filter(|&&v| v == row as f64).count();
                        assert_eq!(inside.len() + outside, h * w);
                        assert!((1.0 - inside.len() as f64 / (h * w) as f64 - l).abs() < 1e-12);
                        let rows: Vec<usize> = inside.iter().map(|at| at / w).collect();
                        let columns: Vec<usize> = inside.iter().map(|at| at % w).collect();
                        let span = |v: &[usize]| {
                            v.iter().max().zip(v.iter().min()).map_or(0, |(a, b)| a - b + 1)
                        };
                        assert_eq!(span(&rows) * span(&columns), inside.len(), "one box");
                    }
                }
            }
        }
    }

    #[test]
    fn alpha_zero_changes_nothing_and_tiny_alphas_stay_finite() {
        let device = Device::flex();
        let masks = MaskSource::new(Seed(5));
        let off = MixupConfig::new().with_alpha(0.0).init(&masks).expect("0 is allowed");
        assert_eq!(off.plan(4).lambda, [1.0; 4]);
        let tiny = MixupConfig::new().with_alpha(1e-4).with_per_sample(true);
        let lambda = tiny.init(&masks).expect("valid").plan(1000).lambda;
        assert!(lambda.iter().all(|l| (0.0..=1.0).contains(l)));
        assert!(lambda.iter().filter(|l| !(1e-6..=1.0 - 1e-6).contains(*l)).count() > 900);
        let cut = CutMixConfig::new().with_alpha(0.0).init(&masks).expect("0 is allowed");
        let input = Tensor::<4>::ones([2, 1, 3, 3], &device);
        let mixed = cut.mix(input, targets(2, &device)).expect("same rows");
        assert_eq!(read(mixed.targets), [1.0, 0.0, 0.0, 1.0]);
    }

    #[test]
    fn manifold_mixup_mixes_at_one_place_and_keeps_the_gradient() {
        let device = Device::flex().autodiff();
        let masks = MaskSource::new(Seed(6));
        let mixup = ManifoldMixupConfig::new(3).init(&masks).expect("valid");
        let mut places = [0usize; 3];
        for _ in 0..300 {
            let plan = mixup.plan(4);
            places[plan.place] += 1;
            let x = Tensor::<2>::from_floats([[0.0], [1.0], [2.0], [3.0]], &device).require_grad();
            let elsewhere = plan.at(plan.place + 1, x.clone()).expect("same rows");
            assert_eq!(read(elsewhere), [0.0, 1.0, 2.0, 3.0]);
            let mixed = plan.at(plan.place, x.clone()).expect("same rows");
            let gradient = x.grad(&mixed.sum().backward()).expect("has one");
            // Every row is used with weight l once and 1 - l once.
            assert!(read(gradient).iter().all(|g| (g - 1.0).abs() < 1e-6));
        }
        assert!(places.iter().all(|&count| count > 60), "{places:?}");
        assert!(ManifoldMixupConfig::new(0).init(&masks).is_err());
    }

    #[test]
    fn wrong_rows_and_bad_values_are_refused_and_empty_batches_pass() {
        let device = Device::flex();
        let masks = MaskSource::new(Seed(7));
        assert!(MixupConfig::new().with_alpha(f64::NAN).init(&masks).is_err());
        assert!(CutMixConfig::new().with_alpha(-1.0).init(&masks).is_err());
        let mixup = MixupConfig::new().init(&masks).expect("valid");
        let error = mixup.mix(Tensor::<2>::zeros([3, 2], &device), targets(2, &device));
        assert!(error.expect_err("rows").to_string().contains("of 2 rows, as the targets"));
        let empty = mixup.mix(Tensor::<2>::zeros([0, 2], &device), Tensor::zeros([0, 2], &device));
        assert_eq!(empty.expect("defined").input.dims(), [0, 2]);
        let cut = CutMixConfig::new().init(&masks).expect("valid");
        let empty = cut.mix(Tensor::zeros([0, 1, 2, 2], &device), Tensor::zeros([0, 2], &device));
        assert_eq!(empty.expect("defined").input.dims(), [0, 1, 2, 2]);
    }

    #[test]
    fn images_without_elements_leave_the_targets_alone() {
        let device = Device::flex();
        let cut = CutMixConfig::new().init(&MaskSource::new(Seed(7))).expect("valid");
        for shape in [[3, 1, 0, 4], [3, 1, 4, 0], [3, 0, 4, 4]] {
            let mixed = cut.mix(Tensor::zeros(shape, &device), targets(3, &device));
            let mixed = mixed.expect("defined");
            assert_eq!(mixed.input.dims(), shape);
            assert_eq!(mixed.plan.lambda, [1.0; 3]);
            assert_eq!(read(mixed.targets), [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]);
        }
    }

    #[test]
    fn plans_that_do_not_hold_together_are_refused() {
        for device in devices() {
            let refused = |plan: MixPlan| {
                let error = plan.apply(Tensor::<2>::ones([2, 3], &device)).expect_err("refused");
                assert!(matches!(error, RegularizeError::Shape { .. }));
                error.to_string()
            };
            let few = refused(MixPlan { partners: vec![1, 0], lambda: vec![0.5] });
            assert!(few.contains("one for each of the 2 partners"), "{few}");
            let far = refused(MixPlan { partners: vec![1, 2], lambda: vec![0.5; 2] });
            assert!(far.contains("a row below 2, got shape [2]"), "{far}");
            let refused = |boxes: Vec<CutBox>| {
                let mix = MixPlan { partners: vec![1, 0], lambda: vec![0.5; 2] };
                let images = Tensor::<4>::ones([2, 1, 3, 3], &device);
                let error = CutPlan { mix, boxes }.apply(images).expect_err("refused");
                assert!(matches!(error, RegularizeError::Shape { .. }));
                error.to_string()
            };
            let cut = |rows: [usize; 2], columns: [usize; 2]| CutBox {
                rows: rows[0]..rows[1],
                columns: columns[0]..columns[1],
            };
            let few = refused(vec![cut([0, 1], [0, 1])]);
            assert!(few.contains("one for each of the 2 images"), "{few}");
            let back = refused(vec![cut([0, 1], [2, 1]), cut([0, 1], [0, 1])]);
            assert!(back.contains("end before it starts"), "{back}");
            let back = refused(vec![cut([0, 1], [0, 1]), cut([2, 0], [0, 1])]);
            assert!(back.contains("end before it starts"), "{back}");
            let beyond = refused(vec![cut([0, 4], [0, 1]), cut([0, 1], [0, 1])]);
            assert!(beyond.contains("as large as the box"), "{beyond}");
        }
    }

    #[test]
    fn shares_have_the_moments_of_their_beta_distribution() {
        let n = 1_000_000usize;
        for alpha in [0.4f64, 1.0] {
            let config = MixupConfig::new().with_alpha(alpha).with_per_sample(true);
            let mixup = config.init(&MaskSource::new(Seed(8))).expect("valid");
            let lambda = mixup.plan(n).lambda;
            let moment = |k: i32| lambda.iter().map(|l| (l - 0.5).powi(k)).sum::<f64>() / n as f64;
            let variance = 1.0 / (4.0 * (2.0 * alpha + 1.0));
            let bound = |variance: f64| 5.0 * (variance / n as f64).sqrt();
            assert!(moment(1).abs() < bound(variance), "{alpha}: {}", moment(1));
            // The standard error of a variance needs the fourth moment, taken from the sample.
            let bound = bound(moment(4) - moment(2).powi(2));
            assert!((moment(2) - variance).abs() < bound, "{alpha}: {}", moment(2));
        }
    }

    #[test]
    fn boxes_by_hand() {
        // Half of sqrt(1 - l) = 1/2 of the sides of 8 and 10: two rows and two columns to each side.
        let inside = CutBox::around((4, 5), 0.75, 8, 10);
        assert_eq!(inside, CutBox { rows: 2..6, columns: 3..7 });
        assert_eq!(inside.left(8, 10), 0.8);
        let corner = CutBox::around((0, 9), 0.75, 8, 10);
        assert_eq!(corner, CutBox { rows: 0..2, columns: 7..10 });
        assert!((corner.left(8, 10) - (1.0 - 6.0 / 80.0)).abs() < 1e-15);
        assert_eq!(CutBox::around((4, 5), 1.0, 8, 10).left(8, 10), 1.0);
        assert_eq!(CutBox::around((4, 5), 0.0, 8, 10).left(8, 10), 0.0);
    }

    #[test]
    fn a_batch_of_one_is_mixed_with_itself() {
        for device in devices() {
            let masks = MaskSource::new(Seed(9));
            let cut = CutMixConfig::new().init(&masks).expect("valid");
            let values: Vec<f32> = (0..24).map(|v| v as f32).collect();
            let image = TensorData::new(values.clone(), [1, 2, 3, 4]);
            let image = Tensor::<4>::from_data(image, &device);
            let expected: Vec<f64> = values.into_iter().map(f64::from).collect();
            for _ in 0..10 {
                let mixed = cut.mix(image.clone(), targets(1, &device)).expect("same rows");
                assert_eq!((read(mixed.input), mixed.plan.partners), (expected.clone(), vec![0]));
                assert!((read(mixed.targets)[0] - 1.0).abs() < 1e-6);
                let mixup = ManifoldMixupConfig::new(1).init(&masks).expect("valid");
                let hidden = mixup.plan(1).at(0, image.clone()).expect("same rows");
                let far = read(hidden).into_iter().zip(&expected).map(|(a, b)| (a - b).abs());
                assert!(far.fold(0.0, f64::max) < 1e-5);
            }
        }
    }

    #[test]
    fn half_precision_is_mixed_in_its_type() {
        let plan = MixPlan { partners: vec![1, 0], lambda: vec![0.25; 2] };
        let boxes = vec![CutBox { rows: 0..1, columns: 1..2 }; 2];
        let cut = CutPlan { mix: plan.clone(), boxes };
        for device in devices() {
            for dtype in [DType::F16, DType::BF16] {
                if !device.supports_dtype(dtype) {
                    continue;
                }
                let data = TensorData::new(vec![0f32, 4.0, 8.0, 2.0], [2, 1, 1, 2]);
                let images = Tensor::<4>::from_data(data, &device).cast(dtype);
                let mixed = plan.apply(images.clone()).expect("two rows");
                assert_eq!(mixed.dtype(), dtype);
                assert_eq!(read(mixed), [6.0, 2.5, 2.0, 3.5]);
                let pasted = cut.apply(images).expect("two rows");
                assert_eq!(pasted.dtype(), dtype);
                assert_eq!(read(pasted), [0.0, 2.0, 8.0, 4.0]);
            }
        }
    }

    #[test]
    fn every_mix_refuses_other_rows_and_bad_shares() {
        let device = Device::flex();
        let masks = MaskSource::new(Seed(7));
        for alpha in [-0.1, f64::NAN, f64::INFINITY] {
            assert!(MixupConfig::new().with_alpha(alpha).init(&masks).is_err());
            assert!(CutMixConfig::new().with_alpha(alpha).init(&masks).is_err());
            assert!(ManifoldMixupConfig::new(2).with_alpha(alpha).init(&masks).is_err());
        }
        let cut = CutMixConfig::new().init(&masks).expect("valid");
        let error = cut.mix(Tensor::<4>::zeros([3, 1, 2, 2], &device), targets(2, &device));
        assert!(error.expect_err("rows").to_string().contains("of 2 rows, as the targets"));
        let plan = ManifoldMixupConfig::new(1).init(&masks).expect("valid").plan(2);
        let error = plan.at(0, Tensor::<2>::zeros([3, 2], &device)).expect_err("rows");
        assert!(error.to_string().contains("of 2 rows, as the plan"), "{error}");
    }
}
