//! Random changes of images, one after the other.
//!
//! # Sources
//! P. Y. Simard, D. Steinkraus, J. C. Platt, ICDAR 2003 (elastic); Z. Zhong et al., "Random erasing data
//! augmentation", AAAI 2020; T. DeVries, G. W. Taylor, "Cutout", 2017. Geometry and photometry as in torchvision:
//! bilinear, zero outside, values in [0, 1].

use super::edit::{Edit, Plan};
use super::kernel::{self, Size};
use super::{between, each_image, preserved};
use crate::{MaskSource, RegularizeError};
use burn::tensor::Tensor;
use firebrick_core::{ConfigError, Philox, check};
use serde::{Deserialize, Serialize};

/// One random change; its numbers are the ranges that parameters are drawn from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ImageOp {
    /// By whole pixels, up to `max` each way: padding with zeros and cropping at random.
    Shift {
        /// Largest shift in pixels.
        max: usize,
    },
    /// A part of the image, at random, stretched to the whole; pixels at the border are repeated, not blended with zeros.
    Crop {
        /// Smallest share of the area, in (0, 1].
        min_area: f64,
    },
    /// Left and right change places.
    FlipHorizontal,
    /// Up and down change places.
    FlipVertical,
    /// By up to `degrees` each way, counter-clockwise or clockwise.
    Rotate {
        /// Largest angle, at least 0.
        degrees: f64,
    },
    /// Rotation, translation, scale and shear together.
    Affine {
        /// Largest angle, at least 0.
        degrees: f64,
        /// Largest translation as a share of the side, in [0, 1].
        translate: f64,
        /// Smallest and largest scale, above 0.
        scale: (f64, f64),
        /// Largest shear along x in degrees, in [0, 90).
        shear: f64,
    },
    /// A smooth random field of displacements.
    Elastic {
        /// Factor on the smoothed field, in pixels, at least 0.
        alpha: f64,
        /// Deviation of the smoothing in pixels, above 0.
        sigma: f64,
    },
    /// A box of random area and aspect becomes 0.
    Erase {
        /// Smallest and largest share of the area, in (0, 1); 0.02 and 0.33 are usual.
        area: (f64, f64),
        /// Smallest and largest aspect ratio, above 0; 0.3 and 3.3 are usual.
        aspect: (f64, f64),
    },
    /// A square around a random pixel becomes 0; at the border, and where it is larger than the image, it is cut.
    Cutout {
        /// Side in pixels, at least 1.
        size: usize,
    },
    /// Times a factor in `1 -+ max`, kept in [0, 1].
    Brightness {
        /// Largest change, at least 0.
        max: f64,
    },
    /// Away from the mean by a factor in `1 -+ max`, kept in [0, 1].
    Contrast {
        /// Largest change, at least 0.
        max: f64,
    },
    /// Plus normal noise.
    Noise {
        /// Standard deviation, at least 0.
        std: f64,
    },
}

impl ImageOp {
    fn check(&self) -> Result<(), ConfigError> {
        let ordered = |field: &str, (low, high): (f64, f64)| {
            if low <= high {
                Ok(())
            } else {
                Err(ConfigError::new(field, format!("({low}, {high})"), "(low, high)"))
            }
        };
        match *self {
            Self::Shift { .. } | Self::FlipHorizontal | Self::FlipVertical => Ok(()),
            Self::Crop { min_area } => {
                check::positive("min_area", min_area)?;
                check::range("min_area", min_area, 0.0..=1.0).map(drop)
            }
            Self::Rotate { degrees } => check::non_negative("degrees", degrees).map(drop),
            Self::Affine { degrees, translate, scale, shear } => {
                check::non_negative("degrees", degrees)?;
                check::range("translate", translate, 0.0..=1.0)?;
                check::positive("scale", scale.0)?;
                check::positive("scale", scale.1)?;
                check::range("shear", shear, 0.0..90.0)?;
                ordered("scale", scale)
            }
            Self::Elastic { alpha, sigma } => {
                check::non_negative("alpha", alpha)?;
                check::range("sigma", sigma, 0.0..=1000.0)?;
                check::positive("sigma", sigma).map(drop)
            }
            Self::Erase { area, aspect } => {
                for end in [area.0, area.1] {
                    check::positive("area", end)?;
                    check::range("area", end, 0.0..1.0)?;
                }
                check::positive("aspect", aspect.0)?;
                check::positive("aspect", aspect.1)?;
                ordered("area", area)?;
                ordered("aspect", aspect)
            }
            Self::Cutout { size } => check::at_least("size", size, 1).map(drop),
            Self::Brightness { max } | Self::Contrast { max } => {
                check::non_negative("max", max).map(drop)
            }
            Self::Noise { std } => check::non_negative("std", std).map(drop),
        }
    }

    /// Draws the numbers of the change of one image that is not empty.
    fn draw(&self, size: Size, generator: &mut Philox) -> Edit {
        let Size { c, h, w } = size;
        match *self {
            Self::Shift { max } => {
                // Farther than any side is as far as that.
                let max = max.min(1 << 31);
                let mut draw = || generator.below(2 * max as u64 + 1) as i64 - max as i64;
                Edit::Shift { down: draw(), right: draw() }
            }
            Self::Crop { min_area } => {
                let side = between(generator, min_area, 1.0).sqrt();
                let room = |length: usize| (1.0 - side) * length as f64 / 2.0;
                let tx = between(generator, -room(w), room(w));
                let ty = between(generator, -room(h), room(h));
                Edit::Crop([side, tx, ty])
            }
            Self::FlipHorizontal => Edit::FlipHorizontal,
            Self::FlipVertical => Edit::FlipVertical,
            Self::Rotate { degrees } => {
                let angle = between(generator, -degrees, degrees);
                Edit::Affine(kernel::inverse_affine(angle, [0.0; 2], 1.0, [0.0; 2]))
            }
            Self::Affine { degrees, translate, scale, shear } => {
                let angle = between(generator, -degrees, degrees);
                let move_by = [w, h].map(|side| {
                    let room = translate * side as f64;
                    between(generator, -room, room).round()
                });
                let factor = between(generator, scale.0, scale.1);
                let shear = [between(generator, -shear, shear), 0.0];
                Edit::Affine(kernel::inverse_affine(angle, move_by, factor, shear))
            }
            Self::Elastic { alpha, sigma } => {
                let mut field = || {
                    let mut field: Vec<f32> =
                        (0..h * w).map(|_| between(generator, -1.0, 1.0) as f32).collect();
                    kernel::smooth(&mut field, h, w, sigma);
                    field.iter_mut().for_each(|by| *by *= alpha as f32);
                    field
                };
                Edit::Displace { dx: field(), dy: field() }
            }
            Self::Erase { area, aspect } => {
                // Ten tries to find a box that fits, as torchvision makes.
                for _ in 0..10 {
                    let target = between(generator, area.0, area.1) * (h * w) as f64;
                    let ratio = between(generator, aspect.0.ln(), aspect.1.ln()).exp();
                    let rows = (target * ratio).sqrt().round() as usize;
                    let columns = (target / ratio).sqrt().round() as usize;
                    if rows < h && columns < w {
                        let top = generator.below((h - rows + 1) as u64) as usize;
                        let left = generator.below((w - columns + 1) as u64) as usize;
                        return Edit::Erase {
                            rows: top..top + rows,
                            columns: left..left + columns,
                        };
                    }
                }
                Edit::Keep
            }
            Self::Cutout { size: side } => {
                let (y, x) =
                    (generator.below(h as u64) as usize, generator.below(w as u64) as usize);
                let span =
                    |at: usize| at.saturating_sub(side / 2)..at.saturating_add(side - side / 2);
                Edit::Erase { rows: span(y), columns: span(x) }
            }
            Self::Brightness { max } => {
                Edit::Brightness(between(generator, (1.0 - max).max(0.0), 1.0 + max))
            }
            Self::Contrast { max } => {
                Edit::Contrast(between(generator, (1.0 - max).max(0.0), 1.0 + max))
            }
            Self::Noise { std } => {
                let noise = || (std * generator.normal()) as f32;
                Edit::Add(std::iter::repeat_with(noise).take(c * h * w).collect())
            }
        }
    }
}

/// The user's word on what a step does to the label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LabelEffect {
    /// The label holds for the changed image.
    Preserves,
    /// It may not.
    Changes,
}

/// One step of an augmentation: a change, how often, and what it does to the label.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// The change.
    pub op: ImageOp,
    /// Probability that a sample undergoes it, in [0, 1].
    pub prob: f64,
    /// What it does to the label.
    pub effect: LabelEffect,
}

impl Step {
    /// A step that is declared to preserve the label, for every sample.
    #[must_use]
    pub fn preserving(op: ImageOp) -> Self {
        Self { op, prob: 1.0, effect: LabelEffect::Preserves }
    }

    /// A step that may change the label, for every sample.
    #[must_use]
    pub fn changing(op: ImageOp) -> Self {
        Self { op, prob: 1.0, effect: LabelEffect::Changes }
    }

    /// The same step for a sample with this probability.
    #[must_use]
    pub fn with_prob(self, prob: f64) -> Self {
        Self { prob, ..self }
    }
}

/// Steps that a batch of images goes through.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebrick_core::Seed;
/// use firebrick_regularize::{ImageAugment, ImageOp, MaskSource, Step};
///
/// let steps = vec![
///     Step::preserving(ImageOp::Shift { max: 2 }),
///     Step::preserving(ImageOp::Rotate { degrees: 10.0 }).with_prob(0.5),
///     Step::changing(ImageOp::FlipHorizontal).with_prob(0.5), // of digits
/// ];
/// let augment = ImageAugment::new(steps, &MaskSource::new(Seed(7)))?;
/// let images = Tensor::<4>::ones([4, 1, 8, 8], &Device::flex());
/// assert_eq!(augment.images(images.clone()).dims(), [4, 1, 8, 8]);
/// assert!(augment.labelled(images).is_err()); // a mirrored digit has no label
/// # Ok::<(), firebrick_regularize::RegularizeError>(())
/// ```
#[derive(Debug, Clone)]
pub struct ImageAugment {
    steps: Vec<Step>,
    masks: MaskSource,
}

impl ImageAugment {
    /// Checks the steps; draws come from `masks`.
    ///
    /// # Errors
    /// When a probability or a range is wrong.
    pub fn new(steps: Vec<Step>, masks: &MaskSource) -> Result<Self, ConfigError> {
        for step in &steps {
            check::range("prob", step.prob, 0.0..=1.0)?;
            step.op.check()?;
        }
        Ok(Self { steps, masks: masks.clone() })
    }

    /// Changes images `[n, c, h, w]`.
    #[must_use]
    pub fn images(&self, images: Tensor<4>) -> Tensor<4> {
        each_image(images, &self.masks, |size, generator| self.plan(size, generator))
    }

    pub(super) fn plan(&self, size: Size, generator: &mut Philox) -> Plan {
        let chosen =
            |step: &Step| (generator.uniform() < step.prob).then(|| step.op.draw(size, generator));
        Plan::Chain(self.steps.iter().filter_map(chosen).collect())
    }

    pub(super) fn changes(&self) -> bool {
        self.steps.iter().any(|step| step.effect == LabelEffect::Changes && step.prob > 0.0)
    }

    /// Changes images whose labels are used afterwards.
    ///
    /// # Errors
    /// When a step is declared to change labels.
    pub fn labelled(&self, images: Tensor<4>) -> Result<Tensor<4>, RegularizeError> {
        preserved(self.changes())?;
        Ok(self.images(images))
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::super::kernel::Scratch;
    use super::*;
    use burn::tensor::{Device, TensorData};
    use firebrick_backend::testing::devices;
    use firebrick_core::Seed;

    const SIZE: Size = Size { c: 1, h: 3, w: 4 };

    fn picture() -> Vec<f32> {
        (1..=12).map(|v| v as f32 / 12.0).collect()
    }

    fn augment(op: ImageOp) -> ImageAugment {
        ImageAugment::new(vec![Step::preserving(op)], &MaskSource::new(Seed(3))).expect("valid")
    }

    fn run(op: ImageOp, n: usize, c: usize, h: usize, w: usize) -> Vec<Vec<f32>> {
        let values: Vec<f32> =
            (0..c * h * w).map(|v| (v + 1) as f32 / (c * h * w) as f32).collect();
        let data = TensorData::new(values.repeat(n), [n, c, h, w]);
        let output = augment(op).labelled(Tensor::from_data(data, &Device::flex())).expect("runs");
        let output: Vec<f32> = output.try_to_vec_as().expect("reads");
        output.chunks(c * h * w).map(<[f32]>::to_vec).collect()
    }

    #[test]
    fn flips_and_shifts_by_hand() {
        let mut image = picture();
        kernel::flip_horizontal(&mut image, SIZE);
        assert_eq!(image[..4], [4. / 12., 3. / 12., 2. / 12., 1. / 12.]);
        kernel::flip_horizontal(&mut image, SIZE);
        kernel::flip_vertical(&mut image, SIZE);
        assert_eq!(image[..4], picture()[8..]);
        assert_eq!(image[4..8], picture()[4..8]);
        let mut image = picture();
        kernel::shift(&mut image, SIZE, 1, -1, &mut Scratch::default());
        assert_eq!(
            image,
            [0., 0., 0., 0., 2. / 12., 3. / 12., 4. / 12., 0., 6. / 12., 7. / 12., 8. / 12., 0.]
        );
    }

    #[test]
    fn affine_moves_by_whole_pixels_and_turns_by_right_angles_exactly() {
        let mut moved = picture();
        let mut scratch = Scratch::default();
        let inverse = kernel::inverse_affine(0.0, [-1.0, 1.0], 1.0, [0.0; 2]);
        kernel::affine(&mut moved, SIZE, inverse, &mut scratch);
        let mut shifted = picture();
        kernel::shift(&mut shifted, SIZE, 1, -1, &mut Scratch::default());
        assert!(moved.iter().zip(&shifted).all(|(a, b)| (a - b).abs() < 1e-6));
        let square = Size { c: 1, h: 3, w: 3 };
        let mut turned: Vec<f32> = (1..=9).map(|v| v as f32).collect();
        let inverse = kernel::inverse_affine(90.0, [0.0; 2], 1.0, [0.0; 2]);
        kernel::affine(&mut turned, square, inverse, &mut scratch);
        let clockwise = [7., 4., 1., 8., 5., 2., 9., 6., 3.];
        assert!(turned.iter().zip(clockwise).all(|(a, b)| (a - b).abs() < 1e-4), "{turned:?}");
    }

    #[test]
    fn every_op_keeps_shape_and_finite_values_on_odd_small_and_empty_images() {
        let ops = [
            ImageOp::Shift { max: 9 },
            ImageOp::Crop { min_area: 0.3 },
            ImageOp::FlipHorizontal,
            ImageOp::FlipVertical,
            ImageOp::Rotate { degrees: 180.0 },
            ImageOp::Affine { degrees: 30.0, translate: 0.3, scale: (0.5, 2.0), shear: 20.0 },
            ImageOp::Elastic { alpha: 5.0, sigma: 2.0 },
            ImageOp::Erase { area: (0.02, 0.33), aspect: (0.3, 3.3) },
            ImageOp::Cutout { size: 50 },
            ImageOp::Brightness { max: 0.5 },
            ImageOp::Contrast { max: 0.5 },
            ImageOp::Noise { std: 0.1 },
        ];
        for device in devices() {
            for op in &ops {
                for shape in [[2, 3, 5, 4], [1, 1, 1, 1], [0, 3, 8, 8], [2, 1, 0, 4]] {
                    let output = augment(op.clone()).images(Tensor::ones(shape, &device));
                    assert_eq!(output.dims(), shape, "{op:?}");
                    let values: Vec<f32> = output.try_to_vec_as().expect("reads");
                    assert!(values.iter().all(|v| v.is_finite()), "{op:?}");
                }
            }
        }
    }

    #[test]
    fn samples_differ_and_the_seed_repeats_them() {
        let first = run(ImageOp::Rotate { degrees: 45.0 }, 4, 1, 7, 7);
        assert_eq!(first, run(ImageOp::Rotate { degrees: 45.0 }, 4, 1, 7, 7));
        assert_ne!(first[0], first[1]);
        // A smaller batch gives its samples the same changes.
        assert_eq!(run(ImageOp::Rotate { degrees: 45.0 }, 2, 1, 7, 7), first[..2]);
    }

    #[test]
    fn shifts_are_uniform_and_steps_follow_their_probability() {
        // 5 x 5 shifts of a 6 x 6 image: 24 degrees of freedom, 0.9999 quantile 56.9.
        let mut counts = std::collections::BTreeMap::new();
        for image in run(ImageOp::Shift { max: 2 }, 5000, 1, 6, 6) {
            *counts.entry(image.iter().map(|v| v.to_bits()).collect::<Vec<_>>()).or_insert(0u32) +=
                1;
        }
        assert_eq!(counts.len(), 25);
        let chi: f64 = counts.values().map(|&c| (f64::from(c) - 200.0).powi(2) / 200.0).sum();
        assert!(chi < 56.9, "{chi}");
        let step = Step::preserving(ImageOp::FlipHorizontal).with_prob(0.3);
        let flips = ImageAugment::new(vec![step], &MaskSource::new(Seed(4))).expect("valid");
        let data = TensorData::new([0f32, 1.0].repeat(10_000), [10_000, 1, 1, 2]);
        let output = flips.images(Tensor::from_data(data, &Device::flex()));
        let output: Vec<f32> = output.try_to_vec_as().expect("reads");
        let flipped = output.chunks(2).filter(|image| image[0] == 1.0).count() as f64 / 1e4;
        assert!((flipped - 0.3).abs() < 5.0 * (0.21f64 / 1e4).sqrt(), "{flipped}");
    }

    #[test]
    fn boxes_have_their_areas() {
        for image in run(ImageOp::Erase { area: (0.1, 0.2), aspect: (0.5, 2.0) }, 200, 2, 20, 20) {
            let erased = image[..400].iter().filter(|&&v| v == 0.0).count() as f64 / 400.0;
            // Sides are rounded to whole pixels: 20 percent slack.
            assert!((0.08..0.24).contains(&erased), "{erased}");
        }
        for image in run(ImageOp::Cutout { size: 4 }, 200, 1, 10, 10) {
            let erased = image.iter().filter(|&&v| v == 0.0).count();
            assert!((4..=16).contains(&erased), "{erased}");
        }
    }

    #[test]
    fn bad_ranges_are_refused() {
        let refused = |op| {
            let step = vec![Step::preserving(op)];
            ImageAugment::new(step, &MaskSource::new(Seed(0))).expect_err("refused").to_string()
        };
        assert_eq!(refused(ImageOp::Cutout { size: 0 }), "`size` must be at least 1, got 0");
        assert!(refused(ImageOp::Rotate { degrees: f64::NAN }).starts_with("`degrees`"));
        assert!(refused(ImageOp::Crop { min_area: 0.0 }).starts_with("`min_area`"));
        let upside = ImageOp::Erase { area: (0.3, 0.1), aspect: (0.3, 3.3) };
        assert_eq!(refused(upside), "`area` must be (low, high), got (0.3, 0.1)");
        let step = vec![Step::preserving(ImageOp::FlipVertical).with_prob(1.5)];
        assert!(ImageAugment::new(step, &MaskSource::new(Seed(0))).is_err());
    }

    fn drawn(op: &ImageOp, size: Size, count: usize) -> Vec<Edit> {
        let mut generator = Seed(8).stream("draws");
        (0..count).map(|_| op.draw(size, &mut generator)).collect()
    }

    fn matrix(edit: &Edit) -> [f64; 6] {
        match edit {
            Edit::Affine(matrix) => *matrix,
            Edit::Crop([side, tx, ty]) => [*side, 0.0, *tx, 0.0, *side, *ty],
            other => panic!("{other:?}"),
        }
    }

    /// Five standard errors of mean and variance of numbers that are uniform between two ends.
    fn uniform(draws: &[f64], low: f64, high: f64) {
        let n = draws.len() as f64;
        assert!(draws.iter().all(|draw| (low - 1e-9..=high + 1e-9).contains(draw)));
        let (middle, variance) = ((low + high) / 2.0, (high - low).powi(2) / 12.0);
        let mean = draws.iter().sum::<f64>() / n;
        assert!((mean - middle).abs() < 5.0 * (variance / n).sqrt(), "{mean} in {low} {high}");
        // The fourth central moment is 9/5 of the squared variance.
        let square = draws.iter().map(|draw| (draw - middle).powi(2)).sum::<f64>() / n;
        assert!((square - variance).abs() < 5.0 * variance * (0.8 / n).sqrt(), "{square}");
    }

    #[test]
    fn drawn_numbers_are_uniform_in_their_ranges() {
        let (n, size) = (1_000_000, Size { c: 1, h: 20, w: 10 });
        let angle = |edit: &Edit| matrix(edit)[1].atan2(matrix(edit)[0]).to_degrees();
        let turns = drawn(&ImageOp::Rotate { degrees: 30.0 }, size, n);
        uniform(&turns.iter().map(angle).collect::<Vec<f64>>(), -30.0, 30.0);
        let factor = |edit: Edit| match edit {
            Edit::Brightness(factor) | Edit::Contrast(factor) => factor,
            other => panic!("{other:?}"),
        };
        let brightness = drawn(&ImageOp::Brightness { max: 0.4 }, size, n);
        uniform(&brightness.into_iter().map(factor).collect::<Vec<f64>>(), 0.6, 1.4);
        // A factor is never below 0.
        let contrast = drawn(&ImageOp::Contrast { max: 2.0 }, size, n);
        uniform(&contrast.into_iter().map(factor).collect::<Vec<f64>>(), 0.0, 3.0);
        let crops = drawn(&ImageOp::Crop { min_area: 0.36 }, size, n);
        uniform(&crops.iter().map(|crop| matrix(crop)[0].powi(2)).collect::<Vec<f64>>(), 0.36, 1.0);
        for crop in &crops {
            let [a, b, tx, c, d, ty] = matrix(crop);
            assert_eq!((a, b, c), (d, 0.0, 0.0));
            assert!(tx.abs() + 5.0 * a < 5.0 + 1e-9 && ty.abs() + 10.0 * a < 10.0 + 1e-9);
        }
        let op = ImageOp::Affine { degrees: 20.0, translate: 0.2, scale: (0.5, 2.0), shear: 15.0 };
        let (mut angles, mut scales, mut shears) = (Vec::new(), Vec::new(), Vec::new());
        let mut ends = [[0.0f64; 2]; 2];
        for edit in drawn(&op, size, n) {
            // The inverse of scale * [[cos, -cos tan - sin], [sin, cos - sin tan]], from the end to the start.
            let [a, b, tx, c, d, ty] = matrix(&edit);
            let determinant = a * d - b * c;
            let scale = 1.0 / determinant.sqrt();
            let angle = (-c).atan2(d);
            let tangent = scale * (b * angle.cos() - a * angle.sin());
            angles.push(angle.to_degrees());
            scales.push(scale);
            shears.push(tangent.atan().to_degrees());
            let moved = [(b * ty - d * tx) / determinant, (c * tx - a * ty) / determinant];
            for (moved, ends) in moved.into_iter().zip(&mut ends) {
                assert!((moved - moved.round()).abs() < 1e-9, "whole pixels: {moved}");
                *ends = [ends[0].min(moved.round()), ends[1].max(moved.round())];
            }
        }
        uniform(&angles, -20.0, 20.0);
        uniform(&scales, 0.5, 2.0);
        uniform(&shears, -15.0, 15.0);
        assert_eq!(ends, [[-2.0, 2.0], [-4.0, 4.0]]);
    }

    #[test]
    fn a_crop_sees_nothing_outside_the_image() {
        for device in devices() {
            let white = Tensor::<4>::ones([64, 3, 5, 7], &device);
            let output = augment(ImageOp::Crop { min_area: 0.1 }).labelled(white).expect("runs");
            let output: Vec<f32> = output.into_data().iter::<f32>().collect();
            assert!(output.iter().all(|value| (value - 1.0).abs() < 1e-6));
        }
    }

    #[test]
    fn a_crop_stretches_both_axes_alike() {
        // Position across in one channel, position down in the other: a crop makes them less steep.
        let (n, h, w) = (50usize, 9usize, 11usize);
        let across = (0..h * w).map(|at| (at % w) as f32);
        let down = (0..h * w).map(|at| (at / w) as f32);
        let image: Vec<f32> = across.chain(down).collect();
        let data = TensorData::new(image.repeat(n), [n, 2, h, w]);
        let output = augment(ImageOp::Crop { min_area: 0.36 })
            .labelled(Tensor::from_data(data, &Device::flex()));
        let output: Vec<f32> = output.expect("runs").try_to_vec_as().expect("reads");
        for image in output.chunks(2 * h * w) {
            let (across, down) = image.split_at(h * w);
            // The outermost pixels may be repeated.
            let side = (across[w + w - 2] - across[w + 1]) / (w - 3) as f32;
            assert!((0.6 - 1e-4..=1.0 + 1e-4).contains(&side), "{side}");
            for (y, x) in (1..h - 1).flat_map(|y| (1..w - 1).map(move |x| (y, x))) {
                let expected =
                    [across[w + 1] + side * (x - 1) as f32, down[w + 1] + side * (y - 1) as f32];
                let found = [across[y * w + x], down[y * w + x]];
                assert!((found[0] - expected[0]).abs() < 1e-4, "{found:?} {expected:?}");
                assert!((found[1] - expected[1]).abs() < 1e-4, "{found:?} {expected:?}");
            }
        }
    }

    #[test]
    fn noise_has_its_moments() {
        let (h, w) = (40, 25);
        let mut noise = Vec::new();
        for image in run(ImageOp::Noise { std: 0.1 }, 1000, 1, h, w) {
            let start = (1..=h * w).map(|v| v as f64 / (h * w) as f64);
            noise.extend(image.into_iter().zip(start).map(|(v, start)| f64::from(v) - start));
        }
        let n = noise.len() as f64;
        assert_eq!(n, 1e6);
        let mean = noise.iter().sum::<f64>() / n;
        let variance = noise.iter().map(|x| x * x).sum::<f64>() / n;
        assert!(mean.abs() < 5.0 * 0.1 / n.sqrt(), "{mean}");
        assert!((variance - 0.01).abs() < 5.0 * 0.01 * (2.0 / n).sqrt(), "{variance}");
    }

    #[test]
    fn elastic_fields_are_smoothed_noise() {
        let (alpha, sigma, size) = (5.0f64, 2.0f64, Size { c: 1, h: 40, w: 40 });
        let weights: Vec<f64> =
            (-6..=6).map(|tap| (-0.5 * (f64::from(tap) / sigma).powi(2)).exp()).collect();
        let total: f64 = weights.iter().sum();
        let squares = weights.iter().map(|weight| (weight / total).powi(2)).sum::<f64>();
        // Uniform in [-1, 1], so of variance 1/3, smoothed along both axes.
        let expected = alpha * alpha / 3.0 * squares * squares;
        let mut draws = Vec::new();
        for edit in drawn(&ImageOp::Elastic { alpha, sigma }, size, 3000) {
            let Edit::Displace { dx, dy } = edit else { panic!("a field") };
            // Points whose kernels do not meet, nor the border: they are independent.
            for (field, y, x) in [&dx, &dy].into_iter().flat_map(|field| {
                [6, 19, 32].into_iter().flat_map(move |y| [6, 19, 32].map(move |x| (field, y, x)))
            }) {
                draws.push(f64::from(field[y * 40 + x]));
            }
        }
        let n = draws.len() as f64;
        let moment = |k: i32| draws.iter().map(|draw| draw.powi(k)).sum::<f64>() / n;
        assert!(moment(1).abs() < 5.0 * (expected / n).sqrt());
        let bound = 5.0 * ((moment(4) - moment(2).powi(2)) / n).sqrt();
        assert!((moment(2) - expected).abs() < bound, "{} {expected}", moment(2));
        assert!(draws.iter().all(|draw| draw.abs() <= alpha));
        let still = run(ImageOp::Elastic { alpha: 0.0, sigma }, 1, 1, 6, 5);
        assert!((1..=30).zip(&still[0]).all(|(v, found)| (found - v as f32 / 30.0).abs() < 1e-6));
    }

    #[test]
    fn the_middle_of_a_cutout_is_any_pixel() {
        let n = 120_000usize;
        let mut counts = [0usize; 12];
        for edit in drawn(&ImageOp::Cutout { size: 1 }, SIZE, n) {
            let Edit::Erase { rows, columns } = edit else { panic!("a box") };
            assert_eq!((rows.len(), columns.len()), (1, 1));
            counts[rows.start * 4 + columns.start] += 1;
        }
        let share = 1.0 / 12.0;
        let bound = 5.0 * (n as f64 * share * (1.0 - share)).sqrt();
        assert!(counts.iter().all(|&c| (c as f64 - n as f64 * share).abs() < bound), "{counts:?}");
    }

    #[test]
    fn every_range_is_checked() {
        let refused = |op: ImageOp| {
            let step = vec![Step::preserving(op)];
            ImageAugment::new(step, &MaskSource::new(Seed(0))).is_err()
        };
        let affine = |translate, scale, shear| {
            refused(ImageOp::Affine { degrees: 1.0, translate, scale, shear })
        };
        assert!(affine(1.5, (1.0, 1.0), 0.0) && affine(f64::NAN, (1.0, 1.0), 0.0));
        assert!(affine(0.1, (0.0, 1.0), 0.0) && affine(0.1, (2.0, 1.0), 0.0));
        assert!(affine(0.1, (1.0, 1.0), 90.0) && affine(0.1, (1.0, f64::INFINITY), 0.0));
        assert!(!affine(1.0, (1.0, 1.0), 89.0));
        for bad in [-0.1, f64::NAN, f64::INFINITY] {
            assert!(refused(ImageOp::Rotate { degrees: bad }));
            assert!(refused(ImageOp::Brightness { max: bad }));
            assert!(refused(ImageOp::Contrast { max: bad }));
            assert!(refused(ImageOp::Noise { std: bad }));
            assert!(refused(ImageOp::Elastic { alpha: bad, sigma: 1.0 }));
            assert!(refused(ImageOp::Elastic { alpha: 1.0, sigma: bad }));
            assert!(refused(ImageOp::Crop { min_area: bad }));
            assert!(refused(ImageOp::Erase { area: (bad, 0.5), aspect: (1.0, 1.0) }));
            assert!(refused(ImageOp::Erase { area: (0.1, 0.5), aspect: (bad, 1.0) }));
        }
        assert!(refused(ImageOp::Elastic { alpha: 1.0, sigma: 0.0 }));
        for prob in [-0.1, 1.1, f64::NAN] {
            let step = vec![Step::preserving(ImageOp::FlipVertical).with_prob(prob)];
            assert!(ImageAugment::new(step, &MaskSource::new(Seed(0))).is_err());
        }
    }
}
