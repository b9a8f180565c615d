//! Many models as one: averaged probabilities, averaged weights, resampled training sets.
//!
//! # Formula
//! ```text
//! ensemble   p = 1/M sum_m softmax(z_m)      probabilities, not logits
//! soup       w = 1/M sum_m w_m               of models fine-tuned from one start
//! bootstrap  n rows drawn with replacement; about 37 percent of the rows stay out of it
//! ```
//!
//! # Reference
//! L. Breiman, "Bagging predictors", Machine Learning 1996; B. Lakshminarayanan, A. Pritzel, C. Blundell, NIPS 2017;
//! M. Wortsman et al., "Model soups", ICML 2022.

use crate::places::Key;
use crate::{MaskSource, RegularizeError};
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{DType, Tensor, TensorData, activation::softmax};
use firebrick_backend::{PathStack, Role, widened};
use std::any::Any;
use std::collections::{BTreeMap, HashMap};

/// Shape and values of every parameter by its path.
type Weights = BTreeMap<String, (Vec<usize>, Vec<f64>)>;

/// The mean of the members' probabilities, from logits `[n, k]` each: deep ensembles, bagging, snapshots.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebrick_regularize::ensemble_probabilities;
///
/// let device = Device::flex();
/// let sure = Tensor::<2>::from_floats([[100.0, 0.0]], &device);
/// let even = Tensor::<2>::from_floats([[0.0, 0.0]], &device);
/// let mean: Vec<f32> = ensemble_probabilities([sure, even])?.try_to_vec_as().unwrap();
/// assert_eq!(mean, [0.75, 0.25]); // the mean of the logits would say 1 and 0
/// # Ok::<(), firebrick_regularize::RegularizeError>(())
/// ```
///
/// Half precision is averaged in single; else the mean has the type of the first member.
///
/// # Errors
/// When there is no member or no class, or their shapes differ.
pub fn ensemble_probabilities(
    members: impl IntoIterator<Item = Tensor<2>>,
) -> Result<Tensor<2>, RegularizeError> {
    let mut sum: Option<Tensor<2>> = None;
    let mut count = 0usize;
    for logits in members {
        let found = logits.dims();
        if found[1] == 0 {
            return Err(RegularizeError::Empty { what: "the set of classes" });
        }
        if let Some(first) = sum.as_ref().map(Tensor::dims).filter(|first| *first != found) {
            let expected = format!("{first:?} as the first");
            let found = found.to_vec();
            return Err(RegularizeError::Shape { what: "the logits of a member", expected, found });
        }
        let probabilities = softmax(widened(logits), 1);
        sum = Some(match sum {
            Some(sum) => {
                let dtype = sum.dtype();
                sum + probabilities.cast(dtype)
            }
            None => probabilities,
        });
        count += 1;
    }
    sum.map(|sum| sum.div_scalar(count as f64))
        .ok_or(RegularizeError::Empty { what: "the list of members" })
}

/// The model whose weights are the means of the models', all of one architecture and one start.
///
/// Means are taken in f64. The running statistics stay those of the first model: run batches through the result
/// to renew them. Tied weights stay tied.
///
/// Merge LoRA adapters into their weights first: every parameter is averaged by itself, and of the factors (1, 1) and
/// (-1, -1), whose products are both 1, the means are 0. The adapters' scale would be that of the first model.
///
/// # Errors
/// When there is no model, or one has another set of parameters or other shapes than the first.
pub fn model_soup<M: Module>(models: Vec<M>) -> Result<M, RegularizeError> {
    struct Gather {
        path: PathStack,
        found: Weights,
        error: Option<RegularizeError>,
    }
    impl ModuleVisitor for Gather {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if self.path.role(D) == Role::Buffer {
                return;
            }
            let value = param.val();
            match value.try_to_vec_as::<f64>() {
                Ok(values) => {
                    self.found.insert(self.path.path(), (value.dims().to_vec(), values));
                }
                Err(error) => self.error = Some(error.into()),
            }
        }
    }
    struct Place {
        path: PathStack,
        means: Weights,
        /// The values placed so far.
        first: HashMap<Key, Box<dyn Any>>,
    }
    impl ModuleMapper for Place {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.exit();
        }
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let Some((shape, mean)) = self.means.remove(&self.path.path()) else { return param };
            let (key, trains) = ((param.id, D), param.is_require_grad());
            let (id, old, mapper) = param.consume();
            // With nodes of their own in autodiff's graph burn would keep the gradient of the last tied place alone.
            let first = self.first.get(&key).and_then(|first| first.downcast_ref::<Tensor<D>>());
            let value = first.filter(|first| first.is_require_grad() == trains).cloned();
            let value = value.unwrap_or_else(|| {
                let dtype: DType = old.dtype();
                let data = TensorData::new(mean, shape).convert_dtype(dtype);
                Tensor::from_data(data, (&old.device(), dtype)).set_require_grad(trains)
            });
            self.first.insert(key, Box::new(value.clone()));
            Param::from_mapped_value(id, value, mapper)
        }
    }
    let count = models.len() as f64;
    let mut sums: Option<Weights> = None;
    for model in &models {
        let mut gather = Gather { path: PathStack::default(), found: BTreeMap::new(), error: None };
        model.visit(&mut gather);
        if let Some(error) = gather.error {
            return Err(error);
        }
        let Some(sums) = sums.as_mut() else {
            sums = Some(gather.found);
            continue;
        };
        let same = sums.len() == gather.found.len()
            && sums.iter().zip(&gather.found).all(|(a, b)| a.0 == b.0 && a.1.0 == b.1.0);
        if !same {
            return Err(RegularizeError::Refused(
                "the models of a soup must have the same parameters and shapes as the first",
            ));
        }
        for (path, (_, values)) in gather.found {
            if let Some((_, sum)) = sums.get_mut(&path) {
                sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
            }
        }
    }
    let first = models.into_iter().next();
    let (Some(first), Some(mut means)) = (first, sums) else {
        return Err(RegularizeError::Empty { what: "the list of models" });
    };
    means.values_mut().flat_map(|(_, sum)| sum).for_each(|sum| *sum /= count);
    Ok(first.map(&mut Place { path: PathStack::default(), means, first: HashMap::new() }))
}

/// `n` of the rows 0 to n - 1, drawn with replacement, for one member of a bagged ensemble.
///
/// Draw from the training rows alone; the rows left out can validate the member.
#[must_use]
pub fn bootstrap_rows(n: usize, masks: &MaskSource) -> Vec<usize> {
    let mut generator = masks.reserve(2 * n + 64);
    (0..n).map(|_| generator.below(n as u64) as usize).collect()
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig};
    use burn::optim::GradientsParams;
    use burn::tensor::Device;
    use firebrick_backend::testing::devices;
    use firebrick_core::Seed;

    fn model(device: &Device, value: f32) -> (Linear, BatchNorm) {
        let mut linear = LinearConfig::new(2, 1).init(device);
        linear.weight = Param::from_data([[value], [-value]], device);
        linear.bias = Some(Param::from_data([value], device));
        (linear, BatchNormConfig::new(1).init(device))
    }

    #[test]
    fn a_soup_is_the_mean_and_still_trains() {
        let device = Device::flex().autodiff();
        let models = [1.0, 2.0, 6.0].map(|value| model(&device, value)).to_vec();
        let soup = model_soup(models).expect("one architecture");
        let weight: Vec<f32> = soup.0.weight.val().try_to_vec_as().expect("reads");
        assert_eq!(weight, [3.0, -3.0]);
        let loss = soup.0.forward(Tensor::<2>::ones([1, 2], &device)).sum();
        let gradients = GradientsParams::from_grads(loss.backward(), &soup);
        assert!(gradients.get::<2>(soup.0.weight.id).is_some());
        assert!(model_soup(Vec::<Linear>::new()).is_err());
        let wide = LinearConfig::new(3, 1).init(&device);
        let error = model_soup(vec![model(&device, 1.0).0, wide]).expect_err("shapes");
        assert!(error.to_string().contains("same parameters"));
    }

    #[test]
    fn tied_weights_stay_tied_in_a_soup() {
        let device = Device::flex().autodiff();
        let input = || Tensor::<2>::from_floats([[1.0, 2.0]], &device);
        let tied = |value: f32| {
            let layer = model(&device, value).0;
            [layer.clone(), layer]
        };
        let [one, other] = model_soup(vec![tied(1.0), tied(3.0)]).expect("one architecture");
        let loss = one.forward(input()) * 3.0 + other.forward(input());
        let mut gradients =
            GradientsParams::from_grads(loss.sum().backward(), &[one.clone(), other.clone()]);
        // 3 x from the first place and x from the second.
        let gradient = gradients.remove::<2>(one.weight.id).expect("trains");
        assert_eq!(gradient.try_to_vec_as::<f32>().expect("reads"), [4.0, 8.0]);
        for layer in [one, other] {
            let weight: Vec<f32> = layer.weight.val().try_to_vec_as().expect("reads");
            assert_eq!(weight, [2.0, -2.0]);
        }
        // A place that does not train leaves the others as they are.
        let half = |value: f32| {
            let [frozen, trains] = tied(value);
            [frozen.no_grad(), trains]
        };
        let [frozen, trains] = model_soup(vec![half(1.0), half(3.0)]).expect("one architecture");
        assert!(!frozen.weight.is_require_grad() && trains.weight.is_require_grad());
    }

    #[test]
    fn members_must_agree_in_shape() {
        let device = Device::flex();
        let wrong = [Tensor::<2>::zeros([1, 2], &device), Tensor::zeros([1, 3], &device)];
        assert!(ensemble_probabilities(wrong).is_err());
        assert!(ensemble_probabilities([]).is_err());
    }

    #[test]
    fn members_may_have_different_float_types() {
        let device = Device::flex();
        let member = |logits: [f32; 2], dtype: DType| {
            Tensor::<2>::from_data(TensorData::new(logits.to_vec(), [1, 2]), (&device, dtype))
        };
        for (first, other, dtype) in [
            (DType::F32, DType::F64, DType::F32),
            (DType::F64, DType::F32, DType::F64),
            (DType::F16, DType::F64, DType::F32),
        ] {
            let mean =
                ensemble_probabilities([member([100.0, 0.0], first), member([0.0; 2], other)]);
            let mean = mean.expect("same shapes");
            assert_eq!(mean.dtype(), dtype);
            assert_eq!(mean.try_to_vec_as::<f64>().expect("reads"), [0.75, 0.25]);
        }
    }

    #[test]
    fn a_bootstrap_leaves_out_its_share() {
        let n = 1_000_000;
        let rows = bootstrap_rows(n, &MaskSource::new(Seed(1)));
        let mut seen = vec![false; n];
        rows.iter().for_each(|&row| seen[row] = true);
        let out = seen.iter().filter(|&&seen| !seen).count() as f64 / n as f64;
        // (1 - 1/n)^n = 0.36788; the variance of the share is below 0.24 / n.
        assert!((out - 0.367_88).abs() < 5.0 * (0.24 / n as f64).sqrt(), "{out}");
        assert!(bootstrap_rows(0, &MaskSource::new(Seed(1))).is_empty());
    }

    #[test]
    fn probabilities_are_averaged_and_lose_no_more_than_the_members_on_average() {
        for device in devices() {
            let rows = [[1.0f32, -0.5, 0.3], [0.2, 2.0, -1.0], [-0.7, 0.1, 0.9]];
            let probabilities = rows.map(|row| {
                let powers = row.map(|z| f64::from(z).exp());
                powers.map(|power| power / powers.iter().sum::<f64>())
            });
            let members = rows.map(|row| Tensor::<2>::from_floats([row], &device));
            let found = ensemble_probabilities(members).expect("same shapes");
            let found: Vec<f64> = found.try_to_vec_as().expect("reads");
            assert_eq!(found.len(), 3);
            for (class, &found) in found.iter().enumerate() {
                let each = probabilities.map(|member| member[class]);
                assert!((found - each.iter().sum::<f64>() / 3.0).abs() < 1e-6);
                // The logarithm is concave.
                let members = each.iter().map(|p| -p.ln()).sum::<f64>() / 3.0;
                assert!(-found.ln() < members, "{class}: {found} {each:?}");
            }
        }
    }

    #[test]
    fn a_soup_averages_biases_and_scales_and_keeps_the_first_statistics() {
        let device = Device::flex().autodiff();
        let models = [1.0f32, 2.0, 6.0].map(|value| {
            let mut model = model(&device, value);
            model.1.gamma = Param::from_data([value], &device);
            // Moves the running mean to a tenth of the value.
            let _ = model.1.forward(Tensor::<2>::full([4, 1], value, &device));
            model
        });
        let soup = model_soup(models.to_vec()).expect("one architecture");
        let read =
            |param: &Param<Tensor<1>>| -> Vec<f32> { param.val().try_to_vec_as().expect("reads") };
        assert_eq!(soup.0.bias.as_ref().map(read), Some(vec![3.0]));
        assert_eq!(read(&soup.1.gamma), [3.0]);
        let mean: f32 = soup.1.running_mean.value_sync().into_scalar();
        assert!((mean - 0.1).abs() < 1e-6, "{mean}");
    }
}
