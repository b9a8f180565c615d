//! What stands between `backward` and the optimizer's step.

use crate::{GuardStateError, Measured, state};
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
///
/// Where a chain is refused a state, its guards up to the one that refused have taken over theirs.
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

    /// [`before_step`](Self::before_step) for an optimizer that can multiply the gradients on its way: also gives the
    /// factor by which they are still to be multiplied.
    ///
    /// It is not 1 where the guard that stands last multiplies all gradients alike, as clipping by the global norm
    /// does: the gradients are read once here and once by the optimizer, and never written.
    fn before_step_scaled<M: Module>(
        &mut self,
        model: &M,
        gradients: &mut GradientsParams,
        loss: f64,
    ) -> (Verdict, f64) {
        let mut measured = Measured::owing();
        let verdict = self.before_step_sharing(model, gradients, loss, &mut measured);
        (verdict, measured.owed())
    }

    /// What the loss is to be multiplied by before `backward`; 1 unless the guard scales it.
    fn loss_factor(&self) -> f64 {
        1.0
    }

    /// Changes the model after the step was taken: a kick off a saddle point. Comes before
    /// [`after_step`](Self::after_step).
    fn revise<M: Module>(&mut self, model: M) -> M {
        model
    }

    /// Called with the model after the step was taken.
    fn after_step<M: Module>(&mut self, model: &M) {
        let _ = model;
    }

    /// Called when the loop starts the optimizer's state anew, as [`MomentumReset`](crate::MomentumReset) asks for:
    /// a guard that keeps moments like the optimizer's forgets them. Nothing by default.
    fn momentum_reset(&mut self) {}

    /// Called when the loop has gone back over the last `steps` steps that were taken: a guard that judges by what came
    /// before forgets what it learned in them. Counts and budgets stay. Nothing by default.
    fn rolled_back(&mut self, steps: u64) {
        let _ = steps;
    }

    /// Adds what the guard measured in the last step to the history's record.
    fn record(&self, record: &mut Record) {
        let _ = record;
    }

    /// What the guard remembers, with its kind and configuration, to the bit; empty, the default, for nothing.
    ///
    /// # Errors
    /// When the device cannot be read.
    fn state(&self) -> Result<Vec<u8>, GuardStateError> {
        Ok(Vec::new())
    }

    /// Takes over a [`state`](Self::state) that a guard of the same kind and configuration gave for `model`, whose
    /// parameters have the identities they had then.
    ///
    /// # Errors
    /// When it is the state of another guard, or no state at all; this guard is unchanged then.
    fn take_over<M: Module>(&mut self, state: &[u8], model: &M) -> Result<(), GuardStateError> {
        let _ = model;
        if state.is_empty() {
            return Ok(());
        }
        Err(GuardStateError::new(
            "there is one, of a guard that remembers, where this one does not",
        ))
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

/// `state` and `take_over` of a guard that can be serialized whole.
macro_rules! remembers {
    ($kind:ident) => {
        fn state(&self) -> Result<Vec<u8>, $crate::GuardStateError> {
            $crate::state::write(stringify!($kind), self)
        }

        fn take_over<Model: burn::module::Module>(
            &mut self,
            state: &[u8],
            _: &Model,
        ) -> Result<(), $crate::GuardStateError> {
            *self = $crate::state::read(stringify!($kind), self, state)?;
            Ok(())
        }
    };
}
pub(crate) use remembers;

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

    fn loss_factor(&self) -> f64 {
        self.as_ref().map_or(1.0, Guard::loss_factor)
    }

    fn revise<M: Module>(&mut self, model: M) -> M {
        match self {
            Some(guard) => guard.revise(model),
            None => model,
        }
    }

    fn after_step<M: Module>(&mut self, model: &M) {
        if let Some(guard) = self {
            guard.after_step(model);
        }
    }

    fn momentum_reset(&mut self) {
        if let Some(guard) = self {
            guard.momentum_reset();
        }
    }

    fn rolled_back(&mut self, steps: u64) {
        if let Some(guard) = self {
            guard.rolled_back(steps);
        }
    }

    fn record(&self, record: &mut Record) {
        if let Some(guard) = self {
            guard.record(record);
        }
    }

    fn state(&self) -> Result<Vec<u8>, GuardStateError> {
        self.as_ref().map_or_else(|| Ok(Vec::new()), Guard::state)
    }

    fn take_over<M: Module>(&mut self, state: &[u8], model: &M) -> Result<(), GuardStateError> {
        match self {
            Some(guard) => guard.take_over(state, model),
            None => ().take_over(state, model),
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
                    measured.settle(model, gradients);
                    let verdict =
                        self.$index.before_step_sharing(model, gradients, loss, measured);
                    if verdict != Verdict::Proceed {
                        return verdict;
                    }
                )+
                Verdict::Proceed
            }

            fn loss_factor(&self) -> f64 {
                1.0 $( * self.$index.loss_factor() )+
            }

            fn revise<Model: Module>(&mut self, model: Model) -> Model {
                $( let model = self.$index.revise(model); )+
                model
            }

            fn after_step<Model: Module>(&mut self, model: &Model) {
                $( self.$index.after_step(model); )+
            }

            fn momentum_reset(&mut self) {
                $( self.$index.momentum_reset(); )+
            }

            fn rolled_back(&mut self, steps: u64) {
                $( self.$index.rolled_back(steps); )+
            }

            fn record(&self, record: &mut Record) {
                $( self.$index.record(record); )+
            }

            fn state(&self) -> Result<Vec<u8>, GuardStateError> {
                state::join(vec![$( self.$index.state()? ),+])
            }

            fn take_over<Model: Module>(
                &mut self,
                state: &[u8],
                model: &Model,
            ) -> Result<(), GuardStateError> {
                let parts = [$( stringify!($index) ),+].len();
                let parts = state::split(state, parts)?;
                $( self.$index.take_over(&parts[$index], model)?; )+
                Ok(())
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
