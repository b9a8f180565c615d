//! Augmentation of a burn dataset, item by item.
//!
//! A burn `Mapper` sees an item and nothing else, and the threads of a loader call it in any order. So the numbers of
//! an item's changes come from the seed, the epoch and the item's own values: they do not depend on who asks when.

use super::kernel::{Scratch, Size};
use super::{
    AugMix, FeatureDropout, ImageAugment, RandAugment, SequenceAugment, TableNoise, TrivialAugment,
    preserved,
};
use crate::RegularizeError;
use burn::data::dataset::transform::Mapper;
use firebrick_core::{ConfigError, Philox, Seed};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

mod sealed {
    pub trait Sealed {}
}

/// An augmentation that can be applied to one item in host memory.
///
/// Images have the shape `[c, h, w]`, sequences `[t, f]`, rows of a table `[f]`. Implemented by the augmentations of
/// this crate.
pub trait Augment: sealed::Sealed + Send + Sync {
    /// Whether an item of this shape fits, and what would.
    ///
    /// # Errors
    /// When it does not.
    fn check(&self, shape: &[usize]) -> Result<(), RegularizeError>;

    /// Whether a step, or the whole, is declared to change labels.
    ///
    /// A step is declared one way or the other; a policy, and noise or dropout on a table, preserves labels unless its
    /// `with_effect` says otherwise.
    fn changes_labels(&self) -> bool;

    /// Changes one item of a shape that fits, in row-major order, by numbers from `generator`.
    fn sample(&self, values: &mut [f32], shape: &[usize], generator: &mut Philox);
}

/// An error unless the shape has `rank` axes.
fn rank(shape: &[usize], rank: usize, expected: &str) -> Result<(), RegularizeError> {
    if shape.len() == rank {
        return Ok(());
    }
    let found = shape.to_vec();
    Err(RegularizeError::Shape { what: "an item", expected: expected.to_owned(), found })
}

macro_rules! images {
    ($($name:ty),*) => {$(
        impl sealed::Sealed for $name {}
        impl Augment for $name {
            fn check(&self, shape: &[usize]) -> Result<(), RegularizeError> {
                rank(shape, 3, "an image [channels, height, width]")
            }
            fn changes_labels(&self) -> bool {
                self.changes()
            }
            fn sample(&self, values: &mut [f32], shape: &[usize], generator: &mut Philox) {
                if let (&[c, h, w], false) = (shape, values.is_empty()) {
                    let size = Size { c, h, w };
                    self.plan(size, generator).apply(values, size, &mut Scratch::default());
                }
            }
        }
    )*};
}
images!(ImageAugment, RandAugment, TrivialAugment, AugMix);

impl sealed::Sealed for SequenceAugment {}
impl Augment for SequenceAugment {
    fn check(&self, shape: &[usize]) -> Result<(), RegularizeError> {
        rank(shape, 2, "a sequence [steps, features]")
    }
    fn changes_labels(&self) -> bool {
        self.changes()
    }
    fn sample(&self, values: &mut [f32], shape: &[usize], generator: &mut Philox) {
        if let (&[_, f], false) = (shape, values.is_empty()) {
            SequenceAugment::sample(self, values, f, generator);
        }
    }
}

macro_rules! rows {
    ($($name:ty),*) => {$(
        impl sealed::Sealed for $name {}
        impl Augment for $name {
            fn check(&self, shape: &[usize]) -> Result<(), RegularizeError> {
                if shape == [self.width()] {
                    return Ok(());
                }
                let expected = format!("a row [{}], as the training rows", self.width());
                Err(RegularizeError::Shape { what: "an item", expected, found: shape.to_vec() })
            }
            fn changes_labels(&self) -> bool {
                self.changes()
            }
            fn sample(&self, values: &mut [f32], _: &[usize], generator: &mut Philox) {
                <$name>::sample(self, values, generator);
            }
        }
    )*};
}
rows!(TableNoise, FeatureDropout);

/// An item of a dataset that an [`AugmentMapper`] can change.
pub trait AugmentItem: Clone {
    /// The values of the item, in row-major order.
    fn values_mut(&mut self) -> &mut [f32];
}

impl AugmentItem for Vec<f32> {
    fn values_mut(&mut self) -> &mut [f32] {
        self
    }
}

impl<L: Clone> AugmentItem for (Vec<f32>, L) {
    fn values_mut(&mut self) -> &mut [f32] {
        &mut self.0
    }
}

/// A burn `Mapper` that changes every item of a dataset, each epoch in another way.
///
/// ```
/// use burn::data::dataset::transform::MapperDataset;
/// use burn::data::dataset::{Dataset, InMemDataset};
/// use firebrick_core::Seed;
/// use firebrick_regularize::{AugmentMapper, ImageAugment, ImageOp, MaskSource, Step};
///
/// let steps = vec![Step::preserving(ImageOp::Shift { max: 1 })];
/// let shift = ImageAugment::new(steps, &MaskSource::new(Seed(7)))?;
/// let mapper = AugmentMapper::labelled(shift, &[1, 8, 8], Seed(7))?;
/// let images = InMemDataset::new(vec![(vec![1f32; 64], 3u8), (vec![0.5; 64], 8)]);
/// let augmented = MapperDataset::new(images, mapper.clone());
/// let first = augmented.get(0).expect("in memory");
/// assert_eq!((first.0.len(), first.1), (64, 3));
/// assert_eq!(augmented.get(0).expect("in memory"), first); // until the epoch moves on
/// mapper.set_epoch(1);
/// # Ok::<(), firebrick_regularize::RegularizeError>(())
/// ```
#[derive(Debug)]
pub struct AugmentMapper<A> {
    augment: Arc<A>,
    shape: Vec<usize>,
    seed: Seed,
    epoch: Arc<AtomicU64>,
    misfits: Arc<AtomicU64>,
}

impl<A> Clone for AugmentMapper<A> {
    fn clone(&self) -> Self {
        Self {
            augment: self.augment.clone(),
            shape: self.shape.clone(),
            seed: self.seed,
            epoch: self.epoch.clone(),
            misfits: self.misfits.clone(),
        }
    }
}

impl<A: Augment> AugmentMapper<A> {
    /// For items of `shape` whose labels are used afterwards.
    ///
    /// # Errors
    /// When a step is declared to change labels, or the shape does not fit.
    pub fn labelled(augment: A, shape: &[usize], seed: Seed) -> Result<Self, RegularizeError> {
        preserved(augment.changes_labels())?;
        Self::unlabelled(augment, shape, seed)
    }

    /// For items of `shape` that have no label.
    ///
    /// # Errors
    /// When the shape does not fit.
    pub fn unlabelled(augment: A, shape: &[usize], seed: Seed) -> Result<Self, RegularizeError> {
        augment.check(shape)?;
        if shape.contains(&0) {
            return Err(ConfigError::new("shape", format!("{shape:?}"), "without a 0").into());
        }
        Ok(Self {
            augment: Arc::new(augment),
            shape: shape.to_vec(),
            seed,
            epoch: Arc::default(),
            misfits: Arc::default(),
        })
    }

    /// Moves to another epoch, whose items change in another way; clones move along.
    pub fn set_epoch(&self, epoch: u64) {
        self.epoch.store(epoch, Ordering::Relaxed);
    }

    /// How many items have been given back unchanged so far, since they had another number of values than the shape.
    #[must_use]
    pub fn misfits(&self) -> u64 {
        self.misfits.load(Ordering::Relaxed)
    }
}

impl<A: Augment, I: AugmentItem> Mapper<I, I> for AugmentMapper<A> {
    fn map(&self, item: &I) -> I {
        let mut item = item.clone();
        let values = item.values_mut();
        if values.len() != self.shape.iter().product::<usize>() {
            self.misfits.fetch_add(1, Ordering::Relaxed);
            return item;
        }
        let epoch = self.seed.child(self.epoch.load(Ordering::Relaxed));
        let mut generator = epoch.child(digest(values)).stream("augment");
        self.augment.sample(values, &self.shape, &mut generator);
        item
    }
}

/// FNV-1a over the bits of the values.
fn digest(values: &[f32]) -> u64 {
    values.iter().fold(0xcbf2_9ce4_8422_2325, |hash, value| {
        (hash ^ u64::from(value.to_bits())).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::{
        AugMixConfig, FeatureDropoutConfig, ImageOp, LabelEffect, MaskSource, RandAugmentConfig,
        SequenceOp, Step, TableNoiseConfig,
    };
    use burn::data::dataset::transform::MapperDataset;
    use burn::data::dataset::{Dataset, InMemDataset};
    use burn::tensor::{Device, Tensor};
    use rayon::prelude::*;

    fn masks() -> MaskSource {
        MaskSource::new(Seed(3))
    }

    fn items(n: usize, values: usize) -> Vec<(Vec<f32>, usize)> {
        let draws = MaskSource::new(Seed(1)).uniforms(n * values);
        let rows = draws.chunks(values).enumerate();
        rows.map(|(label, row)| (row.iter().map(|&v| v as f32).collect(), label)).collect()
    }

    #[test]
    fn every_augmentation_maps_items_of_its_shape_and_keeps_the_label() {
        let table = Tensor::<2>::from_floats([[0.0, 1.0], [2.0, 5.0]], &Device::flex());
        let sequence = vec![(SequenceOp::Jitter { std: 0.1 }, LabelEffect::Preserves)];
        let image = vec![Step::preserving(ImageOp::Rotate { degrees: 20.0 })];
        fn check<A: Augment>(augment: A, shape: &[usize], wrong: &[usize]) {
            let size = shape.iter().product();
            let mapper = AugmentMapper::labelled(augment, shape, Seed(5)).expect("fits");
            let data = items(20, size);
            let set = MapperDataset::new(InMemDataset::new(data.clone()), mapper.clone());
            let read = || (0..20).map(|i| set.get(i).expect("in memory")).collect::<Vec<_>>();
            let first = read();
            assert!(first.iter().enumerate().all(|(i, item)| item.1 == i && item.0.len() == size));
            assert!(first.iter().zip(&data).any(|(new, old)| new.0 != old.0), "{shape:?}");
            assert_eq!(first, read());
            mapper.set_epoch(1);
            assert_ne!(first, read());
            assert!(mapper.augment.check(wrong).is_err());
        }
        check(ImageAugment::new(image, &masks()).expect("valid"), &[3, 5, 4], &[5, 4]);
        check(RandAugmentConfig::new().init(&masks()).expect("valid"), &[3, 8, 8], &[64]);
        check(TrivialAugment::new(&masks()), &[1, 8, 8], &[64]);
        check(AugMixConfig::new().init(&masks()).expect("valid"), &[3, 8, 8], &[3, 8, 8, 1]);
        check(SequenceAugment::new(sequence, &masks()).expect("valid"), &[6, 2], &[12]);
        let noise = TableNoiseConfig::new().fit(table.clone(), &masks()).expect("valid");
        check(noise, &[2], &[3]);
        let config = FeatureDropoutConfig::new().with_prob(0.5);
        check(config.fit(table, &masks()).expect("valid"), &[2], &[2, 1]);
    }

    #[test]
    fn neither_order_nor_threads_matter() {
        let augment = RandAugmentConfig::new().init(&masks()).expect("valid");
        let mapper = AugmentMapper::labelled(augment, &[3, 8, 8], Seed(5)).expect("fits");
        let data = items(200, 192);
        let here: Vec<_> = data.iter().map(|item| mapper.map(item)).collect();
        let there: Vec<_> = data.par_iter().rev().map(|item| mapper.map(item)).collect();
        assert!(here.iter().eq(there.iter().rev()));
    }

    #[test]
    fn a_mapped_image_is_the_changed_image() {
        let steps = vec![Step::preserving(ImageOp::FlipHorizontal)];
        let flip = ImageAugment::new(steps, &masks()).expect("valid");
        let mapper = AugmentMapper::labelled(flip, &[1, 1, 3], Seed(5)).expect("fits");
        assert_eq!(mapper.map(&vec![1.0, 2.0, 3.0]), [3.0, 2.0, 1.0]);
    }

    #[test]
    fn a_policy_that_is_declared_to_change_labels_is_for_unlabelled_items() {
        fn fits<A: Augment + Clone>(policy: A, changing: A, shape: &[usize]) {
            assert!(AugmentMapper::labelled(policy, shape, Seed(5)).is_ok());
            let refused = AugmentMapper::labelled(changing.clone(), shape, Seed(5));
            assert!(matches!(refused, Err(RegularizeError::Refused(_))));
            assert!(AugmentMapper::unlabelled(changing, shape, Seed(5)).is_ok());
        }
        fn check<A: Augment + Clone>(policy: A, changing: A) {
            fits(policy, changing, &[3, 8, 8]);
        }
        let rand = RandAugmentConfig::new().init(&masks()).expect("valid");
        check(rand.clone(), rand.with_effect(LabelEffect::Changes));
        let trivial = TrivialAugment::new(&masks());
        check(trivial.clone(), trivial.with_effect(LabelEffect::Changes));
        let mix = AugMixConfig::new().init(&masks()).expect("valid");
        check(mix.clone(), mix.clone().with_effect(LabelEffect::Changes));
        let back = mix.with_effect(LabelEffect::Changes).with_effect(LabelEffect::Preserves);
        assert!(!back.changes_labels());
        // On tables too.
        let table = || Tensor::<2>::from_floats([[0.0, 1.0], [2.0, 5.0]], &Device::flex());
        let noise = TableNoiseConfig::new().fit(table(), &masks()).expect("valid");
        fits(noise.clone(), noise.with_effect(LabelEffect::Changes), &[2]);
        let drop = FeatureDropoutConfig::new().fit(table(), &masks()).expect("valid");
        fits(drop.clone(), drop.with_effect(LabelEffect::Changes), &[2]);
    }

    #[test]
    fn what_does_not_fit_is_refused_or_counted() {
        let steps = vec![Step::changing(ImageOp::FlipHorizontal)];
        let flip = ImageAugment::new(steps, &masks()).expect("valid");
        assert!(AugmentMapper::labelled(flip.clone(), &[1, 2, 2], Seed(5)).is_err());
        assert!(AugmentMapper::unlabelled(flip.clone(), &[1, 0, 2], Seed(5)).is_err());
        let error = AugmentMapper::unlabelled(flip.clone(), &[4], Seed(5)).expect_err("rank");
        assert!(error.to_string().contains("an image [channels, height, width]"), "{error}");
        let mapper = AugmentMapper::unlabelled(flip, &[1, 2, 2], Seed(5)).expect("fits");
        assert_eq!(mapper.map(&vec![1.0, 2.0, 3.0]), [1.0, 2.0, 3.0]);
        assert_eq!(mapper.misfits(), 1);
    }
}
