//! What a model must have to be trained at all.

use crate::settings::Settings;
use crate::{CheckpointError, TrainError};
use firebrick_backend::ParameterInfo;

/// Refuses a model without a trainable parameter, and one that holds a parameter twice.
pub(crate) fn trainable(parameters: &[ParameterInfo]) -> Result<(), TrainError> {
    let mut first = std::collections::HashMap::new();
    for parameter in parameters.iter().filter(|parameter| parameter.trainable) {
        if let Some(path) = first.insert(parameter.id, &parameter.path) {
            let (first, second) = (path.clone(), parameter.path.clone());
            return Err(TrainError::Tied { first, second });
        }
    }
    if first.is_empty() { Err(TrainError::NothingToTrain) } else { Ok(()) }
}

/// Refuses a model that is to be saved and holds what burn writes into a record and cannot read back.
pub(crate) fn readable(
    parameters: &[ParameterInfo],
    settings: &Settings,
) -> Result<(), TrainError> {
    let Some(without) = parameters.iter().find(|parameter| parameter.shape.is_empty()) else {
        return Ok(());
    };
    let path = &without.path;
    let reason =
        format!("burn cannot read `{path}` back, which has no axis: give it one of length 1");
    if settings.checkpoints.is_some() {
        return Err(CheckpointError::Section { section: "model", reason }.into());
    }
    if settings.rollback.is_some() { Err(TrainError::Rollback { reason }) } else { Ok(()) }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use crate::testing::{config, data};
    use crate::{
        CheckpointConfig, Fit, Labelled, Learn, Outcome, RollbackConfig, Score, TrainError,
    };
    use burn::module::{Module, Param};
    use burn::optim::{ModuleOptimizer, SgdConfig};
    use burn::tensor::{Device, Tensor, TensorReadError};

    /// A slope without an axis.
    #[derive(Module, Debug)]
    struct Scalar {
        slope: Param<Tensor<0>>,
    }

    impl Learn for Scalar {
        type Batch = Labelled<2>;

        fn loss(&self, batch: Labelled<2>) -> Tensor<1> {
            (batch.inputs * self.slope.val().reshape::<2, _>([1, 1])).square().mean()
        }

        fn score(&self, batch: Labelled<2>) -> Result<Score, TensorReadError> {
            let samples = batch.len();
            let loss = self.loss(batch).try_into_scalar::<f64>()?;
            let loss_sum = loss * samples as f64;
            Ok(Score { loss_sum, error_sum: loss_sum, samples })
        }
    }

    #[test]
    fn a_parameter_without_axes_is_trained_and_is_told_where_it_cannot_be_read_back() {
        let device = Device::flex().autodiff();
        let run = |change: &dyn Fn(Fit<ModuleOptimizer>) -> Fit<ModuleOptimizer>| {
            let one = Tensor::<1>::from_floats([1.0], &device).reshape::<0, _>([] as [i32; 0]);
            let fit = Fit::new(config(3), SgdConfig::new().init()).rate(|_| 0.1);
            let model = Scalar { slope: Param::from_tensor(one) };
            change(fit).run(model, &data(&device, 1.0), None)
        };
        let fitted = run(&|fit| fit).expect("trains");
        assert_eq!(fitted.outcome, Outcome::Finished);
        let slope = fitted.model.slope.val().reshape::<1, _>([1]).into_scalar::<f32>();
        assert!(slope.abs() < 0.1, "{slope}");
        let folder = tempfile::tempdir().expect("writable");
        let checkpoints = CheckpointConfig::new(folder.path().to_owned());
        let error = run(&|fit| fit.checkpoints(checkpoints.clone())).expect_err("refused");
        assert_eq!(
            error.to_string(),
            "the checkpoint's model cannot be used: burn cannot read `slope` back, which has no axis: \
             give it one of length 1"
        );
        let error = run(&|fit| fit.rollback(RollbackConfig::new())).expect_err("refused");
        assert!(matches!(error, TrainError::Rollback { .. }), "{error}");
    }
}
