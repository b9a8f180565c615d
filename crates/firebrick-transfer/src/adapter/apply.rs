//! Which weights adapters hang on.

use super::hang::{Target, hang};
use super::kind::{AdapterKind, LoraInit};
use super::matrix::Layout;
use crate::TransferError;
use crate::group::{Groups, Mode, Place, Plan, listed, places};
use burn::module::Module;
use firebrick_backend::Role;
use firebrick_core::{ConfigError, Seed};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Hangs adapters on the weights of linear layers and convolutions; a value that is saved with them.
///
/// Embeddings and the last group, the head, are left alone unless they are named; what is not adapted keeps its
/// switches. [`plan`](Self::plan) then trains the adapters and the head: burn's own `apply_lora` freezes a new head,
/// adapts embeddings, draws A from an unseeded generator six times too large, and forgets its scale.
///
/// ```
/// use burn::nn::LinearConfig;
/// use firebrick_core::Seed;
/// use firebrick_transfer::{AdaptConfig, AdapterKind, Groups, Switches, merge};
///
/// let device = burn::tensor::Device::flex().autodiff();
/// let model = (LinearConfig::new(16, 16).init(&device), LinearConfig::new(16, 2).init(&device));
/// let groups = Groups::propose(&model)?;
/// let adapt = AdaptConfig::new(AdapterKind::lora(4), Seed(1));
/// let model = adapt.apply(model, &groups)?;
/// let plan = adapt.plan(&groups, &model)?;
/// let model = plan.apply(model.clone(), &Switches::of(&model))?;
/// assert!(!model.0.weight.is_require_grad() && model.1.weight.is_require_grad());
/// assert_eq!(plan.table(&model)?.trainable(), 4 * (16 + 16) + 16 * 2 + 2);
/// let merged = merge(&model); // an ordinary model
/// assert!(merged.0.weight.adapter().is_none());
/// # Ok::<(), firebrick_transfer::TransferError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdaptConfig {
    kind: AdapterKind,
    seed: Seed,
    groups: Option<Vec<String>>,
    endings: Vec<String>,
}

impl AdaptConfig {
    /// Adapters of `kind` on all groups but the last.
    #[must_use]
    pub fn new(kind: AdapterKind, seed: Seed) -> Self {
        Self { kind, seed, groups: None, endings: Vec::new() }
    }

    /// Adapts the weights of these groups alone. The last one, the head, is named only where it is to be adapted in the
    /// place of being trained.
    #[must_use]
    pub fn on(mut self, groups: &[&str]) -> Self {
        self.groups = Some(groups.iter().map(|&name| name.to_owned()).collect());
        self
    }

    /// Adapts only weights whose path ends so, in whole segments: `query.weight`, `value.weight`.
    #[must_use]
    pub fn endings(mut self, endings: &[&str]) -> Self {
        self.endings = endings.iter().map(|&ending| ending.to_owned()).collect();
        self
    }

    /// Where random factors come from.
    #[must_use]
    pub fn seed(&self) -> Seed {
        self.seed
    }

    /// Which adapter.
    #[must_use]
    pub fn kind(&self) -> &AdapterKind {
        &self.kind
    }

    /// `model` with adapters on the chosen weights. Nothing is frozen yet, see [`plan`](Self::plan).
    ///
    /// # Errors
    /// When a number is out of range, a group is not known, no weight is chosen, a weight has an adapter already, or
    /// the rank is above what PiSSA can take from a weight.
    pub fn apply<M: Module>(&self, model: M, groups: &Groups) -> Result<M, TransferError> {
        let targets = self.targets(&model, groups)?;
        hang(self, model, targets)
    }

    /// The plan that trains the adapters and the last group and freezes everything else.
    ///
    /// A last group that is named in [`on`](Self::on) has adapters of its own: those train, and its own weights and
    /// biases stay as they are, as those of any other group. A head for new classes is not to be named.
    ///
    /// # Errors
    /// When the groups do not fit the model, or nothing in it is adapted.
    pub fn plan<M: Module>(&self, groups: &Groups, model: &M) -> Result<Plan, TransferError> {
        let phases = crate::Recipe::Adapters.phases(groups, model, 1, 1.0)?;
        let plan = phases.into_iter().next().map(|phase| phase.plan);
        Ok(plan.unwrap_or_else(|| Plan::new(groups.clone()).with_all(Mode::Frozen)))
    }

    /// The chosen weights by path.
    fn targets<M: Module>(
        &self,
        model: &M,
        groups: &Groups,
    ) -> Result<BTreeMap<String, Target>, TransferError> {
        self.kind.check()?;
        let places = places(model);
        groups.check_places(&places)?;
        for name in self.groups.iter().flatten() {
            groups.position(name)?;
        }
        let wanted = |place: &Place| {
            let group = groups.group_of(&place.path).unwrap_or_default();
            let in_group = match &self.groups {
                Some(names) => names.iter().any(|name| name == group),
                None => group != groups.head() || groups.len() == 1,
            };
            let ends = self.endings.is_empty()
                || self.endings.iter().any(|ending| {
                    let rest = place.path.strip_suffix(ending.as_str());
                    rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
                });
            in_group && ends && place.role() == Some(Role::Weight)
        };
        let mut targets = BTreeMap::new();
        for place in places.iter().filter(|place| wanted(place)) {
            let crate::group::Item::Tensor { shape, .. } = &place.item else { continue };
            let prefix = format!("{}.", place.path);
            if place.in_adapter() || places.iter().any(|other| other.path.starts_with(&prefix)) {
                let taken = format!("`{}`", place.path);
                return Err(ConfigError::new("weight", taken, "without an adapter").into());
            }
            let Some(layout) = Layout::of(&place.owner, shape.len()) else { continue };
            targets.insert(place.path.clone(), Target { layout, shape: shape.clone() });
        }
        if targets.is_empty() {
            let weights = places.iter().filter(|place| place.role() == Some(Role::Weight));
            let known = listed(weights.map(|place| place.path.as_str()));
            return Err(TransferError::NothingToTrain {
                reason: format!("no weight is chosen to be adapted; there are {known}"),
            });
        }
        if let AdapterKind::Lora { rank, init: LoraInit::Pissa, .. } = self.kind {
            for (path, target) in &targets {
                let [inputs, outputs] = target.layout.dims(&target.shape);
                if rank > inputs.min(outputs) {
                    let expected = format!("at most {} for `{path}`", inputs.min(outputs));
                    return Err(ConfigError::new("rank", rank, expected).into());
                }
            }
        }
        Ok(targets)
    }
}
