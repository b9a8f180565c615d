//! Batches from anything that gives an item by its number: burn's `Dataset`, a file, a map in memory.

use crate::batches::hash;
use crate::{Source, SourceError};
use burn::tensor::Device;
use firebrick_core::{ConfigError, Seed, check};
use std::ops::Range;

/// Batches over items that are read by number, shuffled anew each epoch from the pinned generator.
///
/// Over burn's `Dataset` and `Batcher`, with `device` an autodiff one:
///
/// ```text
/// IndexedBatches::new(dataset.len(), 32, Seed(7), &device, |i| dataset.get(i), |items, device| batcher.batch(items, device))?
/// ```
/// burn's loader moves its generator on with every pass and forks it on every device change; here epoch `e` has one
/// order, which can be entered at any batch without reading what comes before.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebrick_core::Seed;
/// use firebrick_train::{IndexedBatches, Labelled, Source};
///
/// let rows = [([0.0, 1.0], 0), ([1.0, 0.0], 1), ([0.0, 2.0], 0)];
/// let read = |index: usize| rows.get(index).copied().ok_or(std::fmt::Error);
/// let batch = |items: Vec<([f32; 2], i32)>, device: &Device| {
///     let (inputs, targets): (Vec<[f32; 2]>, Vec<i32>) = items.into_iter().unzip();
///     let inputs = Tensor::<1>::from_floats(inputs.as_flattened(), device);
///     Labelled {
///         inputs: inputs.reshape([-1, 2]),
///         targets: Tensor::from_ints(targets.as_slice(), device),
///     }
/// };
/// let device = Device::flex().autodiff();
/// let source = IndexedBatches::new(rows.len(), 2, Seed(7), &device, read, batch)?;
/// let sizes: Vec<_> = source.read(1, 0).flatten().map(|(_, samples)| samples).collect();
/// assert_eq!(sizes, [Some(2), Some(1)]);
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
pub struct IndexedBatches<R, C> {
    items: usize,
    batch_size: usize,
    seed: Seed,
    device: Device,
    read: R,
    collate: C,
}

impl<R, C> std::fmt::Debug for IndexedBatches<R, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IndexedBatches")
            .field("items", &self.items)
            .field("batch_size", &self.batch_size)
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}

impl<I, E, B, R, C> IndexedBatches<R, C>
where
    R: Fn(usize) -> Result<I, E>,
    E: Into<SourceError>,
    C: Fn(Vec<I>, &Device) -> B,
{
    /// Batches of `batch_size` of the items 0 to `items`, which `read` gives and `collate` puts together on `device`.
    ///
    /// # Errors
    /// When there is no item or `batch_size` is 0.
    pub fn new(
        items: usize,
        batch_size: usize,
        seed: Seed,
        device: &Device,
        read: R,
        collate: C,
    ) -> Result<Self, ConfigError> {
        check::at_least("batch_size", batch_size, 1)?;
        check::at_least("items", items, 1)?;
        Ok(Self { items, batch_size, seed, device: device.clone(), read, collate })
    }

    fn ranges(&self, start: usize) -> impl Iterator<Item = Range<usize>> {
        let (size, items) = (self.batch_size, self.items);
        (start..items.div_ceil(size)).map(move |batch| batch * size..items.min((batch + 1) * size))
    }

    fn batch(
        &self,
        indices: impl Iterator<Item = usize>,
        device: &Device,
    ) -> Result<B, SourceError> {
        let items = indices.map(&self.read).collect::<Result<Vec<I>, E>>();
        Ok((self.collate)(items.map_err(Into::into)?, device))
    }
}

impl<I, E, B, R, C> Source for IndexedBatches<R, C>
where
    R: Fn(usize) -> Result<I, E>,
    E: Into<SourceError>,
    C: Fn(Vec<I>, &Device) -> B,
{
    type Batch = B;

    fn read(
        &self,
        epoch: usize,
        start: usize,
    ) -> impl Iterator<Item = Result<(B, Option<usize>), SourceError>> {
        let mut order: Vec<usize> = (0..self.items).collect();
        self.seed.child(epoch as u64).stream("epoch").shuffle(&mut order);
        self.ranges(start).map(move |range| {
            let samples = Some(range.len());
            let batch = self.batch(order[range].iter().copied(), &self.device)?;
            Ok((batch, samples))
        })
    }

    fn read_whole(&self) -> impl Iterator<Item = Result<B, SourceError>> {
        let device = self.device.clone().inner();
        self.ranges(0).map(move |range| self.batch(range, &device))
    }

    fn length(&self) -> usize {
        self.items.div_ceil(self.batch_size)
    }

    fn fingerprint(&self) -> u64 {
        hash(&format!("{} {} {}", self.items, self.batch_size, self.seed))
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::testing::{config, data, net, weights};
    use crate::{Batches, Fit, Labelled, TrainError};
    use burn::optim::SgdConfig;
    use burn::tensor::Tensor;

    fn device() -> Device {
        Device::flex().autodiff()
    }

    type Row = ([f32; 2], i32);

    fn rows() -> Vec<Row> {
        let all = data(&Device::flex(), 1.0).data().clone();
        let inputs: Vec<f32> = all.inputs.try_to_vec_as().expect("reads");
        let targets: Vec<i32> = all.targets.try_to_vec_as().expect("reads");
        inputs.chunks(2).map(|row| [row[0], row[1]]).zip(targets).collect()
    }

    fn collate(items: Vec<Row>, device: &Device) -> Labelled<2> {
        let (inputs, targets): (Vec<[f32; 2]>, Vec<i32>) = items.into_iter().unzip();
        let inputs = Tensor::<1>::from_floats(inputs.as_flattened(), device).reshape([-1, 2]);
        Labelled { inputs, targets: Tensor::from_ints(targets.as_slice(), device) }
    }

    #[test]
    fn training_on_items_is_training_on_tensors() {
        let rows = rows();
        let read = |index: usize| Ok::<_, std::io::Error>(rows[index]);
        let source = IndexedBatches::new(rows.len(), 7, Seed(5), &device(), read, collate);
        let source = source.expect("valid");
        let fit =
            || Fit::new(config(3).with_accumulation(2), SgdConfig::new().init()).rate(|_| 0.5);
        let left = fit().run(net(&device()), &source, Some(&source)).expect("trains");
        let tensors = data(&device(), 1.0);
        let right = fit().run(net(&device()), &tensors, Some(&tensors)).expect("trains");
        assert_eq!(weights(&left.model), weights(&right.model));
        // Judged in other batches, the sums round differently.
        let losses =
            |fitted: &crate::Fitted<crate::testing::Net>| fitted.history.series("validation_loss");
        for (left, right) in losses(&left).into_iter().zip(losses(&right)) {
            assert!((left - right).abs() < 1e-6, "{left} {right}");
        }
        assert_eq!(source.length(), tensors.batches_per_epoch());
        assert_eq!(source.read(2, 4).count(), 2);
    }

    #[test]
    fn an_item_that_cannot_be_read_ends_the_training_with_its_error() {
        let rows = rows();
        let read = |index: usize| {
            let broken = std::io::Error::other(format!("item {index} is gone"));
            if index == 13 { Err(broken) } else { Ok(rows[index]) }
        };
        let source = IndexedBatches::new(rows.len(), 7, Seed(5), &device(), read, collate);
        let fit = Fit::new(config(3), SgdConfig::new().init());
        let error = fit.run(net(&device()), &source.expect("valid"), None).expect_err("gone");
        assert!(matches!(&error, TrainError::Data(_)));
        assert_eq!(error.to_string(), "the data failed: item 13 is gone");
    }

    #[test]
    fn nothing_to_batch_is_refused() {
        let read = |_: usize| Ok::<Row, std::io::Error>(([0.0; 2], 0));
        let make =
            |items, size| IndexedBatches::new(items, size, Seed(0), &device(), read, collate);
        assert!(make(0, 4).is_err() && make(4, 0).is_err() && make(1, 4).is_ok());
    }
}
