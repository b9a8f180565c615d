//! What stands between `backward` and the optimizer's step.

use burn::module::Module;
use burn::optim::GradientsParams;
use firebrick_core::Record;

/// What a [`Guard`] wants to happen with the step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Take the step.
    Proceed,
    /// Take no step: neither optimizer, schedule, nor averages move on.
    Skip,
    /// Go back to the last healthy snapshot; a loop that keeps none stops.
    Rollback,
    /// End the training.
    Stop,
}

/// A measure taken before and after each optimizer step.
///
/// The same guard serves a hand-written loop, burn-train's Learner (called from `TrainStep::optimize`) and
/// firebrick-train. Guards chain as tuples: each sees the gradients as the one before left them, and the
/// first that does not proceed decides.
pub trait Guard {
    /// Looks at the gradients of all parameters and at the loss, and may change the gradients.
    ///
    /// `loss` is the value that was differentiated; NaN where the caller did not read it would be taken for a
    /// broken step, so pass 0 in a loop that cannot know it.
    fn before_step<M: Module>(
        &mut self,
        model: &M,
        gradients: &mut GradientsParams,
        loss: f64,
    ) -> Verdict;

    /// Called with the model after the step was taken.
    fn after_step<M: Module>(&mut self, model: &M) {
        let _ = model;
    }

    /// Adds what the guard measured in the last step to the history's record.
    fn record(&self, record: &mut Record) {
        let _ = record;
    }
}

impl Guard for () {
    fn before_step<M: Module>(&mut self, _: &M, _: &mut GradientsParams, _: f64) -> Verdict {
        Verdict::Proceed
    }
}

impl<G: Guard> Guard for Option<G> {
    fn before_step<M: Module>(
        &mut self,
        model: &M,
        gradients: &mut GradientsParams,
        loss: f64,
    ) -> Verdict {
        self.as_mut().map_or(Verdict::Proceed, |guard| guard.before_step(model, gradients, loss))
    }

    fn after_step<M: Module>(&mut self, model: &M) {
        if let Some(guard) = self {
            guard.after_step(model);
        }
    }

    fn record(&self, record: &mut Record) {
        if let Some(guard) = self {
            guard.record(record);
        }
    }
}

macro_rules! chain {
    ($($guard:ident $index:tt),+) => {
        impl<$($guard: Guard),+> Guard for ($($guard,)+) {
            fn before_step<Model: Module>(
                &mut self,
                model: &Model,
                gradients: &mut GradientsParams,
                loss: f64,
            ) -> Verdict {
                $(
                    let verdict = self.$index.before_step(model, gradients, loss);
                    if verdict != Verdict::Proceed {
                        return verdict;
                    }
                )+
                Verdict::Proceed
            }

            fn after_step<Model: Module>(&mut self, model: &Model) {
                $( self.$index.after_step(model); )+
            }

            fn record(&self, record: &mut Record) {
                $( self.$index.record(record); )+
            }
        }
    };
}
chain!(A 0);
chain!(A 0, B 1);
chain!(A 0, B 1, C 2);
chain!(A 0, B 1, C 2, D 3);
chain!(A 0, B 1, C 2, D 3, E 4);
chain!(A 0, B 1, C 2, D 3, E 4, F 5);
