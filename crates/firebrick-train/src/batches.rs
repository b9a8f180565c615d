//! Where training samples come from: batches in an order that the seed and the epoch fix.
//!
//! burn's loader moves its generator on with every pass and forks it on every device change, so the order of
//! an epoch depends on what came before. Here epoch `e` of seed `s` has one order, whoever asks and whenever,
//! which is what an exact resume needs.

use burn::tensor::{Device, Int, Tensor};
use firebrick_core::{ConfigError, Seed, check};

/// A source of training batches.
///
/// Implement it over any storage; [`TensorBatches`] serves data that fit on the device.
pub trait Batches {
    /// What a model is trained on in one step.
    type Batch;

    /// The batches of `epoch`, counted from 1, in the order that this epoch has.
    fn epoch(&self, epoch: usize) -> impl Iterator<Item = Self::Batch>;

    /// Number of batches an epoch has.
    fn batches_per_epoch(&self) -> usize;

    /// Every sample once in a fixed order, for judging a model in evaluation mode: on the device without autodiff.
    fn whole(&self) -> impl Iterator<Item = Self::Batch>;

    /// The batches of `epoch` from number `start` on, counted from 0: where a resumed training goes on.
    fn epoch_from(&self, epoch: usize, start: usize) -> impl Iterator<Item = Self::Batch> {
        self.epoch(epoch).skip(start)
    }

    /// Number of samples in a batch; needed where several batches make one step. `None`, the default, if unknown.
    fn samples(&self, batch: &Self::Batch) -> Option<usize> {
        let _ = batch;
        None
    }

    /// A number that differs where the order or the number of samples does, so that a training is not resumed on
    /// other data. 0, the default, if unknown.
    fn fingerprint(&self) -> u64 {
        0
    }
}

/// Rows of an input tensor with a class each, both on one device.
#[derive(Debug, Clone)]
pub struct Labelled<const D: usize> {
    /// One sample a row.
    pub inputs: Tensor<D>,
    /// Class of each row, counted from 0.
    pub targets: Tensor<1, Int>,
}

impl<const D: usize> Labelled<D> {
    /// Number of samples.
    #[must_use]
    pub fn len(&self) -> usize {
        self.targets.dims()[0]
    }

    /// Whether there is no sample.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same samples on the device without autodiff.
    #[must_use]
    pub fn on_plain_device(&self) -> Self {
        Self { inputs: self.inputs.clone().inner(), targets: self.targets.clone().inner() }
    }

    /// The same samples on `device`; on an autodiff device where they were on one.
    #[must_use]
    pub fn to_device(&self, device: &Device) -> Self {
        Self {
            inputs: self.inputs.clone().to_device(device),
            targets: self.targets.clone().to_device(device),
        }
    }

    /// The samples with these row numbers, in this order.
    #[must_use]
    pub fn select(&self, rows: &[u32]) -> Self {
        let rows: Vec<i64> = rows.iter().map(|&row| i64::from(row)).collect();
        let rows = Tensor::<1, Int>::from_data(rows.as_slice(), &self.targets.device());
        Self {
            inputs: self.inputs.clone().select(0, rows.clone()),
            targets: self.targets.clone().select(0, rows),
        }
    }
}

/// Batches over labelled tensors, shuffled anew each epoch from the pinned generator.
///
/// The last batch of an epoch is short where the number of samples asks for it; none is dropped.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebrick_core::Seed;
/// use firebrick_train::{Batches, Labelled, TensorBatches};
///
/// let device = Device::flex();
/// let data = Labelled {
///     inputs: Tensor::<2>::zeros([10, 3], &device),
///     targets: Tensor::arange(0..10, &device),
/// };
/// let batches = TensorBatches::new(data, 4, Seed(7))?;
/// let sizes: Vec<usize> = batches.epoch(1).map(|batch| batch.len()).collect();
/// assert_eq!(sizes, [4, 4, 2]);
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[derive(Debug, Clone)]
pub struct TensorBatches<const D: usize> {
    data: Labelled<D>,
    batch_size: usize,
    seed: Seed,
    drop_last: bool,
    judge_size: usize,
}

impl<const D: usize> TensorBatches<D> {
    /// Batches of `batch_size` samples.
    ///
    /// # Errors
    /// When there is no sample, `batch_size` is 0, or inputs and targets differ in number.
    pub fn new(data: Labelled<D>, batch_size: usize, seed: Seed) -> Result<Self, ConfigError> {
        check::at_least("batch_size", batch_size, 1)?;
        check::at_least("samples", data.len(), 1)?;
        let rows = data.inputs.dims()[0];
        if rows != data.len() {
            let expected = format!("{rows}, one for each input row");
            return Err(ConfigError::new("number of targets", data.len(), expected));
        }
        // Judging keeps no activations, so its batches may be larger than those of training.
        let judge_size = batch_size.max(1024);
        Ok(Self { data, batch_size, seed, drop_last: false, judge_size })
    }

    /// How many samples are judged at a time: 1024, or a batch of training if that is more, unless this says so. Large
    /// images or long sequences may leave room for fewer.
    ///
    /// # Errors
    /// When `samples` is 0.
    pub fn judge_size(mut self, samples: usize) -> Result<Self, ConfigError> {
        self.judge_size = check::at_least("judge_size", samples, 1)?;
        Ok(self)
    }

    /// Whether an epoch leaves out its last batch where that is short; other samples are left out each time.
    ///
    /// A model with batch norm wants that where one sample would be left for a batch. Never leaves out the only
    /// batch.
    #[must_use]
    pub fn drop_last(mut self, drop_last: bool) -> Self {
        self.drop_last = drop_last;
        self
    }

    /// All samples in their own order.
    #[must_use]
    pub fn data(&self) -> &Labelled<D> {
        &self.data
    }
}

impl<const D: usize> Batches for TensorBatches<D> {
    type Batch = Labelled<D>;

    fn epoch(&self, epoch: usize) -> impl Iterator<Item = Labelled<D>> {
        self.epoch_from(epoch, 0)
    }

    fn epoch_from(&self, epoch: usize, start: usize) -> impl Iterator<Item = Labelled<D>> {
        let mut order: Vec<u32> = (0..self.data.len() as u32).collect();
        self.seed.child(epoch as u64).stream("epoch").shuffle(&mut order);
        (start..self.batches_per_epoch()).map(move |batch| {
            let start = batch * self.batch_size;
            let end = order.len().min(start + self.batch_size);
            self.data.select(&order[start..end])
        })
    }

    fn batches_per_epoch(&self) -> usize {
        let whole = self.data.len() / self.batch_size;
        if self.drop_last { whole.max(1) } else { self.data.len().div_ceil(self.batch_size) }
    }

    fn samples(&self, batch: &Labelled<D>) -> Option<usize> {
        Some(batch.len())
    }

    fn fingerprint(&self) -> u64 {
        let shape = self.data.inputs.dims();
        hash(&format!("{shape:?} {} {} {}", self.batch_size, self.seed, self.drop_last))
    }

    fn whole(&self) -> impl Iterator<Item = Labelled<D>> {
        let size = self.judge_size;
        let data = self.data.on_plain_device();
        (0..data.len()).step_by(size).map(move |start| {
            let rows = start..data.len().min(start + size);
            Labelled {
                inputs: data.inputs.clone().slice([rows.clone()]),
                targets: data.targets.clone().slice([rows]),
            }
        })
    }
}

/// FNV-1a, 64 bits: the same on every platform.
pub(crate) fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use firebrick_backend::testing::devices;

    fn data(n: usize, device: &burn::tensor::Device) -> Labelled<2> {
        let targets = Tensor::<1, Int>::arange(0..n as i64, device);
        Labelled { inputs: targets.clone().float().reshape([n, 1]), targets }
    }

    fn order(batches: &TensorBatches<2>, epoch: usize) -> Vec<i64> {
        let read = |batch: Labelled<2>| batch.targets.try_to_vec_as::<i64>().expect("reads");
        batches.epoch(epoch).flat_map(read).collect()
    }

    #[test]
    fn an_epoch_is_a_permutation_that_seed_and_number_fix() {
        for device in devices() {
            let batches = TensorBatches::new(data(23, &device), 5, Seed(3)).expect("valid");
            let (first, second) = (order(&batches, 1), order(&batches, 2));
            assert_ne!(first, second);
            assert_eq!(first, order(&batches, 1), "asked twice, given twice");
            let mut sorted = first.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..23).collect::<Vec<_>>());
            assert_eq!(batches.batches_per_epoch(), batches.epoch(9).count());
        }
    }

    #[test]
    fn an_epoch_can_be_entered_at_any_batch_and_may_drop_its_last() {
        let device = burn::tensor::Device::flex();
        let batches = TensorBatches::new(data(23, &device), 5, Seed(3)).expect("valid");
        let read = |batch: Labelled<2>| batch.targets.try_to_vec_as::<i64>().expect("reads");
        let whole: Vec<Vec<i64>> = batches.epoch(4).map(read).collect();
        for start in 0..7 {
            let rest: Vec<Vec<i64>> = batches.epoch_from(4, start).map(read).collect();
            assert_eq!(rest, whole[start.min(5)..]);
        }
        let dropping = batches.clone().drop_last(true);
        assert_eq!(dropping.batches_per_epoch(), 4);
        assert_eq!(dropping.epoch(4).map(read).collect::<Vec<_>>(), whole[..4]);
        assert_ne!(Batches::fingerprint(&dropping), Batches::fingerprint(&batches));
        let one = TensorBatches::new(data(3, &device), 5, Seed(3)).expect("valid").drop_last(true);
        assert_eq!(one.epoch(1).map(|batch| batch.len()).collect::<Vec<_>>(), [3]);
    }

    #[test]
    fn the_whole_is_every_row_once_without_autodiff() {
        for device in devices() {
            let data = data(2500, &device.autodiff());
            let batches = TensorBatches::new(data, 5, Seed(3)).expect("valid");
            let whole: Vec<Labelled<2>> = batches.whole().collect();
            assert_eq!(whole.iter().map(Labelled::len).collect::<Vec<_>>(), [1024, 1024, 452]);
            assert!(whole.iter().all(|batch| !batch.inputs.device().is_autodiff()));
            let last = whole[2].targets.clone().narrow(0, 451, 1).into_scalar::<i32>();
            assert_eq!(last, 2499);
            let batches = batches.judge_size(1000).expect("valid");
            assert_eq!(batches.whole().map(|b| b.len()).collect::<Vec<_>>(), [1000, 1000, 500]);
            assert!(batches.judge_size(0).is_err());
        }
    }

    #[test]
    fn rows_keep_their_labels() {
        for device in devices() {
            let batches = TensorBatches::new(data(23, &device), 5, Seed(3)).expect("valid");
            for batch in batches.epoch(1) {
                let inputs: Vec<f32> = batch.inputs.try_to_vec_as().expect("reads");
                let targets: Vec<f32> = batch.targets.float().try_to_vec_as().expect("reads");
                assert_eq!(inputs, targets);
            }
        }
    }

    #[test]
    fn what_cannot_be_batched_is_refused() {
        let device = burn::tensor::Device::flex();
        assert!(TensorBatches::new(data(3, &device), 0, Seed(0)).is_err());
        let empty = data(3, &device).select(&[]);
        let error = TensorBatches::new(empty, 2, Seed(0)).expect_err("refused");
        assert_eq!(error.to_string(), "`samples` must be at least 1, got 0");
        let mut odd = data(3, &device);
        odd.targets = odd.targets.narrow(0, 0, 2);
        let error = TensorBatches::new(odd, 2, Seed(0)).expect_err("refused");
        assert_eq!(
            error.to_string(),
            "`number of targets` must be 3, one for each input row, got 2"
        );
    }
}
