//! A source of batches that may fail: what the training loop reads.

use crate::Batches;

/// Why a source cannot give a batch.
pub type SourceError = Box<dyn std::error::Error + Send + Sync>;

/// A source of training batches that may fail on the way.
///
/// Every [`Batches`] is one. The order of an epoch is a function of its number alone, and it can be entered at any
/// batch: a resumed training goes on in the middle of an epoch.
pub trait Source {
    /// What a model is trained on in one step.
    type Batch;

    /// The batches of `epoch`, counted from 1, from batch number `start` on, counted from 0, each with its number of
    /// samples, by which the batches of one step are weighted; `None` if unknown.
    ///
    /// # Errors
    /// An item is the error of the storage behind; nothing is asked for after it.
    fn read(
        &self,
        epoch: usize,
        start: usize,
    ) -> impl Iterator<Item = Result<(Self::Batch, Option<usize>), SourceError>>;

    /// Every sample once in a fixed order, for judging a model in evaluation mode: on the device without autodiff.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    fn read_whole(&self) -> impl Iterator<Item = Result<Self::Batch, SourceError>>;

    /// Number of batches an epoch has.
    fn length(&self) -> usize;

    /// A number that differs where the order or the number of samples does; 0 if unknown. A checkpoint keeps it.
    fn fingerprint(&self) -> u64;
}

impl<B: Batches> Source for B {
    type Batch = B::Batch;

    fn read(
        &self,
        epoch: usize,
        start: usize,
    ) -> impl Iterator<Item = Result<(B::Batch, Option<usize>), SourceError>> {
        self.epoch_from(epoch, start).map(|batch| {
            let samples = self.samples(&batch);
            Ok((batch, samples))
        })
    }

    fn read_whole(&self) -> impl Iterator<Item = Result<B::Batch, SourceError>> {
        self.whole().map(Ok)
    }

    fn length(&self) -> usize {
        self.batches_per_epoch()
    }

    fn fingerprint(&self) -> u64 {
        Batches::fingerprint(self)
    }
}
