//! Policies that choose among many changes: RandAugment, TrivialAugment, AugMix.
//!
//! # Formula
//! ```text
//! RandAugment     ops changes in a row, each uniform among 14, all at one magnitude of 31 steps
//! TrivialAugment  one change, its magnitude uniform among 31 steps of a wider range
//! AugMix          m x + (1 - m) sum_i w_i chain_i(x)    w ~ Dirichlet(alpha), m ~ Beta(alpha, alpha)
//! JSD             1/3 sum_i KL(p_i || (p_1 + p_2 + p_3) / 3)
//! ```
//! Their authors use them on labels as they are, so each counts as preserving the label unless the user declares
//! otherwise by `with_effect`: a digit turned by 135 degrees may be another one.
//!
//! Signed magnitudes take either sign; solarize and posterize run the other way. Images are in [0, 1]. A change of
//! colour does nothing to an image without three channels.
//!
//! # Reference
//! E. D. Cubuk, B. Zoph, J. Shlens, Q. V. Le, "RandAugment", 2020; S. G. Mueller, F. Hutter, "TrivialAugment", ICCV
//! 2021; D. Hendrycks et al., "AugMix", ICLR 2020. Ranges and 31 magnitudes as in torchvision; AugMix takes ten.

use super::edit::{Edit, Plan};
use super::kernel::{self, Size};
use super::{LabelEffect, declared, each_image, preserved};
use crate::sample::{beta, dirichlet};
use crate::target::{impossible, same_rows};
use crate::{MaskSource, RegularizeError};
use burn::config::Config;
use burn::tensor::{
    Tensor,
    activation::{log_softmax, softmax},
};
use firebrick_backend::widened;
use firebrick_core::{ConfigError, Philox, check};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Identity,
    ShearX,
    ShearY,
    TranslateX,
    TranslateY,
    Rotate,
    Brightness,
    Color,
    Contrast,
    Sharpness,
    Posterize,
    Solarize,
    AutoContrast,
    Equalize,
}
use Change::*;

const ALL: [Change; 14] = [
    Identity,
    ShearX,
    ShearY,
    TranslateX,
    TranslateY,
    Rotate,
    Brightness,
    Color,
    Contrast,
    Sharpness,
    Posterize,
    Solarize,
    AutoContrast,
    Equalize,
];
/// AugMix leaves the changes out that its corruption benchmark consists of.
const AUGMIX: [Change; 9] =
    [ShearX, ShearY, TranslateX, TranslateY, Rotate, Posterize, Solarize, AutoContrast, Equalize];

/// The largest magnitudes of a policy.
#[derive(Debug, Clone, Copy)]
struct Ranges {
    shear: f64,
    translate: Reach,
    degrees: f64,
    photometric: f64,
    /// Bits that posterizing leaves at magnitude 0, and how many it takes away at the largest.
    bits: (u32, u32),
}

/// How far a translation goes.
#[derive(Debug, Clone, Copy)]
enum Reach {
    Share(f64),
    Pixels(f64),
}

const RAND: Ranges = Ranges {
    shear: 0.3,
    translate: Reach::Share(150.0 / 331.0),
    degrees: 30.0,
    photometric: 0.9,
    bits: (8, 4),
};
const WIDE: Ranges = Ranges {
    shear: 0.99,
    translate: Reach::Pixels(32.0),
    degrees: 135.0,
    photometric: 0.99,
    bits: (8, 6),
};
const MIX: Ranges = Ranges {
    shear: 0.3,
    translate: Reach::Share(1.0 / 3.0),
    degrees: 30.0,
    photometric: 0.9,
    bits: (4, 4),
};

/// `change` at `share` of its range, in [0, 1], with a random sign where it has one.
fn edit(change: Change, share: f64, ranges: Ranges, size: Size, generator: &mut Philox) -> Edit {
    let sign = if generator.below(2) == 0 { 1.0 } else { -1.0 };
    let signed = sign * share;
    let pixels = |side: usize| {
        let reach = match ranges.translate {
            Reach::Share(share) => share * side as f64,
            Reach::Pixels(pixels) => pixels,
        };
        (signed * reach).trunc() as i64
    };
    let photometric = 1.0 + signed * ranges.photometric;
    match change {
        Identity => Edit::Keep,
        // torchvision shears about the corner of the image; here, about its centre.
        ShearX => Edit::Affine([1.0, signed * ranges.shear, 0.0, 0.0, 1.0, 0.0]),
        ShearY => Edit::Affine([1.0, 0.0, 0.0, signed * ranges.shear, 1.0, 0.0]),
        TranslateX => Edit::Shift { down: 0, right: pixels(size.w) },
        TranslateY => Edit::Shift { down: pixels(size.h), right: 0 },
        Rotate => {
            Edit::Affine(kernel::inverse_affine(signed * ranges.degrees, [0.0; 2], 1.0, [0.0; 2]))
        }
        Brightness => Edit::Brightness(photometric),
        Color => Edit::Saturation(photometric),
        Contrast => Edit::Contrast(photometric),
        Sharpness => Edit::Sharpness(photometric),
        Posterize => {
            let taken = (share * f64::from(ranges.bits.1)).round() as u32;
            Edit::Posterize(ranges.bits.0 - taken)
        }
        Solarize => Edit::Solarize(1.0 - share),
        AutoContrast => Edit::AutoContrast,
        Equalize => Edit::Equalize,
    }
}

fn any(changes: &[Change], generator: &mut Philox) -> Change {
    changes[generator.below(changes.len() as u64) as usize]
}

declared!(RandAugment, TrivialAugment, AugMix);

/// What every policy has.
macro_rules! policy {
    ($name:ident) => {
        impl $name {
            /// Changes images `[n, c, h, w]` in [0, 1].
            #[must_use]
            pub fn images(&self, images: Tensor<4>) -> Tensor<4> {
                each_image(images, &self.masks, |size, generator| self.plan(size, generator))
            }

            /// Changes images whose labels are used afterwards.
            ///
            /// # Errors
            /// When it is declared to change labels.
            pub fn labelled(&self, images: Tensor<4>) -> Result<Tensor<4>, RegularizeError> {
                preserved(self.changes())?;
                Ok(self.images(images))
            }
        }
    };
}

/// Configuration of [`RandAugment`].
#[derive(Config, Debug)]
pub struct RandAugmentConfig {
    /// Changes in a row.
    #[config(default = 2)]
    pub ops: usize,
    /// Magnitude, in [0, 30].
    #[config(default = 9)]
    pub magnitude: usize,
}

impl RandAugmentConfig {
    /// Checks the values; draws come from `masks`.
    ///
    /// # Errors
    /// When `magnitude` is above 30.
    pub fn init(&self, masks: &MaskSource) -> Result<RandAugment, ConfigError> {
        if self.magnitude > 30 {
            return Err(ConfigError::new("magnitude", self.magnitude, "in [0, 30]"));
        }
        Ok(RandAugment {
            ops: self.ops,
            share: self.magnitude as f64 / 30.0,
            effect: LabelEffect::Preserves,
            masks: masks.clone(),
        })
    }
}

/// A number of random changes of one magnitude.
///
/// It is declared to preserve labels; [`with_effect`](Self::with_effect) declares otherwise.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebrick_core::Seed;
/// use firebrick_regularize::{MaskSource, RandAugmentConfig};
///
/// let augment = RandAugmentConfig::new().init(&MaskSource::new(Seed(7)))?;
/// let images = Tensor::<4>::full([4, 3, 8, 8], 0.5, &Device::flex());
/// assert_eq!(augment.images(images).dims(), [4, 3, 8, 8]);
/// # Ok::<(), firebrick_regularize::RegularizeError>(())
/// ```
#[derive(Debug, Clone)]
pub struct RandAugment {
    ops: usize,
    share: f64,
    effect: LabelEffect,
    masks: MaskSource,
}
policy!(RandAugment);

impl RandAugment {
    pub(super) fn plan(&self, size: Size, generator: &mut Philox) -> Plan {
        let mut edits = Vec::with_capacity(self.ops);
        for _ in 0..self.ops {
            edits.push(edit(any(&ALL, generator), self.share, RAND, size, generator));
        }
        Plan::Chain(edits)
    }
}

/// One random change of random magnitude: nothing to tune.
///
/// It is declared to preserve labels; [`with_effect`](Self::with_effect) declares otherwise.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebrick_core::Seed;
/// use firebrick_regularize::{MaskSource, TrivialAugment};
///
/// let augment = TrivialAugment::new(&MaskSource::new(Seed(7)));
/// let images = Tensor::<4>::full([4, 3, 8, 8], 0.5, &Device::flex());
/// assert_eq!(augment.images(images).dims(), [4, 3, 8, 8]);
/// # Ok::<(), firebrick_regularize::RegularizeError>(())
/// ```
#[derive(Debug, Clone)]
pub struct TrivialAugment {
    effect: LabelEffect,
    masks: MaskSource,
}
policy!(TrivialAugment);

impl TrivialAugment {
    /// Draws come from `masks`.
    #[must_use]
    pub fn new(masks: &MaskSource) -> Self {
        Self { effect: LabelEffect::Preserves, masks: masks.clone() }
    }

    pub(super) fn plan(&self, size: Size, generator: &mut Philox) -> Plan {
        let change = any(&ALL, generator);
        let share = generator.below(31) as f64 / 30.0;
        Plan::Chain(vec![edit(change, share, WIDE, size, generator)])
    }
}

/// Configuration of [`AugMix`].
#[derive(Config, Debug)]
pub struct AugMixConfig {
    /// Largest of the ten magnitudes that is drawn, in [1, 10].
    #[config(default = 3)]
    pub severity: usize,
    /// Number of chains, at least 1.
    #[config(default = 3)]
    pub width: usize,
    /// Parameter of the Dirichlet and Beta distributions, above 0.
    #[config(default = 1.0)]
    pub alpha: f64,
}

impl AugMixConfig {
    /// Checks the values; draws come from `masks`.
    ///
    /// # Errors
    /// When `severity` is outside [1, 10], `width` 0, or `alpha` not above 0.
    pub fn init(&self, masks: &MaskSource) -> Result<AugMix, ConfigError> {
        if !(1..=10).contains(&self.severity) {
            return Err(ConfigError::new("severity", self.severity, "in [1, 10]"));
        }
        Ok(AugMix {
            severity: self.severity,
            width: check::at_least("width", self.width, 1)?,
            alpha: check::positive("alpha", self.alpha)?,
            effect: LabelEffect::Preserves,
            masks: masks.clone(),
        })
    }
}

/// A convex mixture of an image and chains of one to three changes; see [`jensen_shannon`] for its loss.
///
/// It is declared to preserve labels; [`with_effect`](Self::with_effect) declares otherwise.
#[derive(Debug, Clone)]
pub struct AugMix {
    severity: usize,
    width: usize,
    alpha: f64,
    effect: LabelEffect,
    masks: MaskSource,
}
policy!(AugMix);

impl AugMix {
    pub(super) fn plan(&self, size: Size, generator: &mut Philox) -> Plan {
        let own = beta(generator, self.alpha, self.alpha) as f32;
        let weights = dirichlet(generator, self.alpha, self.width);
        let chain = |weight: f64| {
            let mut edits = Vec::with_capacity(3);
            for _ in 0..=generator.below(3) {
                let share = generator.below(self.severity as u64) as f64 / 9.0;
                edits.push(edit(any(&AUGMIX, generator), share, MIX, size, generator));
            }
            ((1.0 - own) * weight as f32, edits)
        };
        Plan::Mix { own, chains: weights.into_iter().map(chain).collect() }
    }
}

/// The Jensen-Shannon divergence of three predictions of one batch from their mean, of shape `[1]`; AugMix adds 12
/// times it to the loss.
///
/// It has the type of the clean logits, half precision in single. A class that a logit of minus infinity rules out adds
/// nothing to its prediction's part.
///
/// # Errors
/// When the shapes differ or the batch is empty.
pub fn jensen_shannon(
    clean: Tensor<2>,
    first: Tensor<2>,
    second: Tensor<2>,
) -> Result<Tensor<1>, RegularizeError> {
    let n = same_rows("the first augmented logits", &clean, &first)? as f64;
    same_rows("the second augmented logits", &clean, &second)?;
    let clean = widened(clean);
    let dtype = clean.dtype();
    let (first, second) = (first.cast(dtype), second.cast(dtype));
    let probabilities = [&clean, &first, &second].map(|logits| softmax(logits.clone(), 1));
    let [p, q, r] = probabilities.clone();
    // The mean is kept off 0, as in the paper's code, so that its logarithm is finite.
    let mean = (p + q + r).div_scalar(3.0).clamp(1e-7, 1.0).log();
    let [a, b, c] = [clean, first, second];
    let each = [a, b, c].into_iter().zip(probabilities).map(|(logits, p)| {
        let log_p = log_softmax(logits, 1);
        let out = impossible(&log_p);
        (p * (log_p.mask_fill(out, 0.0) - mean.clone())).sum()
    });
    let total = each.reduce(|sum, term| sum + term);
    total.map(|total| total.div_scalar(3.0 * n)).ok_or(RegularizeError::Empty { what: "the batch" })
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};
    use firebrick_backend::testing::devices;
    use firebrick_core::Seed;

    fn photo(n: usize, c: usize, device: &Device) -> Tensor<4> {
        let draws = MaskSource::new(Seed(1)).uniforms(n * c * 64);
        let values = draws.into_iter().map(|v| v as f32).collect();
        Tensor::from_data(TensorData::new::<f32, _>(values, [n, c, 8, 8]), device)
    }

    #[test]
    fn policies_stay_in_range_repeat_and_take_any_number_of_channels() {
        for device in devices() {
            for c in [1, 3, 4] {
                let images = photo(50, c, &device);
                let masks = MaskSource::new(Seed(2));
                let rand = RandAugmentConfig::new().with_magnitude(30).init(&masks).expect("valid");
                let mix = AugMixConfig::new().with_severity(10).init(&masks).expect("valid");
                let trivial = TrivialAugment::new(&masks);
                let all = || {
                    masks.seek(0);
                    [
                        rand.images(images.clone()),
                        trivial.images(images.clone()),
                        mix.images(images.clone()),
                    ]
                    .map(|out| out.try_to_vec_as::<f32>().expect("reads"))
                };
                let first = all();
                assert!(first.iter().flatten().all(|v| (-1e-6..=1.0 + 1e-6).contains(v)));
                assert_eq!(first, all());
                let before: Vec<f32> = images.try_to_vec_as().expect("reads");
                assert!(first.iter().all(|after| *after != before));
            }
        }
    }

    #[test]
    fn magnitude_zero_of_the_signed_changes_is_the_identity() {
        let mut generator = Seed(3).stream("test");
        let size = Size { c: 3, h: 5, w: 6 };
        let image: Vec<f32> = (0..90).map(|v| v as f32 / 89.0).collect();
        for change in [
            Identity, ShearX, ShearY, TranslateX, TranslateY, Rotate, Brightness, Color, Contrast,
            Sharpness,
        ] {
            let mut changed = image.clone();
            let edit = edit(change, 0.0, RAND, size, &mut generator);
            edit.apply(&mut changed, size, &mut kernel::Scratch::default());
            assert!(changed.iter().zip(&image).all(|(a, b)| (a - b).abs() < 1e-6), "{change:?}");
        }
    }

    #[test]
    fn photometric_kernels_by_hand() {
        let mut image = [0.0f32, 0.2, 0.6, 1.0];
        kernel::solarize(&mut image, 0.5);
        assert_eq!(image, [0.0, 0.2, 0.39999998, 0.0]);
        let mut image = [0.2f32, 0.4, 0.4, 0.6];
        kernel::auto_contrast(&mut image, Size { c: 1, h: 2, w: 2 });
        assert!(
            image.iter().zip([0.0, 0.5, 0.5, 1.0]).all(|(a, b): (&f32, f32)| (a - b).abs() < 1e-6)
        );
        let mut image = [200.0 / 255.0f32, 37.0 / 255.0, 1.0, 0.0];
        kernel::posterize(&mut image, 4);
        assert_eq!(image, [12.0 / 16.0, 2.0 / 16.0, 15.0 / 16.0, 0.0]);
        let mut image = [0.5f32, 0.9];
        kernel::brightness(&mut image, 1.5);
        assert_eq!(image, [0.75, 1.0]);
        let mut image = [0.2f32, 0.6];
        kernel::contrast(&mut image, Size { c: 1, h: 1, w: 2 }, 0.5);
        assert!((image[0] - 0.3).abs() < 1e-6 && (image[1] - 0.5).abs() < 1e-6);
        // As torchvision's: the reciprocal of this range is infinite.
        let mut faint = [0.0f32, 1e-40];
        kernel::auto_contrast(&mut faint, Size { c: 1, h: 1, w: 2 });
        assert_eq!(faint, [0.0, 1.0]);
        let mut flat = [0.5f32; 4];
        kernel::auto_contrast(&mut flat, Size { c: 1, h: 2, w: 2 });
        assert_eq!(flat, [0.5; 4]);
    }

    #[test]
    fn the_divergence_is_zero_for_equal_and_log_three_for_disjoint_predictions() {
        let device = Device::flex();
        let row = |z: [f32; 3]| Tensor::<2>::from_floats([z], &device);
        let same = jensen_shannon(row([1.0, 0.0, 2.0]), row([1.0, 0.0, 2.0]), row([1.0, 0.0, 2.0]));
        assert!(same.expect("valid").into_scalar::<f32>().abs() < 1e-6);
        let apart =
            jensen_shannon(row([50.0, 0.0, 0.0]), row([0.0, 50.0, 0.0]), row([0.0, 0.0, 50.0]));
        let apart: f64 = apart.expect("valid").into_scalar();
        assert!((apart - 3f64.ln()).abs() < 1e-5, "{apart}");
        assert!(
            jensen_shannon(row([0.0; 3]), Tensor::zeros([2, 3], &device), row([0.0; 3])).is_err()
        );
    }

    #[test]
    fn the_divergence_takes_mixed_types_and_classes_that_are_ruled_out() {
        let device = Device::flex().autodiff();
        let (f32s, f64s) = (burn::tensor::DType::F32, burn::tensor::DType::F64);
        let leaf = |row: Vec<f32>, dtype: burn::tensor::DType| {
            let size = row.len();
            let data = TensorData::new(row, [1, size]);
            Tensor::<2>::from_data(data, (&device, dtype)).require_grad()
        };
        let rows = [[1.0, -0.5], [0.25, 0.75], [-1.0, 2.0]];
        let plain = rows.map(|row| leaf(row.to_vec(), f32s));
        let out = f32::NEG_INFINITY;
        let [a, b, c] = rows.map(|[a, b]| vec![a, out, b]);
        let masked = [leaf(a, f64s), leaf(b, f32s), leaf(c, f64s)];
        let run = |leaves: &[Tensor<2>; 3]| {
            let [a, b, c] = leaves.clone();
            let term = jensen_shannon(a, b, c).expect("valid");
            let value = term.clone().into_scalar::<f64>();
            let gradients = term.backward();
            let read = |leaf: &Tensor<2>| {
                let gradient = leaf.grad(&gradients).expect("has one");
                gradient.try_to_vec_as::<f64>().expect("reads")
            };
            (value, leaves.iter().map(read).collect::<Vec<_>>())
        };
        let ((expected, without), (found, with)) = (run(&plain), run(&masked));
        assert!(expected > 0.05 && (found - expected).abs() < 1e-6, "{found} {expected}");
        for (with, without) in with.iter().zip(&without) {
            assert_eq!(with[1], 0.0);
            assert!((with[0] - without[0]).abs() < 1e-6, "{with:?} {without:?}");
            assert!((with[2] - without[1]).abs() < 1e-6, "{with:?} {without:?}");
        }
    }

    #[test]
    fn what_is_declared_to_change_labels_refuses_labelled_images() {
        let masks = MaskSource::new(Seed(2));
        let (images, changes) = (photo(4, 3, &Device::flex()), LabelEffect::Changes);
        let rand = RandAugmentConfig::new().init(&masks).expect("valid");
        let trivial = TrivialAugment::new(&masks);
        let mix = AugMixConfig::new().init(&masks).expect("valid");
        for refused in [
            rand.clone().with_effect(changes).labelled(images.clone()),
            trivial.clone().with_effect(changes).labelled(images.clone()),
            mix.clone().with_effect(changes).labelled(images.clone()),
        ] {
            let message = refused.expect_err("no label").to_string();
            assert!(message.contains("declared to change labels"), "{message}");
        }
        let read = |images: Tensor<4>| images.try_to_vec_as::<f32>().expect("reads");
        masks.seek(0);
        let labelled = [rand.labelled(images.clone()), trivial.labelled(images.clone())];
        let labelled = [labelled, [mix.labelled(images.clone()), Ok(images.clone())]];
        masks.seek(0);
        let plain = [rand.images(images.clone()), trivial.images(images.clone())];
        let plain = [plain, [mix.images(images.clone()), images]];
        for (labelled, plain) in labelled.into_iter().flatten().zip(plain.into_iter().flatten()) {
            assert_eq!(read(labelled.expect("preserves")), read(plain));
        }
    }

    #[test]
    fn bad_values_are_refused() {
        let masks = MaskSource::new(Seed(0));
        let error = RandAugmentConfig::new().with_magnitude(31).init(&masks).expect_err("refused");
        assert_eq!(error.to_string(), "`magnitude` must be in [0, 30], got 31");
        assert!(AugMixConfig::new().with_severity(0).init(&masks).is_err());
        assert!(AugMixConfig::new().with_width(0).init(&masks).is_err());
        assert!(AugMixConfig::new().with_alpha(0.0).init(&masks).is_err());
    }

    #[test]
    fn changes_are_drawn_alike() {
        let n = 1_000_000usize;
        for all in [&ALL[..], &AUGMIX[..]] {
            let mut generator = Seed(4).stream("test");
            let mut counts = [0usize; 14];
            for _ in 0..n {
                let change = any(all, &mut generator);
                counts[ALL.iter().position(|one| *one == change).expect("one of them")] += 1;
            }
            let share = 1.0 / all.len() as f64;
            let bound = 5.0 * (share * (1.0 - share) / n as f64).sqrt();
            for (change, count) in ALL.iter().zip(counts) {
                if all.contains(change) {
                    assert!((count as f64 / n as f64 - share).abs() < bound, "{change:?}: {count}");
                } else {
                    assert_eq!(count, 0, "{change:?}");
                }
            }
        }
    }

    #[test]
    fn magnitudes_by_hand() {
        let size = Size { c: 3, h: 100, w: 200 };
        let mut generator = Seed(5).stream("test");
        let mut at = |change, share, ranges| edit(change, share, ranges, size, &mut generator);
        let mut signs = [0; 2];
        for _ in 0..50 {
            for (ranges, largest) in [(RAND, 0.9), (WIDE, 0.99)] {
                for change in [Brightness, Color, Contrast, Sharpness] {
                    let by = match at(change, 0.5, ranges) {
                        Edit::Brightness(f) | Edit::Saturation(f) => f - 1.0,
                        Edit::Contrast(f) | Edit::Sharpness(f) => f - 1.0,
                        other => panic!("{other:?}"),
                    };
                    signs[usize::from(by > 0.0)] += 1;
                    assert!((by.abs() - 0.5 * largest).abs() < 1e-12, "{change:?}: {by}");
                }
            }
            // In pixels: 150 / 331 of a side, a third of it, or 32.
            for (ranges, right, down) in [(RAND, 90, 45), (MIX, 66, 33), (WIDE, 32, 32)] {
                let across = at(TranslateX, 1.0, ranges);
                let (plus, minus) =
                    (Edit::Shift { down: 0, right }, Edit::Shift { down: 0, right: -right });
                assert!(across == plus || across == minus, "{across:?}");
                let along = at(TranslateY, 1.0, ranges);
                let (plus, minus) =
                    (Edit::Shift { down, right: 0 }, Edit::Shift { down: -down, right: 0 });
                assert!(along == plus || along == minus, "{along:?}");
            }
            for (ranges, shear, degrees) in [(RAND, 0.3, 30.0), (WIDE, 0.99, 135.0)] {
                let mut matrix = |change| match at(change, 1.0, ranges) {
                    Edit::Affine(matrix) => matrix,
                    other => panic!("{other:?}"),
                };
                let [a, b, tx, c, d, ty] = matrix(ShearX);
                assert_eq!([a, b.abs(), tx, c, d, ty], [1.0, shear, 0.0, 0.0, 1.0, 0.0]);
                let [a, b, tx, c, d, ty] = matrix(ShearY);
                assert_eq!([a, b, tx, c.abs(), d, ty], [1.0, 0.0, 0.0, shear, 1.0, 0.0]);
                let [a, b, ..] = matrix(Rotate);
                assert!((b.atan2(a).to_degrees().abs() - degrees).abs() < 1e-9);
            }
        }
        assert!(signs.iter().all(|&count| count > 100), "either sign: {signs:?}");
        for (ranges, share, bits) in [
            (RAND, 0.0, 8),
            (RAND, 0.3, 7),
            (RAND, 1.0, 4),
            (WIDE, 1.0, 2),
            (MIX, 0.0, 4),
            (MIX, 1.0, 0),
        ] {
            assert_eq!(at(Posterize, share, ranges), Edit::Posterize(bits));
        }
        assert_eq!(at(Solarize, 0.25, RAND), Edit::Solarize(0.75));
        assert_eq!(at(Identity, 1.0, RAND), Edit::Keep);
        assert_eq!(at(AutoContrast, 1.0, RAND), Edit::AutoContrast);
        assert_eq!(at(Equalize, 1.0, RAND), Edit::Equalize);
    }

    #[test]
    fn plans_have_their_lengths_magnitudes_and_weights() {
        let size = Size { c: 3, h: 8, w: 8 };
        let masks = MaskSource::new(Seed(6));
        let mut generator = Seed(6).stream("test");
        for ops in [0, 1, 3] {
            let rand = RandAugmentConfig::new().with_ops(ops).init(&masks).expect("valid");
            let Plan::Chain(edits) = rand.plan(size, &mut generator) else { panic!("a chain") };
            assert_eq!(edits.len(), ops);
        }
        // Solarize says which of the 31 magnitudes was drawn.
        let trivial = TrivialAugment::new(&masks);
        let mut counts = [0usize; 31];
        for _ in 0..500_000 {
            let Plan::Chain(edits) = trivial.plan(size, &mut generator) else { panic!("a chain") };
            assert_eq!(edits.len(), 1);
            if let Edit::Solarize(threshold) = edits[0] {
                counts[(30.0 * (1.0 - threshold)).round() as usize] += 1;
            }
        }
        let total = counts.iter().sum::<usize>() as f64;
        assert!(total > 30_000.0);
        let bound = 5.0 * (total / 31.0 * (30.0 / 31.0)).sqrt();
        assert!(counts.iter().all(|&c| (c as f64 - total / 31.0).abs() < bound), "{counts:?}");

        let n = 100_000usize;
        let mix = AugMixConfig::new().with_width(4).with_severity(1).init(&masks).expect("valid");
        let (mut lengths, mut mean) = ([0usize; 4], 0.0);
        for _ in 0..n {
            let Plan::Mix { own, chains } = mix.plan(size, &mut generator) else { panic!("a mix") };
            assert_eq!(chains.len(), 4);
            let weights: f32 = chains.iter().map(|chain| chain.0).sum();
            assert!((own + weights - 1.0).abs() < 1e-5, "{own} {weights}");
            mean += f64::from(own) / n as f64;
            for (weight, edits) in &chains {
                assert!((0.0..=1.0).contains(weight));
                lengths[edits.len()] += 1;
                // Severity 1 draws the smallest magnitude alone.
                for edit in edits {
                    let weakest = match edit {
                        Edit::Shift { down, right } => (*down, *right) == (0, 0),
                        Edit::Affine(matrix) => *matrix == [1.0, 0.0, 0.0, 0.0, 1.0, 0.0],
                        Edit::Posterize(bits) => *bits == 4,
                        Edit::Solarize(threshold) => *threshold == 1.0,
                        other => matches!(other, Edit::AutoContrast | Edit::Equalize),
                    };
                    assert!(weakest, "{edit:?}");
                }
            }
        }
        // Beta(1, 1) is uniform: variance 1/12.
        assert!((mean - 0.5).abs() < 5.0 * (1.0 / 12.0 / n as f64).sqrt(), "{mean}");
        assert_eq!(lengths[0], 0);
        let bound = 5.0 * (4.0 * n as f64 * 2.0 / 9.0).sqrt();
        assert!(lengths[1..].iter().all(|&c| (c as f64 - 4.0 * n as f64 / 3.0).abs() < bound));
    }

    #[test]
    fn empty_and_half_precision_images_pass() {
        let device = Device::flex();
        let masks = MaskSource::new(Seed(7));
        let rand = RandAugmentConfig::new().init(&masks).expect("valid");
        let trivial = TrivialAugment::new(&masks);
        let mix = AugMixConfig::new().init(&masks).expect("valid");
        let all = |images: Tensor<4>| {
            [rand.images(images.clone()), trivial.images(images.clone()), mix.images(images)]
        };
        for shape in [[0usize, 3, 8, 8], [2, 0, 8, 8], [2, 3, 0, 8], [2, 3, 8, 0]] {
            assert!(all(Tensor::zeros(shape, &device)).iter().all(|images| images.dims() == shape));
        }
        for dtype in [burn::tensor::DType::F16, burn::tensor::DType::BF16] {
            for images in all(photo(8, 3, &device).cast(dtype)) {
                assert_eq!((images.dtype(), images.dims()), (dtype, [8, 3, 8, 8]));
                let values: Vec<f32> = images.try_to_vec_as().expect("reads");
                assert!(values.iter().all(|v| (-0.01..=1.01).contains(v)));
            }
        }
    }
}
