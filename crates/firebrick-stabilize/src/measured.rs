//! What a chain of guards knows of the gradients together.

use crate::norm::{Gathered, measure};
use crate::{GradientNorms, NormType, scale_gradients};
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

/// The norms of the gradients as they stand now, measured at most once for a chain of guards.
#[derive(Debug, Default)]
pub struct Measured {
    known: Option<Known>,
    /// The factor by which the gradients are still to be multiplied, where whoever asked can do that.
    owed: Option<f64>,
}

#[derive(Debug)]
struct Known {
    norm_type: NormType,
    norms: GradientNorms,
    /// Whether the paths are filled in.
    named: bool,
}

impl Measured {
    /// For one who can multiply the gradients by what is [`owed`](Self::owed).
    pub(crate) fn owing() -> Self {
        Self { known: None, owed: Some(1.0) }
    }

    /// The factor by which the gradients are still to be multiplied.
    pub(crate) fn owed(&self) -> f64 {
        self.owed.unwrap_or(1.0)
    }

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
        self.known.as_ref().is_some_and(|known| known.norm_type == norm_type)
    }

    /// Takes over all gradients, which a walk for other purposes gathered on its way; and gives back the elements of
    /// `further`, out of the same read from the device.
    pub(crate) fn learn(&mut self, gathered: Gathered, further: Vec<Tensor<1>>) -> Vec<f64> {
        let norm_type = gathered.norm_type();
        let (norms, further) = gathered.finish(further);
        self.known = Some(Known { norm_type, norms, named: false });
        further
    }

    fn known<M: Module>(
        &mut self,
        model: &M,
        gradients: &GradientsParams,
        norm_type: NormType,
        named: bool,
    ) -> &mut Known {
        let known = self.known.take().filter(|known| known.norm_type == norm_type);
        self.known.insert(known.unwrap_or_else(|| {
            let norms = measure(model, gradients, norm_type, named);
            Known { norm_type, norms, named }
        }))
    }

    /// To be called by whoever changes the gradients.
    pub fn forget(&mut self) {
        self.known = None;
    }

    /// Multiplies all `gradients` by `factor`, or leaves that to whoever can do it on the way.
    pub(crate) fn scale<M: Module>(
        &mut self,
        model: &M,
        gradients: &mut GradientsParams,
        factor: f64,
    ) {
        if factor == 1.0 {
            return;
        }
        self.forget();
        match &mut self.owed {
            // An optimizer in f32 could not hold the others in full.
            Some(owed) if (factor as f32).is_normal() => *owed = factor,
            _ => scale_gradients(model, gradients, factor),
        }
    }

    /// Multiplies the `gradients` by what is owed, for a guard that is to see them as they are.
    pub(crate) fn settle<M: Module>(&mut self, model: &M, gradients: &mut GradientsParams) {
        if let Some(owed) = self.owed.as_mut().filter(|owed| **owed != 1.0) {
            scale_gradients(model, gradients, std::mem::replace(owed, 1.0));
        }
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
        let norm_type = self.known.as_ref().map_or(NormType::Two, |known| known.norm_type);
        (norm_type, self.global(model, gradients, norm_type))
    }
}
