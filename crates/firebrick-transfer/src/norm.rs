//! Running statistics for new inputs, without labels.
//!
//! # Rule
//! Over batches with moments (m_k, v_k), all batch norms at once, dropout off:
//! ```text
//! mean = mean_k(m_k)          variance = mean_k(v_k) + variance_k(m_k)
//! ```
//! # Reference
//! Y. Li et al., "Adaptive batch normalization for practical domain adaptation", Pattern Recognition 2018; Y. Wu,
//! J. Johnson, "Rethinking 'batch' in BatchNorm", 2021, arXiv 2105.07576.

use crate::TransferError;
use crate::freeze::Switches;
use crate::group::{Item, Stack, places};
use burn::module::{Flag, Module, ModuleMapper, Param};
use firebrick_backend::checkpointing::training_copy;
use firebrick_stabilize::recalibrate;

/// The model in evaluation mode with all its running statistics measured exactly over `batches`, weights untouched.
///
/// For inputs that are shifted in scale, contrast or noise, and after weights were averaged; it takes no labels.
/// Norms that are frozen are measured too, and dropout is off while measuring; both are as before in the result. The
/// model that is given keeps its statistics.
///
/// # Errors
/// When the model has no batch norm, there is no batch, or a statistic comes out not finite.
///
/// ```
/// use burn::module::Module;
/// use burn::{nn::BatchNormConfig, tensor::{Device, Tensor}};
/// use firebrick_transfer::reestimate;
///
/// let device = Device::flex().autodiff();
/// let model = BatchNormConfig::new(1).init(&device).freeze();
/// let batches = [[[1.0], [3.0]], [[5.0], [7.0]]].map(|rows| Tensor::<2>::from_floats(rows, &device));
/// let model = reestimate(&model, batches, |model, batch| drop(model.forward(batch)))?;
/// let mean = model.running_mean.value().into_scalar::<f32>();
/// assert!((mean - 4.0).abs() < 1e-4);
/// assert!(!model.train().training.is_enabled(), "it is frozen still");
/// # Ok::<(), firebrick_transfer::TransferError>(())
/// ```
pub fn reestimate<M: Module, B: Clone>(
    model: &M,
    batches: impl IntoIterator<Item = B>,
    forward: impl Fn(&M, B),
) -> Result<M, TransferError> {
    let norm = |owner: &str| owner.ends_with("Norm");
    let switch = |item: &Item| matches!(item, Item::Switch { .. });
    if !places(model).iter().any(|place| norm(&place.owner) && switch(&place.item)) {
        let reason = "the model has no batch norm".into();
        return Err(TransferError::Data { reason });
    }
    let switches = Switches::of(model);
    let mut measuring = Flags { stack: Stack::default(), to: To::Measure };
    let live = training_copy(model).map(&mut measuring);
    let measured = recalibrate(&live, batches, forward)?;
    let mut back = Flags { stack: Stack::default(), to: To::Back(&switches) };
    Ok(measured.train().map(&mut back).valid())
}

enum To<'a> {
    /// Norms on, everything else off.
    Measure,
    Back(&'a Switches),
}

struct Flags<'a> {
    stack: Stack,
    to: To<'a>,
}

impl ModuleMapper for Flags<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.stack.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.stack.exit();
    }

    fn map_flag(&mut self, flag: Param<Flag>) -> Param<Flag> {
        let on = match self.to {
            To::Measure => self.stack.owner().ends_with("Norm"),
            To::Back(switches) => switches.is_on(&self.stack.path()).unwrap_or(true),
        };
        flag.with_value(on)
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::testing::{bits, data, dropout_on, net, values};
    use crate::{Groups, Mode, Plan};
    use burn::tensor::{Device, Tensor};
    use firebrick_backend::testing::devices;

    #[test]
    fn statistics_are_those_of_the_data_also_in_frozen_groups() {
        for device in devices() {
            let device = device.autodiff();
            let net = net(&device);
            let plan = Plan::new(Groups::propose(&net).expect("has")).with_first(2, Mode::Frozen);
            let net = plan.expect("there").apply(net.clone(), &Switches::of(&net)).expect("fits");
            let before = bits(&net);
            let inputs = data(&device, 3.0).data().inputs.clone();
            let parts: Vec<Tensor<2>> = inputs.clone().chunk(4, 0);
            let new =
                reestimate(&net, parts, |net, part| drop(net.logits(part))).expect("measures");
            let hidden = net.first.forward(inputs).inner();
            let expected = values(hidden.clone().mean_dim(0));
            let found = values(new.norm.running_mean.value());
            for (found, expected) in found.iter().zip(&expected) {
                assert!((found - expected).abs() < 1e-4, "{found} {expected}");
            }
            let expected = values(hidden.var_bias(0));
            for (found, expected) in values(new.norm.running_var.value()).iter().zip(&expected) {
                assert!((found / expected - 1.0).abs() < 1e-3, "{found} {expected}");
            }
            assert_eq!(bits(&net), before);
            let new = new.train();
            assert!(!new.norm.training.is_enabled() && !dropout_on(&new));
            for ((path, old), (_, new)) in before.iter().zip(bits(&new)) {
                assert_eq!(*old == new, !path.contains("running"), "{path}");
            }
        }
    }

    #[test]
    fn a_model_without_batch_norm_and_no_data_are_refused() {
        let device = Device::flex().autodiff();
        let linear = burn::nn::LinearConfig::new(2, 2).init(&device);
        let one = [Tensor::<2>::ones([2, 2], &device)];
        assert!(reestimate(&linear, one, |model, x| drop(model.forward(x))).is_err());
        let none: [Tensor<2>; 0] = [];
        assert!(reestimate(&net(&device), none, |net, x| drop(net.logits(x))).is_err());
    }
}
