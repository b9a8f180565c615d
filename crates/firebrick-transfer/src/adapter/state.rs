//! Adapters apart from the model: saved, put on another copy of it, taken out of a merged one.

use super::hang::{Target, hang};
use super::kind::{AdapterKind, LoraInit};
use super::matrix::Layout;
use super::walk::{Change, Fill, Read, Undo};
use super::{AdaptConfig, file};
use crate::TransferError;
use crate::group::{Groups, Item, Place, Stack, listed, places};
use burn::module::Module;
use firebrick_backend::Role;
use firebrick_core::ConfigError;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// A tensor on the host.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Values {
    pub(super) shape: Vec<usize>,
    pub(super) values: Vec<f64>,
}

/// What adapters learned, and the new head with them: all that has to be kept of a fine-tuning but the source.
///
/// ```
/// use burn::nn::LinearConfig;
/// use firebrick_core::Seed;
/// use firebrick_transfer::{AdaptConfig, AdapterKind, AdapterState, Groups, Switches};
///
/// let device = burn::tensor::Device::flex().autodiff();
/// let source = (LinearConfig::new(4, 4).init(&device), LinearConfig::new(4, 2).init(&device));
/// let groups = Groups::propose(&source)?;
/// let adapt = AdaptConfig::new(AdapterKind::lora(2), Seed(1));
/// let model = adapt.apply(source.clone(), &groups)?;
/// let model = adapt.plan(&groups, &model)?.apply(model.clone(), &Switches::of(&model))?;
/// // ... training ...
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("adapter.safetensors");
/// AdapterState::of(&model, &adapt, &groups)?.save(&path)?;
/// let again = AdapterState::load(&path)?.attach(source)?;
/// assert_eq!(again.0.weight.val().into_data(), model.0.weight.val().into_data());
/// # Ok::<(), firebrick_transfer::TransferError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterState {
    config: AdaptConfig,
    /// The adapted weights.
    layouts: BTreeMap<String, Layout>,
    tensors: BTreeMap<String, Values>,
}

/// What is written beside the tensors.
#[derive(Serialize, Deserialize)]
struct Header {
    format: u32,
    config: AdaptConfig,
    layouts: BTreeMap<String, Layout>,
}

/// `model` with its adapters worked into the weights, in evaluation mode: an ordinary model again.
///
/// The given model keeps its adapters.
#[must_use]
pub fn merge<M: Module>(model: &M) -> M {
    model.valid().materialize()
}

impl AdapterState {
    /// The adapters of `model`, as `config` put them there, and the last of its groups, the head.
    ///
    /// What else was trained is to be saved with the model.
    ///
    /// # Errors
    /// When the groups do not fit the model, it has no adapter, or a value is not finite.
    pub fn of<M: Module>(
        model: &M,
        config: &AdaptConfig,
        groups: &Groups,
    ) -> Result<Self, TransferError> {
        let places = places(model);
        groups.check_places(&places)?;
        let is_adapted = |path: &str| {
            let prefix = format!("{path}.");
            places.iter().any(|other| other.in_adapter() && other.path.starts_with(&prefix))
        };
        let is_kept = |place: &&Place| {
            let head = groups.group_of(&place.path) == Some(groups.head());
            let parameter = place.role().is_some_and(|role| role != Role::Buffer);
            parameter && (place.in_adapter() || head && !is_adapted(&place.path))
        };
        let kept: Vec<&str> =
            places.iter().filter(is_kept).map(|place| place.path.as_str()).collect();
        let mut layouts = BTreeMap::new();
        for place in &places {
            let adapted = !place.in_adapter() && is_adapted(&place.path);
            if let (true, Item::Tensor { shape, .. }) = (adapted, &place.item)
                && let Some(layout) = Layout::of(&place.owner, shape.len())
            {
                layouts.insert(place.path.clone(), layout);
            }
        }
        if layouts.is_empty() {
            let reason = "no weight of the model has an adapter".into();
            return Err(TransferError::NothingToTrain { reason });
        }
        let tensors = Read::of(model, &kept)?;
        for (path, tensor) in &tensors {
            if let Some(value) = tensor.values.iter().find(|value| !value.is_finite()) {
                let what = format!("a value of `{path}`");
                return Err(TransferError::NotFinite { what, value: *value });
            }
        }
        Ok(Self { config: config.clone(), layouts, tensors })
    }

    /// How the adapters were made.
    #[must_use]
    pub fn config(&self) -> &AdaptConfig {
        &self.config
    }

    /// The paths of what is kept: the adapters' parameters and those of the head.
    #[must_use]
    pub fn paths(&self) -> Vec<&str> {
        self.tensors.keys().map(String::as_str).collect()
    }

    /// Writes a safetensors file in f32, with rank, scale and seed in its metadata; whole or not at all.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), TransferError> {
        let path = path.as_ref();
        let header =
            Header { format: 1, config: self.config.clone(), layouts: self.layouts.clone() };
        let text = serde_json::to_string(&header).map_err(|error| TransferError::File {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
        file::write(path, &text, &self.tensors)
    }

    /// Reads what [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// When the file cannot be read, is cut off, or holds something else.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, TransferError> {
        let path = path.as_ref();
        let failed = |reason: String| TransferError::File { path: path.to_owned(), reason };
        let (text, tensors) = file::read(path)?;
        let header: Header =
            serde_json::from_str(&text).map_err(|error| failed(error.to_string()))?;
        if header.format != 1 {
            return Err(failed(format!("its format is {}, this library reads 1", header.format)));
        }
        let Header { config, layouts, .. } = header;
        Ok(Self { config, layouts, tensors })
    }

    /// The source model with these adapters on it, and the head.
    ///
    /// # Errors
    /// When the model lacks one of the parameters, has one of another shape, or has adapters already; the model
    /// is consumed by value, its clones are as they were.
    pub fn attach<M: Module>(&self, model: M) -> Result<M, TransferError> {
        let targets = self.targets(&model)?;
        let model = hang(&self.config, model, targets)?;
        self.fill(model)
    }

    /// The adapted model of a merged one: its weights less the adapters' change, with the adapters on them.
    ///
    /// Up to the rounding of the two operations, the source.
    ///
    /// # Errors
    /// As [`attach`](Self::attach); for DoRA, whose change the merged weight alone does not tell; and for IA3 where a
    /// factor is 0.
    pub fn unmerge<M: Module>(&self, merged: M) -> Result<M, TransferError> {
        let targets = self.targets(&merged)?;
        let mut config = self.config.clone();
        match config.kind() {
            AdapterKind::Dora { .. } => {
                return Err(ConfigError::new("adapter", "DoRA", "LoRA, PiSSA, VeRA or IA3").into());
            }
            // The base is what the merged weight tells, not what the largest triplets leave of it.
            AdapterKind::Lora { rank, alpha, scaling, .. } => {
                let (rank, alpha, scaling) = (*rank, *alpha, *scaling);
                let init = LoraInit::Uniform;
                let kind = AdapterKind::Lora { rank, alpha, scaling, init };
                config = AdaptConfig::new(kind, config.seed());
            }
            AdapterKind::Vera { .. } | AdapterKind::Ia3 { .. } => {}
        }
        let model = hang(&config, merged, targets)?;
        let model = self.fill(model)?;
        let changes = self.changes(&config, &model)?;
        Ok(model.map(&mut Undo { stack: Stack::default(), changes }))
    }

    fn targets<M: Module>(&self, model: &M) -> Result<BTreeMap<String, Target>, TransferError> {
        let places = places(model);
        if places.iter().any(|place| place.in_adapter()) {
            return Err(ConfigError::new("model", "one with adapters", "without adapters").into());
        }
        let mut targets = BTreeMap::new();
        for (path, &layout) in &self.layouts {
            let found = places.iter().find(|place| &place.path == path);
            let shape = match found.map(|place| &place.item) {
                Some(Item::Tensor { shape, .. }) => shape.clone(),
                _ => return Err(missing(path, places.iter().map(|place| place.path.as_str()))),
            };
            if Layout::of(&found.map_or(String::new(), |place| place.owner.clone()), shape.len())
                != Some(layout)
            {
                let expected = format!("a weight that lies as {layout:?}");
                let what = format!("`{path}`");
                return Err(TransferError::Shape { what, found: shape, expected });
            }
            targets.insert(path.clone(), Target { layout, shape });
        }
        Ok(targets)
    }

    /// Puts the kept values in their places; all of them or none.
    fn fill<M: Module>(&self, model: M) -> Result<M, TransferError> {
        let places = places(&model);
        for (path, values) in &self.tensors {
            let found = places.iter().find(|place| &place.path == path);
            match found.map(|place| &place.item) {
                Some(Item::Tensor { shape, .. }) if *shape == values.shape => {}
                Some(Item::Tensor { shape, .. }) => {
                    let (what, expected) = (format!("`{path}`"), format!("{:?}", values.shape));
                    return Err(TransferError::Shape { what, found: shape.clone(), expected });
                }
                _ => return Err(missing(path, places.iter().map(|place| place.path.as_str()))),
            }
        }
        for place in places.iter().filter(|place| place.in_adapter()) {
            if matches!(place.item, Item::Tensor { .. }) && !self.tensors.contains_key(&place.path)
            {
                return Err(missing(&place.path, self.paths()));
            }
        }
        Ok(model.map(&mut Fill { stack: Stack::default(), tensors: &self.tensors }))
    }

    /// What the adapters of a model do to each weight.
    fn changes<M: Module>(
        &self,
        config: &AdaptConfig,
        model: &M,
    ) -> Result<BTreeMap<String, Change>, TransferError> {
        let mut changes = BTreeMap::new();
        let wanted: Vec<&str> = self.layouts.keys().map(String::as_str).collect();
        let (of_merged, of_base) = (Read::of(&merge(model), &wanted)?, Read::of(model, &wanted)?);
        for (path, layout) in &self.layouts {
            let (Some(merged), Some(base)) = (of_merged.get(path), of_base.get(path)) else {
                continue;
            };
            let change = match config.kind() {
                // merged W - (merged of W - W)
                AdapterKind::Ia3 { by_input } => {
                    let scale = self.tensors.get(&format!("{path}.ia3.scale"));
                    let scale = scale.ok_or_else(|| missing(path, self.paths()))?;
                    if let Some(zero) = scale.values.iter().find(|factor| **factor == 0.0) {
                        return Err(ConfigError::new("factor of IA3", zero, "other than 0").into());
                    }
                    Change::Factors { by_input: *by_input, layout: *layout, factors: scale.clone() }
                }
                _ => {
                    let pairs = merged.values.iter().zip(&base.values);
                    Change::Sum(Values {
                        shape: base.shape.clone(),
                        values: pairs.map(|(merged, base)| merged - base).collect(),
                    })
                }
            };
            changes.insert(path.clone(), change);
        }
        Ok(changes)
    }
}

fn missing<'a>(path: &str, known: impl IntoIterator<Item = &'a str>) -> TransferError {
    TransferError::NoSuchParameter { path: path.into(), known: listed(known) }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::testing::{Residual, bits, residual, values};
    use crate::{Scaling, Switches};
    use burn::module::{ModuleMapper, Param};
    use burn::tensor::Tensor;
    use burn::tensor::{Device, activation::relu};
    use firebrick_core::Seed;

    fn source() -> Residual {
        residual(&Device::flex().autodiff(), 2)
    }

    fn kinds() -> Vec<AdapterKind> {
        let rs = AdapterKind::Lora {
            rank: 2,
            alpha: 3.0,
            scaling: Scaling::ByRoot,
            init: LoraInit::Normal { deviation: 0.1 },
        };
        vec![
            AdapterKind::lora(2),
            rs,
            AdapterKind::pissa(2),
            AdapterKind::dora(2),
            AdapterKind::Vera { rank: 3, start: 0.1 },
            AdapterKind::Ia3 { by_input: false },
            AdapterKind::Ia3 { by_input: true },
        ]
    }

    fn output(model: &Residual) -> Vec<f64> {
        let device = model.head.weight.val().device();
        let numbers: Vec<f32> = (0..2 * 36).map(|i| ((i * 31 % 17) as f32) * 0.1 - 0.7).collect();
        let x = Tensor::<1>::from_floats(numbers.as_slice(), &device).reshape([2, 1, 6, 6]);
        let block = |block: &crate::testing::Block, x: Tensor<4>| {
            relu(block.norm.forward(block.conv.forward(x)))
        };
        let x = model.blocks.iter().fold(block(&model.stem, x), |x, part| block(part, x));
        let features: Tensor<2> = x.mean_dim(3).mean_dim(2).reshape([2, 3]);
        values(model.head.forward(features))
    }

    fn groups() -> Groups {
        Groups::propose(&source()).expect("has groups")
    }

    /// The model with adapters, ready to train.
    fn adapted(kind: &AdapterKind) -> (Residual, AdaptConfig) {
        let source = source();
        let groups = Groups::propose(&source).expect("has groups");
        let adapt = AdaptConfig::new(kind.clone(), Seed(3)).on(&["stem", "blocks.1", "head"]);
        let model = adapt.apply(source, &groups).expect("fits");
        let plan = adapt.plan(&groups, &model).expect("fits");
        let switches = Switches::of(&model);
        (plan.apply(model, &switches).expect("fits"), adapt)
    }

    /// All that trains moved by a little.
    fn trained(model: Residual) -> Residual {
        struct Move(f64);
        impl ModuleMapper for Move {
            fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
                if !param.is_require_grad() {
                    return param;
                }
                self.0 += 1.0;
                let by = 0.05 * (self.0 % 3.0 + 1.0);
                param.map(|t| (t + by).detach().require_grad())
            }
        }
        model.map(&mut Move(0.0))
    }

    fn close(left: &[f64], right: &[f64], tolerance: f64, what: &str) {
        assert_eq!(left.len(), right.len());
        for (left, right) in left.iter().zip(right) {
            assert!((left - right).abs() <= tolerance, "{what}: {left} {right}");
        }
    }

    #[test]
    fn an_adapter_changes_nothing_at_first_but_what_vera_and_normal_start_with() {
        let before = output(&source().valid());
        for kind in kinds() {
            // VeRA's b and LoRA's B start at 0, so the change does, whatever d and A are.
            close(&output(&adapted(&kind).0.valid()), &before, 2e-6, &format!("{kind:?}"));
        }
    }

    #[test]
    fn only_adapters_and_the_head_get_gradients_and_the_source_stays_to_the_bit() {
        let source_bits = bits(&source());
        for kind in kinds() {
            let (model, _) = adapted(&kind);
            let places = places(&model);
            // A head that is named is a group as any other: its adapters train, its weight and bias stay.
            for place in places.iter().filter(|place| matches!(place.item, Item::Tensor { .. })) {
                assert_eq!(place.trains(), place.in_adapter(), "{kind:?}: {}", place.path);
            }
            assert!(places.iter().any(|place| place.trains() && place.path.starts_with("head.")));
            let moved = trained(model);
            assert_ne!(output(&moved.valid()), output(&source().valid()), "{kind:?}");
            if matches!(kind, AdapterKind::Lora { init: LoraInit::Pissa, .. }) {
                continue;
            }
            let now = bits(&moved);
            for (path, bits) in &source_bits {
                let found = now.iter().find(|(other, _)| other == path).expect("there");
                assert_eq!(found.1, *bits, "{kind:?}: {path}");
            }
        }
    }

    #[test]
    fn a_head_that_is_not_named_trains_as_a_whole_and_has_no_adapter() {
        for kind in kinds() {
            let adapt = AdaptConfig::new(kind.clone(), Seed(3)).on(&["stem", "blocks.1"]);
            let model = adapt.apply(source(), &groups()).expect("fits");
            let plan = adapt.plan(&groups(), &model).expect("fits");
            let switches = Switches::of(&model);
            let model = plan.apply(model, &switches).expect("fits");
            let found = places(&model);
            for place in found.iter().filter(|place| matches!(place.item, Item::Tensor { .. })) {
                let wanted = place.in_adapter() || place.path.starts_with("head.");
                assert_eq!(place.trains(), wanted, "{kind:?}: {}", place.path);
            }
            let head = found.iter().filter(|place| place.path.starts_with("head."));
            let head: Vec<&str> = head.map(|place| place.path.as_str()).collect();
            assert_eq!(head, ["head.weight", "head.bias"], "{kind:?}");
        }
    }

    #[test]
    fn merged_is_the_same_and_unmerged_is_the_source_again() {
        for kind in kinds() {
            let (model, adapt) = adapted(&kind);
            let model = trained(model);
            let (before, merged) = (output(&model.valid()), merge(&model));
            assert!(!places(&merged).iter().any(|place| place.in_adapter()));
            close(&output(&merged), &before, 1e-6, "merged");
            assert_eq!(bits(&merge(&merged)), bits(&merged), "merging twice is merging once");
            assert!(
                places(&model).iter().any(|place| place.in_adapter()),
                "the model keeps its adapters"
            );
            let state = AdapterState::of(&model, &adapt, &groups()).expect("has adapters");
            let unmerged = state.unmerge(merged);
            if matches!(kind, AdapterKind::Dora { .. }) {
                assert!(unmerged.expect_err("refused").to_string().contains("DoRA"));
                continue;
            }
            let unmerged = unmerged.expect("comes apart");
            close(&output(&unmerged), &before, 1e-5, "unmerged");
            let weight = |model: &Residual| values(model.stem.conv.weight.base().inner());
            close(&weight(&unmerged), &weight(&model), 1e-6, "the base");
        }
    }

    #[test]
    fn a_file_holds_the_adapters_the_head_and_their_scale_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("adapter.safetensors");
        for kind in kinds() {
            let (model, adapt) = adapted(&kind);
            let model = trained(model);
            let state = AdapterState::of(&model, &adapt, &groups()).expect("has adapters");
            assert!(
                !state
                    .paths()
                    .iter()
                    .any(|path| path.starts_with("blocks.0") || *path == "stem.conv.weight")
            );
            state.save(&path).expect("writes");
            let loaded = AdapterState::load(&path).expect("reads");
            assert_eq!(loaded, state, "{kind:?}");
            let again = loaded.attach(source()).expect("fits");
            assert_eq!(output(&again.valid()), output(&model.valid()), "{kind:?}");
            if let Some(lora) = again.head.weight.adapter() {
                assert_eq!(lora.scale, kind.scale());
            }
            // Once more on a model that has them, or on another one.
            assert!(
                loaded.attach(again).expect_err("refused").to_string().contains("without adapters")
            );
            let other = residual(&Device::flex(), 1);
            let error = loaded.attach(other).expect_err("refused").to_string();
            assert!(error.contains("no parameter `blocks.1.conv.weight`"), "{error}");
        }
    }

    #[test]
    fn a_damaged_file_is_an_error_and_never_a_panic() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("adapter.safetensors");
        let (model, adapt) = adapted(&AdapterKind::lora(1));
        AdapterState::of(&model, &adapt, &groups()).expect("has").save(&path).expect("writes");
        let whole = std::fs::read(&path).expect("reads");
        for length in (0..whole.len()).step_by(7) {
            std::fs::write(&path, &whole[..length]).expect("writes");
            assert!(AdapterState::load(&path).is_err(), "{length}");
        }
        for at in 0..8 {
            let mut bytes = whole.clone();
            bytes[at] = 0xff;
            std::fs::write(&path, bytes).expect("writes");
            assert!(AdapterState::load(&path).is_err());
        }
        assert!(AdapterState::load(folder.path().join("nowhere")).is_err());
        assert!(
            AdapterState::of(&source(), &adapt, &groups())
                .expect_err("refused")
                .to_string()
                .contains("adapter")
        );
    }

    #[test]
    fn bad_configurations_are_refused_and_name_what_there_is() {
        let model = source();
        let groups = Groups::propose(&model).expect("has groups");
        let refused = |adapt: AdaptConfig| {
            adapt.apply(model.clone(), &groups).expect_err("refused").to_string()
        };
        let new = |kind| AdaptConfig::new(kind, Seed(1));
        assert!(refused(new(AdapterKind::lora(0))).contains("`rank`"));
        assert!(refused(new(AdapterKind::lora(2)).on(&["block.1"])).contains("`blocks.0`"));
        assert!(
            refused(new(AdapterKind::lora(2)).endings(&["query.weight"]))
                .contains("no weight is chosen")
        );
        assert!(
            refused(new(AdapterKind::pissa(4))).contains("at most 3 for `blocks.0.conv.weight`")
        );
        let alpha = AdapterKind::Lora {
            rank: 1,
            alpha: f64::NAN,
            scaling: Scaling::ByRank,
            init: LoraInit::Uniform,
        };
        assert!(refused(new(alpha)).contains("`alpha`"));
        // Factors that are all 0 would stay so.
        let init = LoraInit::Normal { deviation: 0.0 };
        let dead = AdapterKind::Lora { rank: 1, alpha: 1.0, scaling: Scaling::ByRank, init };
        assert!(refused(new(dead)).contains("`deviation`"));
        for start in [0.0, f64::NAN] {
            assert!(refused(new(AdapterKind::Vera { rank: 1, start })).contains("`start`"));
        }
        let twice = new(AdapterKind::lora(1)).apply(model.clone(), &groups).expect("fits");
        let again = new(AdapterKind::lora(1)).apply(twice, &groups).expect_err("refused");
        assert!(again.to_string().contains("without an adapter"), "{again}");
    }

    #[test]
    fn embeddings_and_the_head_are_left_alone() {
        let device = Device::flex().autodiff();
        let model = (
            burn::nn::EmbeddingConfig::new(7, 4).init(&device),
            burn::nn::LinearConfig::new(4, 4).init(&device),
            burn::nn::LinearConfig::new(4, 2).init(&device),
        );
        let groups = Groups::propose(&model).expect("has groups");
        let adapt = AdaptConfig::new(AdapterKind::lora(2), Seed(1));
        let model = adapt.apply(model, &groups).expect("fits");
        let adapted: Vec<String> = places(&model)
            .into_iter()
            .filter(|place| place.in_adapter())
            .map(|place| place.path)
            .collect();
        assert_eq!(adapted, ["1.weight.lora.a", "1.weight.lora.b"]);
        let plan = adapt.plan(&groups, &model).expect("fits");
        let model = plan.apply(model.clone(), &Switches::of(&model)).expect("fits");
        assert!(model.2.weight.is_require_grad() && !model.0.weight.is_require_grad());
        // LoRA+: B at 16 times the rate.
        let plus = plan.with_ending_rate("lora.b", 16.0).expect("fine");
        assert_eq!(plus.rate_of("1.weight.lora.b"), Some(16.0));
        assert_eq!(plus.rate_of("1.weight.lora.a"), Some(1.0));
    }

    #[test]
    fn the_initial_deviation_is_the_stated_one() {
        let device = Device::flex().autodiff();
        let model = (
            burn::nn::LinearConfig::new(400, 30).init(&device),
            burn::nn::LinearConfig::new(30, 2).init(&device),
        );
        let groups = Groups::propose(&model).expect("has groups");
        for (init, expected) in [
            (LoraInit::Uniform, 1.0 / (3.0f64 * 400.0).sqrt()),
            (LoraInit::Normal { deviation: 0.2 }, 0.2),
        ] {
            let kind = AdapterKind::Lora { rank: 10, alpha: 10.0, scaling: Scaling::ByRank, init };
            let model =
                AdaptConfig::new(kind, Seed(1)).apply(model.clone(), &groups).expect("fits");
            let a = values(model.0.weight.adapter().expect("there").a.val());
            let deviation = (a.iter().map(|x| x * x).sum::<f64>() / a.len() as f64).sqrt();
            // 4000 draws: five standard errors of a deviation are 5 / sqrt(8000).
            assert!((deviation / expected - 1.0).abs() < 0.056, "{deviation} {expected}");
        }
    }
}
