//! What a model must have to be trained at all.

use crate::TrainError;
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
