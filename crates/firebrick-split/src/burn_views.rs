//! Views and loaders for burn: the rows of a part as a `Dataset`, and batches in a pinned order for each epoch.

use crate::{Rows, Split, SplitError, Splits, Splitter, Train, Validation};
use burn::data::dataloader::batcher::Batcher;
use burn::data::dataloader::{DataLoader, DataLoaderIterator, Progress};
use burn::data::dataset::{Dataset, DatasetError};
use burn::tensor::Device;
use firebrick_core::{Seed, check};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Some rows of a data set, as a data set: 4 bytes a row, shared by clones and slices.
///
/// It implements burn's `Dataset`, so it goes into `DataLoaderBuilder::build` and all of burn's transforms.
///
/// ```
/// use burn::data::dataset::{Dataset, InMemDataset};
/// use firebrick_split::{KFold, Rows, Splits, Splitter, Subset};
/// use std::sync::Arc;
///
/// let data = Arc::new(InMemDataset::new((0..10).collect::<Vec<i32>>()));
/// let folds = KFold::new(5).split(&Rows::new(10))?;
/// let (train, valid) = Subset::pair(&data, folds.get(1)?)?;
/// assert_eq!((train.len(), valid.get(0)?), (8, 2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A sealed test part is no data set, whatever is in it:
///
/// ```compile_fail,E0277
/// # use burn::data::dataset::{Dataset, InMemDataset};
/// fn train_on(data: impl Dataset<i32>) {}
/// fn leak(test: firebrick_split::Sealed<InMemDataset<i32>>) { train_on(test) }
/// ```
pub struct Subset<D> {
    data: Arc<D>,
    rows: Arc<[u32]>,
    range: Range<usize>,
}

impl<D> Clone for Subset<D> {
    fn clone(&self) -> Self {
        Self { data: self.data.clone(), rows: self.rows.clone(), range: self.range.clone() }
    }
}

impl<D> std::fmt::Debug for Subset<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subset").field("rows", &self.range.len()).finish_non_exhaustive()
    }
}

impl<D> Subset<D> {
    /// The given rows of `data`, in the given order; a row may occur repeatedly.
    ///
    /// # Errors
    /// [`SplitError::RowsDiffer`] when a row does not exist.
    pub fn new<I>(data: Arc<D>, rows: impl Into<Arc<[u32]>>) -> Result<Self, SplitError>
    where
        D: Dataset<I>,
    {
        let (rows, len) = (rows.into(), data.len());
        if let Some(&row) = rows.iter().find(|&&row| row as usize >= len) {
            return Err(SplitError::RowsDiffer { what: "the data set", len, n: row as usize + 1 });
        }
        let range = 0..rows.len();
        Ok(Self { data, rows, range })
    }

    /// Training and validation rows of a split.
    ///
    /// # Errors
    /// [`SplitError::RowsDiffer`] when a row does not exist.
    pub fn pair<I>(
        data: &Arc<D>,
        split: Split,
    ) -> Result<(Train<Self>, Validation<Self>), SplitError>
    where
        D: Dataset<I>,
    {
        let (train, valid) = (split.train.into_vec(), split.valid.into_vec());
        Ok((
            Train::new(Self::new(data.clone(), train.clone())?, train),
            Validation::new(Self::new(data.clone(), valid.clone())?, valid),
        ))
    }

    /// The row numbers, in order.
    #[must_use]
    pub fn row_numbers(&self) -> &[u32] {
        &self.rows[self.range.clone()]
    }

    /// Part of the view, without a copy; bounds beyond the end are clamped.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Self {
        let end = range.end.min(self.range.len());
        let start = range.start.min(end);
        let range = self.range.start + start..self.range.start + end;
        Self { range, ..self.clone() }
    }

    /// The view in the order of epoch `epoch` under `seed`: the same on every platform.
    #[must_use]
    pub fn shuffled(&self, seed: Seed, epoch: u64) -> Self {
        let mut rows = self.row_numbers().to_vec();
        crate::shuffle::Words::new(seed.child(epoch).stream("split/epoch")).shuffle(&mut rows);
        let range = 0..rows.len();
        Self { data: self.data.clone(), rows: rows.into(), range }
    }
}

impl<I, D: Dataset<I>> Dataset<I> for Subset<D> {
    fn get(&self, index: usize) -> Result<I, DatasetError> {
        self.data.get(self.row_numbers()[index] as usize)
    }

    fn get_many(&self, indexes: Vec<usize>) -> Result<Vec<I>, DatasetError> {
        let rows = self.row_numbers();
        self.data.get_many(indexes.into_iter().map(|index| rows[index] as usize).collect())
    }

    fn len(&self) -> usize {
        self.range.len()
    }
}

/// Reads the labels of a data set in blocks, for a splitter.
///
/// A data set that decodes images should offer its labels apart instead.
///
/// # Errors
/// What the data set fails with.
pub fn read_labels<I, D: Dataset<I>>(
    data: &D,
    mut label: impl FnMut(&I) -> u32,
) -> Result<Vec<u32>, DatasetError> {
    let mut labels = Vec::with_capacity(data.len());
    for start in (0..data.len()).step_by(1024) {
        let items = data.get_many((start..data.len().min(start + 1024)).collect())?;
        labels.extend(items.iter().map(&mut label));
    }
    Ok(labels)
}

/// Batches of a [`Subset`], in an order that is pinned for each epoch.
///
/// Each call of `iter` begins the next epoch: its order depends on the seed and the epoch's number alone, on no
/// thread and no device, and survives `to_device`. It implements burn's `DataLoader`, so burn-train's Learner takes it.
///
/// ```
/// use burn::data::dataset::InMemDataset;
/// use burn::data::dataloader::{DataLoader, batcher::Batcher};
/// use burn::tensor::Device;
/// use firebrick_core::Seed;
/// use firebrick_split::{EpochLoader, Subset};
/// use std::sync::Arc;
///
/// struct Keep;
/// impl Batcher<i32, Vec<i32>> for Keep {
///     fn batch(&self, items: Vec<i32>, _: &Device) -> Vec<i32> { items }
/// }
/// let data = Arc::new(InMemDataset::new((0..10).collect()));
/// let part = Subset::new(data, vec![1, 3, 5, 7, 9])?;
/// let loader = EpochLoader::new(part, Keep, 2)?.with_shuffle(Seed(7));
/// let first: Vec<i32> = loader.iter().flatten().flatten().collect();
/// let second: Vec<i32> = loader.iter().flatten().flatten().collect();
/// assert!(first.len() == 5 && first != second);
/// loader.set_epoch(0); // to resume
/// assert_eq!(loader.iter().flatten().flatten().collect::<Vec<i32>>(), first);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct EpochLoader<D, I, O> {
    data: Subset<D>,
    batcher: Arc<dyn Batcher<I, O>>,
    batch_size: usize,
    drop_last: bool,
    shuffle: Option<Seed>,
    epoch: AtomicU64,
    /// None for the default device, which is looked up when a batch is made.
    device: Option<Device>,
}

impl<D, I, O> std::fmt::Debug for EpochLoader<D, I, O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EpochLoader")
            .field("rows", &self.data.range.len())
            .field("batch_size", &self.batch_size)
            .field("shuffle", &self.shuffle)
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}

impl<D, I, O> EpochLoader<D, I, O> {
    /// Batches of `batch_size` rows in row order, on the default device.
    ///
    /// # Errors
    /// A `ConfigError` for a batch size of 0.
    pub fn new(
        data: Subset<D>,
        batcher: impl Batcher<I, O> + 'static,
        batch_size: usize,
    ) -> Result<Self, SplitError> {
        check::at_least("batch_size", batch_size, 1)?;
        Ok(Self {
            data,
            batcher: Arc::new(batcher),
            batch_size,
            drop_last: false,
            shuffle: None,
            epoch: AtomicU64::new(0),
            device: None,
        })
    }

    /// In another order each epoch.
    #[must_use]
    pub fn with_shuffle(self, seed: Seed) -> Self {
        Self { shuffle: Some(seed), ..self }
    }

    /// Without a last batch that is shorter than the others.
    #[must_use]
    pub fn with_drop_last(self) -> Self {
        Self { drop_last: true, ..self }
    }

    /// On this device.
    #[must_use]
    pub fn with_device(self, device: Device) -> Self {
        Self { device: Some(device), ..self }
    }

    /// The epoch that the next `iter` begins.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// Sets the epoch that the next `iter` begins, to resume a run.
    pub fn set_epoch(&self, epoch: u64) {
        self.epoch.store(epoch, Ordering::SeqCst);
    }

    fn part(&self, data: Subset<D>, device: Option<Device>) -> Self {
        Self {
            data,
            batcher: self.batcher.clone(),
            batch_size: self.batch_size,
            drop_last: self.drop_last,
            shuffle: self.shuffle,
            epoch: AtomicU64::new(self.epoch()),
            device,
        }
    }
}

impl<D, I, O> DataLoader<O> for EpochLoader<D, I, O>
where
    D: Dataset<I> + 'static,
    I: 'static,
    O: 'static,
{
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<O> + 'a> {
        let epoch = self.epoch.fetch_add(1, Ordering::SeqCst);
        let view = match self.shuffle {
            Some(seed) => self.data.shuffled(seed, epoch),
            None => self.data.clone(),
        };
        let n = view.range.len();
        let total = if self.drop_last { n / self.batch_size * self.batch_size } else { n };
        let device = self.device.clone().unwrap_or_default();
        Box::new(Batches { loader: self, device, view, next: 0, total })
    }

    fn num_items(&self) -> usize {
        let n = self.data.range.len();
        if self.drop_last { n / self.batch_size * self.batch_size } else { n }
    }

    fn to_device(&self, device: &Device) -> Arc<dyn DataLoader<O>> {
        Arc::new(self.part(self.data.clone(), Some(device.clone())))
    }

    fn slice(&self, start: usize, end: usize) -> Arc<dyn DataLoader<O>> {
        Arc::new(self.part(self.data.slice(start..end), self.device.clone()))
    }
}

struct Batches<'a, D, I, O> {
    loader: &'a EpochLoader<D, I, O>,
    device: Device,
    view: Subset<D>,
    next: usize,
    total: usize,
}

impl<D: Dataset<I>, I, O> Iterator for Batches<'_, D, I, O> {
    type Item = Result<O, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.total {
            return None;
        }
        let end = self.total.min(self.next + self.loader.batch_size);
        let items = self.view.get_many((self.next..end).collect());
        self.next = end;
        Some(items.map(|items| self.loader.batcher.batch(items, &self.device)))
    }
}

impl<D: Dataset<I>, I, O> DataLoaderIterator<O> for Batches<'_, D, I, O> {
    fn progress(&self) -> Progress {
        Progress::new(self.next, self.total, Some("items".into()))
    }
}

/// The loaders of one split: shuffled training batches and validation batches in row order.
#[derive(Debug)]
pub struct Loaders<D, I, O> {
    /// Training batches.
    pub train: Train<EpochLoader<D, I, O>>,
    /// Validation batches.
    pub validation: Validation<EpochLoader<D, I, O>>,
}

impl<D: Dataset<I>, I, O> Loaders<D, I, O> {
    /// Loaders for split `index` of `splits`; training under `seed`.
    ///
    /// # Errors
    /// [`SplitError::NoSuchSplit`], [`SplitError::RowsDiffer`], a `ConfigError` for a batch size of 0.
    pub fn of_split(
        data: &Arc<D>,
        splits: &impl Splits,
        index: usize,
        batcher: impl Batcher<I, O> + Clone + 'static,
        batch_size: usize,
        seed: Seed,
    ) -> Result<Self, SplitError> {
        let (train, validation) = Subset::pair(data, splits.get(index)?)?;
        let shuffled = |part: Subset<D>| EpochLoader::new(part, batcher.clone(), batch_size);
        let (train_rows, valid_rows) = (train.rows().to_vec(), validation.rows().to_vec());
        Ok(Self {
            train: Train::new(shuffled(train.into_inner())?.with_shuffle(seed), train_rows),
            validation: Validation::new(shuffled(validation.into_inner())?, valid_rows),
        })
    }

    /// The loader for the refit: training and validation rows of split `index` together, shuffled under `seed`.
    ///
    /// # Errors
    /// As [`Loaders::of_split`].
    pub fn refit(
        data: &Arc<D>,
        splits: &impl Splits,
        index: usize,
        batcher: impl Batcher<I, O> + 'static,
        batch_size: usize,
        seed: Seed,
    ) -> Result<Train<EpochLoader<D, I, O>>, SplitError> {
        let split = splits.get(index)?;
        let mut rows = [split.train.into_vec(), split.valid.into_vec()].concat();
        rows.sort_unstable();
        let part = Subset::new(data.clone(), rows.clone())?;
        Ok(Train::new(EpochLoader::new(part, batcher, batch_size)?.with_shuffle(seed), rows))
    }
}

/// Splits a burn data set by its length alone.
///
/// # Errors
/// What the scheme refuses.
pub fn split_dataset<I, S: Splitter>(
    data: &impl Dataset<I>,
    scheme: &S,
) -> Result<S::Output, SplitError> {
    scheme.split(&Rows::new(data.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KFold;
    use burn::data::dataloader::DataLoaderBuilder;
    use burn::data::dataset::InMemDataset;

    #[derive(Clone)]
    struct Keep;
    impl Batcher<i32, Vec<i32>> for Keep {
        fn batch(&self, items: Vec<i32>, _: &Device) -> Vec<i32> {
            items
        }
    }

    fn data(n: i32) -> Arc<InMemDataset<i32>> {
        Arc::new(InMemDataset::new((0..n).collect()))
    }

    fn items(loader: &dyn DataLoader<Vec<i32>>) -> Vec<i32> {
        loader.iter().map(|batch| batch.expect("in memory")).collect::<Vec<_>>().concat()
    }

    #[test]
    fn a_subset_goes_into_burns_own_loader() {
        let part = Subset::new(data(10), vec![9, 1, 1, 4]).expect("rows exist");
        let loader = DataLoaderBuilder::new(Keep).batch_size(3).build(part.clone());
        assert_eq!(items(&*loader), [9, 1, 1, 4]);
        assert_eq!(part.slice(1..99).row_numbers(), [1, 1, 4]);
        let (from, to) = (7, 3);
        assert!(part.slice(from..to).is_empty());
        assert!(Subset::new(data(10), vec![10]).is_err());
        assert_eq!(part.get_many(vec![3, 0]).expect("in memory"), [4, 9]);
    }

    #[test]
    fn weighted_draws_go_into_burns_own_loader() {
        let labels: Vec<u32> = (0..100).map(|row| u32::from(row >= 90)).collect();
        let train = Train::new((), (0..100).collect());
        let drawn =
            crate::WeightedSampler::balanced(&train, &labels).expect("valid").sample(400, Seed(2));
        let part = Subset::new(data(100), drawn.rows).expect("rows exist");
        let loader = DataLoaderBuilder::new(Keep).batch_size(64).shuffle(1).build(part.clone());
        let seen = items(&*loader);
        // Half of the draws, with five deviations of sqrt(400 / 4) = 10.
        assert!(seen.iter().filter(|&&item| item >= 90).count().abs_diff(200) < 50);
        assert_eq!(seen.len(), 400);
        let pinned = EpochLoader::new(part, Keep, 64).expect("valid").with_shuffle(Seed(3));
        assert!(items(&pinned) != items(&pinned));
    }

    #[test]
    fn epochs_are_pinned_and_survive_a_change_of_device() {
        let folds = split_dataset(&data(20), &KFold::new(4).with_shuffle(Seed(1))).expect("splits");
        let loaders =
            Loaders::of_split(&data(20), &folds, 2, Keep, 4, Seed(5)).expect("rows exist");
        let moved = loaders.train.to_device(&Device::default());
        let epochs: Vec<Vec<i32>> = (0..3).map(|_| items(&*loaders.train)).collect();
        assert_ne!(epochs[0], epochs[1]);
        assert_eq!((items(&*moved), items(&*moved)), (epochs[0].clone(), epochs[1].clone()));
        for epoch in &epochs {
            let mut sorted = epoch.clone();
            sorted.sort_unstable();
            let rows: Vec<i32> = loaders.train.rows().iter().map(|&row| row as i32).collect();
            assert_eq!(sorted, rows);
        }
        let valid: Vec<i32> =
            folds.fold(2).expect("exists").iter().map(|&row| row as i32).collect();
        assert_eq!(items(&*loaders.validation), valid);
        assert_eq!(items(&*loaders.validation), valid);
        let refit = Loaders::refit(&data(20), &folds, 2, Keep, 4, Seed(5)).expect("rows exist");
        assert_eq!((refit.num_items(), refit.slice(0, 5).num_items()), (20, 5));
        assert!(Loaders::of_split(&data(20), &folds, 4, Keep, 4, Seed(5)).is_err());
        assert!(Loaders::of_split(&data(20), &folds, 0, Keep, 0, Seed(5)).is_err());
    }

    #[test]
    fn short_batches_can_be_dropped() {
        let part = Subset::new(data(10), (0..10).collect::<Vec<u32>>()).expect("rows exist");
        let loader = EpochLoader::new(part, Keep, 4).expect("valid").with_drop_last();
        assert_eq!((items(&loader).len(), loader.num_items(), loader.epoch()), (8, 8, 1));
        let mut batches = loader.iter();
        batches.next();
        assert_eq!((batches.progress().items_processed, batches.progress().items_total), (4, 8));
    }

    #[test]
    fn labels_are_read_in_order() {
        let labels = read_labels(&*data(3000), |item| *item as u32 % 7).expect("in memory");
        assert!(labels.len() == 3000 && labels[2999] == 2999 % 7);
    }
}
