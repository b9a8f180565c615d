//! Weights between the source and the tuned model, and of several tuned ones.
//!
//! # Formula
//! ```text
//! WiSE-FT       w = (1 - a) w0 + a w1                    a 1/2 unless tuned
//! greedy soup   by falling validation score: a model joins the mean if the mean does not get worse
//! ```
//! Both want models of one start, the head's included. Running statistics are not averaged: they stay those of the
//! tuned (of the best) model, and are to be measured anew with `firebrick_stabilize::recalibrate`.
//!
//! # Reference
//! M. Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022; "Model soups", ICML 2022.

use super::anchor::Anchor;
use crate::TransferError;
use crate::group::{Stack, places};
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::Tensor;
use firebrick_backend::Role;
use firebrick_backend::checkpointing::beside;
use firebrick_core::{ConfigError, check};
use firebrick_regularize::model_soup;

/// The model whose weights lie the share `alpha` of the way from `source` to `tuned`; 0 is the source, 1 the tuned.
///
/// # Errors
/// When `alpha` is outside [0, 1], or the source lacks a parameter of this path and shape: a new head needs a
/// counterpart in the source, such as a probe.
///
/// ```
/// use burn::nn::LinearConfig;
/// use firebrick_transfer::{Anchor, wise_ft};
///
/// let device = burn::tensor::Device::flex();
/// let (source, tuned) = (LinearConfig::new(2, 2).init(&device), LinearConfig::new(2, 2).init(&device));
/// let half = wise_ft(&Anchor::of(&source), tuned.clone(), 0.5)?;
/// let expected = (source.weight.val() + tuned.weight.val()) / 2.0;
/// assert!(half.weight.val().all_close(expected, None, None));
/// # Ok::<(), firebrick_transfer::TransferError>(())
/// ```
pub fn wise_ft<M: Module>(source: &Anchor, tuned: M, alpha: f64) -> Result<M, TransferError> {
    struct Mix<'a> {
        source: &'a Anchor,
        alpha: f64,
        stack: Stack,
    }
    impl ModuleMapper for Mix<'_> {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.stack.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.stack.exit();
        }
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            if self.stack.role(D) == Role::Buffer {
                return param;
            }
            let source = self.source.value(&self.stack.path(), param.base().dims());
            let Some(source) = source else { return param };
            let (alpha, trains) = (self.alpha, param.is_require_grad());
            param.map(|tuned| {
                let own = tuned.clone().inner();
                let mixed = match alpha {
                    0.0 => source,
                    1.0 => own,
                    // What has not moved stays as it is, to the bit.
                    _ => source.clone() + (own - source).mul_scalar(alpha),
                };
                let mixed = beside(mixed, &tuned);
                if trains { mixed.require_grad() } else { mixed }
            })
        }
    }
    let alpha = check::range("alpha", alpha, 0.0..=1.0)?;
    for place in places(&tuned) {
        let Some(role) = place.role() else { continue };
        let crate::group::Item::Tensor { shape, .. } = &place.item else { continue };
        if role != Role::Buffer && !source.has(&place.path, shape) {
            let path = format!("{} {shape:?}", place.path);
            return Err(TransferError::NoSuchParameter { path, known: source.known() });
        }
    }
    Ok(tuned.map(&mut Mix { source, alpha, stack: Stack::default() }))
}

/// What a greedy soup is made of.
#[derive(Debug)]
#[non_exhaustive]
pub struct Soup<M> {
    /// The mean of the members.
    pub model: M,
    /// The numbers of the models that are in it, in the order in which they joined.
    pub members: Vec<usize>,
    /// The score of the mean.
    pub score: f64,
}

/// The [greedy soup](self) of `models`, judged by `score`, where larger is better.
///
/// # Errors
/// When there is no model, they differ in parameters or shapes, or `score` fails or is not finite for a single model.
pub fn greedy_soup<M: Module>(
    models: Vec<M>,
    mut score: impl FnMut(&M) -> Result<f64, TransferError>,
) -> Result<Soup<M>, TransferError> {
    check::at_least("number of models", models.len(), 1)?;
    let mut ranked = Vec::new();
    for (index, model) in models.iter().enumerate() {
        let value = score(model)?;
        if !value.is_finite() {
            return Err(TransferError::NotFinite {
                what: format!("the score of model {index}"),
                value,
            });
        }
        ranked.push((index, value));
    }
    // A stable sort: of equal scores the first given leads.
    ranked.sort_by(|left, right| right.1.total_cmp(&left.1));
    let mean = |members: &[usize]| {
        let members: Vec<M> = members.iter().map(|&index| models[index].clone()).collect();
        model_soup(members)
            .map_err(|error| ConfigError::new("models", error, "of one architecture"))
    };
    let mut members = vec![ranked[0].0];
    let (mut model, mut best) = (models[ranked[0].0].clone(), ranked[0].1);
    for &(index, _) in &ranked[1..] {
        let mut with = members.clone();
        with.push(index);
        let candidate = mean(&with)?;
        let value = score(&candidate)?;
        if value >= best {
            (model, best, members) = (candidate, value, with);
        }
    }
    Ok(Soup { model, members, score: best })
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::testing::{bits, net, values};
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::Device;

    fn at(value: f32) -> Linear {
        let device = Device::flex();
        let mut linear = LinearConfig::new(1, 1).with_bias(false).init(&device);
        linear.weight = Param::from_tensor(Tensor::from_floats([[value]], &device));
        linear
    }

    #[test]
    fn ends_are_the_models_to_the_bit_and_statistics_stay_the_tuned_ones() {
        let device = Device::flex().autodiff();
        let (source, tuned) = (net(&device), net(&device));
        let tuned = pull_apart(tuned);
        drop(tuned.logits(Tensor::ones([4, 2], &device)));
        let anchor = Anchor::of(&source);
        assert_eq!(bits(&wise_ft(&anchor, tuned.clone(), 1.0).expect("fits")), bits(&tuned));
        let back = wise_ft(&anchor, tuned.clone(), 0.0).expect("fits");
        for ((path, found), (_, expected)) in bits(&back).iter().zip(bits(&source)) {
            assert_eq!(*found == expected, !path.contains("running"), "{path}");
        }
        let half = wise_ft(&anchor, tuned.clone(), 0.5).expect("fits");
        let gap = values(half.first.weight.val() - source.first.weight.val());
        assert!(gap.iter().all(|gap| (gap - 0.5).abs() < 1e-6), "{gap:?}");
        assert!(half.first.weight.is_require_grad());
        assert!(wise_ft(&anchor, tuned.clone(), 1.5).is_err());
        let headless = anchor.without("head").expect("there");
        let error = wise_ft(&headless, tuned, 0.5).expect_err("refused").to_string();
        assert!(error.contains("`head.weight [5, 2]`"), "{error}");
        assert!(anchor.without("heads").is_err());
    }

    /// All weights 1 away.
    fn pull_apart(net: crate::testing::Net) -> crate::testing::Net {
        struct Away;
        impl ModuleMapper for Away {
            fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
                param.map(
                    |t| if t.is_require_grad() { (t + 1.0).detach().require_grad() } else { t },
                )
            }
        }
        net.map(&mut Away)
    }

    #[test]
    fn a_greedy_soup_takes_what_does_not_hurt() {
        // Best at 1: -|w - 1|.
        let score = |model: &Linear| Ok(-(values(model.weight.val())[0] - 1.0).abs());
        let soup = greedy_soup(vec![at(5.0), at(0.5), at(1.6)], score).expect("cooks");
        // 0.5 leads with 0.5, then 1.6: the mean 1.05 is better; with 5 it would be 2.37.
        assert_eq!(soup.members, [1, 2]);
        assert!((soup.score + 0.05).abs() < 1e-6);
        assert!(greedy_soup(Vec::<Linear>::new(), score).is_err());
        assert!(greedy_soup(vec![at(1.0)], |_| Ok(f64::NAN)).is_err());
        let wide = LinearConfig::new(2, 2).init(&Device::flex());
        assert!(greedy_soup(vec![at(1.0), wide], |_| Ok(0.0)).is_err());
    }
}
