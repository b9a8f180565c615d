//! What can take a step: burn's optimizers and firebrick's.

use burn::module::Module;
use burn::optim::{GradientsParams, ModuleOptimizer};

/// Steps a whole module.
///
/// Implemented for burn's `ModuleOptimizer`, and so for every optimizer of burn and of firebrick, and for
/// firebrick's `FusedOptimizer`, which steps all parameters in one pass.
pub trait Optimize {
    /// One step of `model` with its `gradients` at learning rate `lr`.
    fn step<M: Module>(&mut self, lr: f64, model: M, gradients: GradientsParams) -> M;
}

impl Optimize for ModuleOptimizer {
    fn step<M: Module>(&mut self, lr: f64, model: M, gradients: GradientsParams) -> M {
        ModuleOptimizer::step(self, lr, model, gradients)
    }
}
