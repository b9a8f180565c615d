//! What stands between `backward` and the optimizer's step.

use crate::norm::{Gathered, measure};
use crate::{GradientNorms, GuardStateError, NormType, state};
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
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

/// The norms of the gradients as they stand now, measured at most once for a chain of guards.
#[derive(Debug, Default)]
pub struct Measured(Option<Known>);

#[derive(Debug)]
struct Known {
    norm_type: NormType,
    norms: GradientNorms,
    /// Whether the paths are filled in.
    named: bool,
}

impl Measured {
    /// The norms of `gradients`, measured unless they are known.
    pub fn norms<M: Module>(
        &mut self,
        model: &M,
        gradients: &GradientsParams,
        norm_type: NormType,
    ) -> &GradientNorms {
        let known = self.known(model, gradients, norm_type, true);
        if !known.named {
            known.named = true;
            known.norms.name(model);
        }
        &known.norms
    }

    /// The norm of all `gradients` together, measured unless it is known; cheaper than [`norms`](Self::norms),
    /// which also says where each tensor stands.
    pub fn global<M: Module>(
        &mut self,
        model: &M,
        gradients: &GradientsParams,
        norm_type: NormType,
    ) -> f64 {
        self.nameless(model, gradients, norm_type).global
    }

    /// The [`norms`](Self::norms), for those who do not need the paths: as a rule they are empty.
    pub(crate) fn nameless<M: Module>(
        &mut self,
        model: &M,
        gradients: &GradientsParams,
        norm_type: NormType,
    ) -> &GradientNorms {
        &self.known(model, gradients, norm_type, false).norms
    }

    /// Whether norms of this kind are known.
    pub(crate) fn knows(&self, norm_type: NormType) -> bool {
        self.0.as_ref().is_some_and(|known| known.norm_type == norm_type)
    }

    /// Takes over all gradients, which a walk for other purposes gathered on its way; and gives back the elements of
    /// `further`, out of the same read from the device.
    pub(crate) fn learn(&mut self, gathered: Gathered, further: Vec<Tensor<1>>) -> Vec<f64> {
        let norm_type = gathered.norm_type();
        let (norms, further) = gathered.finish(further);
        self.0 = Some(Known { norm_type, norms, named: false });
        further
    }

    fn known<M: Module>(
        &mut self,
        model: &M,
        gradients: &GradientsParams,
        norm_type: NormType,
        named: bool,
    ) -> &mut Known {
        let known = self.0.take().filter(|known| known.norm_type == norm_type);
        self.0.insert(known.unwrap_or_else(|| {
            let norms = measure(model, gradients, norm_type, named);
            Known { norm_type, norms, named }
        }))
    }

    /// To be called by whoever changes the gradients.
    pub fn forget(&mut self) {
        self.0 = None;
    }

    /// Whether all gradients are finite: from any norm that is known, else from the Euclidean one.
    pub fn is_finite<M: Module>(&mut self, model: &M, gradients: &GradientsParams) -> bool {
        self.any(model, gradients).1.is_finite()
    }

    /// The norm that is known and of which kind it is, else the Euclidean one.
    pub(crate) fn any<M: Module>(
        &mut self,
        model: &M,
        gradients: &GradientsParams,
    ) -> (NormType, f64) {
        let norm_type = self.0.as_ref().map_or(NormType::Two, |known| known.norm_type);
        (norm_type, self.global(model, gradients, norm_type))
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
