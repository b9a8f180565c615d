//! What a forward pass moves beside the weights, to be put back where the pass is not to count.

use super::pairs::replace;
use crate::trains::trains;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

/// The values of a model that do not train, at one moment: its running statistics, for one.
///
/// A forward pass of training moves them, also one whose step is not taken. A clone of the model would share them.
///
/// ```
/// use burn::{module::Module, nn::BatchNormConfig, tensor::{Device, Tensor}};
/// use firebrick_optim::wrapper::Buffers;
///
/// let device = Device::flex().autodiff();
/// let norm = BatchNormConfig::new(2).init(&device);
/// let buffers = Buffers::of(&norm);
/// norm.forward(Tensor::<2>::from_floats([[f32::NAN, 1.0], [2.0, 3.0]], &device));
/// let norm = buffers.put(norm);
/// assert_eq!(norm.running_mean.value_sync().try_to_vec_as::<f32>()?, [0.0, 0.0]);
/// # Ok::<(), burn::tensor::TensorReadError>(())
/// ```
pub struct Buffers(GradientsParams);

impl std::fmt::Debug for Buffers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffers({} tensors)", self.0.len())
    }
}

/// Brings running statistics up to date: burn keeps the last pass's apart until they are needed.
pub(super) fn settle<M: Module>(model: &M) {
    drop(model.valid());
}

impl Buffers {
    /// Those of `model` now.
    #[must_use]
    pub fn of<M: Module>(model: &M) -> Self {
        struct Take(GradientsParams);
        impl ModuleVisitor for Take {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                if !trains(param) {
                    self.0.register::<D>(param.id, param.base().inner());
                }
            }
        }
        settle(model);
        let mut take = Take(GradientsParams::new());
        model.visit(&mut take);
        Self(take.0)
    }

    /// `model` with these values, to the last bit.
    #[must_use]
    pub fn put<M: Module>(self, model: M) -> M {
        struct Put(GradientsParams);
        impl ModuleMapper for Put {
            fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
                if trains(&param) {
                    return param;
                }
                match self.0.get::<D>(param.id) {
                    Some(value) => replace(param, value),
                    None => param,
                }
            }
        }
        if self.0.is_empty() {
            return model;
        }
        // Else the last pass's, which burn holds back, would overwrite them later.
        settle(&model);
        model.map(&mut Put(self.0))
    }
}
