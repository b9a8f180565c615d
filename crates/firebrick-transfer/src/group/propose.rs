//! Layer groups from the structure of a model.

use super::walk::{Place, places};
use super::{Group, Groups};
use crate::TransferError;
use burn::module::Module;
use firebrick_backend::Role;

/// A part of the model: what its fields or elements are, and what hangs on it.
#[derive(Debug, Default)]
struct Part {
    path: String,
    /// What holds its children: `Struct:Net`, `Vec`.
    kind: String,
    children: Vec<Part>,
    /// Layers with weights in it.
    layers: usize,
    /// Whether it is an element of a list, which is not taken apart.
    element: bool,
}

impl Part {
    fn tree(places: &[Place]) -> Self {
        let mut root = Self::default();
        for place in places {
            let weight = matches!(place.role(), Some(Role::Weight | Role::Embedding));
            let names: Vec<&str> = place.path.split('.').collect();
            root.insert(place, &names, weight && !place.in_adapter());
        }
        root
    }

    fn insert(&mut self, place: &Place, names: &[&str], weight: bool) {
        self.layers += usize::from(weight);
        let Some((name, rest)) = names.split_first() else { return };
        let depth = place.containers.len() - names.len();
        self.kind.clone_from(&place.containers[depth]);
        let path =
            if self.path.is_empty() { (*name).to_owned() } else { format!("{}.{name}", self.path) };
        let at = self.children.iter().position(|child| child.path == path);
        let at = at.unwrap_or_else(|| {
            self.children.push(Self { path, ..Self::default() });
            self.children.len() - 1
        });
        self.children[at].insert(place, rest, weight);
    }

    fn weighted(&self) -> usize {
        self.children.iter().filter(|child| child.layers > 0).count()
    }

    fn is_list(&self) -> bool {
        matches!(self.kind.as_str(), "Vec" | "Array")
    }

    /// Whether it is, or holds, a list of two layers or more.
    fn holds_list(&self) -> bool {
        self.is_list() && self.weighted() > 1 || self.children.iter().any(Self::holds_list)
    }

    /// The parts of it that become groups, in a model with `layers` layers; `last` where it holds the head.
    fn units(self, layers: usize, last: bool) -> Vec<Self> {
        let alone = self.layers == layers && self.weighted() > 0;
        let most = 2 * self.layers > layers && !last && self.weighted() > 1;
        let list = self.is_list() && self.weighted() > 0;
        let apart = list || alone || !self.element && (most || self.holds_list());
        let is_layer = self.children.iter().all(|child| child.children.is_empty());
        if apart && !is_layer { self.apart(layers, last) } else { vec![self] }
    }

    fn apart(self, layers: usize, last: bool) -> Vec<Self> {
        let element = self.is_list();
        let end = self.children.iter().rposition(|child| child.layers > 0);
        let children = self.children.into_iter().enumerate();
        let units = |(index, child): (usize, Self)| {
            let last = last && Some(index) == end;
            Self { element, ..child }.units(layers, last)
        };
        children.flat_map(units).collect()
    }
}

pub(super) fn propose<M: Module>(model: &M) -> Result<Groups, TransferError> {
    let places = places(model);
    let root = Part::tree(&places);
    let layers = root.layers;
    if root.children.is_empty() {
        return Err(TransferError::NoGroups { reason: "the model has no parameter".into() });
    }
    let single = root.children.iter().all(|child| child.children.is_empty());
    if single || layers == 0 {
        let prefixes = root.children.into_iter().map(|child| child.path).collect();
        return Groups::try_from(vec![Group { name: "model".into(), prefixes }]);
    }
    let mut groups: Vec<Group> = Vec::new();
    let mut waiting = Vec::new();
    for unit in root.apart(layers, true) {
        match groups.last_mut() {
            Some(group) if unit.layers == 0 => group.prefixes.push(unit.path),
            None if unit.layers == 0 => waiting.push(unit.path),
            _ => {
                let mut prefixes = std::mem::take(&mut waiting);
                prefixes.push(unit.path.clone());
                groups.push(Group { name: unit.path, prefixes });
            }
        }
    }
    Groups::try_from(groups)
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::testing::{net, residual};
    use burn::nn::{DropoutConfig, LayerNormConfig, Linear, LinearConfig};
    use burn::tensor::Device;

    #[test]
    fn fields_and_list_elements_become_groups_and_norms_join_what_stands_before() {
        let device = Device::flex().autodiff();
        let groups = Groups::propose(&residual(&device, 12)).expect("has parameters");
        let mut expected = vec!["stem".to_owned()];
        expected.extend((0..12).map(|index| format!("blocks.{index}")));
        expected.push("head".into());
        assert_eq!(groups.names(), expected);
        let net = net(&device);
        let groups = Groups::propose(&net).expect("has parameters");
        assert_eq!(groups.names(), ["first", "second", "head"]);
        assert_eq!(groups.group_of("norm.gamma"), Some("first"));
        assert_eq!(groups.group_of("dropout.noise.training"), Some("second"));
        groups.check(&net).expect("covers all");
    }

    #[test]
    fn a_body_is_taken_apart_and_a_head_is_not() {
        #[derive(Module, Debug)]
        struct Body {
            low: Linear,
            high: Linear,
        }
        #[derive(Module, Debug)]
        struct Whole {
            norm: burn::nn::LayerNorm,
            body: Body,
            head: Body,
        }
        let device = Device::flex();
        let linear = || LinearConfig::new(3, 3).init(&device);
        let body = || Body { low: linear(), high: linear() };
        let norm = LayerNormConfig::new(3).init(&device);
        let whole = Whole { norm, body: body(), head: body() };
        let names =
            |groups: Groups| groups.names().into_iter().map(String::from).collect::<Vec<_>>();
        // Neither holds more than half.
        assert_eq!(names(Groups::propose(&whole).expect("fine")), ["body", "head"]);
        assert_eq!(Groups::propose(&whole).expect("fine").group_of("norm.beta"), Some("body"));
        let whole = (body(), vec![linear()], linear());
        assert_eq!(names(Groups::propose(&whole).expect("fine")), ["0", "1.0", "2"]);
        assert_eq!(
            names(Groups::propose(&(body(), linear())).expect("fine")),
            ["0.low", "0.high", "1"]
        );
        assert_eq!(names(Groups::propose(&(linear(), body())).expect("fine")), ["0", "1"]);
        assert_eq!(names(Groups::propose(&vec![body()]).expect("fine")), ["0.low", "0.high"]);
        assert_eq!(names(Groups::propose(&linear()).expect("fine")), ["model"]);
        assert_eq!(
            names(Groups::propose(&LayerNormConfig::new(2).init(&device)).expect("fine")),
            ["model"]
        );
    }

    #[test]
    fn a_model_without_parameters_has_no_groups() {
        let none: Vec<Linear> = Vec::new();
        assert!(matches!(Groups::propose(&none), Err(TransferError::NoGroups { .. })));
        let switch = Groups::propose(&DropoutConfig::new(0.5).init()).expect("a switch is a place");
        assert_eq!(switch.names(), ["model"]);
    }
}
