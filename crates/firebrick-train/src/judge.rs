//! How a model does: over all samples, in evaluation mode.

use crate::{Learn, Measures, Score, Source, TrainError};
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{FloatDType, Tensor};

/// What a training reads: its samples, and those it is judged on.
pub(crate) struct Data<'a, S> {
    pub(crate) train: &'a S,
    pub(crate) validation: Option<&'a S>,
}

/// A model that was judged, with its scores.
#[derive(Debug, Clone)]
pub(crate) struct Judged<M> {
    pub(crate) model: M,
    pub(crate) epoch: usize,
    pub(crate) step: u64,
    pub(crate) train: Option<Score>,
    pub(crate) validation: Option<Score>,
}

/// The measures of one judgement.
pub(crate) struct Numbers {
    pub(crate) train: Option<Measures>,
    pub(crate) validation: Option<Measures>,
}

/// Measures `model`, which is in evaluation mode.
pub(crate) fn numbers<M: Learn<Batch = S::Batch>, S: Source>(
    model: &M,
    data: &Data<'_, S>,
    judge_training: bool,
) -> Result<Numbers, TrainError> {
    let train = if judge_training { Some(total(model, data.train)?) } else { None };
    let validation = data.validation.map(|data| total(model, data)).transpose()?;
    Ok(Numbers { train, validation })
}

pub(crate) fn total<M: Learn<Batch = S::Batch>, S: Source>(
    model: &M,
    data: &S,
) -> Result<Measures, TrainError> {
    let mut sum = Measures::default();
    for batch in data.read_whole() {
        sum = sum + model.measure(batch.map_err(TrainError::Data)?)?;
    }
    Ok(sum)
}

/// Whether every float of the model is finite, in one read from the device.
pub(crate) fn finite<M: Module>(model: &M) -> Result<bool, TrainError> {
    struct Sum(Option<Tensor<1>>);
    impl ModuleVisitor for Sum {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            // 0 times a number is 0, and NaN for NaN and infinity.
            let value = param.val();
            let value = if value.device().is_autodiff() { value.inner() } else { value };
            let zero = value.mul_scalar(0.0).sum().cast(FloatDType::F32);
            self.0 = Some(match self.0.take() {
                Some(sum) => sum.clone() + zero.to_device(&sum.device()),
                None => zero,
            });
        }
    }
    let mut sum = Sum(None);
    model.visit(&mut sum);
    match sum.0 {
        Some(sum) => Ok(sum.try_into_scalar::<f32>()? == 0.0),
        None => Ok(true),
    }
}

pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}
