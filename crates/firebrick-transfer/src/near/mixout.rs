//! Mixout: at each forward pass every weight is its source's value with probability p, so that training never moves
//! far from it.
//!
//! # Formula
//! ```text
//! w' = (m w + (1 - m) w0 - p w0) / (1 - p),   m ~ Bernoulli(1 - p)         E w' = w
//! ```
//! Dropout is mixout with `w0 = 0`.
//!
//! # Reference
//! C. Lee, K. Cho, W. Kang, "Mixout: effective regularization to finetune large-scale pretrained language models",
//! ICLR 2020.

use crate::TransferError;
use crate::group::{Groups, Place, listed, places};
use burn::config::Config;
use burn::module::{Flag, Module, Param, Reparameterization, Reparameterizer};
use burn::tensor::{Tensor, TensorData};
use firebrick_backend::Role;
use firebrick_backend::checkpointing::beside;
use firebrick_core::check;
use firebrick_regularize::MaskSource;
use std::collections::HashSet;

/// Configuration of [`Mixout`].
///
/// | field | symbol | default | range |
/// | --- | --- | --- | --- |
/// | `prob` | p | 0.7 | `[0, 1)` |
#[derive(Config, Debug)]
pub struct MixoutConfig {
    /// Probability with which a weight is its source's value.
    #[config(default = 0.7)]
    pub prob: f64,
}

impl MixoutConfig {
    /// Mixes the weights and embeddings of the groups called `names` with their present values, which are the
    /// source's. Give a new head plain dropout instead.
    ///
    /// Every reading of a weight in training mode draws a mask, so a penalty on weights sees another weight than the
    /// forward pass; `valid()` reads the weights themselves, and `valid().materialize()` takes the mixing off.
    ///
    /// # Errors
    /// When `prob` is out of range, a name is not known, or the groups hold no weight.
    pub fn apply<M: Module>(
        &self,
        model: M,
        groups: &Groups,
        names: &[&str],
        masks: &MaskSource,
    ) -> Result<M, TransferError> {
        check::range("prob", self.prob, 0.0..1.0)?;
        let places = places(&model);
        groups.check_places(&places)?;
        for name in names {
            groups.position(name)?;
        }
        let chosen = |place: &&Place| {
            matches!(place.role(), Some(Role::Weight | Role::Embedding))
                && !place.in_adapter()
                && groups.group_of(&place.path).is_some_and(|name| names.contains(&name))
        };
        let paths: HashSet<String> =
            places.iter().filter(chosen).map(|place| place.path.clone()).collect();
        if paths.is_empty() {
            let reason = format!("no weight is in {}", listed(names.iter().copied()));
            return Err(TransferError::NothingToTrain { reason });
        }
        Ok(model.apply_reparameterization(Mix { paths, prob: self.prob, masks: masks.clone() }))
    }
}

/// A weight that is mixed with its source's in training mode; see [`MixoutConfig::apply`].
#[derive(Module, Debug)]
pub struct Mixout {
    /// The source's value, flat.
    source: Tensor<1>,
    prob: f64,
    /// Whether it mixes: off in frozen groups and in evaluation mode.
    training: Param<Flag>,
    #[module(skip)]
    masks: MaskSource,
}

impl Reparameterization for Mixout {
    const NAME: &'static str = "mixout";

    fn apply<const D: usize>(&self, base: Tensor<D>) -> Tensor<D> {
        if !self.training.is_enabled() || !base.is_autodiff() || self.prob == 0.0 {
            return base;
        }
        let shape = base.dims();
        let count = shape.iter().product();
        let keep = self.masks.keep(count, 1.0 - self.prob);
        let keep: Vec<f32> = keep.into_iter().map(|keep| f32::from(u8::from(keep))).collect();
        let device = base.clone().inner().device();
        let keep = Tensor::<D>::from_data(TensorData::new(keep, shape), (&device, base.dtype()));
        let keep = beside(keep, &base);
        let source = beside(self.source.clone(), &base).reshape(shape);
        // (m w + (1 - m - p) w0) / (1 - p)
        let fixed = source * (keep.clone().neg() + (1.0 - self.prob));
        (base * keep + fixed).div_scalar(1.0 - self.prob)
    }
}

struct Mix {
    paths: HashSet<String>,
    prob: f64,
    masks: MaskSource,
}

impl Reparameterizer for Mix {
    type Reparam = Mixout;

    fn reparameterize<const D: usize>(
        &mut self,
        path: &str,
        param: Param<Tensor<D>>,
    ) -> (Param<Tensor<D>>, Option<Mixout>) {
        if !self.paths.contains(path) {
            return (param, None);
        }
        let source = param.base().inner();
        let size = source.shape().num_elements();
        let mixout = Mixout {
            source: source.reshape([size]),
            prob: self.prob,
            training: Param::from_bool(true),
            masks: self.masks.clone(),
        };
        (param, Some(mixout))
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::testing::{net, values};
    use crate::{Mode, Plan, Switches};
    use burn::tensor::Device;
    use firebrick_core::Seed;

    fn mixed(prob: f64) -> crate::testing::Net {
        let net = net(&Device::flex().autodiff());
        let groups = Groups::propose(&net).expect("has groups");
        let masks = MaskSource::new(Seed(3));
        let net =
            MixoutConfig::new().with_prob(prob).apply(net, &groups, &["first", "second"], &masks);
        let mut net = net.expect("fits");
        // Trained a step of 1 away from the source.
        struct Away;
        impl burn::module::ModuleMapper for Away {
            fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
                param.map(
                    |t| if t.is_require_grad() { (t + 1.0).detach().require_grad() } else { t },
                )
            }
        }
        net = net.map(&mut Away);
        net
    }

    #[test]
    fn the_expectation_is_the_weight_and_each_draw_is_one_of_two() {
        let net = mixed(0.7);
        let (own, source) =
            (values(net.second.weight.base()), values(net.second.weight.base() - 1.0));
        let (mut sums, draws) = (vec![0.0; own.len()], 4000);
        for _ in 0..draws {
            for ((sum, value), (own, source)) in
                sums.iter_mut().zip(values(net.second.weight.val())).zip(own.iter().zip(&source))
            {
                // Kept: (w - p w0) / (1 - p); mixed: w0.
                let kept = (own - 0.7 * source) / 0.3;
                assert!((value - kept).abs() < 1e-4 || (value - source).abs() < 1e-4, "{value}");
                *sum += value;
            }
        }
        // A draw deviates by sqrt(p / (1 - p)) |w - w0| = 1.53; five standard errors of the mean.
        let bound = 5.0 * (0.7f64 / 0.3 / draws as f64).sqrt();
        for (sum, own) in sums.iter().zip(&own) {
            assert!((sum / draws as f64 - own).abs() < bound, "{} {own}", sum / draws as f64);
        }
    }

    #[test]
    fn evaluation_freezing_and_probability_zero_are_the_identity() {
        let net = mixed(0.7);
        let own = values(net.second.weight.base());
        assert_eq!(values(net.valid().second.weight.val()), own);
        assert_eq!(values(mixed(0.0).second.weight.val()), values(mixed(0.0).second.weight.base()));
        let merged = net.valid().materialize();
        assert!(merged.second.weight.reparameterization::<Mixout>().is_none());
        assert_eq!(values(merged.second.weight.val()), own);
        let plan = Plan::new(Groups::propose(&net).expect("has")).with("second", Mode::Frozen);
        let frozen = plan.expect("there").apply(net.clone(), &Switches::of(&net)).expect("fits");
        assert_eq!(values(frozen.second.weight.val()), own);
        assert!(net.head.weight.reparameterization::<Mixout>().is_none());
    }

    #[test]
    fn the_gradient_is_that_of_the_kept_weights() {
        let net = mixed(0.5);
        let gradients = net.first.weight.val().sum().backward();
        let gradient = values(net.first.weight.base().grad(&gradients).expect("trains"));
        assert!(gradient.iter().all(|g| *g == 0.0 || *g == 2.0) && gradient.contains(&2.0));
    }

    #[test]
    fn bad_input_is_refused() {
        let net = net(&Device::flex().autodiff());
        let (groups, masks) = (Groups::propose(&net).expect("has"), MaskSource::new(Seed(1)));
        let refused = |config: MixoutConfig, names: &[&str]| {
            config.apply(net.clone(), &groups, names, &masks).expect_err("refused").to_string()
        };
        assert!(refused(MixoutConfig::new().with_prob(1.0), &["first"]).contains("`prob`"));
        assert!(refused(MixoutConfig::new(), &["body"]).contains("no group is called `body`"));
        assert!(refused(MixoutConfig::new(), &[]).contains("no weight is in none"));
    }
}
