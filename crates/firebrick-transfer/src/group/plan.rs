//! A plan: what happens to each layer group.

use super::mode::{Mode, NormMode, Treatment, live, trains};
use super::{Groups, Item, Place, Stack, Table, listed, places};
use crate::TransferError;
use crate::freeze::Switches;
use burn::module::{Flag, Module, ModuleMapper, Param, ParamGroup};
use burn::tensor::Tensor;
use firebrick_backend::Role;
use firebrick_core::{ConfigError, check};
use firebrick_optim::{Elementwise, FusedOptimizer};
use serde::{Deserialize, Serialize};

/// What happens to each layer group: a value that is printed, saved and compared.
///
/// ```
/// use burn::nn::LinearConfig;
/// use burn::optim::GradientsParams;
/// use burn::tensor::{Device, Tensor};
/// use firebrick_optim::AdamWConfig;
/// use firebrick_transfer::{Groups, Mode, Plan, Switches};
///
/// let device = Device::flex().autodiff();
/// let model = (LinearConfig::new(4, 8).init(&device), LinearConfig::new(8, 2).init(&device));
/// let plan = Plan::new(Groups::propose(&model)?).with("0", Mode::Frozen)?.with_rate("1", 0.5)?;
/// println!("{}", plan.table(&model)?);
///
/// let switches = Switches::of(&model); // what a thaw puts back
/// let mut model = plan.apply(model, &switches)?;
/// let mut optimizer = plan.optimizer(&model, &AdamWConfig::new().build()?)?;
/// let before = model.0.weight.val().into_data();
/// let loss = model.1.forward(model.0.forward(Tensor::<2>::ones([3, 4], &device))).square().mean();
/// let gradients = GradientsParams::from_grads(loss.backward(), &model);
/// model = optimizer.step(1e-3, model, gradients);
/// assert_eq!(model.0.weight.val().into_data(), before);
///
/// let model = Plan::new(Groups::propose(&model)?).apply(model, &switches)?; // thawed
/// assert!(model.0.weight.is_require_grad());
/// # Ok::<(), firebrick_transfer::TransferError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    groups: Groups,
    treatments: Vec<Treatment>,
    /// Factors on the rate of parameters whose path ends so, in whole segments.
    endings: Vec<(String, f64)>,
}

impl Plan {
    /// Everything trains at the same rate.
    #[must_use]
    pub fn new(groups: Groups) -> Self {
        let treatments = vec![Treatment::default(); groups.len()];
        Self { groups, treatments, endings: Vec::new() }
    }

    /// Sets the mode of a group.
    ///
    /// # Errors
    /// When there is no such group.
    pub fn with(mut self, name: &str, mode: Mode) -> Result<Self, TransferError> {
        let at = self.groups.position(name)?;
        self.treatments[at].mode = mode;
        Ok(self)
    }

    /// Sets the mode of every group.
    #[must_use]
    pub fn with_all(mut self, mode: Mode) -> Self {
        for treatment in &mut self.treatments {
            treatment.mode = mode;
        }
        self
    }

    /// Sets the mode of the first `count` groups, those on the side of the input.
    ///
    /// # Errors
    /// When there are fewer.
    pub fn with_first(mut self, count: usize, mode: Mode) -> Result<Self, TransferError> {
        if count > self.groups.len() {
            let expected = format!("at most {}, the number of groups", self.groups.len());
            return Err(ConfigError::new("number of groups", count, expected).into());
        }
        for treatment in &mut self.treatments[..count] {
            treatment.mode = mode;
        }
        Ok(self)
    }

    /// Sets the factor on a group's learning rate.
    ///
    /// # Errors
    /// When there is no such group, or the factor is negative, NaN or infinite.
    pub fn with_rate(mut self, name: &str, factor: f64) -> Result<Self, TransferError> {
        let at = self.groups.position(name)?;
        self.treatments[at].rate = check::non_negative("rate factor", factor)?;
        Ok(self)
    }

    /// Sets the factors on the learning rates of all groups, from the input to the head.
    ///
    /// # Errors
    /// When there are not as many as groups, or one is negative, NaN or infinite.
    pub fn with_rates(mut self, factors: &[f64]) -> Result<Self, TransferError> {
        if factors.len() != self.groups.len() {
            let expected = format!("{}, one for each group", self.groups.len());
            return Err(ConfigError::new("number of rate factors", factors.len(), expected).into());
        }
        for (treatment, &factor) in self.treatments.iter_mut().zip(factors) {
            treatment.rate = check::non_negative("rate factor", factor)?;
        }
        Ok(self)
    }

    /// Multiplies the learning rate of parameters whose path ends in `ending`, in whole segments, by `factor`
    /// besides: `lora.b` and 16 for LoRA+.
    ///
    /// # Errors
    /// When the factor is negative, NaN or infinite, or the ending is empty.
    pub fn with_ending_rate(
        mut self,
        ending: impl Into<String>,
        factor: f64,
    ) -> Result<Self, TransferError> {
        let ending = ending.into();
        if ending.is_empty() {
            return Err(ConfigError::new("ending", "\"\"", "the end of a path").into());
        }
        self.endings.push((ending, check::non_negative("rate factor", factor)?));
        Ok(self)
    }

    /// Sets what the normalization layers of a group do, whatever its mode.
    ///
    /// # Errors
    /// When there is no such group.
    pub fn with_norm(mut self, name: &str, norm: NormMode) -> Result<Self, TransferError> {
        let at = self.groups.position(name)?;
        self.treatments[at].norm = Some(norm);
        Ok(self)
    }

    /// Sets what all normalization layers do, whatever the modes of their groups.
    #[must_use]
    pub fn with_norms(mut self, norm: NormMode) -> Self {
        for treatment in &mut self.treatments {
            treatment.norm = Some(norm);
        }
        self
    }

    /// The groups.
    #[must_use]
    pub fn groups(&self) -> &Groups {
        &self.groups
    }

    /// What happens to each group, in their order.
    #[must_use]
    pub fn treatments(&self) -> &[Treatment] {
        &self.treatments
    }

    /// Mode, rate factor and norm mode of a group.
    ///
    /// # Errors
    /// When there is no such group.
    pub fn treatment(&self, name: &str) -> Result<Treatment, TransferError> {
        Ok(self.treatments[self.groups.position(name)?])
    }

    /// The names of the groups that are in `mode`.
    #[must_use]
    pub fn in_mode(&self, mode: Mode) -> Vec<&str> {
        let names = self.groups.names().into_iter().zip(&self.treatments);
        names.filter(|(_, treatment)| treatment.mode == mode).map(|(name, _)| name).collect()
    }

    /// Whether the last group trains and all others are frozen with their norms, so that features can be cached.
    #[must_use]
    pub fn trains_only_the_head(&self) -> bool {
        let Some((head, rest)) = self.treatments.split_last() else { return false };
        let still = |treatment: &Treatment| {
            treatment.mode == Mode::Frozen
                && treatment.norm.is_none_or(|norm| norm == NormMode::Frozen)
        };
        rest.iter().all(still) && matches!(head.mode, Mode::Trainable | Mode::Reinitialised)
    }

    /// The factor on the learning rate of the parameter at `path`; `None` where it is in no group.
    #[must_use]
    pub fn rate_of(&self, path: &str) -> Option<f64> {
        let at = self.groups.position_of(path)?;
        let endings = self.endings.iter().filter(|(ending, _)| ends_in(path, ending));
        Some(endings.fold(self.treatments[at].rate, |rate, (_, factor)| rate * factor))
    }

    /// Whether the parameter at this place trains under the plan.
    pub(crate) fn trains(&self, place: &Place) -> bool {
        let Some(at) = self.groups.position_of(&place.path) else { return false };
        let role = place.role().unwrap_or(Role::Buffer);
        trains(&self.treatments[at], role, place.in_adapter())
    }

    /// Makes `model` what the plan says: gradients on or off, dropout and running statistics live or not.
    ///
    /// Parameters and switches that train are set as `switches` has them, so that a thaw brings back what the model
    /// came with: a dropout that was off on purpose stays off. The model has to be in training mode, on an autodiff
    /// device; weights are not touched, also not those of groups to be re-initialised.
    ///
    /// # Errors
    /// When the groups do not fit the model, or nothing trains. The model is consumed by value, and its clones are
    /// as they were.
    pub fn apply<M: Module>(&self, model: M, switches: &Switches) -> Result<M, TransferError> {
        // burn lets the newest update of a running statistic wait; this brings it in before anything is frozen.
        let _ = model.valid();
        let places = places(&model);
        self.groups.check_places(&places)?;
        let adapted = self.in_mode(Mode::Adapted);
        for name in adapted {
            let at = self.groups.position(name)?;
            let group = &self.groups.groups()[at];
            if !places.iter().any(|place| place.in_adapter() && group.covers(&place.path)) {
                let reason = format!("group `{name}` is to be adapted and has no adapter");
                return Err(TransferError::NothingToTrain { reason });
            }
        }
        let model = model.map(&mut Set { plan: self, switches, stack: Stack::default() });
        if !self::places(&model).iter().any(Place::trains) {
            let reason = if places.iter().any(|place| self.trains(place)) {
                "what it trains is switched off in the model, or the model is in evaluation mode: call `train()`"
            } else {
                "every group is frozen"
            };
            return Err(TransferError::NothingToTrain { reason: reason.into() });
        }
        Ok(model)
    }

    /// The optimizer of `rule` with a group for each layer group, whose rates are multiplied by the plan's factors.
    ///
    /// # Errors
    /// When the groups do not fit the model.
    pub fn optimizer<M: Module>(
        &self,
        model: &M,
        rule: &Elementwise,
    ) -> Result<FusedOptimizer, TransferError> {
        let places = places(model);
        self.groups.check_places(&places)?;
        let mut optimizer = rule.fused();
        // Groups in the plan's order, and within each one for every other factor.
        for group in self.groups.groups() {
            let mut rates: Vec<(f64, Vec<String>)> = Vec::new();
            for place in places.iter().filter(|place| group.covers(&place.path)) {
                if !matches!(place.item, Item::Tensor { .. }) {
                    continue;
                }
                let rate = self.rate_of(&place.path).unwrap_or(1.0);
                match rates.iter_mut().find(|(known, _)| known.to_bits() == rate.to_bits()) {
                    Some((_, paths)) => paths.push(place.path.clone()),
                    None => rates.push((rate, vec![place.path.clone()])),
                }
            }
            for (rate, paths) in rates {
                let members = ParamGroup::from_paths(paths);
                optimizer = optimizer
                    .with_scaled_group(group.name(), members, rule.clone(), rate)
                    .map_err(|(_, error)| error)?;
            }
        }
        Ok(optimizer)
    }

    /// What happens to which group, to be printed.
    ///
    /// # Errors
    /// When the groups do not fit the model.
    pub fn table<M: Module>(&self, model: &M) -> Result<Table, TransferError> {
        let places = places(model);
        self.groups.check_places(&places)?;
        Ok(Table::new(self, &places))
    }

    /// The plan as JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// A plan from what [`to_json`](Self::to_json) gave.
    ///
    /// # Errors
    /// When the text is no plan, or its parts contradict one another.
    pub fn from_json(text: &str) -> Result<Self, TransferError> {
        let plan: Self = serde_json::from_str(text).map_err(|error| {
            ConfigError::new("plan", listed([&*error.to_string()]), "a plan in JSON")
        })?;
        let rates: Vec<f64> = plan.treatments.iter().map(|treatment| treatment.rate).collect();
        for (_, factor) in &plan.endings {
            check::non_negative("rate factor", *factor)?;
        }
        plan.with_rates(&rates)
    }
}

fn ends_in(path: &str, ending: &str) -> bool {
    path.strip_suffix(ending).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

struct Set<'a> {
    plan: &'a Plan,
    switches: &'a Switches,
    stack: Stack,
}

impl Set<'_> {
    fn treatment(&self, path: &str) -> Option<&Treatment> {
        self.plan.groups.position_of(path).map(|at| &self.plan.treatments[at])
    }
}

impl ModuleMapper for Set<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.stack.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.stack.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (path, role) = (self.stack.path(), self.stack.role(D));
        if role == Role::Buffer {
            return param;
        }
        let Some(treatment) = self.treatment(&path) else { return param };
        let wanted = trains(treatment, role, self.stack.in_adapter())
            && self.switches.trains(&path).unwrap_or(true);
        // A parameter that stays as it is keeps its tensor, and what shares it.
        if param.is_require_grad() == wanted { param } else { param.set_require_grad(wanted) }
    }

    fn map_flag(&mut self, flag: Param<Flag>) -> Param<Flag> {
        let path = self.stack.path();
        let Some(treatment) = self.treatment(&path) else { return flag };
        let of_norm = self.stack.owner().ends_with("Norm");
        let wanted = live(treatment, of_norm) && self.switches.is_on(&path).unwrap_or(true);
        flag.with_value(wanted)
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::testing::{Net, dropout_on, net, residual};
    use burn::tensor::Device;
    use firebrick_optim::SgdConfig;

    fn model() -> Net {
        net(&Device::flex().autodiff())
    }

    fn plan() -> Plan {
        Plan::new(Groups::propose(&model()).expect("has groups"))
    }

    #[test]
    fn groups_are_edited_and_refused_with_the_names_there_are() {
        let groups = plan().groups.clone();
        assert_eq!(
            groups.merge(&["second", "first"], "body").expect("fine").names(),
            ["body", "head"]
        );
        assert_eq!(
            groups.split("norm", "norm").expect("fine").names(),
            ["first", "norm", "second", "head"]
        );
        assert_eq!(groups.split("norm", "norm").expect("fine").group_of("norm.beta"), Some("norm"));
        assert_eq!(groups.rename("first", "stem").expect("fine").names()[0], "stem");
        let text = |result: Result<Groups, TransferError>| result.expect_err("refused").to_string();
        assert_eq!(
            text(groups.rename("firs", "x")),
            "no group is called `firs`; there are `first`, `second`, `head`"
        );
        assert_eq!(text(groups.rename("first", "head")), "two groups are called `head`");
        assert!(text(groups.merge(&[], "x")).starts_with("there is no layer group"));
        assert!(text(groups.split("first", "head")).contains("two groups"));
        assert!(text(groups.split("nowhere", "x")).contains("it has `first`, `norm`"));
        let none: [(&str, Vec<&str>); 0] = [];
        assert!(text(Groups::new(none)).starts_with("there is no layer group"));
        assert!(text(Groups::new([("a", Vec::<&str>::new())])).contains("group `a`"));
        assert_eq!(
            text(Groups::new([("a", vec!["x.1"]), ("b", vec!["x.1.weight"])])),
            "`x.1` is claimed by the groups `a` and `b`"
        );
        // Not the same part, though the one begins like the other.
        assert!(Groups::new([("a", vec!["x.1"]), ("b", vec!["x.10"])]).is_ok());
    }

    #[test]
    fn groups_that_do_not_fit_the_model_leave_it_alone() {
        let model = model();
        let switches = Switches::of(&model);
        let refused = |groups: Groups| {
            Plan::new(groups).apply(model.clone(), &switches).expect_err("refused").to_string()
        };
        let partly = Groups::new([("a", vec!["first", "second"]), ("b", vec!["head"])]);
        assert_eq!(
            refused(partly.expect("fine")),
            "`norm.gamma` is in no group; there are `a`, `b`"
        );
        let typo =
            Groups::new([("a", vec!["first", "norm", "second", "dropout"]), ("b", vec!["heads"])]);
        assert!(refused(typo.expect("fine")).starts_with("`heads` of group `b` covers nothing"));
        let all_frozen = plan().with_all(Mode::Frozen).apply(model.clone(), &switches);
        assert_eq!(
            all_frozen.expect_err("refused").to_string(),
            "the plan trains nothing: every group is frozen"
        );
        assert!(model.first.weight.is_require_grad() && dropout_on(&model));
        let adapted =
            plan().with("first", Mode::Adapted).expect("there").apply(model.clone(), &switches);
        assert!(adapted.expect_err("refused").to_string().contains("has no adapter"));
        assert!(
            plan().with("nope", Mode::Frozen).is_err()
                && plan().with_first(4, Mode::Frozen).is_err()
        );
        assert!(plan().with_rate("head", f64::NAN).is_err() && plan().with_rates(&[1.0]).is_err());
        assert!(plan().with_ending_rate("", 1.0).is_err());
    }

    #[test]
    fn each_mode_trains_what_it_says() {
        let trained = |plan: Plan| {
            let model = model();
            let switches = Switches::of(&model);
            let model = plan.apply(model, &switches).expect("fits");
            let places = places(&model);
            let on = |place: &&Place| place.trains() || place.item == Item::Switch { on: true };
            places.iter().filter(on).map(|place| place.path.clone()).collect::<Vec<_>>().join(" ")
        };
        let frozen = plan().with("first", Mode::Frozen).expect("there");
        assert_eq!(
            trained(frozen.clone()),
            "second.weight second.bias dropout.noise.training head.weight head.bias"
        );
        let biases = plan().with_all(Mode::Biases { norms: false });
        assert_eq!(trained(biases), "first.bias second.bias dropout.noise.training head.bias");
        let biases = plan().with_all(Mode::Biases { norms: true });
        assert!(trained(biases).starts_with("first.bias norm.gamma norm.beta second.bias"));
        let adaptive = frozen.clone().with_norm("first", NormMode::Adaptive).expect("there");
        assert!(trained(adaptive).starts_with("norm.gamma norm.beta norm.training second.weight"));
        let still = plan().with_norms(NormMode::StatsFrozen);
        assert!(trained(still).starts_with("first.weight first.bias norm.gamma norm.beta second"));
        let still = plan().with_norms(NormMode::Frozen);
        assert!(trained(still).starts_with("first.weight first.bias second.weight"));
    }

    #[test]
    fn rates_reach_the_optimizer_and_no_neighbour() {
        let device = Device::flex().autodiff();
        let model = residual(&device, 12);
        let plan = Plan::new(Groups::propose(&model).expect("has groups"));
        let plan = plan
            .with_rate("blocks.1", 0.25)
            .expect("there")
            .with_rate("head", 10.0)
            .expect("there");
        let plan = plan.with_ending_rate("gamma", 2.0).expect("fine");
        let rule = SgdConfig::new().build().expect("valid");
        let table = plan.optimizer(&model, &rule).expect("fits").table(&model);
        let rate = |path: &str| {
            table
                .rows
                .iter()
                .find(|row| row.path == path)
                .map(|row| (row.group.clone(), row.lr_factor))
        };
        assert_eq!(rate("blocks.1.conv.weight"), Some(("blocks.1".into(), 0.25)));
        assert_eq!(rate("blocks.1.norm.gamma"), Some(("blocks.1".into(), 0.5)));
        assert_eq!(rate("blocks.10.conv.weight"), Some(("blocks.10".into(), 1.0)));
        assert_eq!(rate("head.bias"), Some(("head".into(), 10.0)));
        assert!(table.rows.iter().all(|row| row.group != "all"), "each parameter is in a group");
    }

    #[test]
    fn a_step_moves_each_group_by_its_own_rate() {
        let device = Device::flex().autodiff();
        let model = residual(&device, 8);
        let groups = Groups::propose(&model).expect("has groups");
        let factors = crate::layer_decay(10, 0.5, 0.0).expect("fine");
        let plan = Plan::new(groups.clone()).with_rates(&factors).expect("fine");
        let rule = SgdConfig::new().build().expect("valid");
        let mut optimizer = plan.optimizer(&model, &rule).expect("fits");
        let anchor = crate::Anchor::of(&model);
        // A gradient of 1 everywhere.
        struct Ones(burn::optim::GradientsParams);
        impl burn::module::ModuleVisitor for Ones {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                if param.is_require_grad() {
                    self.0.register::<D>(param.id, param.val().inner().ones_like());
                }
            }
        }
        let mut ones = Ones(burn::optim::GradientsParams::new());
        model.visit(&mut ones);
        let model = optimizer.step(0.25, model, ones.0);
        for place in places(&model).iter().filter(|place| place.role() != Some(Role::Buffer)) {
            let Item::Tensor { shape, .. } = &place.item else { continue };
            if place.role() != Some(Role::Bias) || !anchor.has(&place.path, shape) {
                continue;
            }
            let group = groups.position_of(&place.path).expect("covered");
            struct Find<'a>(&'a str, Stack, f64);
            impl burn::module::ModuleVisitor for Find<'_> {
                fn enter_module(&mut self, name: &str, container: &str) {
                    self.1.enter(name, container);
                }
                fn exit_module(&mut self, _: &str, _: &str) {
                    self.1.exit();
                }
                fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                    if self.1.path() == self.0 {
                        self.2 = crate::testing::values(param.val())[0];
                    }
                }
            }
            let mut find = Find(&place.path, Stack::default(), f64::NAN);
            model.visit(&mut find);
            let before = anchor.value::<1>(&place.path, [shape[0]]).expect("there");
            let moved = crate::testing::values(before)[0] - find.2;
            assert!((moved - 0.25 * factors[group]).abs() < 1e-6, "{}: {moved}", place.path);
        }
    }

    #[test]
    fn plans_are_values() {
        let plan = plan().with("first", Mode::Biases { norms: true }).expect("there");
        let plan = plan.with_norm("second", NormMode::Adaptive).expect("there");
        let plan = plan
            .with_rate("head", 0.1)
            .expect("there")
            .with_ending_rate("lora.b", 16.0)
            .expect("fine");
        assert_eq!(Plan::from_json(&plan.to_json()).expect("a plan"), plan);
        assert!(Plan::from_json("{}").is_err());
        let negative = plan.to_json().replace("0.1", "-0.1");
        assert!(
            Plan::from_json(&negative).expect_err("refused").to_string().contains("rate factor")
        );
        let clash = plan.to_json().replace("\"name\": \"second\"", "\"name\": \"first\"");
        assert!(Plan::from_json(&clash).is_err());
    }

    #[test]
    fn the_table_counts_elements_without_statistics() {
        let plan = plan().with_first(2, Mode::Frozen).expect("there");
        let table = plan.table(&model()).expect("fits");
        // 2 * 6 + 6 + 12, 6 * 5 + 5, 5 * 2 + 2
        let counts: Vec<_> = table.rows.iter().map(|row| (row.parameters, row.trainable)).collect();
        assert_eq!(counts, [(30, 0), (35, 0), (12, 12)]);
        assert_eq!((table.parameters(), table.trainable()), (77, 12));
        let text = table.to_string();
        assert!(text.contains("first           30          0  frozen"), "{text}");
        assert!(text.contains("15.6 %"), "{text}");
        assert!(plan.trains_only_the_head());
        assert!(
            !plan
                .clone()
                .with_norm("first", NormMode::Adaptive)
                .expect("there")
                .trains_only_the_head()
        );
    }
}
