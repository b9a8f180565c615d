//! A model whose head can be taken off, so that frozen features are computed once.

use crate::TransferError;
use burn::module::Module;
use burn::nn::Linear;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::tensor::{Int, Tensor, TensorReadError};
use firebrick_train::{Labelled, Learn, Score, Source, TrainError};

/// A model that is a body and a linear head over its features.
///
/// With it, training the head alone costs no pass through the body but the first
/// ([`Tune::run_cached`](crate::Tune::run_cached)), and a probe solved in closed form can be put in its place
/// ([`fit_head`]).
pub trait Headed: Learn {
    /// The features that the head sees, `[samples, features]`, with the class of each sample.
    fn embed(&self, batch: Self::Batch) -> Labelled<2>;

    /// The head.
    fn head(&self) -> &Linear;

    /// The model with another head.
    #[must_use]
    fn with_head(self, head: Linear) -> Self;
}

/// The features of every sample, computed once by `model` in evaluation mode, on the device without autodiff.
///
/// # Errors
/// When the source fails or is empty, or the features are not finite.
pub fn features<M: Headed<Batch = S::Batch>, S: Source>(
    model: &M,
    source: &S,
) -> Result<Labelled<2>, TransferError> {
    let model = model.valid();
    let (mut inputs, mut targets) = (Vec::new(), Vec::new());
    for batch in source.read_whole() {
        let part = model.embed(batch.map_err(TrainError::Data)?).on_plain_device();
        inputs.push(part.inputs);
        targets.push(part.targets);
    }
    if inputs.is_empty() {
        return Err(TransferError::Data { reason: "the source has no sample".into() });
    }
    let all = Labelled { inputs: Tensor::cat(inputs, 0), targets: Tensor::cat(targets, 0) };
    let sum: f64 = all.inputs.clone().sum().try_into_scalar()?;
    if !sum.is_finite() {
        return Err(TransferError::NotFinite {
            what: "the sum of the features".into(),
            value: sum,
        });
    }
    Ok(all)
}

/// Puts a head in place that `solve` makes of the features of `train` and their classes: a ridge probe, a few steps of
/// L-BFGS, or anything else.
///
/// # Errors
/// When the source or `solve` fails, all samples are of one class, or the head does not fit the features or classes.
///
/// ```
/// # use burn::{module::Module, nn::{Linear, LinearConfig}, tensor::{Device, Tensor, TensorReadError}};
/// # use firebrick_core::Seed;
/// # use firebrick_train::{Labelled, Learn, Score, TensorBatches};
/// # use firebrick_transfer::{Headed, fit_head};
/// # #[derive(Module, Debug)]
/// # struct Net { body: Linear, head: Linear }
/// # impl Learn for Net {
/// #     type Batch = Labelled<2>;
/// #     fn loss(&self, batch: Labelled<2>) -> Tensor<1> { self.body.forward(batch.inputs).sum() }
/// #     fn score(&self, batch: Labelled<2>) -> Result<Score, TensorReadError> {
/// #         Score::classification(self.head.forward(self.body.forward(batch.inputs)), batch.targets)
/// #     }
/// # }
/// # impl Headed for Net {
/// #     fn embed(&self, batch: Labelled<2>) -> Labelled<2> {
/// #         Labelled { inputs: self.body.forward(batch.inputs), targets: batch.targets }
/// #     }
/// #     fn head(&self) -> &Linear { &self.head }
/// #     fn with_head(mut self, head: Linear) -> Self { self.head = head; self }
/// # }
/// # let device = Device::flex().autodiff();
/// # let net = Net { body: LinearConfig::new(2, 3).init(&device), head: LinearConfig::new(3, 2).init(&device) };
/// # let data = Labelled { inputs: Tensor::<2>::ones([4, 2], &device), targets: Tensor::from_ints([0, 1, 0, 1], &device) };
/// # let train = TensorBatches::new(data, 2, Seed(1))?;
/// let net = fit_head(net, &train, |features| {
///     let [_, width] = features.inputs.dims();
///     Ok(LinearConfig::new(width, 2).init(&device)) // a solver stands here
/// })?;
/// # let _ = net;
/// # Ok::<(), firebrick_transfer::TransferError>(())
/// ```
pub fn fit_head<M: Headed<Batch = S::Batch>, S: Source>(
    model: M,
    train: &S,
    solve: impl FnOnce(Labelled<2>) -> Result<Linear, TransferError>,
) -> Result<M, TransferError> {
    let features = features(&model, train)?;
    let ([_, width], targets) = (features.inputs.dims(), features.targets.clone());
    check_classes(&targets, None)?;
    let head = solve(features)?;
    let found = head.weight.val().dims();
    check_classes(&targets, Some(found[1]))?;
    if found[0] != width {
        let expected = format!("[{width}, classes]: the body gives {width} features");
        return Err(TransferError::Shape {
            what: "the head's weight".into(),
            found: found.to_vec(),
            expected,
        });
    }
    Ok(model.with_head(head))
}

/// Refuses samples of one class alone, and classes that a head with `outputs` outputs does not have.
pub(super) fn check_classes(
    targets: &Tensor<1, Int>,
    outputs: Option<usize>,
) -> Result<(), TransferError> {
    let targets: Vec<i64> = targets.try_to_vec_as()?;
    let known = |target: i64| target >= 0 && outputs.is_none_or(|count| target < count as i64);
    if let Some(target) = targets.iter().find(|&&target| !known(target)) {
        let outputs = outputs.map_or("0, 1, ..".into(), |count| format!("0 to {}", count - 1));
        let reason = format!("class {target} is none of the head's, {outputs}");
        return Err(TransferError::Data { reason });
    }
    match targets.first() {
        Some(first) if targets.iter().all(|target| target == first) => {
            let reason = format!("every sample is of class {first}, and a head needs two classes");
            Err(TransferError::Data { reason })
        }
        _ => Ok(()),
    }
}

/// A head alone, under cross-entropy.
#[derive(Module, Debug)]
pub(super) struct Probe {
    pub(super) head: Linear,
}

impl Learn for Probe {
    type Batch = Labelled<2>;

    fn loss(&self, batch: Labelled<2>) -> Tensor<1> {
        let logits = self.head.forward(batch.inputs);
        CrossEntropyLossConfig::new().init(&logits.device()).forward(logits, batch.targets)
    }

    fn score(&self, batch: Labelled<2>) -> Result<Score, TensorReadError> {
        Score::classification(self.head.forward(batch.inputs), batch.targets)
    }
}
