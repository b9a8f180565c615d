//! What stands between `backward` and the optimizer's step.

use crate::{GradientNorms, NormType, gradient_norms};
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

    /// [`before_step`](Self::before_step) within a chain whose guards share one measurement of the norms.
    ///
    /// Written only by guards that measure norms; the default calls `before_step` and forgets what was
    /// measured, since the gradients may have changed.
    fn before_step_sharing<M: Module>(
        &mut self,
        model: &M,
        gradients: &mut GradientsParams,
        loss: f64,
        measured: &mut Measured,
    ) -> Verdict {
        measured.forget();
        self.before_step(model, gradients, loss)
    }

    /// Called with the model after the step was taken.
    fn after_step<M: Module>(&mut self, model: &M) {
        let _ = model;
    }

    /// Adds what the guard measured in the last step to the history's record.
    fn record(&self, record: &mut Record) {
        let _ = record;
    }
}

/// The norms of the gradients as they stand now, measured at most once for a chain of guards.
#[derive(Debug, Default)]
pub struct Measured(Option<(NormType, GradientNorms)>);

impl Measured {
    /// The norms of `gradients`, measured unless they are known.
    pub fn norms<M: Module>(
        &mut self,
        model: &M,
        gradients: &GradientsParams,
        norm_type: NormType,
    ) -> &GradientNorms {
        let known = self.0.take().filter(|(known, _)| *known == norm_type);
        let measure = || (norm_type, gradient_norms(model, gradients, norm_type));
        &self.0.insert(known.unwrap_or_else(measure)).1
    }

    /// To be called by whoever changes the gradients.
    pub fn forget(&mut self) {
        self.0 = None;
    }

    /// Whether all gradients are finite: from any norm that is known, else from the Euclidean one.
    pub fn is_finite<M: Module>(&mut self, model: &M, gradients: &GradientsParams) -> bool {
        let norm_type = self.0.as_ref().map_or(NormType::Two, |(known, _)| *known);
        self.norms(model, gradients, norm_type).global.is_finite()
    }
}

/// `before_step` of a guard that is not in a chain: it shares with nobody.
macro_rules! alone {
    () => {
        fn before_step<Model: burn::module::Module>(
            &mut self,
            model: &Model,
            gradients: &mut burn::optim::GradientsParams,
            loss: f64,
        ) -> $crate::Verdict {
            self.before_step_sharing(model, gradients, loss, &mut $crate::Measured::default())
        }
    };
}
pub(crate) use alone;

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

    fn before_step_sharing<M: Module>(
        &mut self,
        model: &M,
        gradients: &mut GradientsParams,
        loss: f64,
        measured: &mut Measured,
    ) -> Verdict {
        self.as_mut().map_or(Verdict::Proceed, |guard| {
            guard.before_step_sharing(model, gradients, loss, measured)
        })
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
            alone!();

            fn before_step_sharing<Model: Module>(
                &mut self,
                model: &Model,
                gradients: &mut GradientsParams,
                loss: f64,
                measured: &mut Measured,
            ) -> Verdict {
                $(
                    let verdict =
                        self.$index.before_step_sharing(model, gradients, loss, measured);
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
chain!(A 0, B 1, C 2, D 3, E 4, F 5, G 6);
chain!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);
