//! Augmentation of sequences `[n, t, f]`: masked time, jitter, crop.
//!
//! # Formula
//! ```text
//! time mask   a run of up to max steps becomes 0
//! jitter      x + std * N(0, 1)
//! crop        a part of at least min_share of the steps moves to the front, 0 after it
//! ```
//!
//! # Reference
//! D. S. Park et al., "SpecAugment", Interspeech 2019; T. T. Um et al., "Data augmentation of wearable sensor data",
//! ICMI 2017.

use super::{Generators, between, preserved};
use crate::{LabelEffect, MaskSource, RegularizeError};
use burn::tensor::{Bool, Int, Tensor, TensorData};
use firebrick_core::{ConfigError, Philox, check};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// One random change of a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum SequenceOp {
    /// A run of 0 to `max` steps, anywhere, becomes 0.
    TimeMask {
        /// Longest run, at most the length of the sequence.
        max: usize,
    },
    /// Normal noise on every value.
    Jitter {
        /// Standard deviation, at least 0.
        std: f64,
    },
    /// A part of the sequence moves to the front, the rest becomes 0.
    Crop {
        /// Smallest share of the steps, in (0, 1].
        min_share: f64,
    },
}

/// Changes that a batch of sequences goes through, each with what the user says of labels.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebrick_core::Seed;
/// use firebrick_regularize::{LabelEffect, MaskSource, SequenceAugment, SequenceOp};
///
/// let steps = vec![(SequenceOp::TimeMask { max: 3 }, LabelEffect::Preserves)];
/// let augment = SequenceAugment::new(steps, &MaskSource::new(Seed(7)))?;
/// let masked = augment.labelled(Tensor::<3>::ones([2, 10, 4], &Device::flex()))?;
/// let sum: f32 = masked.sum().into_scalar();
/// assert!((56.0..=80.0).contains(&sum));
/// # Ok::<(), firebrick_regularize::RegularizeError>(())
/// ```
#[derive(Debug, Clone)]
pub struct SequenceAugment {
    steps: Vec<(SequenceOp, LabelEffect)>,
    masks: MaskSource,
}

impl SequenceAugment {
    /// Checks the steps; draws come from `masks`.
    ///
    /// # Errors
    /// When a value is out of its range.
    pub fn new(
        steps: Vec<(SequenceOp, LabelEffect)>,
        masks: &MaskSource,
    ) -> Result<Self, ConfigError> {
        for (op, _) in &steps {
            match *op {
                SequenceOp::TimeMask { .. } => {}
                SequenceOp::Jitter { std } => drop(check::non_negative("std", std)?),
                SequenceOp::Crop { min_share } => {
                    check::positive("min_share", min_share)?;
                    check::range("min_share", min_share, 0.0..=1.0)?;
                }
            }
        }
        Ok(Self { steps, masks: masks.clone() })
    }

    /// Changes sequences `[n, t, f]`.
    #[must_use]
    pub fn sequences(&self, sequences: Tensor<3>) -> Tensor<3> {
        let [n, t, f] = sequences.dims();
        let generators = Generators::next(&self.masks);
        if n * t * f == 0 {
            return sequences;
        }
        let drawn: Vec<Vec<Edit>> =
            (0..n).into_par_iter().map(|row| self.draw(t, f, &mut generators.of(row))).collect();
        // The same step of all sequences at once.
        (0..self.steps.len()).fold(sequences, |sequences, step| {
            together(sequences, drawn.iter().map(|edits| &edits[step]))
        })
    }

    /// One edit a step.
    fn draw(&self, t: usize, f: usize, generator: &mut Philox) -> Vec<Edit> {
        let mut edits = Vec::with_capacity(self.steps.len());
        for (op, _) in &self.steps {
            edits.push(match *op {
                SequenceOp::TimeMask { max } => {
                    let length = generator.below(max.min(t) as u64 + 1) as usize;
                    let start = generator.below((t - length + 1) as u64) as usize;
                    Edit::Mask(start..start + length)
                }
                SequenceOp::Jitter { std } => {
                    let noise = || (std * generator.normal()) as f32;
                    Edit::Add(std::iter::repeat_with(noise).take(t * f).collect())
                }
                SequenceOp::Crop { min_share } => {
                    let share = between(generator, min_share, 1.0);
                    // As many steps as the share asks for, not one fewer; a product may be a rounding above its value.
                    let least = (min_share * t as f64 * (1.0 - 1e-12)).ceil() as usize;
                    let length = ((share * t as f64).round() as usize).clamp(least.clamp(1, t), t);
                    let start = generator.below((t - length + 1) as u64) as usize;
                    Edit::Front(start..start + length)
                }
            });
        }
        edits
    }

    pub(super) fn changes(&self) -> bool {
        self.steps.iter().any(|(_, effect)| *effect == LabelEffect::Changes)
    }

    /// Changes one sequence of `f` values a step.
    pub(super) fn sample(&self, values: &mut [f32], f: usize, generator: &mut Philox) {
        for edit in self.draw(values.len() / f.max(1), f, generator) {
            match edit {
                Edit::Mask(steps) => values[steps.start * f..steps.end * f].fill(0.0),
                Edit::Add(field) => values.iter_mut().zip(field).for_each(|(v, add)| *v += add),
                Edit::Front(steps) => {
                    values.copy_within(steps.start * f..steps.end * f, 0);
                    values[steps.len() * f..].fill(0.0);
                }
            }
        }
    }

    /// Changes sequences whose labels are used afterwards.
    ///
    /// # Errors
    /// When a step is declared to change labels.
    pub fn labelled(&self, sequences: Tensor<3>) -> Result<Tensor<3>, RegularizeError> {
        preserved(self.changes())?;
        Ok(self.sequences(sequences))
    }
}

/// A change whose numbers are drawn.
#[derive(Debug, Clone, PartialEq)]
enum Edit {
    /// These steps become 0.
    Mask(Range<usize>),
    /// Noise for every value.
    Add(Vec<f32>),
    /// These steps move to the front.
    Front(Range<usize>),
}

/// One step for a batch of sequences, of one kind for all.
fn together<'a>(sequences: Tensor<3>, edits: impl Iterator<Item = &'a Edit> + Clone) -> Tensor<3> {
    let shape = sequences.dims();
    let [n, t, f] = shape;
    let device = sequences.device().inner();
    // For each step of each sequence whether it is 0 afterwards.
    let zero = |steps: &dyn Fn(&Edit) -> Range<usize>| {
        let gone: Vec<bool> = edits
            .clone()
            .flat_map(|edit| {
                let zero = steps(edit);
                (0..t).map(move |at| zero.contains(&at))
            })
            .collect();
        Tensor::<3, Bool>::from_data(TensorData::new(gone, [n, t, 1]), &device).expand(shape)
    };
    match edits.clone().next() {
        None => sequences,
        Some(Edit::Mask(_)) => {
            let gone =
                zero(&|edit| if let Edit::Mask(steps) = edit { steps.clone() } else { 0..0 });
            sequences.mask_fill(gone, 0.0)
        }
        Some(Edit::Add(_)) => {
            let field =
                edits.flat_map(|edit| if let Edit::Add(f) = edit { f.as_slice() } else { &[] });
            let field = TensorData::new(field.copied().collect::<Vec<f32>>(), shape);
            let dtype = sequences.dtype();
            sequences + Tensor::<3>::from_data(field, (&device, dtype))
        }
        Some(Edit::Front(_)) => {
            let part =
                |edit: &Edit| if let Edit::Front(steps) = edit { steps.clone() } else { 0..t };
            let from: Vec<i64> = edits
                .clone()
                .flat_map(|edit| (0..t).map(move |at| (part(edit).start + at).min(t - 1) as i64))
                .collect();
            let from = Tensor::<3, Int>::from_data(TensorData::new(from, [n, t, 1]), &device);
            let gone = zero(&|edit| part(edit).len()..t);
            sequences.gather(1, from.expand([n, t, f])).mask_fill(gone, 0.0)
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};
    use firebrick_backend::testing::devices;
    use firebrick_core::Seed;

    fn run(op: SequenceOp, n: usize, t: usize, device: &Device) -> Vec<f32> {
        let steps = vec![(op, LabelEffect::Preserves)];
        let augment = SequenceAugment::new(steps, &MaskSource::new(Seed(1))).expect("valid");
        let values: Vec<f32> = (1..=t).flat_map(|step| [step as f32; 2]).collect();
        let data = TensorData::new(values.repeat(n), [n, t, 2]);
        let output = augment.labelled(Tensor::from_data(data, device)).expect("runs");
        output.try_to_vec_as().expect("reads")
    }

    #[test]
    fn masks_are_one_run_with_a_uniform_length() {
        for device in devices() {
            let mut lengths = [0usize; 4];
            for sequence in run(SequenceOp::TimeMask { max: 3 }, 4000, 8, &device).chunks(16) {
                let zeros: Vec<usize> = (0..8).filter(|&at| sequence[2 * at] == 0.0).collect();
                assert!(zeros.windows(2).all(|pair| pair[1] == pair[0] + 1));
                assert!((0..8).all(|at| sequence[2 * at] == sequence[2 * at + 1]));
                lengths[zeros.len()] += 1;
            }
            // Four lengths alike: 3 degrees of freedom, 0.9999 quantile 21.1.
            let chi: f64 = lengths.iter().map(|&c| (c as f64 - 1000.0).powi(2) / 1000.0).sum();
            assert!(chi < 21.1, "{lengths:?}");
        }
    }

    #[test]
    fn crops_keep_an_unbroken_part_at_the_front() {
        for sequence in run(SequenceOp::Crop { min_share: 0.5 }, 500, 8, &Device::flex()).chunks(16)
        {
            let steps: Vec<f32> = sequence.iter().step_by(2).copied().collect();
            let kept = steps.iter().take_while(|&&v| v > 0.0).count();
            assert!((4..=8).contains(&kept), "{steps:?}");
            assert!(steps[..kept].windows(2).all(|pair| pair[1] == pair[0] + 1.0));
            assert!(steps[kept..].iter().all(|&v| v == 0.0));
        }
    }

    #[test]
    fn a_crop_is_never_shorter_than_its_share() {
        let mut generator = Seed(3).stream("test");
        // 0.35 of 7 steps are 2.45, so at least 3; products of 7 and 100 steps are a rounding above 7.
        for (min_share, t, least) in [(0.35, 7, 3), (0.07, 100, 7), (1e-9, 5, 1), (1.0, 6, 6)] {
            let steps = vec![(SequenceOp::Crop { min_share }, LabelEffect::Preserves)];
            let augment = SequenceAugment::new(steps, &MaskSource::new(Seed(1))).expect("valid");
            let shortest =
                (0..20_000).map(|_| match augment.draw(t, 1, &mut generator).remove(0) {
                    Edit::Front(part) => part.len(),
                    other => panic!("{other:?}"),
                });
            assert_eq!(shortest.min(), Some(least), "{min_share} of {t}");
        }
    }

    #[test]
    fn long_masks_empty_sequences_and_bad_values() {
        assert_eq!(run(SequenceOp::TimeMask { max: 99 }, 10, 3, &Device::flex()).len(), 60);
        assert!(run(SequenceOp::Crop { min_share: 0.5 }, 3, 0, &Device::flex()).is_empty());
        let n = 50_000;
        let noisy = run(SequenceOp::Jitter { std: 0.5 }, n, 1, &Device::flex());
        let square = noisy.iter().map(|v| f64::from(v - 1.0).powi(2)).sum::<f64>();
        let variance = square / (2 * n) as f64;
        assert!((variance - 0.25).abs() < 5.0 * 0.25 * (1.0 / n as f64).sqrt());
        let build =
            |op, effect| SequenceAugment::new(vec![(op, effect)], &MaskSource::new(Seed(1)));
        assert!(build(SequenceOp::Crop { min_share: 0.0 }, LabelEffect::Preserves).is_err());
        assert!(build(SequenceOp::Jitter { std: f64::NAN }, LabelEffect::Preserves).is_err());
        let changing = build(SequenceOp::Jitter { std: 1.0 }, LabelEffect::Changes).expect("valid");
        assert!(changing.labelled(Tensor::zeros([1, 2, 3], &Device::flex())).is_err());
        assert_eq!(changing.sequences(Tensor::zeros([1, 2, 3], &Device::flex())).dims(), [1, 2, 3]);
    }

    #[test]
    fn parts_are_uniform_and_within_the_sequence() {
        let (n, t) = (1_000_000usize, 1000usize);
        let steps = vec![(SequenceOp::Crop { min_share: 0.5 }, LabelEffect::Preserves)];
        let augment = SequenceAugment::new(steps, &MaskSource::new(Seed(1))).expect("valid");
        let mut generator = Seed(2).stream("test");
        let (mut mean, mut share) = (0.0, 0.0);
        for _ in 0..n {
            let Edit::Front(part) = augment.draw(t, 1, &mut generator).remove(0) else {
                panic!("a part")
            };
            assert!(part.len() >= 500 && part.end <= t, "{part:?}");
            mean += part.len() as f64 / n as f64;
            // Where the part starts, of where it may: symmetric around a half.
            let room = (t - part.len()) as f64;
            let at = if room > 0.0 { part.start as f64 / room } else { 0.5 };
            share += at / n as f64;
        }
        // Lengths between 500 and 1000 have variance 500^2 / 12, shares at most 1/4.
        assert!((mean - 750.0).abs() < 5.0 * 500.0 / (12.0 * n as f64).sqrt(), "{mean}");
        assert!((share - 0.5).abs() < 5.0 * 0.5 / (n as f64).sqrt(), "{share}");
    }

    #[test]
    fn half_precision_and_empty_batches_keep_type_and_shape() {
        let device = Device::flex();
        let steps = [
            SequenceOp::TimeMask { max: 3 },
            SequenceOp::Jitter { std: 0.1 },
            SequenceOp::Crop { min_share: 0.5 },
        ];
        let steps = steps.map(|op| (op, LabelEffect::Preserves)).to_vec();
        let augment = SequenceAugment::new(steps, &MaskSource::new(Seed(1))).expect("valid");
        for dtype in [burn::tensor::DType::F16, burn::tensor::DType::BF16] {
            let output = augment.sequences(Tensor::ones([4, 8, 2], (&device, dtype)));
            assert_eq!((output.dtype(), output.dims()), (dtype, [4, 8, 2]));
            let values: Vec<f32> = output.try_to_vec_as().expect("reads");
            assert!(values.iter().all(|v| v.is_finite()) && values.contains(&0.0));
        }
        for shape in [[0usize, 8, 2], [4, 0, 2], [4, 8, 0]] {
            assert_eq!(augment.sequences(Tensor::zeros(shape, &device)).dims(), shape);
        }
    }
}
