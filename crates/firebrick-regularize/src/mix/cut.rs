//! CutMix: a box of another image is pasted, and the targets are mixed by the area.

use super::{MixPlan, Mixed, batch_of, each_row, plan};
use crate::{MaskSource, RegularizeError};
use burn::config::Config;
use burn::tensor::{Bool, Tensor, TensorData};
use firebrick_core::{ConfigError, check};
use std::ops::Range;

/// Configuration of [`CutMix`].
#[derive(Config, Debug)]
pub struct CutMixConfig {
    /// Parameter of the Beta distribution, at least 0; 0 mixes nothing.
    #[config(default = 1.0)]
    pub alpha: f64,
    /// Whether each row draws a box of its own, rather than one for the batch.
    #[config(default = false)]
    pub per_sample: bool,
}

impl CutMixConfig {
    /// Checks the values; draws come from `masks`.
    ///
    /// # Errors
    /// When `alpha` is negative, NaN or infinite.
    pub fn init(&self, masks: &MaskSource) -> Result<CutMix, ConfigError> {
        let alpha = check::non_negative("alpha", self.alpha)?;
        Ok(CutMix { alpha, per_sample: self.per_sample, masks: masks.clone() })
    }
}

/// Pastes a box of another image into every image and mixes the targets by the area.
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use firebrick_core::Seed;
/// use firebrick_regularize::{CutMixConfig, MaskSource, one_hot};
///
/// let device = Device::flex();
/// let cutmix = CutMixConfig::new().init(&MaskSource::new(Seed(7)))?;
/// let targets = one_hot(Tensor::<1, Int>::from_ints([0, 1], &device), 2)?;
/// let batch = cutmix.mix(Tensor::<4>::ones([2, 3, 8, 8], &device), targets)?;
/// assert_eq!(batch.input.dims(), [2, 3, 8, 8]);
/// # Ok::<(), firebrick_regularize::RegularizeError>(())
/// ```
#[derive(Debug, Clone)]
pub struct CutMix {
    alpha: f64,
    per_sample: bool,
    masks: MaskSource,
}

impl CutMix {
    /// Partners, boxes and shares for a batch of `n` images of `h` rows and `w` columns.
    ///
    /// A box has `2 floor(sqrt(1 - l) side / 2)` rows and columns around a random pixel, as in the paper and
    /// torchvision, and is cut at the border. Images without pixels are not mixed.
    #[must_use]
    pub fn plan(&self, n: usize, h: usize, w: usize) -> CutPlan {
        let mut mix = plan(&self.masks, n, self.alpha, self.per_sample);
        if n * h * w == 0 {
            mix.lambda.fill(1.0);
            return CutPlan { mix, boxes: vec![CutBox::default(); n] };
        }
        let boxes = if self.per_sample { n } else { 1 };
        let mut generator = self.masks.reserve(8 * boxes);
        let mut draw = |lambda: f64| {
            let (y, x) = (generator.below(h as u64) as usize, generator.below(w as u64) as usize);
            CutBox::around((y, x), lambda, h, w)
        };
        let mut boxes: Vec<CutBox> = mix.lambda.iter().take(boxes).map(|&l| draw(l)).collect();
        boxes.resize(n, boxes[0].clone());
        for (lambda, cut) in mix.lambda.iter_mut().zip(&boxes) {
            *lambda = cut.left(h, w);
        }
        CutPlan { mix, boxes }
    }

    /// Mixes images `[n, c, h, w]` and target distributions `[n, k]`.
    ///
    /// # Errors
    /// When the two have different numbers of rows.
    pub fn mix(&self, input: Tensor<4>, targets: Tensor<2>) -> Result<Mixed<4>, RegularizeError> {
        let [_, c, h, w] = input.dims();
        // Without channels there is nothing to paste either.
        let h = if c == 0 { 0 } else { h };
        let plan = self.plan(batch_of(&input.dims(), &targets)?, h, w);
        let (input, targets) = (plan.apply(input)?, plan.mix.apply(targets)?);
        Ok(Mixed { input, targets, plan: plan.mix })
    }
}

/// A part of an image.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CutBox {
    /// Rows from the top.
    pub rows: Range<usize>,
    /// Columns from the left.
    pub columns: Range<usize>,
}

impl CutBox {
    /// A box of about the share `1 - lambda` around a pixel of an image of `h` rows and `w` columns.
    pub(crate) fn around((y, x): (usize, usize), lambda: f64, h: usize, w: usize) -> Self {
        let span = |at: usize, length: usize| {
            let half = (0.5 * (1.0 - lambda).sqrt() * length as f64) as usize;
            at.saturating_sub(half)..(at + half).min(length)
        };
        Self { rows: span(y, h), columns: span(x, w) }
    }

    /// The share of an image that the box leaves.
    pub(crate) fn left(&self, h: usize, w: usize) -> f64 {
        if h * w == 0 {
            return 1.0;
        }
        1.0 - (self.rows.len() * self.columns.len()) as f64 / (h * w) as f64
    }
}

/// Which box of whom is pasted into each image of a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct CutPlan {
    /// Partners and the shares that the boxes leave, for the targets.
    pub mix: MixPlan,
    /// The box of each image.
    pub boxes: Vec<CutBox>,
}

impl CutPlan {
    /// Pastes the boxes into images, or maps of labels, `[n, c, h, w]`.
    ///
    /// # Errors
    /// When the batch has another size than the plan, an image has no box, a partner is no row, or a box ends before it
    /// starts or reaches beyond the images.
    pub fn apply(&self, input: Tensor<4>) -> Result<Tensor<4>, RegularizeError> {
        let shape = input.dims();
        let [n, _, h, w] = shape;
        self.mix.check("the images to mix", &shape)?;
        if self.boxes.len() != n {
            return Err(RegularizeError::Shape {
                what: "the boxes of a plan",
                expected: format!("one for each of the {n} images"),
                found: vec![self.boxes.len()],
            });
        }
        let turned =
            |cut: &&CutBox| cut.rows.start > cut.rows.end || cut.columns.start > cut.columns.end;
        if let Some(CutBox { rows, columns }) = self.boxes.iter().find(turned) {
            return Err(RegularizeError::Shape {
                what: "a box",
                expected: "one whose rows and columns do not end before it starts".into(),
                found: vec![rows.start, rows.end, columns.start, columns.end],
            });
        }
        let beyond = |cut: &&CutBox| cut.rows.end > h || cut.columns.end > w;
        if let Some(cut) = self.boxes.iter().find(beyond) {
            let expected = format!("as large as the box {cut:?}");
            return Err(RegularizeError::Shape {
                what: "the images to mix",
                expected,
                found: shape.to_vec(),
            });
        }
        let paste = |row: usize, images: &[&[f32]], to: &mut [f32]| {
            to.copy_from_slice(images[row]);
            let (cut, other) = (&self.boxes[row], images[self.mix.partners[row]]);
            for (to, from) in to.chunks_mut(h * w).zip(other.chunks(h * w)) {
                for y in cut.rows.clone() {
                    let line = y * w + cut.columns.start..y * w + cut.columns.end;
                    to[line.clone()].copy_from_slice(&from[line]);
                }
            }
        };
        let input = match each_row(input, paste) {
            Ok(mixed) => return Ok(mixed),
            Err(elsewhere) => elsewhere,
        };
        if shape.contains(&0) {
            return Ok(input);
        }
        let mut pasted = vec![false; n * h * w];
        for (map, cut) in pasted.chunks_mut(h * w).zip(&self.boxes) {
            for y in cut.rows.clone() {
                map[y * w + cut.columns.start..y * w + cut.columns.end].fill(true);
            }
        }
        let mask = TensorData::new(pasted, [n, 1, h, w]);
        let mask = Tensor::<4, Bool>::from_data(mask, &input.device().inner());
        let partners = input.clone().select(0, self.mix.indices(&input));
        Ok(input.mask_where(mask.expand(shape), partners))
    }
}
