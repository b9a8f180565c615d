//! Groups drawn anew from the pinned generator.

use crate::TransferError;
use crate::group::Stack;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use firebrick_backend::Role;
use firebrick_backend::checkpointing::{in_place_of, training_copy};
use firebrick_core::Seed;
use firebrick_stabilize::{Distribution, Fan, Initialize, Scheme};

/// What PyTorch and burn draw weights of linear layers and convolutions from: uniform within `1 / sqrt(fan_in)`.
pub const TORCH_DEFAULT: Scheme = Scheme::Scaled {
    gain: 0.577_350_269_189_625_8,
    fan: Fan::In,
    distribution: Distribution::Uniform,
};

/// Draws the parameters anew whose paths `chosen` takes; all else stays as it is.
///
/// Weights follow `scheme`, embeddings N(0, 1), biases are 0; scales of norms are 1, their offsets 0, running means 0
/// and variances 1. A learned vector of another kind (the slope of a PReLU) stays, since nobody knows how it
/// began. Each parameter has a stream of its own, named by its path. Clones of the model keep their statistics.
///
/// # Errors
/// When the scheme does not fit a chosen weight.
///
/// ```
/// use burn::nn::LinearConfig;
/// use firebrick_core::Seed;
/// use firebrick_transfer::{TORCH_DEFAULT, redraw};
///
/// let device = burn::tensor::Device::flex().autodiff();
/// let model = (LinearConfig::new(4, 4).init(&device), LinearConfig::new(4, 2).init(&device));
/// let kept = model.0.weight.val().into_data();
/// let model = redraw(model, |path| path.starts_with("1."), TORCH_DEFAULT, Seed(1))?;
/// assert_eq!(model.0.weight.val().into_data(), kept);
/// let bias = model.1.bias.expect("has one").val().abs().sum().into_scalar::<f32>();
/// assert_eq!(bias, 0.0);
/// # Ok::<(), firebrick_transfer::TransferError>(())
/// ```
pub fn redraw<M: Module>(
    model: M,
    chosen: impl Fn(&str) -> bool,
    scheme: Scheme,
    seed: Seed,
) -> Result<M, TransferError> {
    // A copy of its own: clones share running statistics.
    let training = crate::group::places(&model).iter().any(|place| place.trains());
    let fresh = Initialize::new(seed).weights(scheme).apply(training_copy(&model))?;
    let mut values = Collect(GradientsParams::new());
    fresh.visit(&mut values);
    let model = training_copy(&model).map(&mut Take {
        values: values.0,
        chosen: &chosen,
        stack: Stack::default(),
    });
    Ok(if training { model } else { model.valid() })
}

/// All float values by identity, without their graphs.
struct Collect(GradientsParams);

impl ModuleVisitor for Collect {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.register::<D>(param.id, param.base().inner());
    }
}

struct Take<'a> {
    values: GradientsParams,
    chosen: &'a dyn Fn(&str) -> bool,
    stack: Stack,
}

impl ModuleMapper for Take<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.stack.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.stack.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let path = self.stack.path();
        if !(self.chosen)(&path) || self.stack.in_adapter() {
            return param;
        }
        let name = path.rsplit('.').next().unwrap_or_default().to_owned();
        let role = self.stack.role(D);
        let fresh = self.values.remove::<D>(param.id);
        let trains = param.is_require_grad();
        param.map(|old| {
            let plain = old.clone().inner();
            let new = match (role, name.as_str()) {
                (Role::Norm, "gamma") | (Role::Buffer, "running_var") => plain.ones_like(),
                (Role::Norm, "beta") | (Role::Buffer, "running_mean") => plain.zeros_like(),
                (Role::Weight | Role::Embedding | Role::Bias, _) => match fresh {
                    Some(fresh) => fresh,
                    None => return old,
                },
                _ => return old,
            };
            in_place_of(new, &old, trains)
        })
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::group::covers;
    use crate::testing::{bits, net};
    use burn::tensor::Device;

    #[test]
    fn only_what_was_chosen_is_drawn_and_a_seed_draws_the_same() {
        let device = Device::flex().autodiff();
        let model = net(&device);
        // Statistics that moved.
        drop(model.logits(Tensor::ones([4, 2], &device)));
        let before = bits(&model);
        let chosen = |path: &str| covers("first", path) || covers("norm", path);
        let draw = |seed| redraw(model.clone(), chosen, TORCH_DEFAULT, Seed(seed)).expect("fits");
        let (one, same, other) = (draw(1), draw(1), draw(2));
        assert_eq!(bits(&one), bits(&same));
        assert_ne!(bits(&one), bits(&other));
        for ((path, old), (_, new)) in before.iter().zip(bits(&one)) {
            let stays = !chosen(path) || path == "norm.gamma" || path == "norm.beta";
            assert_eq!(
                *old == new,
                stays || path == "first.bias" && old.iter().all(|b| *b == 0),
                "{path}"
            );
        }
        assert_eq!(bits(&model), before, "the model that was given keeps its statistics");
        assert!(one.first.weight.is_require_grad());
        let variance = crate::testing::values(one.norm.running_var.value());
        assert_eq!(variance, [1.0; 6]);
    }
}
