//! What can take a step: burn's optimizers and firebrick's.

use burn::module::Module;
use burn::optim::{GradientsParams, ModuleOptimizer, OptimizerRecord};
use burn::tensor::Bytes;
use firebrick_optim::FusedOptimizer;

/// Why the state of an optimizer cannot be saved or taken over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the optimizer's state does not fit: {reason}")]
#[non_exhaustive]
pub struct OptimizerStateError {
    /// What is wrong with it.
    pub reason: String,
}

impl OptimizerStateError {
    /// An error for this reason.
    pub fn new(reason: impl std::fmt::Display) -> Self {
        Self { reason: reason.to_string() }
    }
}

/// Steps a whole module.
///
/// Implemented for burn's `ModuleOptimizer`, and so for every optimizer of burn and of firebrick, and for
/// firebrick's `FusedOptimizer`, which steps all parameters in one pass. A clone is a snapshot: what the original
/// does afterwards leaves it as it is.
pub trait Optimize: Clone {
    /// One step of `model` with its `gradients` at learning rate `lr`.
    fn step<M: Module>(&mut self, lr: f64, model: M, gradients: GradientsParams) -> M;

    /// The whole state, to the bit.
    ///
    /// # Errors
    /// When the format cannot hold it.
    fn state(&self) -> Result<Vec<u8>, OptimizerStateError>;

    /// Takes over a [`state`](Self::state) that an optimizer of the same kind gave for `model`, whose parameters
    /// have the identities they had then.
    ///
    /// # Errors
    /// When the bytes are no such state, or that of another kind of optimizer. Nothing is changed then.
    fn take_over<M: Module>(&mut self, state: &[u8], model: &M) -> Result<(), OptimizerStateError>;
}

impl Optimize for ModuleOptimizer {
    fn step<M: Module>(&mut self, lr: f64, model: M, gradients: GradientsParams) -> M {
        ModuleOptimizer::step(self, lr, model, gradients)
    }

    fn state(&self) -> Result<Vec<u8>, OptimizerStateError> {
        Ok(self.into_bytes().map_err(OptimizerStateError::new)?.to_vec())
    }

    fn take_over<M: Module>(&mut self, state: &[u8], _: &M) -> Result<(), OptimizerStateError> {
        let bytes = Bytes::from_bytes_vec(state.to_vec());
        let record = OptimizerRecord::from_bytes(bytes).map_err(OptimizerStateError::new)?;
        // burn leaves out what another kind of optimizer cannot read, without a word; the text counts both kinds
        // of entries.
        let saved = format!("{record:?}");
        let loaded = self.clone().load_record(record);
        let kept = format!("{:?}", loaded.to_record());
        if kept != saved {
            let reason =
                format_args!("another optimizer saved it: {saved}, of which this one knows {kept}");
            return Err(OptimizerStateError::new(reason));
        }
        *self = loaded;
        Ok(())
    }
}

impl Optimize for FusedOptimizer {
    fn step<M: Module>(&mut self, lr: f64, model: M, gradients: GradientsParams) -> M {
        FusedOptimizer::step(self, lr, model, gradients)
    }

    fn state(&self) -> Result<Vec<u8>, OptimizerStateError> {
        Ok(self.into_bytes().map_err(OptimizerStateError::new)?.to_vec())
    }

    fn take_over<M: Module>(&mut self, state: &[u8], model: &M) -> Result<(), OptimizerStateError> {
        let bytes = Bytes::from_bytes_vec(state.to_vec());
        *self = self.clone().from_bytes(bytes, model).map_err(OptimizerStateError::new)?;
        Ok(())
    }
}
